"""A widget in which lines of code are put in order."""

from pathlib import Path

import anywidget
import traitlets

from sftviz.drawing.theme import TONES, paint

_HERE = Path(__file__).parent
_COLOURS = "".join(
    f"--{tone}-{part}:{colour};"
    for tone in TONES
    for part, colour in vars(paint(tone, "live")).items()
)


class LineOrder(anywidget.AnyWidget):
    """Two lists: lines of code that are left, and the order that a person makes of them.

    `placed` is that order: for each line its place in `lines` and its levels of indentation, at
    most `deepest`. The page asks for an answer by setting `asked`, {id, placed}; the kernel gives
    it in `answer`, which has the same id and the fields of a verdict. In a page without a kernel
    nothing arrives, and a sentence says so.
    """

    # Text, not a path: a path is watched for changes, and its watcher keeps every widget alive.
    _esm = (_HERE / "line_order.js").read_text("utf-8")
    _css = f".sftviz-order{{{_COLOURS}}}" + (_HERE / "line_order.css").read_text("utf-8")

    text = traitlets.Unicode().tag(sync=True)
    lines = traitlets.List(traitlets.Unicode()).tag(sync=True)
    deepest = traitlets.Int(0).tag(sync=True)
    placed = traitlets.List().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
