"""Where the bars of a strip are: for the backends that draw lines and areas."""

import re
from typing import NamedTuple

from sftviz.drawing.scene import HIGHEST, SIGN, Strip

Turns = list[float]  # corners of an outline that turns by 90° at each: x, y, then x and y in turns

_APART = 4  # px: bars as wide as this have a gap of 1 px between them
SIGN_HEIGHT = 12  # px, at least: it may reach into the rows beside its own


class Bars(NamedTuple):
    """The parts of a strip, in px."""

    ground: tuple[float, float, float, float]  # left, top, width, height
    areas: list[Turns]  # where bars are, from the lowest to the highest that could be there
    bars: list[Turns]
    signs: list[tuple[float, float, float]]  # the middle, and the highest and the lowest point


def place_bars(strip: Strip, left: float, top: float, cell: tuple[int, int]) -> Bars:
    """The parts of a strip whose upper left corner and whose cells are given in px."""
    height = cell[1] / len(strip.rows)  # of a row, with the gap below it
    width = strip.width * cell[0] / max(map(len, strip.rows))  # of a bar
    is_apart = width >= _APART
    gap = height / 7
    filled = height * sum(map(bool, strip.rows)) - gap
    ground = (left, round(top + gap / 2, 1), strip.width * cell[0], round(filled, 1))
    parts = Bars(ground, [], [], [])
    for row, levels in enumerate(strip.rows):
        base = top + (row + 1) * height - gap / 2
        # A level as a height in px; a sign is instead of a bar.
        ys = [round(base - at % SIGN / HIGHEST * (height - gap), 1) for at in range(SIGN + 1)]
        for run in re.finditer(b"[^\0]+", levels):
            xs = [round(left + at * width, 1) for at in range(run.start(), run.end() + 1)]
            parts.areas.append([xs[0], ys[0], ys[HIGHEST], xs[-1], ys[0]])
            turns = [xs[0], ys[0]]
            for same in re.finditer(rb"." if is_apart else rb"(.)\1*", run[0], re.DOTALL):
                end = xs[same.end()]
                turns += (
                    (ys[same[0][0]], end - 1, ys[0], end) if is_apart else (ys[same[0][0]], end)
                )
            parts.bars.append([*turns, ys[0]])
        for sign in re.finditer(bytes([SIGN]), levels):
            middle = round(left + (sign.start() + 0.5) * width, 1)
            high = max(top + gap / 2, min(ys[HIGHEST], ys[0] - SIGN_HEIGHT))
            parts.signs.append((middle, high, max(ys[0], high + SIGN_HEIGHT)))
    return parts
