"""How long a hand waits: from a key press to the painted picture, in a real JupyterLab.

    python benchmarks/browser.py

The step explorer beside what one would write otherwise: `ipywidgets.interact` around the same
picture drawn by matplotlib. Both have a slider for G, and their sliders are pressed in turns. Then
a log-prob in the explorer's picture is pressed, again and again, which the other one can't offer.
All this on the course's server, and again on one as Jupyter ships it, where short messages wait
for each other: `tools/jupyter_server_config.py` says why. Then one control of each of the other
explorers, as they are when nothing is given. And in a kernel that nobody looks at, the
explorer's own part: from a change of its state until the message with the new picture is on its
way. Prints the table and writes it to `benchmarks/latency.md`.

Some 15 ms of every wait are the way through Jupyter's server and back.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from nbclient import NotebookClient
from nbformat import write
from playwright.sync_api import Locator, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.browser.conftest import CHROMIUMS, FLAGS
from tests.browser.jupyter import IDLE, PATIENCE, TOOLS, Lab, book, serve

RESULTS = Path(__file__).with_name("latency.md")
PRESSES = 30
SHAPES = ((2, 4), (8, 128))
LARGE = ((4, 16, 5), (64, 1024, 20))  # B, S, and how many ms it may take

# Another explorer, what is pressed in it, and how many ms that may take.
OTHERS = (
    ("LogitsExplorer", "button", "optimizer step", ("Enter",), 50),
    ("MaskExplorer", "combobox", "what goes wrong", ("ArrowDown", "ArrowUp"), 50),
    ("DivisorExplorer", "slider", "G", ("ArrowRight", "ArrowLeft"), 50),
    ("AccumulationExplorer", "slider", "G", ("ArrowRight", "ArrowLeft"), 80),
)

SETUP = """
%matplotlib inline
import json, time, torch
from IPython.display import display
from ipywidgets import IntSlider, interact
from sftviz import StepExplorer, step_flow, trace_step
from sftviz.drawing import mpl

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
            generation = explorer.live.generation
            edits = {"id": len(times), "generation": generation, "values": change}
            state = {"edits": edits}  # as the page sends it
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
class Waits:
    """Medians in ms, for one size of batch."""

    slider: float
    picture: float
    usual: float  # a slider too


@dataclass(frozen=True)
class Row:
    what: str
    ours: float  # ms, as all of these
    target: float
    shipped: float | None = None  # ours, on a server as Jupyter ships it
    usual: float | None = None

    def __str__(self) -> str:
        shipped, usual = (f"{time:.3g} ms" if time else "" for time in (self.shipped, self.usual))
        met = "yes" if self.ours < self.target else "**no**"
        cells = (self.what, f"{self.ours:.3g} ms", shipped, usual, f"< {self.target} ms", met)
        return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and write the times as a Markdown table."""
    rows = []
    for (B, S), ours, shipped in zip(SHAPES, waiting(TOOLS), waiting(None), strict=True):
        wait = f"to painted picture, {B} × {S} tokens, median"
        slider, picture = f"key press on the slider {wait}", f"key press in the picture {wait}"
        rows.append(Row(slider, ours.slider, 50, shipped.slider, ours.usual))
        rows.append(Row(picture, ours.picture, 50, shipped.picture))
    rows += others()
    rows += sending()
    table = "\n".join(
        (
            "# How long a hand waits",
            "",
            "Made by `python benchmarks/browser.py`, in JupyterLab and Chromium. "
            f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores.",
            "",
            "| | sftviz | on a server as Jupyter ships it | interact + matplotlib | target | met |",
            "|---|---|---|---|---|---|",
            *map(str, rows),
            "",
        )
    )
    RESULTS.write_text(table, encoding="utf-8")
    print(table, end="")


@contextmanager
def shown(config_path: Path | None, *cells: str) -> Iterator[Page]:
    """A notebook that has been run, in JupyterLab."""
    browser = next(filter(None, map(shutil.which, CHROMIUMS)))
    with (
        TemporaryDirectory() as folder,
        serve(Path(folder) / "jupyter", config_path) as server,
        sync_playwright() as playwright,
    ):
        write(book(*cells), Path(folder) / "latency.ipynb")
        chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        context = chromium.new_context(viewport={"width": 1280, "height": 1000})
        lab = Lab(server, context, originals=Path(folder), pictures=Path(folder))
        page = lab.open("latency.ipynb")
        lab.run_all(page)
        yield page


def waiting(config_path: Path | None) -> list[Waits]:
    """From a key press to the painted picture, for every size of batch."""
    side_by_side = [f"{one}({B}, {S})" for B, S in SHAPES for one in ("ours", "usual")]
    with shown(config_path, SETUP, *side_by_side) as page:
        places = page.locator(".jp-Cell-outputWrapper").filter(has=page.get_by_role("slider")).all()
        return [pressing(*pair) for pair in zip(places[::2], places[1::2], strict=True)]


def others() -> list[Row]:
    """From a key press to the painted picture, in the other explorers."""
    rows = []
    with shown(TOOLS, *(f"import sftviz; sftviz.{name}()" for name, *_ in OTHERS)) as page:
        places = page.locator(".sftviz-explorer").all()
        for place, (name, role, label, keys, target) in zip(places, OTHERS, strict=True):
            control = place.get_by_role(role, name=label, exact=True)
            times = [press(place, control, keys[i % len(keys)]) for i in range(PRESSES)]
            wait = median(times[2:])
            rows.append(Row(f"{name}: key press on “{label}”, median", wait, target))
    return rows


def pressing(ours: Locator, usual: Locator) -> Waits:
    """Press what there is to press in two outputs that show the same batch."""
    sliders = [place.get_by_role("slider").first for place in (ours, usual)]
    cell = ours.locator('[data-key="policy_log_probs[0,0]"]:has(> rect)')
    pairs = [
        (press(ours, sliders[0], key), press(usual, sliders[1], key))
        for key in ("ArrowRight", "ArrowLeft") * (PRESSES // 2)
    ]
    alone = [press(ours, cell, key) for key in "-+" * (PRESSES // 2)]
    slider, other = (median(column) for column in zip(*pairs[2:], strict=True))  # after a warm-up
    return Waits(slider, median(alone[2:]), other)


def press(place: Locator, target: Locator, key: str) -> float:
    """Press a key on something in a place, when all is quiet; how long the picture took, in ms."""
    page = place.page
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
        rows.append(Row(f"change to message sent, {B} × {S} tokens, p95", p95, target))
    return rows


if __name__ == "__main__":
    main()
