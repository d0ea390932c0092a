"""The way of the loss while an optimizer takes steps, above the picture of a step."""

from collections.abc import Sequence

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number
from sftviz.drawing.scene import HIGHEST, Column, Node, Row, Strip, Text
from sftviz.views.parts import FRAME

_MOST = 60  # bars
_BAR = 2  # cells


def with_losses(drawing: Drawing, losses: Sequence[float], width: int) -> Drawing:
    """A drawing below the losses that have led to it, one bar for each, in at most `width` cells.

    Args:
        drawing: of the last loss.
        losses: before the first step, and after each; of many, the last ones are shown.
        width: in cells.
    """
    first, last = number(losses[0]), number(losses[-1])
    sentence = f"scaled_loss {first} → {last} after {count_of(len(losses) - 1, 'step')}"
    label = Text(f"  {sentence}", "scaled_loss")
    room = width - FRAME - label.width
    is_beside = room > width // 3
    shown = losses[-min(_MOST, (room if is_beside else width - FRAME) // _BAR) :]
    highest = max(map(abs, losses)) or 1.0
    bars = bytes(max(1, round(abs(loss) / highest * HIGHEST)) for loss in shown)
    strip = Strip(len(bars) * _BAR, (bars,))
    line: tuple[Node, ...] = (label, Row((Text("  "), strip)))
    if is_beside:
        line = (Row((label, strip), gap=2),)
    return Drawing(Column((*line, drawing.scene)), f"{sentence}. {drawing.alt}")
