"""The harness itself, on a notebook of one line: if this fails, nothing else here says anything."""

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from nbformat import v4, write
from playwright.sync_api import expect

from .jupyter import PANEL, PATIENCE, THEMES


@pytest.fixture
def notebook(tmp_path):
    """print(1 + 1), said to have printed 3; its output shows whether it was run."""
    stored = v4.new_output("stream", text="3\n")
    cell = v4.new_code_cell("print(1 + 1)", execution_count=1, outputs=[stored])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write(v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), tmp_path / "tiny.ipynb")
    return tmp_path / "tiny.ipynb"


@pytest.mark.parametrize(("app", "theme"), [("lab", "dark"), ("notebook", "light")])
def test_a_notebook_is_shown_and_run(lab, no_foreign_requests, notebook, app, theme):
    page = lab.open(notebook, app=app, theme=theme)
    output = page.locator(".jp-OutputArea-output")
    expect(output).to_have_text("3")
    assert not page.evaluate(f"{PANEL}.model.cells.get(0).trusted")
    assert page.locator("body").get_attribute("data-jp-theme-name") == THEMES[theme]

    lab.run_all(page)
    expect(output).to_have_text("2")
    lab.restart(page)
    expect(output).to_have_text("2")
    lab.run_all(page)
    assert lab.screenshot(page, "tiny").exists()


def test_a_cell_that_fails_is_told(lab, notebook):
    notebook.write_text(notebook.read_text("utf-8").replace("print(1 + 1)", "1 / 0"), "utf-8")
    with pytest.raises(AssertionError, match="division by zero"):
        lab.run_all(lab.open(notebook))


def test_a_request_that_would_leave_the_machine_is_told(lab, notebook):
    page = lab.open(notebook, kernel=False)
    page.evaluate("fetch('https://example.org/d3.js').catch(() => {})")
    with page.expect_websocket(lambda socket: "example.org" in socket.url):
        page.evaluate("() => { new WebSocket('wss://example.org/'); }")
    assert set(lab.foreign) == {"https://example.org/d3.js", "wss://example.org/"}


def test_the_server_has_the_settings_of_the_course(server):
    kernel = json.loads(server.ask("POST", "kernels"))["id"]
    hello = {
        "Authorization": f"token {server.token}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "c2Z0dml6IHNmdHZpeiBzZg==",
        "Sec-WebSocket-Extensions": "permessage-deflate",
    }
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    connection.request("GET", f"/api/kernels/{kernel}/channels", headers=hello)
    with connection.getresponse() as answer:
        assert answer.headers["Sec-WebSocket-Extensions"] == "permessage-deflate"
    connection.close()
