"""What is built from here can be installed, read and run without the repository."""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from sftviz import WORKED_EXAMPLE, __version__, step_flow

ROOT = Path(__file__).parent.parent
NAME = f"sftviz-{__version__}"


def build(target: str, source: Path, folder: Path) -> Path:
    """What pip and `python -m build` call, in this environment: nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The unpacked source distribution."""
    path = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    with tarfile.open(path) as archive:
        archive.extractall(path.parent, filter="data")
    return path.parent / NAME


@pytest.fixture(scope="module")
def site(sdist, tmp_path_factory) -> Path:
    """A folder in which the wheel is installed, which was built from the sdist."""
    wheel = build("wheel", sdist, tmp_path_factory.mktemp("wheel"))
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    return site


@pytest.fixture(scope="module")
def installed(site) -> PathDistribution:
    return PathDistribution(site / f"{NAME}.dist-info")


@pytest.fixture
def run(site, tmp_path):
    """The output of a command, in an empty folder, with what is installed in front."""

    def run(*command: str | Path) -> str:
        env = {**os.environ, "PYTHONPATH": str(site), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True)
        return done.stdout.decode("utf-8")

    return run


# What is in them


def test_the_sdist_has_every_file_that_git_has(sdist):
    if not (ROOT / ".git").exists():
        pytest.skip("no git here")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    tracked = [name for name in listed.stdout.decode().split("\0") if (ROOT / name).is_file()]
    assert [name for name in tracked if not (sdist / name).is_file()] == []


def test_the_sdist_has_nothing_that_git_ignores(sdist):
    ignored = {
        line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if "/" in line
    }
    packed = {part for path in sdist.rglob("*") for part in path.relative_to(sdist).parts}
    assert ignored and packed & ignored == set() and ".git" not in packed


def test_the_wheel_has_the_package_and_nothing_else(site):
    package = {
        path.relative_to(ROOT)
        for path in (ROOT / "sftviz").rglob("*")
        if path.suffix in {".py", ".js", ".css", ".typed"}
    }
    installed = {path.relative_to(site) for path in (site / "sftviz").rglob("*") if path.is_file()}
    assert {path for path in installed if path.suffix != ".pyc"} == package
    assert {path.name for path in site.iterdir()} == {"sftviz", "bin", f"{NAME}.dist-info"}


# What it says about itself


def test_the_metadata_name_license_version_and_command(installed):
    assert installed.version == __version__
    assert installed.metadata["License-Expression"] == "MIT"
    assert "the sftviz authors" in installed.read_text("licenses/LICENSE")
    (command,) = installed.entry_points
    assert (command.name, command.value) == ("sftviz", "sftviz.__main__:main")


def test_the_readme_of_the_package_needs_no_file_beside_it(installed):
    readme = installed.metadata.json["description"]
    drawing = step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens, width=100)
    assert f"\n```text\n{drawing}\n```\n" in readme
    assert re.findall(r"<(?:picture|source|img)|\]\((?!https?://)[^)]*\)", readme) == []
    assert "| `notebooks/00_start_here.ipynb` |" in readme and readme.count("```") % 2 == 0


# What it does


def test_the_installed_command_draws(site, run):
    drawing = step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens)
    assert run(site / "bin" / "sftviz") == f"{drawing}\n"
    assert run(sys.executable, "-m", "sftviz", "--version") == f"sftviz {__version__}\n"


def test_the_installed_explorer_has_its_script_and_its_style(site, run):
    code = (
        "from sftviz import StepExplorer; import sftviz; live = StepExplorer().live; "
        "print(sftviz.__file__, 'export default' in live._esm, '.sftviz-live' in live._css)"
    )
    assert run(sys.executable, "-c", code).split() == [
        str(site / "sftviz" / "__init__.py"),
        "True",
        "True",
    ]
