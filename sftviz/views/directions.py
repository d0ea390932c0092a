"""All rules side by side: the microbatches head to tail, and where each rule arrives."""

from collections.abc import Sequence
from textwrap import wrap

from sftviz.directions import Direction
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Align, Card, Column, Node, Row, Stack, Text, Trail
from sftviz.drawing.svg import CELL_HEIGHT, CELL_WIDTH
from sftviz.rules import STEP
from sftviz.views.parts import FRAME, WIDTH, check_width

_PLANE = (46, 12)  # cells
_LONGEST = 2.5  # lengths of the full-batch gradient that have room in the plane
_NAMES, _LENGTHS, _ANGLES = 18, 7, 5  # cells of the table's columns
_LARGE, _SMALL = (9, 2.5), (6, 2.0)  # cells of a length of 1 in the table, and how many have room
_SAME = 5e-4  # a length that is shown as 1, or an angle as 0
_FULL_BATCH = "lens"  # the tone
_ARROWS = "Each arrow is a gradient. B: rows of a microbatch, G: microbatches of a window."
_ASPECT = CELL_WIDTH / CELL_HEIGHT


def directions_view(found: Sequence[Direction], width: int = WIDTH) -> Drawing:
    """Draw the gradients of a window under several rules, and the full-batch gradient, as arrows.

    Args:
        found: of `directions`.
        width: in cells, 48 or more. The table is beside the plane if there is room.

    Raises:
        TypeError, ValueError: the width is too small.
    """
    check_width(width)
    cells = min(_PLANE[0], width - FRAME)
    what = tuple(Text(line, "muted") for line in wrap(_ARROWS, cells))
    plane = _card("Microbatches, head to tail", Column((*what, _plane(found, cells))))
    table = _card("All rules", _table(found, *_LARGE))
    if plane.width + 1 + table.width <= width:
        scene: Node = Row((plane, table), gap=1)
    elif table.width <= width:
        scene = Column((plane, table))
    else:
        scene = Column((plane, _card("All rules", _table(found, *_SMALL))))
    sentence = "; ".join(f"{_name(at)}: length {number(at.length)}, {_turned(at)}" for at in found)
    return Drawing(scene, f"Gradients relative to the full batch's. {sentence}.")


def _card(title: str, body: Node) -> Card:
    return Card(Column((Text(title, "title"), Text(""), body)))


def _plane(found: Sequence[Direction], width: int) -> Node:
    """The paths of rules that differ, drawn from one point, and what each line is."""
    height = _PLANE[1]
    drawn = [at for at in _distinct(found) if at.length <= _LONGEST]
    points = [(0.0, 0.0), (1.0, 0.0), *(point for at in drawn for point in at.points)]
    (left, right), (low, high) = ((min(line), max(line)) for line in zip(*points, strict=True))
    unit = min((width - 1) / (right - left), (height - 0.5) / max(high - low, 0.1) / _ASPECT)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return (x - left) * unit + 0.25, (high - y) * unit * _ASPECT + 0.25

    def trail(line: Sequence[tuple[float, float]], tone: str, is_dashed: bool = False) -> Trail:
        return Trail(width, height, tuple(map(place, line)), tone, is_dashed)

    full_batch = [(0.0, 0.0), (1.0, 0.0)]
    paths = [trail(at.points, _tone(at), _is_dashed(at)) for at in drawn]
    legend = [_legend("full batch", _FULL_BATCH)]
    for at in drawn:
        same = [_name(other) for other in found if _are_alike(at, other)]
        legend.append(_legend(f"{', '.join(same)}: {_arrival(at)}", _tone(at), _is_dashed(at)))
    ground = Column((Text(" " * width), *[Text("")] * (height - 1)))
    return Column((Stack((ground, *paths, trail(full_batch, _FULL_BATCH))), *legend))


def _legend(text: str, tone: str, is_dashed: bool = False) -> Node:
    return Row((Trail(5, 1, ((0.0, 0.5), (4.5, 0.5)), tone, is_dashed), Text(text, "muted")), gap=1)


def _table(found: Sequence[Direction], unit: int, longest: float) -> Node:
    """Two lines for each rule: its length, its angle, and its arrow over that of the full batch."""
    room = int(longest * unit) + 1
    heads = (("divided by", _NAMES), ("length", _LENGTHS), ("angle", _ANGLES))
    lines: list[Node] = [Row(tuple(Align(Text(text, "muted"), cells) for text, cells in heads))]
    for at in found:
        shown = min(1.0, longest / at.length) * unit if at.length else 0.0
        x, y = (part * shown for part in at.points[-1])
        arrow = Trail(room, 2, ((0.0, 1.3), (max(0.0, x), max(0.0, 1.3 - y * _ASPECT))), _tone(at))
        below = Trail(room, 2, ((0.0, 1.7), (float(unit), 1.7)), _FULL_BATCH)
        texts = (_name(at), _NAMES), (number(at.length), _LENGTHS), (f"{_degrees(at)}°", _ANGLES)
        numbers = Row(tuple(Align(Text(text, _tone(at)), cells) for text, cells in texts))
        more = Text("…" if at.length > longest else "", "muted")
        lower = tuple(Column((Text(""), node)) for node in (numbers, more))
        lines.append(Row((lower[0], Stack((below, arrow)), lower[1])))
    notes = ["Below each arrow: the full batch."]
    if any(at.length > longest for at in found):
        notes.append("…: too long for this picture.")
    return Column((*lines, Text(""), *(Text(note, "muted") for note in notes)))


def _distinct(found: Sequence[Direction]) -> list[Direction]:
    """Of the rules that arrive at the same point, the first."""
    return [
        at
        for place, at in enumerate(found)
        if not any(_are_alike(at, other) for other in found[:place])
    ]


def _are_alike(one: Direction, other: Direction) -> bool:
    return all(
        abs(a - b) < _SAME
        for p, q in zip(one.points, other.points, strict=True)
        for a, b in zip(p, q, strict=True)
    )


def _tone(at: Direction) -> str:
    if _degrees(at):
        return "scaled_loss"
    if abs(at.length - 1) < _SAME:
        return "knob"
    return "masked_sum" if at.rule == STEP.name else "muted"


def _is_dashed(at: Direction) -> bool:
    return _tone(at) != "knob"


def _name(at: Direction) -> str:
    if at.rule == "none":
        return "not divided"
    return at.rule if " " in at.rule else f"÷ {at.rule}"


def _degrees(at: Direction) -> int:
    return round(at.degrees)


def _turned(at: Direction) -> str:
    return f"turned by {_degrees(at)}°" if _degrees(at) else "same direction"


def _arrival(at: Direction) -> str:
    if _degrees(at):
        return _turned(at)
    length = number(at.length)
    return "arrives there" if length == "1" else f"{length} times as long"
