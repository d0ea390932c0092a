"""How long a hand waits: from a key press to the painted picture, in a real JupyterLab.

    python benchmarks/browser.py

The step explorer beside what one would write otherwise: `ipywidgets.interact` around the same
picture drawn by matplotlib. Both have a slider for G, and their sliders are pressed in turns. Then
a log-prob in the explorer's picture is pressed, again and again, which the other one can't offer.
And in a kernel that nobody looks at, the explorer's own part: from a change of its state until the
message with the new picture is on its way. Prints the table and writes it to
`benchmarks/latency.md`.

Some 15 ms of every wait are the way through Jupyter's server and back. The server also leaves its
sockets to Nagle's algorithm, so that of two short messages the second may wait 40 ms. So the
same press may take half as long again in another run: read one table with care.
"""

import json
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from nbclient import NotebookClient
from nbformat import write
from playwright.sync_api import Locator, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.browser.conftest import CHROMIUMS, FLAGS
from tests.browser.jupyter import IDLE, PATIENCE, Lab, book, serve

RESULTS = Path(__file__).with_name("latency.md")
PRESSES = 30
SHAPES = ((2, 4), (8, 128))
LARGE = ((4, 16, 5), (64, 1024, 20))  # B, S, and how many ms it may take

SETUP = """
%matplotlib inline
import json, time, torch
from IPython.display import display
from ipywidgets import IntSlider, interact
from sftviz import StepExplorer, step_flow, trace_step
from sftviz.backends import mpl

def batch(B, S):
    torch.manual_seed(0)
    return -torch.rand(B, S), torch.rand(B, S) > 0.3

def ours(B, S):
    display(StepExplorer(*batch(B, S), gradient_accumulation_steps=2))

def usual(B, S):
    log_probs, mask = batch(B, S)
    def show(G):
        display(mpl.draw(step_flow(trace_step(log_probs, mask, G)).scene))
    interact(show, G=IntSlider(2, min=1, max=16))

def milliseconds(B, S, rounds=100):
    explorer = StepExplorer(*batch(B, S))
    times = []
    show = explorer.live.show

    def sent(*picture):
        show(*picture)
        times.append(1000 * (time.perf_counter() - start))

    explorer.live.show = sent
    for i in range(rounds):
        for change in ({"policy_log_probs[0,0]": -i / 100}, {"response_mask[0,1]": i % 2}):
            state = {"edits": {"at": len(times), "values": change}}  # as the page sends it
            start = time.perf_counter()
            explorer.live.set_state(state)
        start = time.perf_counter()
        explorer.gradient_accumulation_steps = 1 + i % 16
    return times
"""

# From the key's own time stamp to the moment after the frame that shows a new picture.
WATCH = """place => {
    const painted = async (image) => {
        if (image.decode) await image.decode();
        await new Promise(requestAnimationFrame);
        await new Promise((done) => {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = done;
            port2.postMessage(null);
        });
        return performance.now();
    };
    const last = place.querySelector("img")?.src;
    window.waited = new Promise((done) => {
        let pressed;
        addEventListener("keydown", ({ timeStamp }) => (pressed = timeStamp),
            { once: true, capture: true });
        const watch = new MutationObserver(async () => {
            const image = place.querySelector(".sftviz-picture svg, img");
            if (!image || image.src && image.src === last) return;
            watch.disconnect();
            done(await painted(image) - pressed);
        });
        const picture = place.querySelector(".sftviz-picture") ?? place; // not the slider
        watch.observe(picture, { childList: true, subtree: true, attributeFilter: ["src"] });
    });
}"""


@dataclass(frozen=True)
class Row:
    what: str
    ours: float  # ms
    usual: float | None  # ms
    target: float  # ms

    def __str__(self) -> str:
        usual = "" if self.usual is None else f"{self.usual:.0f} ms"
        met = "yes" if self.ours < self.target else "**no**"
        return f"| {self.what} | {self.ours:.3g} ms | {usual} | < {self.target:.0f} ms | {met} |"


def main() -> None:
    """Measure, and write the times as a Markdown table."""
    browser = next(filter(None, map(shutil.which, CHROMIUMS)))
    with TemporaryDirectory() as folder, serve(Path(folder) / "jupyter") as server:
        side_by_side = [f"{one}({B}, {S})" for B, S in SHAPES for one in ("ours", "usual")]
        write(book(SETUP, *side_by_side), Path(folder) / "latency.ipynb")
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
            context = chromium.new_context(viewport={"width": 1280, "height": 1000})
            lab = Lab(server, context, originals=Path(folder), pictures=Path(folder))
            page = lab.open("latency.ipynb")
            lab.run_all(page)
            rows = waiting(page)
            chromium.close()
    table = "\n".join(
        (
            "# How long a hand waits",
            "",
            "Made by `python benchmarks/browser.py`, in JupyterLab and Chromium. "
            f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores.",
            "",
            "| | sftviz | interact + matplotlib | target | met |",
            "|---|---|---|---|---|",
            *map(str, rows),
            *map(str, sending()),
            "",
        )
    )
    RESULTS.write_text(table, encoding="utf-8")
    print(table, end="")


def waiting(page: Page) -> list[Row]:
    """From a key press to the painted picture, medians."""
    rows = []
    outputs = page.locator(".jp-Cell-outputWrapper").filter(has=page.get_by_role("slider"))
    for index, (B, S) in enumerate(SHAPES):
        ours, usual = outputs.nth(2 * index), outputs.nth(2 * index + 1)
        sliders = [place.get_by_role("slider").first for place in (ours, usual)]
        cell = ours.locator('[data-key="policy_log_probs[0,0]"]:has(> rect)')
        pairs = [
            (press(page, ours, sliders[0], key), press(page, usual, sliders[1], key))
            for key in ("ArrowRight", "ArrowLeft") * (PRESSES // 2)
        ]
        alone = [press(page, ours, cell, key) for key in "-+" * (PRESSES // 2)]
        middles = [median(column) for column in zip(*pairs[2:], strict=True)]  # the first warm up
        wait = f"to painted picture, {B} × {S} tokens, median"
        rows.append(Row(f"key press on the slider {wait}", *middles, 50))
        rows.append(Row(f"key press in the picture {wait}", median(alone[2:]), None, 50))
    return rows


def press(page: Page, place: Locator, target: Locator, key: str) -> float:
    """Press a key on something in a place, when all is quiet; how long the picture took, in ms."""
    target.focus()
    page.wait_for_function(IDLE, timeout=PATIENCE * 1000)
    place.evaluate(WATCH)
    page.keyboard.press(key)
    return page.evaluate("waited")


def sending() -> list[Row]:
    """From a change of the state to the message sent, the time that 95 % of them stay below."""
    timed = book(SETUP, *(f"print(json.dumps(milliseconds({B}, {S})))" for B, S, _ in LARGE))
    NotebookClient(timed, store_widget_state=False).execute()
    rows = []
    for (B, S, target), cell in zip(LARGE, timed.cells[1:], strict=True):
        p95 = quantiles(json.loads(cell.outputs[0].text), n=20)[-1]
        rows.append(Row(f"change to message sent, {B} × {S} tokens, p95", p95, None, target))
    return rows


if __name__ == "__main__":
    main()
