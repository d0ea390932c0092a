"""JupyterLab as a reader meets it: a real server, and pages in a real browser.

`serve` starts a server that knows nothing of the machine it runs on; a `Lab` is what one test does
with it. No menu is clicked: the page's own application object runs and restarts, and says when it
is done.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from nbformat import NotebookNode, v4
from playwright.sync_api import BrowserContext, Page

TOOLS = Path(__file__).parent.parent.parent / "tools"  # where the server's settings are

PATIENCE = 90  # seconds, for whatever ought to take ten at most
HERE = {"127.0.0.1", "localhost"}

CONFIG = {
    "ServerApp": {"ip": "127.0.0.1", "port": 0, "open_browser": False, "allow_root": True},
    "LabApp": {"expose_app_in_browser": True, "extension_manager": "readonly"},
    "JupyterNotebookApp": {"expose_app_in_browser": True},
}
SETTINGS = {
    # No question about news, no look for updates.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Every cell is in the page, wherever that is scrolled to.
    "notebook-extension/tracker": {"windowingMode": "none"},
    # Nothing is saved, hence nothing gets trusted: every test opens what nobody has run yet.
    "docmanager-extension/plugin": {"autosave": False},
}
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
ROUTES = {"lab": "lab/tree/{}?reset&token={}", "notebook": "notebooks/{}?token={}"}

# The notebook in front; JupyterLab and Notebook 7 have it in the same place.
PANEL = "window.jupyterapp?.shell.currentWidget"
RENDERED = f"""() => {{
    const cells = {PANEL}?.context?.isReady && {PANEL}.content.widgets;
    return cells && cells.length === {PANEL}.model.cells.length
        && cells.every(cell => cell.isAttached && cell.inputArea && !cell.isPlaceholder());
}}"""
IDLE = f"() => {PANEL}?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
RESTART = f"{PANEL}.sessionContext.restartKernel()"
ERRORS = f"""() => {PANEL}.model.sharedModel.cells.flatMap(cell => cell.toJSON().outputs ?? [])
    .filter(output => output.output_type === 'error').map(error => error.evalue)"""


def book(*sources: str) -> NotebookNode:
    """A notebook of these code cells, that nobody has run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [v4.new_code_cell(source) for source in sources]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@dataclass(frozen=True)
class Server:
    url: str
    token: str
    folder: Path  # what it serves
    settings: Path

    def configure(self, plugin: str, values: dict) -> None:
        """Set what a reader would set in the settings editor, before the page is loaded."""
        file = self.settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), "utf-8")

    def stop_kernels(self) -> None:
        for kernel in json.loads(self.ask("GET", "kernels")):
            self.ask("DELETE", f"kernels/{kernel['id']}")

    def ask(self, method: str, what: str) -> bytes:
        headers = {"Authorization": f"token {self.token}"}
        with urlopen(Request(f"{self.url}api/{what}", None, headers, method=method)) as answer:
            return answer.read()


@contextmanager
def serve(home: Path, config_path: Path | None = TOOLS) -> Iterator[Server]:
    """A Jupyter server on a free port, with everything it keeps below `home`.

    It has the settings that `make lab` gives it; without them it is as Jupyter ships it.
    """
    folder, config, runtime, log = (home / n for n in ("notebooks", "config", "runtime", "log"))
    for path in (folder, config, runtime):
        path.mkdir(parents=True)
    (config / "jupyter_config.json").write_text(json.dumps(CONFIG), "utf-8")
    places = {"CONFIG": config, "RUNTIME": runtime, "DATA": home / "data"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    env |= {f"JUPYTER_{name}_DIR": str(path) for name, path in places.items()}
    env |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTER_CONFIG_PATH": str(config_path or "")}

    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"],
            cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        url, token = _address(process, runtime, log)
        server = Server(url, token, folder, config / "lab" / "user-settings")
        for plugin, values in SETTINGS.items():
            server.configure(plugin, values)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, runtime: Path, log: Path) -> tuple[str, str]:
    """Where the server listens: it says so in a file, once it does."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            said = json.loads((runtime / f"jpserver-{process.pid}.json").read_text("utf-8"))
            return said["url"], said["token"]
        except (FileNotFoundError, json.JSONDecodeError):  # not yet, or not yet all of it
            time.sleep(0.05)
    end = "\n".join(log.read_text("utf-8", "replace").splitlines()[-30:])
    how = "gave no address" if process.returncode is None else f"ended with {process.returncode}"
    raise RuntimeError(f"JupyterLab did not start: it {how}. The end of its log:\n{end}")


@dataclass
class Lab:
    """One reader at one server. `foreign` lists every address beyond this machine asked for."""

    server: Server
    context: BrowserContext
    originals: Path  # the folder that names of notebooks are relative to
    pictures: Path  # where screenshots go
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.on("request", lambda request: self._note(request.url))
        self.context.on("page", lambda page: page.on("websocket", lambda ws: self._note(ws.url)))

    def open(
        self,
        notebook: str | Path,
        *,
        app: Literal["lab", "notebook"] = "lab",
        theme: Literal["light", "dark"] = "light",
        kernel: bool = True,
    ) -> Page:
        """A page with a fresh copy of the notebook, all of its cells drawn, its kernel idle."""
        original = self.originals / notebook
        shutil.copy(original, self.server.folder)
        self.server.configure("apputils-extension/themes", {"theme": THEMES[theme]})
        page = self.context.new_page()
        page.goto(self.server.url + ROUTES[app].format(quote(original.name), self.server.token))
        self._wait(page, RENDERED)
        if kernel:
            self._wait(page, IDLE)
        return page

    def run_all(self, page: Page) -> None:
        """Run every cell to its end; a cell that fails is a failure."""
        self._wait(page, IDLE)
        self._finish(page, RUN_ALL)
        if errors := page.evaluate(ERRORS):
            raise AssertionError(f"{len(errors)} cells failed: {errors}")

    def restart(self, page: Page) -> None:
        """A new kernel; what the old one showed stays on the page."""
        self._wait(page, IDLE)  # one that is restarted while it starts may never be heard of again
        self._finish(page, RESTART)
        self._wait(page, IDLE)

    def screenshot(self, page: Page, name: str) -> Path:
        path = self.pictures / f"{name}.png"
        page.screenshot(path=path)
        return path

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname not in HERE:
            self.foreign.append(url)

    @staticmethod
    def _wait(page: Page, condition: str) -> None:
        page.wait_for_function(condition, timeout=PATIENCE * 1000)

    @staticmethod
    def _finish(page: Page, promise: str) -> None:
        """Wait for a promise of the page's; by itself Playwright would do so for ever."""
        late = f"new Promise((_, fail) => setTimeout(fail, {PATIENCE}e3, Error('not done by now')))"
        page.evaluate(f"() => Promise.race([{promise}, {late}])")
