"""A scene as SVG: one group per mark, one class per tone; a stylesheet has all colours.

`draw` returns a complete picture. `markup` returns the same elements for a page that has its own
stylesheet. Nothing has an id, so a page can show many pictures. Groups are not
nested, except in the one around all of them, so a page can compare two pictures group by group.
"""

import math
from collections.abc import Iterable, Set
from functools import lru_cache
from html import escape
from itertools import pairwise
from typing import Literal

from sftviz.drawing.bars import Turns, place_bars
from sftviz.drawing.formatting import text_width
from sftviz.drawing.scene import (
    Arrow,
    Cell,
    Frame,
    Mark,
    Node,
    Outline,
    Page,
    Shape,
    Strip,
    Text,
    Trail,
    lower,
)
from sftviz.drawing.theme import OVERVIEW_TONES, QUESTION_TONES, SENTENCES, TONES, Mode, paint

CELL_WIDTH, CELL_HEIGHT = 8, 21  # px
MARGIN = 8  # px around the scene
FONT = "'DejaVu Sans Mono',Menlo,'Cascadia Mono',Consolas,ui-monospace,monospace"
TITLE_FONT = "system-ui,'Segoe UI','DejaVu Sans',sans-serif"
_ALL = frozenset({*TONES, "strip", Trail.__name__})


def draw(scene: Node, mode: Mode | Literal["page"] = "light") -> str:
    """Draw a scene as a whole SVG document; in "page" it is light or dark, as its page is."""
    page = lower(scene)
    used = {name for _, _, shape in page.marks for name in (shape.tone, type(shape).__name__)}
    return markup(page, style=f"<style>{stylesheet(mode, used)}</style>")


def markup(page: Page, style: str = "") -> str:
    """Draw a lowered scene as an `<svg>` element without colours."""
    width, height = size(page)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sftviz" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{style}'
        '<g class="ground"><rect width="100%" height="100%"/></g>'
        f'<g transform="translate({MARGIN} {MARGIN})">{"".join(map(_group, page.marks))}</g></svg>'
    )


def size(page: Page) -> tuple[int, int]:
    """Width and height in px."""
    return page.width * CELL_WIDTH + 2 * MARGIN, page.height * CELL_HEIGHT + 2 * MARGIN


def stylesheet(mode: Mode | Literal["page"], used: Set[str] = _ALL) -> str:
    """Fonts, lines, and the colours of every tone, for `markup`; of rare tones, if one is used."""
    has_strips = "strip" in used
    has_questions = not used.isdisjoint(QUESTION_TONES)
    css = (
        f".sftviz text{{font:13px {FONT};white-space:pre;unicode-bidi:isolate}}"
        f".sftviz .title text{{font:600 14px {TITLE_FONT}}}"
        ".sftviz .arrow{stroke-width:1.5}"
        f".sftviz .hatch{{stroke-width:{CELL_HEIGHT - 4};stroke-dasharray:1.4 5.6}}"
    )
    if Trail.__name__ in used:
        css += ".sftviz path.trail{fill:none!important;stroke-width:2}"
        css += ".sftviz .dashed{stroke-dasharray:5 3}"
    if has_strips:
        css += (
            ".sftviz .plain,.sftviz .area{stroke:none!important}"
            ".sftviz path.sign{stroke-width:3}.sftviz .lens>rect{stroke-width:2}"
        )
    if has_questions:
        css += (
            f".sftviz .prose text{{font:14px {TITLE_FONT}}}"
            f".sftviz .reply text{{font:600 14px {TITLE_FONT}}}"
            ".sftviz .asked>rect{stroke-dasharray:4 3}.sftviz .asked text{font-weight:600}"
        )
    absent = {
        *(() if has_strips else OVERVIEW_TONES),
        *(() if has_questions else QUESTION_TONES),
    } - used
    tones = [tone for tone in TONES if tone not in absent]
    if mode == "page":
        # The light colours first: some programs that draw SVG ignore what is in an @media.
        dark = f"@media (prefers-color-scheme:dark){{{_colours(tones, 'dark')}}}"
        return css + _colours(tones, "light") + dark
    return css + _colours(tones, mode)


def _colours(tones: Iterable[str], mode: Mode) -> str:
    css = ""
    for tone in tones:
        if tone == "lit" and mode != "live":
            continue  # in a file nothing changes
        colour = paint(tone, mode)
        css += f".sftviz .{tone} text{{fill:{colour.ink}}}"
        shapes = f".sftviz .{tone}>rect,.sftviz path.{tone}"
        css += f"{shapes}{{fill:{colour.fill};stroke:{colour.edge}}}"
    return css


# A change of a live picture changes few marks. Without this cache a picture of 8 × 128 tokens takes
# 1.5 times as long.
@lru_cache(maxsize=4096)
def _group(mark: Mark) -> str:
    x, y, shape = mark
    data = f' data-key="{escape(shape.key)}"' if shape.key else ""
    return f'<g class="{shape.tone}"{data}>{_elements(x, y, shape)}</g>'


