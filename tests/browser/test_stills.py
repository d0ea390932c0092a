"""Still pictures in JupyterLab, Notebook 7 and exported pages: their colours, and their size."""

import io
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from nbconvert.exporters import WebPDFExporter
from nbformat import read, v4, write
from PIL import Image
from playwright.sync_api import Locator, Page

from sftviz import WORKED_EXAMPLE, key_formula, step_flow
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.theme import paint
from sftviz.experiments.training import Window
from sftviz.views.charts import loss_curves

from .jupyter import PANEL, book
from .touch import darken

STILLS = ".sftviz-drawing img, .sftviz-chart img"
SYSTEMS = pytest.mark.parametrize("system", ["light", "dark"])


@pytest.fixture
def stored(tmp_path):
    """A notebook with a drawing and a chart among its outputs, as it is stored."""
    return store(tmp_path, key_formula(WORKED_EXAMPLE.trace()))


def store(folder: Path, drawing: Drawing) -> Path:
    chart = loss_curves([Window(1, 36.0, 2.5, 11, 8.0), Window(2, 30.0, 2.0, 11, 7.0)])
    notebook = book("drawing", "chart")
    for cell, still in zip(notebook.cells, (drawing, chart), strict=True):
        cell.execution_count = 1
        cell.outputs = [v4.new_output("display_data", still._repr_mimebundle_())]
    write(notebook, folder / "stills.ipynb")
    return folder / "stills.ipynb"


def pixels(image: Locator) -> Image.Image:
    image.scroll_into_view_if_needed()
    return Image.open(io.BytesIO(image.screenshot())).convert("RGB")


def grounds(page: Page, expected: list[str]) -> list[str]:
    """The colour at the lower left corner of each still: its ground.

    A dialog that closes casts a shadow for a moment, so it is read until it is as expected.
    """
    images = page.locator(STILLS)
    images.last.wait_for()
    deadline = monotonic() + 3
    while (found := _grounds(images)) != expected and monotonic() < deadline:
        page.wait_for_timeout(100)
    return found


def _grounds(images: Locator) -> list[str]:
    found = []
    for index in range(images.count()):
        picture = pixels(images.nth(index))
        found.append("#{:02x}{:02x}{:02x}".format(*picture.getpixel((3, picture.height - 4))))
    return found


def ground(mode: str) -> list[str]:
    return [paint("ground", mode).fill] * 2


@pytest.mark.parametrize(("app", "system"), [("lab", "dark"), ("notebook", "light")])
def test_stills_follow_the_theme_while_the_page_is_open(
    lab, no_foreign_requests, stored, app, system
):
    page = lab.open(stored, app=app, kernel=False)
    page.emulate_media(color_scheme=system)  # what the reader's system prefers changes nothing
    assert grounds(page, ground("light")) == ground("light")
    darken(page)
    assert grounds(page, ground("dark")) == ground("dark")
    lab.screenshot(page, f"stills-{app}-{system}")


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_letters_stay_large_enough_in_a_narrow_page(lab, stored, app):
    page = lab.open(stored, app=app, kernel=False)
    if app == "lab":
        page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    page.set_viewport_size({"width": 420, "height": 800})
    lab.screenshot(page, f"stills-narrow-{app}")
    for image in page.locator(STILLS).all():
        assert image.evaluate("image => image.width / image.naturalWidth") >= 0.69
        around = image.locator("..")
        assert around.evaluate("div => div.scrollWidth > div.clientWidth")
        assert around.evaluate("div => div.getBoundingClientRect().right") <= 420


def test_what_jupyterlab_saves_and_exports_has_the_picture_of_an_explorer(lab, notebook):
    page = lab.open(notebook("from sftviz import StepExplorer\nStepExplorer()"))
    lab.run_all(page)
    page.evaluate(f"{PANEL}.context.save()")
    path = lab.server.folder / "explorers.ipynb"
    saved = read(path, 4)
    view = saved.cells[0].outputs[0].data["application/vnd.jupyter.widget-view+json"]
    # As the command "Save Widget State Automatically" and `jupyter execute` do.
    saved.metadata.widgets = {
        "application/vnd.jupyter.widget-state+json": {"state": {view["model_id"]: {}}}
    }
    for stored in (read(path, 4), saved):
        write(stored, path)
        page.goto(f"{lab.server.url}nbconvert/html/{path.name}?token={lab.server.token}")
        image = page.locator(STILLS)
        image.wait_for()
        assert image.get_attribute("alt").startswith("SFT step, G = 2: 7 of 8 tokens count;")
        assert image.evaluate("image => image.naturalWidth") > 300


@SYSTEMS
def test_stills_follow_a_page_of_the_web_site(page, system):
    drawing = key_formula(WORKED_EXAMPLE.trace())._repr_html_()
    page.emulate_media(color_scheme=system)
    for mode in ("light", "dark"):
        theme = f":root {{ color-scheme: {mode} }} img {{ filter: brightness(.8) }}"  # pydata's
        page.set_content(f"<style>{theme}</style>{drawing * 2}")
        assert grounds(page, ground(mode)) == ground(mode)


@pytest.mark.parametrize("theme", ["light", "dark"])
@SYSTEMS
def test_stills_follow_an_exported_page(page, stored, theme, system):
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--theme", theme, stored]
    subprocess.run(command, check=True, capture_output=True)
    page.emulate_media(color_scheme=system)
    page.goto(stored.with_suffix(".html").as_uri())
    assert grounds(page, ground(theme)) == ground(theme)


def test_a_pdf_of_the_page_has_whole_pictures(page, tmp_path, monkeypatch):
    # What `--to webpdf` prints: on US letter, in a browser of Playwright's own.
    monkeypatch.setattr(WebPDFExporter, "run_playwright", lambda _, html: html.encode())
    path = store(tmp_path, step_flow(WORKED_EXAMPLE.trace()))
    html, _ = WebPDFExporter().from_filename(str(path))
    page.set_viewport_size({"width": 816, "height": 1056})
    page.emulate_media(media="print")
    page.set_content(html.decode())
    images = page.locator(STILLS)
    assert images.count() == 2
    for image in images.all():
        assert image.evaluate("image => image.width") > 600
        assert image.locator("..").evaluate("div => div.scrollWidth <= div.clientWidth")
