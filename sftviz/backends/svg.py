"""A scene as SVG: one class a tone, one group a value, so that a stylesheet gives all its looks.

`draw` returns a picture that stands alone, in light colours. `markup` returns the same elements for
a page that brings its own stylesheet. Nothing in either has an id, so that many can share a page;
and no group lies in another but in the one around all, so that a page can compare two pictures
group by group.
"""

from collections.abc import Iterator
from functools import lru_cache
from html import escape
from itertools import groupby
from operator import attrgetter

from sftviz.scene import Arrow, Frame, Glyphs, Mark, Node, Page, lower, text_width
from sftviz.theme import TONES, Mode, paint

CELL_WIDTH, CELL_HEIGHT = 8, 21  # px
MARGIN = 8  # px around the scene
_INSET = 1.5  # px between a value's frame and the row it stands in
FONT = "'DejaVu Sans Mono',Menlo,'Cascadia Mono',Consolas,ui-monospace,monospace"
TITLE_FONT = "system-ui,'Segoe UI','DejaVu Sans',sans-serif"


def draw(scene: Node, mode: Mode = "light") -> str:
    """Draw a scene as a whole SVG document."""
    return markup(lower(scene), style=f"<style>{stylesheet(mode)}</style>")


def markup(page: Page, style: str = "") -> str:
    """Draw a lowered scene as an `<svg>` element without colours of its own."""
    width = page.width * CELL_WIDTH + 2 * MARGIN
    height = page.height * CELL_HEIGHT + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sftviz" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{style}'
        '<g class="ground"><rect width="100%" height="100%"/></g>'
        f'<g transform="translate({MARGIN} {MARGIN})">{"".join(_groups(page.marks))}</g></svg>'
    )


def stylesheet(mode: Mode) -> str:
    """The looks of every tone, for `markup`."""
    css = (
        f".sftviz text{{font:13px {FONT};white-space:pre;unicode-bidi:isolate}}"
        f".sftviz .title text{{font:600 14px {TITLE_FONT}}}"
        ".sftviz .arrow{stroke-width:1.5}"
    )
    for tone in TONES:
        if tone == "lit" and mode != "live":
            continue  # nothing changes in a file
        colour = paint(tone, mode)
        css += f".sftviz .{tone} text{{fill:{colour.ink}}}"
        shapes = f".sftviz .{tone}>rect,.sftviz path.{tone}"
        css += f"{shapes}{{fill:{colour.fill};stroke:{colour.edge}}}"
    return css


def _groups(marks: list[Mark]) -> Iterator[str]:
    for (tone, key), group in groupby(marks, attrgetter("tone", "key")):
        data = f' data-key="{escape(key)}"' if key else ""
        yield f'<g class="{tone}"{data}>{"".join(map(_element, group))}</g>'


# A redraw of a live picture changes few marks: the others are not written again.
@lru_cache(maxsize=4096)
def _element(mark: Mark) -> str:
    match mark:
        case Glyphs(x, y, text, tone):
            # The length makes the text fill its cells in whatever font the reader has.
            length = f' textLength="{text_width(text) * CELL_WIDTH}"' if tone != "title" else ""
            baseline = y * CELL_HEIGHT + 15
            return f'<text x="{x * CELL_WIDTH}" y="{baseline}"{length}>{escape(text)}</text>'
        case Frame(x, y, width, 1, tone):
            left, top = x * CELL_WIDTH + 0.5, y * CELL_HEIGHT + _INSET
            right, bottom = left + width * CELL_WIDTH - 1, top + CELL_HEIGHT - 2 * _INSET
            rect = _rect(left, top, right, bottom, 9 if tone == "badge" else 4)
            return rect + (_hatch(left, top, right, bottom) if tone == "masked" else "")
        case Frame(x, y, width, height):
            return _rect(
                (x + 0.5) * CELL_WIDTH,
                (y + 0.5) * CELL_HEIGHT,
                (x + width - 0.5) * CELL_WIDTH,
                (y + height - 0.5) * CELL_HEIGHT,
                9,
            )
        case Arrow(x, y, length, tone):
            left = (x + 0.5) * CELL_WIDTH
            top, tip = (y + 0.5) * CELL_HEIGHT, (y + length + 0.5) * CELL_HEIGHT
            return f'<path class="arrow {tone}" d="M{left:g} {top:g}V{tip - 1:g}m-4 -5l4 5l4 -5"/>'


def _rect(left: float, top: float, right: float, bottom: float, radius: int) -> str:
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
        f'rx="{radius}"/>'
    )


def _hatch(left: float, top: float, right: float, bottom: float) -> str:
    """Diagonal lines across a frame, each clipped to it by arithmetic: a pattern needs an id."""
    height, lines = bottom - top, []
    start = left - height + 6
    while start < right - 1:
        x0, y0 = max(start, left + 1), bottom - max(0.0, left + 1 - start)
        x1 = min(start + height, right - 1)
        y1 = top + max(0.0, start + height - (right - 1))
        lines.append(f"M{x0:g} {y0:g}L{x1:g} {y1:g}")
        start += 7
    return f'<path class="hatch" d="{"".join(lines)}"/>'
