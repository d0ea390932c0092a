"""The set-up files agree with each other, as far as that can be seen without a network."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from unittest.mock import Mock

import pytest
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from traitlets.config import PyFileConfigLoader

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pins(requirements: str) -> list[str]:
    lines = (ROOT / requirements).read_text("utf-8").splitlines()
    return [pin for line in lines if (pin := line.partition("#")[0].strip())]


PINS = pins("requirements.txt")


def output_of(*command: str | Path, **variables: str) -> str:
    env = {**os.environ, **variables}
    run = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirements", ["requirements.txt", "book/requirements.txt"])
def test_every_line_of_the_requirements_is_one_exact_public_release(requirements):
    # No options, no hosts, no `+cpu`: the same line has to hold wherever it is installed.
    found = pins(requirements)
    assert [pin for pin in found if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = [canonical(pin.partition("==")[0]) for pin in found]
    assert len(names) == len(set(names))


def test_everything_the_package_depends_on_is_pinned():
    project = PROJECT["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    asked = {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}
    assert asked <= {canonical(pin.partition("==")[0]) for pin in PINS}


def test_the_tests_build_the_package_with_what_pip_builds_it_with():
    assert set(PROJECT["build-system"]["requires"]) <= set(PINS)


def test_binder_installs_every_pin_but_torch_and_then_the_package(tmp_path):
    """postBuild itself, with a `pip` that only writes down what it is asked for."""
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "pip $*"\ncase "$*" in *stdin*) cat ;; esac\n', "utf-8")
    pip.chmod(0o755)
    printed = output_of(
        ROOT / "binder" / "postBuild", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    )
    listed, _, package = printed.rpartition("pip ")
    assert [pin for pin in PINS if pin not in listed] == [pin for pin in PINS if "torch=" in pin]
    assert package.split() == ["install", "--no-cache-dir", "--no-deps", "."]


def test_binder_has_a_torch_that_the_package_accepts():
    environment = (ROOT / "binder" / "environment.yml").read_text("utf-8")
    assert re.search(r"^  - pytorch-cpu>=2\.6,<3$", environment, re.MULTILINE)
    assert '"torch>=2.6"' in (ROOT / "pyproject.toml").read_text("utf-8")


def given_by_make(target: str, variable: str, tmp_path: Path, **variables: str) -> set[str]:
    """What tools find in a variable: `make` itself, with tools that only write that down."""
    for tool in ("jupyter", "python", "ruff"):
        path = tmp_path / "bin" / tool
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "${variable}"\n', "utf-8")
        path.chmod(0o755)
    for stamp in (".environment", ".package"):
        (tmp_path / stamp).touch()
    make = ("env", "-u", variable, *(f"{name}={value}" for name, value in variables.items()))
    make += ("make", "-s", target, f"VENV={tmp_path}")
    return set(output_of(*make, MAKEFLAGS="", MAKELEVEL="0").splitlines())


def given_by_binder(variable: str) -> str:
    start = ("env", "-u", variable, ROOT / "binder" / "start")
    return output_of(*start, "sh", "-c", f'echo "${variable}"').rstrip()


@pytest.mark.parametrize("target", ["lab", "test", "notebooks", "bench", "film"])
def test_what_make_runs_has_one_torch_thread(target, tmp_path):
    assert given_by_make(target, "OMP_NUM_THREADS", tmp_path) == {"1"}


def test_a_session_on_binder_has_one_torch_thread():
    assert given_by_binder("OMP_NUM_THREADS") == "1"


def test_the_course_has_a_server_with_settings_of_its_own(tmp_path):
    variable, folder = "JUPYTER_CONFIG_PATH", str(ROOT / "tools")
    assert given_by_make("lab", variable, tmp_path) == {folder}
    assert given_by_make("lab", variable, tmp_path, **{variable: "/theirs"}) == {
        f"{folder}:/theirs"
    }
    assert given_by_binder(variable) == folder


def test_the_server_holds_no_message_back(monkeypatch):
    config = PyFileConfigLoader("jupyter_server_config.py", str(ROOT / "tools")).load_config()
    connection_class = config.ServerApp.kernel_websocket_connection_class
    done = []
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda _: done.append("connect"))
    handler = Mock(spec=KernelWebsocketHandler)
    handler.set_nodelay.side_effect = lambda value: done.append(value)
    connection_class(websocket_handler=handler).connect()
    assert done == [True, "connect"]


@pytest.mark.parametrize(
    ("target", "does"),
    [
        ("help", "make"),
        ("lab", "/lab/tree/notebooks/00_start_here.ipynb"),
        ("test", "-m pytest"),
        ("notebooks", "tools/execute_notebooks.py"),
        ("bench", "benchmarks/run.py"),
        ("film", "tools/film.py"),
        ("book", "jupyter-book build"),
        ("clean", "rm -rf"),
    ],
)
def test_make_knows_how_to(target, does):
    # No flags of an outer make: under `make -j test` an inner one would take part in it.
    assert does in output_of("make", "-n", target, MAKEFLAGS="", MAKELEVEL="0")


def test_the_automatic_run_is_the_one_that_a_person_types():
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
    assert "run: bash .ci/run" in (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