def _elements(x: int, y: int, shape: Shape) -> str:
    left, top = x * CELL_WIDTH, y * CELL_HEIGHT
    match shape:
        case Text(text, tone):
            # With this length the text fills its cells in any font.
            length = (
                f' textLength="{text_width(text) * CELL_WIDTH}"' if tone not in SENTENCES else ""
            )
            return f'<text x="{left}" y="{top + 15}"{length}>{escape(text)}</text>'
        case Cell(text, width, tone):
            box = (left + 0.5, top + 1.5, width * CELL_WIDTH - 1, CELL_HEIGHT - 3)
            hatch = _hatch(*box) if tone == "masked" else ""
            text = _elements(x + shape.indent, y, Text(text))
            return _rect(*box, radius=9 if tone == "badge" else 4) + hatch + text
        case Strip():
            return _strip(shape, left, top)
        case Outline(width, height):
            area = f'<rect class="area" x="{left}" y="{top}" width="{width * CELL_WIDTH}" '
            area += f'height="{height * CELL_HEIGHT}"/>'
            x0, y0, x1, y1 = shape.box
            x0, x1 = left + x0 * CELL_WIDTH - 2, left + x1 * CELL_WIDTH + 2
            y0, y1 = top + y0 * CELL_HEIGHT - 1, top + y1 * CELL_HEIGHT + 1
            return area + _rect(round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1), 3)
        case Trail():
            return _trail(shape, left, top)
        case Frame(width, height):
            right, bottom = (width - 1) * CELL_WIDTH, (height - 1) * CELL_HEIGHT
            return _rect(left + CELL_WIDTH / 2, top + CELL_HEIGHT / 2, right, bottom, radius=9)
        case Arrow(length):
            left, top = left + CELL_WIDTH / 2, top + CELL_HEIGHT / 2
            tip = top + length * CELL_HEIGHT - 1
            return (
                f'<path class="arrow {shape.tone}" d="M{left:g} {top:g}V{tip:g}m-4 -5l4 5l4 -5"/>'
            )


def _rect(left: float, top: float, width: float, height: float, radius: int) -> str:
    return f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="{radius}"/>'


def _strip(strip: Strip, left: int, top: int) -> str:
    parts = place_bars(strip, left, top, (CELL_WIDTH, CELL_HEIGHT))
    x, y, width, height = parts.ground
    signs = "".join([f"M{at:g} {high:g}V{low - 4:g}m0 2V{low:g}" for at, high, low in parts.signs])
    return (
        f'<path class="masked plain" d="M{x:g} {y:g}h{width:g}v{height:g}h-{width:g}z"/>'
        + _hatch(*parts.ground, f' style="stroke-width:{height:g}"')
        + f'<path class="response plain" d="{_outlines(parts.areas)}"/>'
        + f'<path class="bar" d="{_outlines(parts.bars)}"/>'
        + (f'<path class="sign" d="{signs}"/>' if signs else "")
    )


def _trail(trail: Trail, left: int, top: int) -> str:
    points = [(left + x * CELL_WIDTH, top + y * CELL_HEIGHT) for x, y in trail.points]
    line = "L".join([f"{x:.1f} {y:.1f}" for x, y in points])
    kind = " dashed" if trail.is_dashed else ""
    path = f'<path class="{trail.tone} trail{kind}" d="M{line}"/>'
    if not trail.has_heads:
        return path
    heads = "".join([_head(*ends) for ends in pairwise(points)])
    return f'{path}<path class="{trail.tone} trail" d="{heads}"/>'


def _head(tail: tuple[float, float], tip: tuple[float, float]) -> str:
    """The head of an arrow: two strokes of 6 px, each 30° from its line."""
    back = math.atan2(tail[1] - tip[1], tail[0] - tip[0])
    ends = [
        (tip[0] + 6 * math.cos(at), tip[1] + 6 * math.sin(at)) for at in (back - 0.52, back + 0.52)
    ]
    (x0, y0), (x1, y1) = ends
    return f"M{x0:.1f} {y0:.1f}L{tip[0]:.1f} {tip[1]:.1f}L{x1:.1f} {y1:.1f}"


def _outlines(outlines: Iterable[Turns]) -> str:
    """The data of a path along outlines of which each corner turns by 90°."""
    return "".join(
        [
            f"M{x:g} {y:g}" + "".join([f"{'VH'[i % 2]}{to:g}" for i, to in enumerate(turns)]) + "z"
            for x, y, *turns in outlines
        ]
    )


def _hatch(left: float, top: float, width: float, height: float, style: str = "") -> str:
    """Diagonal lines across a box: one broad dashed line, skewed. A pattern would need an id."""
    middle = top + height / 2
    # Skewing moves a point to the left by its own y.
    left, right = left + middle + height / 2 + 1, left + middle + width - height / 2 - 1
    return f'<path class="hatch"{style} transform="skewX(-45)" d="M{left:g} {middle:g}H{right:g}"/>'
