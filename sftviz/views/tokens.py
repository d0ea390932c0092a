"""The shift: what a model reads, what it has to predict, and which of that counts."""

from collections.abc import Iterator, Sequence

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, text_width
from sftviz.drawing.scene import Card, Cell, Column, Node, Row, Text
from sftviz.tokens import TokenBatch
from sftviz.views.focus import starts
from sftviz.views.grid import MAX_ROWS, fit_columns, fit_range
from sftviz.views.overview import Lens, overview
from sftviz.views.parts import CELL, FRAME, TONES, WIDTH, check_width, label_text

_NAMES = 14  # cells, for the names of the lines
_FIELDS = ("input_ids", "labels", "response_mask")


def shift_view(
    batch: TokenBatch, vocabulary: Sequence[str] | None = None, width: int = WIDTH
) -> Drawing:
    """Each row of a batch on three lines: `input_ids`, below it `labels`, and the mask.

    Args:
        batch: from `build_token_batch`.
        vocabulary: V strings; without them the token ids are shown. A masked label that is not in
            it, such as −100, is shown as "not scored".
        width: in cells, 48 or more. If there is no room for all tokens, an overview comes first,
            and below it those from the first response token on.

    Raises:
        TypeError, ValueError: the width is not an int, or too small.

    >>> from sftviz.tokens import build_token_batch
    >>> batch = build_token_batch([[("prompt", [1, 2]), ("response", [3, 0])]], pad_id=0)
    >>> print(shift_view(batch, ("<end>", "2", "+2=", "4")))
    ╭────────────────────────────────────────────────────╮
    │ input_ids               2         +2=           4  │
    │ labels         ░      +2=░ [        4] [    <end>] │
    │ response_mask  ░        0░ [        1] [        1] │
    ╰────────────────────────────────────────────────────╯
    """
    check_width(width)
    B, S = batch.labels.shape
    row, column = next(iter(starts(batch.response_mask)), (0, 0))
    rows = fit_range(B, MAX_ROWS, row)
    values = {
        field: {row: getattr(batch, field)[row].tolist() for row in rows} for field in _FIELDS
    }

    def text(field: str, row: int, column: int) -> str:
        value, counts = values[field][row][column], values["response_mask"][row][column]
        if field == "response_mask":
            return str(int(value))
        return label_text(value, field == "input_ids" or bool(counts), vocabulary, CELL - 2)

    def widths(columns: Sequence[int]) -> Iterator[int]:
        return (
            text_width(text(field, row, column))
            for field in _FIELDS
            for row in rows
            for column in columns
        )

    columns = fit_columns(S, width - FRAME - _NAMES, widths, first=max(0, column - 1))
    lens = Lens(rows.start, len(rows), columns.shown.start, len(columns.shown))

    def cell(field: str, row: int, column: int) -> Cell:
        counts = field == "input_ids" or values["response_mask"][row][column]
        tone = TONES[field] if counts else "masked"
        return Cell(text(field, row, column), columns.cell, tone, f"{field}[{row},{column}]")

    def line(field: str, row: int) -> Node:
        heading = Text(f"{field:<{_NAMES}}", TONES[field], field)
        return Row((heading, columns.line(lambda column: cell(field, row, column))), gap=1)

    def block(row: int) -> Node:
        end = (Text(""),) if row < rows[-1] else ()  # a blank line between rows
        return Column((*(line(field, row) for field in _FIELDS), *end))

    alt = (
        f"{count_of(B, 'row')} of {count_of(S, 'token')}: what the model reads, below it what "
        "comes next, and whether that counts. "
        f"{batch.num_tokens} of {B * S} labels are response tokens."
    )
    numbers = [Row((Text(" " * _NAMES), line), gap=1) for line in columns.numbers()]
    whole = []
    if lens != Lens(0, B, 0, S):
        whole = [overview(batch.response_mask, None, width - FRAME, lens), Text("")]
        alt = f"{alt} Shown: {lens}."
    return Drawing(Card(Column((*whole, *numbers, *map(block, rows)))), alt)
