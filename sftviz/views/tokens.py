"""The shift: what a model reads, what it has to predict, and which of that counts."""

from collections.abc import Sequence

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import token_label
from sftviz.drawing.scene import Card, Cell, Column, Node, Row, Text
from sftviz.tokens import TokenBatch
from sftviz.views.grid import fit_columns, fit_rows, lines
from sftviz.views.parts import CELL, FRAME, TONES, WIDTH

_NAMES = 14  # cells, for the names of the lines
_FIELDS = ("input_ids", "labels", "response_mask")


def shift_view(
    batch: TokenBatch, vocabulary: Sequence[str] | None = None, width: int = WIDTH
) -> Drawing:
    """Each row of a batch on three lines: `input_ids`, below it `labels`, and the mask.

    Args:
        batch: from `build_token_batch`.
        vocabulary: V strings; without them the token ids are shown.
        width: in cells; columns that do not fit are left out.

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
    columns = fit_columns(S, width - FRAME - _NAMES)
    values = {field: getattr(batch, field).int().tolist() for field in _FIELDS}

    def cell(field: str, row: int, column: int) -> Cell:
        value = values[field][row][column]
        text = str(value)
        if field != "response_mask" and vocabulary is not None:
            text = token_label(vocabulary[value], CELL - 2)
        counts = field == "input_ids" or values["response_mask"][row][column]
        return Cell(text, CELL, TONES[field] if counts else "masked", f"{field}[{row},{column}]")

    def line(field: str, row: int) -> Node:
        heading = Text(f"{field:<{_NAMES}}", TONES[field], field)
        return Row((heading, columns.line(lambda column: cell(field, row, column))), gap=1)

    def block(row: int) -> Node:
        end = (Text(""),) if row < B - 1 else ()  # a blank line between rows
        return Column((*(line(field, row) for field in _FIELDS), *end))

    alt = (
        f"{B} rows of {S} tokens: what the model reads, below it what comes next, and whether "
        f"that counts. {batch.num_tokens} of {B * S} labels are response tokens."
    )
    return Drawing(Card(Column(tuple(lines(fit_rows(B), block)))), alt)
