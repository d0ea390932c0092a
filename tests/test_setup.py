"""The set-up files agree with each other, as far as that can be seen without a network."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from packaging.requirements import Requirement
from traitlets.config import PyFileConfigLoader

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


COURSE, TESTS, BOOK = "requirements.txt", "tests/requirements.txt", "book/requirements.txt"


def pins(requirements: str) -> list[str]:
    """The pins of one file, without those of the file that it includes."""
    lines = (ROOT / requirements).read_text("utf-8").splitlines()
    found = (line.partition("#")[0].strip() for line in lines)
    return [pin for pin in found if pin and not pin.startswith("-r ")]


def names(found: Iterable[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", pin)[0]) for pin in found}


def asked_for(requirements: str) -> set[str]:
    """Those whose line says what they are for."""
    lines = (ROOT / requirements).read_text("utf-8").splitlines()
    return names(line for line in lines if re.match(r"[^#]+==.+#", line))


def output_of(*command: str | Path, **variables: str) -> str:
    env = {**os.environ, **variables}
    run = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


(TORCH,) = (pin for pin in pins(COURSE) if pin.startswith("torch=="))
PYTHONS = ["3.11", "3.12", "3.13"]


def brought_along(found: set[str], python: str) -> set[str]:
    """Some packages and all that they need on Linux, as the installed ones declare it."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    linux |= {"python_version": python, "python_full_version": f"{python}.9"}
    seen, to_do = set(), [(name, "") for name in found]  # with the name of an extra, or with none
    while to_do:
        name, extra = to_do.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            for needed in map(Requirement, declared(name)):
                if not needed.marker or needed.marker.evaluate({**linux, "extra": extra}):
                    to_do += [(canonical(needed.name), of) for of in ("", *needed.extras)]
    return {name for name, _ in seen}


def declared(name: str) -> list[str]:
    try:
        found = requires(name) or []
    except PackageNotFoundError:  # needed on another Python only
        return []
    # What a build of torch with CUDA needs, torch itself pins.
    return [line for line in found if not re.match(r"nvidia-|cuda-|triton", line)]


@pytest.mark.parametrize("requirements", [COURSE, TESTS, BOOK])
def test_every_line_of_the_requirements_is_one_exact_public_release(requirements):
    # No options, no hosts, no `+cpu`: the same line has to hold wherever it is installed.
    found = pins(requirements)
    assert [pin for pin in found if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    assert len(found) == len(names(found))


@pytest.mark.parametrize("python", PYTHONS)
def test_the_course_is_pinned_with_all_that_it_needs_and_nothing_else(python):
    pinned = names(pins(COURSE))
    assert brought_along(asked_for(COURSE), python) - pinned == set()
    on_any = set().union(*(brought_along(asked_for(COURSE), python) for python in PYTHONS))
    assert pinned - on_any == set()


@pytest.mark.parametrize("python", PYTHONS)
def test_the_tests_pin_what_they_need_besides(python):
    assert f"\n-r ../{COURSE}\n" in (ROOT / TESTS).read_text("utf-8")
    needed = brought_along(asked_for(TESTS), python)
    assert needed - names(pins(COURSE)) == names(pins(TESTS))  # no line twice
    assert {"pytest", "playwright", "ruff", "hatchling"} <= needed - names(pins(COURSE))


def test_everything_the_package_depends_on_is_asked_for():
    project = PROJECT["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    assert names(lines) <= asked_for(COURSE)


def test_the_tests_build_the_package_with_what_pip_builds_it_with():
    assert set(PROJECT["build-system"]["requires"]) <= set(pins(TESTS))


def test_binder_installs_every_pin_but_torch_and_then_the_package(tmp_path):
    """postBuild itself, with a `pip` that only writes down what it is asked for."""
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "pip $*"\ncase "$*" in *stdin*) cat ;; esac\n', "utf-8")
    pip.chmod(0o755)
    printed = output_of(
        ROOT / "binder" / "postBuild", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    )
    listed, _, package = printed.rpartition("pip ")
    assert [pin for pin in pins(COURSE) if pin not in listed] == [TORCH]
    assert [pin for pin in pins(TESTS) if pin in listed] == []
    assert package.split() == ["install", "--no-cache-dir", "--no-deps", "."]


def test_binder_has_the_torch_that_is_pinned():
    environment = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text("utf-8"))
    assert f"pytorch-cpu={TORCH.removeprefix('torch==')}" in environment["dependencies"]


STAMPS = (".environment", ".package", ".tests")  # in the order in which make leaves them


def given_by_make(target: str, variable: str, tmp_path: Path, **variables: str) -> set[str]:
    """What tools find in a variable: `make` itself, with tools that only write that down."""
    for tool in ("jupyter", "python", "ruff"):
        path = tmp_path / "bin" / tool
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "${variable}"\n', "utf-8")
        path.chmod(0o755)
    for stamp in STAMPS:
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
    assert given_by_binder(variable) == f"{ROOT / 'binder'}:{folder}"


