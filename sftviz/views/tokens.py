"""What a model reads, what it is to say next, and what of that counts: the shift, drawn."""

from collections.abc import Sequence

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import token_label
from sftviz.drawing.scene import Card, Cell, Column, Row, Text
from sftviz.tokens import TokenBatch
from sftviz.views.parts import CELL, TONES, elide
from sftviz.views.step import FRAME, WIDTH

_NAMES = 14  # cells, of the names of the lines
_MAX_ROWS = 8


def shift_view(
    batch: TokenBatch, vocabulary: Sequence[str] | None = None, width: int = WIDTH
) -> Drawing:
    """Each row of a batch as three lines: `input_ids`, `labels` right below, and the mask.

    Args:
        batch: as `build_token_batch` makes it.
        vocabulary: V strings; without them the token ids themselves are shown.
        width: in cells, what the picture should fit; what does not is left out.

    >>> from sftviz.tokens import build_token_batch
    >>> batch = build_token_batch([[("prompt", [1, 2]), ("response", [3, 0])]], pad_id=0)
    >>> print(shift_view(batch, ("<end>", "2", "+2=", "4")))
    ╭────────────────────────────────────────────────────╮
    │ input_ids               2         +2=           4  │
    │ labels         ░      +2=░ [        4] [    <end>] │
    │ response_mask  ░        0░ [        1] [        1] │
    ╰────────────────────────────────────────────────────╯
    """
    B, S = batch.labels.shape
    columns = elide(S, max(3, (width - FRAME - _NAMES) // (CELL + 1)))
    names = ("input_ids", "labels", "response_mask")
    values = {name: getattr(batch, name).int().tolist() for name in names}

    def cell(name: str, row: int, column: int) -> Cell:
        value = values[name][row][column]
        text = str(value)
        if name != "response_mask" and vocabulary is not None:
            text = token_label(vocabulary[value], CELL - 2)
        counts = name == "input_ids" or values["response_mask"][row][column]
        return Cell(text, CELL, TONES[name] if counts else "masked", f"{name}[{row},{column}]")

    lines = []
    for row in elide(B, _MAX_ROWS):
        if row is None:
            lines.append(Text("⋮", "muted"))
            continue
        for name in names:
            cells = [
                Text("⋯", "muted") if column is None else cell(name, row, column)
                for column in columns
            ]
            heading = Text(f"{name:<{_NAMES}}", TONES[name], name)
            lines.append(Row((heading, Row(tuple(cells), gap=1)), gap=1))
        lines.append(Text(""))
    alt = (
        f"{B} rows of {S} tokens: what the model reads, below it what comes next, and whether "
        f"that counts. {batch.num_tokens} of {B * S} labels are response tokens."
    )
    return Drawing(Card(Column(tuple(lines[:-1]))), alt)
