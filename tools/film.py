"""Film the step explorer in use, for the README: `make film` writes `docs/explorer.webp`.

A real JupyterLab in a real Chromium, as in `tests/browser`. The frames are screenshots, each shown
for as long as it is written here, so the film is as fast on a slow machine as on a quick one.
"""

import shutil
import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from nbformat import write
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.browser.conftest import CHROMIUMS, FLAGS
from tests.browser.jupyter import Lab, book, serve
from tests.browser.touch import cell, explorers

FILM = Path(__file__).resolve().parent.parent / "docs" / "explorer.webp"
CODE = "from sftviz import StepExplorer\n\nStepExplorer()"
WINDOW = {"width": 1254, "height": 1300}  # pixels: leaves the film the width of a README, 830
MARGIN = 8  # pixels, on the left; on the right the picture has its own
SHARPNESS = 1.5  # pixels of the film to one of the page, for screens that have more
STEPS = 6  # frames on the way of the pointer from one place to the next
WAY = 50  # ms for each of them
LOOK = 700  # ms, twice, for what has changed: lit, then as it stays

# A screenshot has no pointer in it, so the page draws one where the mouse is.
POINTER = """() => {
  const pointer = document.createElement("div");
  pointer.innerHTML = `<svg xmlns="http://www.w3.org/2000/svg" width="24" height="30">
    <path d="M2 2v22l6-5.2 3.8 8.4 3.8-1.6L12 17.4h8z" fill="#111" stroke="#fff" stroke-width="2"/>
    </svg>`;
  pointer.style.cssText = "position: fixed; pointer-events: none; z-index: 99999; margin: -2px";
  document.body.append(pointer);
  addEventListener("pointermove", ({ clientX, clientY }) => {
    pointer.style.left = `${clientX}px`;
    pointer.style.top = `${clientY}px`;
  }, { capture: true });
}"""


@dataclass
class Film:
    """Frames of an element of a page, and the mouse that is seen in them."""

    element: Locator
    at: tuple[float, float] = (0, 0)  # the mouse
    frames: list[Image.Image] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)  # ms

    @property
    def page(self) -> Page:
        return self.element.page

    def shoot(self, duration: int) -> None:
        """Add what the element looks like now."""
        box = self.element.bounding_box()
        left = {"x": box["x"] - MARGIN, "width": box["width"] + MARGIN}
        picture = self.page.screenshot(clip=box | left)
        self.frames.append(Image.open(BytesIO(picture)).convert("RGB"))
        self.durations.append(duration)

    def look(self) -> None:
        """Show what has just changed: lit, and then as it stays."""
        for wait in (150, 1500):
            self.page.wait_for_timeout(wait)
            self.shoot(LOOK)

    def move(self, right: float = 0, down: float = 0) -> None:
        """Move the mouse this far, slower at both ends of its way."""
        x, y = self.at
        self.at = x + right, y + down
        for step in range(1, STEPS + 1):
            part = step / STEPS
            part *= part * (3 - 2 * part)
            self.page.mouse.move(x + part * right, y + part * down)
            self.shoot(WAY)

    def start(self, place: Locator) -> None:
        self.at = middle(place)
        self.page.mouse.move(*self.at)
        self.look()

    def go(self, place: Locator) -> None:
        (x, y), (left, top) = middle(place), self.at
        self.move(x - left, y - top)

    def click(self, place: Locator) -> None:
        self.go(place)
        self.page.mouse.down()
        self.page.mouse.up()
        self.look()

    def drag(self, place: Locator, right: float = 0, down: float = 0) -> None:
        self.go(place)
        self.page.mouse.down()
        self.move(right, down)
        self.page.mouse.up()
        self.look()

    def save(self, path: Path) -> None:
        first, *others = self.frames
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=self.durations,
            loop=0,
            lossless=True,  # letters stay sharp, and even colours are small
            minimize_size=True,
            method=6,
        )


def middle(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def play(film: Film) -> None:
    """Move G, unmask a token, lower a log-prob, and go back to the start."""
    explorer = film.element
    reset = explorer.get_by_role("button", name="reset")
    film.start(reset)  # where it will end, so that it can be shown again and again
    film.drag(explorer.get_by_role("slider"), right=26)
    film.click(cell(explorer, "response_mask[0,2]"))
    film.drag(cell(explorer, "policy_log_probs[0,1]"), down=70)
    film.click(reset)


def main() -> None:
    browser = next(filter(None, map(shutil.which, CHROMIUMS)))
    with (
        TemporaryDirectory() as folder,
        serve(Path(folder) / "jupyter") as server,
        sync_playwright() as playwright,
    ):
        write(book(CODE), Path(folder) / "film.ipynb")
        chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        context = chromium.new_context(viewport=WINDOW, device_scale_factor=SHARPNESS)
        lab = Lab(server, context, originals=Path(folder), pictures=Path(folder))
        page = lab.open("film.ipynb")
        lab.run_all(page)
        explorer = explorers(page)
        page.evaluate(POINTER)
        page.wait_for_timeout(1000)
        film = Film(explorer)
        play(film)
        film.save(FILM)
    seconds = sum(film.durations) / 1000
    print(f"{FILM}: {seconds:.3g} s, {FILM.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