def test_only_on_binder_a_kernel_ends_that_nobody_uses(tmp_path):
    """The server's settings, as Jupyter itself puts them together."""
    show = [sys.executable, "-m", "jupyter", "server", "--show-config-json"]
    home = {f"JUPYTER_{kind}_DIR": str(tmp_path) for kind in ("CONFIG", "DATA", "RUNTIME")}
    home["PYTHONHASHSEED"] = "0"  # sets are printed in the same order
    at_home = json.loads(output_of(*show, **home, JUPYTER_CONFIG_PATH=str(ROOT / "tools")))
    on_binder = json.loads(output_of(ROOT / "binder" / "start", *show, **home))
    culling = {"cull_idle_timeout": 1800, "cull_interval": 60, "cull_connected": True}
    assert on_binder.pop("MappingKernelManager") == culling
    assert on_binder == at_home
    assert "kernel_websocket_connection_class" in at_home["ServerApp"]


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
        ("exercises", "tools/make_exercises.py"),
        ("bench", "benchmarks/run.py"),
        ("film", "tools/film.py"),
        ("book", "jupyter-book build"),
        ("clean", "rm -rf"),
    ],
)
def test_make_knows_how_to(target, does):
    # No flags of an outer make: under `make -j test` an inner one would take part in it.
    assert does in output_of("make", "-n", target, MAKEFLAGS="", MAKELEVEL="0")


@pytest.mark.parametrize(
    ("target", "installed"),
    [("lab", {COURSE}), ("notebooks", {COURSE}), ("test", {COURSE, TESTS}), ("book", {BOOK})],
)
def test_on_a_new_machine_make_installs_what_a_target_needs_and_no_more(
    target, installed, tmp_path
):
    new = (f"VENV={tmp_path / 'venv'}", f"BOOK={tmp_path / 'book'}")
    printed = output_of("make", "-n", target, *new, MAKEFLAGS="", MAKELEVEL="0")
    assert set(re.findall(r"pip install .*-r (\S+)", printed)) == installed


@pytest.mark.parametrize("requirements", [COURSE, TESTS])
@pytest.mark.parametrize("target", ["lab", "test"])
def test_a_change_of_pins_starts_from_an_empty_environment(target, requirements, tmp_path):
    for stamp in STAMPS:
        (tmp_path / stamp).touch()
    make = ("make", "-n", target, f"VENV={tmp_path}")
    assert "pip" not in output_of(*make, MAKEFLAGS="", MAKELEVEL="0")
    changed = output_of(*make, "-W", requirements, MAKEFLAGS="", MAKELEVEL="0")
    assert f"venv --clear {tmp_path}" in changed and f"pip install -r {COURSE}" in changed
    assert (f"-r {TESTS}" in changed) == (target == "test")


# The workflow


WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
JOBS = WORKFLOW["jobs"]
OTHER_VERSIONS = {
    job["name"]: job for job in JOBS["other-versions"]["strategy"]["matrix"]["include"]
}


def test_the_automatic_run_is_the_one_that_a_person_types():
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
    assert {"run": "bash .ci/run"} in JOBS["test"]["steps"]


def test_it_runs_on_every_python_that_the_package_names():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert JOBS["test"]["strategy"]["matrix"]["python"] == named == PYTHONS
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"


def test_once_a_week_it_runs_with_other_versions():
    assert "schedule" in WORKFLOW[True]  # YAML reads `on` as true
    assert "'schedule'" in JOBS["other-versions"]["if"]
    steps = [step.get("run", "") for step in JOBS["other-versions"]["steps"]]
    (made,) = (step.removeprefix("make ") for step in steps if step.startswith("make "))
    assert "pip install" in output_of("make", "-n", "-B", made, MAKEFLAGS="", MAKELEVEL="0")
    assert [step for step in steps if "pip install --upgrade -r versions.txt" in step]


def test_the_type_hints_that_are_published_are_checked():
    assert (ROOT / "sftviz" / "py.typed").read_text("utf-8") == ""
    assert PROJECT["tool"]["pyright"]["include"] == ["sftviz/*.py"]
    steps = [step.get("run", "") for step in JOBS["types"]["steps"]]
    assert [step for step in steps if re.fullmatch(r"npx --yes pyright@[\d.]+", step)]


def versions_of(job: str) -> set[str]:
    """What the command of a job prints, without comments."""
    printed = output_of("bash", "-c", OTHER_VERSIONS[job]["versions"]).splitlines()
    return {pin for line in printed if (pin := line.partition("#")[0].strip())}


def test_the_newest_are_all_that_is_pinned_without_its_version():
    unpinned = {pin.partition("==")[0] for pin in (*pins(COURSE), *pins(TESTS))}
    assert versions_of("the newest of everything") == unpinned


def test_the_lowest_are_those_that_the_package_promises():
    promised = PROJECT["project"]["dependencies"]
    lowest = {line.replace(">=", "==") + ".*" for line in promised}
    assert versions_of("the lowest that pyproject.toml promises") == lowest


def test_the_package_takes_the_ipywidgets_of_colab():
    (of_colab,) = versions_of("the ipywidgets of Colab")
    assert of_colab == "ipywidgets==7.7.*"
    assert "ipywidgets>=7.7" in PROJECT["project"]["dependencies"]


def test_the_readme_names_the_same_torch_without_cuda_as_the_workflow():
    index = WORKFLOW["env"]["PIP_EXTRA_INDEX_URL"]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"\nPIP_EXTRA_INDEX_URL={index} make lab\n" in readme
