"""Fixtures for tests in a real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import write
from playwright.sync_api import expect

from .jupyter import PATIENCE, Lab, Server, book, serve

expect.set_options(timeout=PATIENCE * 1000)  # on a busy machine a kernel takes its time

ROOT = Path(__file__).parent.parent.parent
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # in a container there is none to be had
    "--disable-dev-shm-usage",  # nor much shared memory
    "--disable-gpu",
    "--no-first-run",
    # The browser has errands of its own; none of them may run, and no page leaves this machine.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"no browser: none of {', '.join(CHROMIUMS)} is installed")
    return {**browser_type_launch_args, "executable_path": found, "args": list(FLAGS)}


@pytest.fixture(scope="session")
def server(browser_type_launch_args, tmp_path_factory) -> Iterator[Server]:
    # browser_type_launch_args only so that no server is started where there is no browser.
    with serve(tmp_path_factory.mktemp("jupyter")) as server:
        shutil.copytree(ROOT / "notebooks", server.folder, dirs_exist_ok=True)
        yield server


@pytest.fixture
def lab(server, context, output_path) -> Lab:
    server.stop_kernels()  # those of the test before: opening a notebook again would find them
    return Lab(server, context, originals=ROOT / "notebooks", pictures=Path(output_path))


@pytest.fixture
def no_foreign_requests(lab) -> Iterator[None]:
    yield
    assert lab.foreign == []


@pytest.fixture
def notebook(tmp_path):
    """A notebook of these cells, that nobody has run."""

    def make(*sources: str) -> Path:
        path = tmp_path / "explorers.ipynb"
        write(book(*sources), path)
        return path

    return make
