"""What hands and eyes do with an explorer in a notebook, whichever explorer it is."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page

from .jupyter import PANEL

CELLS = f"{PANEL}.model.sharedModel.cells.map(cell => cell.toJSON())"
# What keys might have changed: the cells, what they ran, which of them is active.
NOTEBOOK = f"""() => JSON.stringify([
    {PANEL}.content.activeCellIndex,
    {CELLS}.map(({{ cell_type, source, execution_count }}) => [cell_type, source, execution_count]),
])"""
# What Jupyter does something at, outside of an explorer.
SHORTCUTS = (
    *("b", "a", "x", "d", "d", "m", "z", "0", "0", "Delete", "Shift+Enter"),
    *("Control+Enter", "Alt+Enter", "Control+Shift+ArrowUp", "Control+Backspace"),
    *("Escape", "b", "x", "ArrowDown", "ArrowUp", "Enter", "Escape", "d", "d"),
)


def explorers(page: Page) -> Locator:
    """The step explorers, among others that a notebook may hold."""
    log_prob = page.locator('[data-key^="policy_log_probs["][data-action]')
    return page.locator(".sftviz-explorer").filter(has=log_prob)


def cell(place: Page | Locator, key: str, explorer: int = 0) -> Locator:
    """The frame of a value in an explorer; on a page, in one of its step explorers."""
    place = explorers(place).nth(explorer) if isinstance(place, Page) else place
    return place.locator(f'g[data-key="{key}"]:has(> rect)')


def drag(cell: Locator, pixels: float) -> None:
    """Pull a value up, or with a negative number down."""
    cell.hover()
    box = cell.bounding_box()
    mouse = cell.page.mouse
    mouse.down()
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - pixels, steps=5)
    mouse.up()


def press_shortcuts(page: Page) -> None:
    for key in SHORTCUTS:
        page.keyboard.press(key)


def barriers(page: Page) -> list:
    """What axe finds in the explorers that keeps somebody out, or can't rule out."""
    options = {"resultTypes": ["violations", "incomplete"]}
    found = Axe().run(page, ".sftviz-explorer", options).response
    return [
        (rule["id"], [node["html"] for node in rule["nodes"]])
        for rule in found["violations"] + found["incomplete"]
        if rule["impact"] in ("serious", "critical")
    ]


def darken(page: Page) -> None:
    """Switch JupyterLab to its dark theme."""
    page.evaluate(
        "jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })"
    )
    page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
