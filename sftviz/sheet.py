"""What of a trace a picture shows: its tokens in grids, elided where they do not fit.

A `Sheet` says what is shown and how wide its cells are, once for a whole picture, so
that a token keeps its column in every grid of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from reprlib import repr as brief

from sftviz.formatting import number, token_label
from sftviz.parts import CELL, TONES, elide
from sftviz.scene import Cell, Node, Placed, Row, Text
from sftviz.step import StepTrace

Tokens = Sequence[Sequence[str]]  # B rows of S

TOKEN_FIELDS = ("policy_log_probs", "response_mask", "masked_log_probs", "grad")  # each (B, S)

SUMS = 10  # at least: the row sums beside a grid
GAP = 2  # the sign of what is left out of it
MAX_ROWS = 8
_NARROWEST = 3  # cells: a digit and its flanks


@dataclass(frozen=True)
class Sheet:
    """What is shown of a trace. None in `rows` or `columns` stands for those left out."""

    trace: StepTrace
    tokens: Tokens | None
    rows: tuple[int | None, ...]
    columns: tuple[int | None, ...]
    texts: dict[str, str]  # the shown values and some more, written, by key: `grad[1,3]`
    sums: dict[int, str]  # of the masked log-probs of each shown row, written
    cell: int  # the width of a cell

    @property
    def grid_width(self) -> int:
        """The width of a grid with its row sums."""
        gaps = self.columns.count(None)
        cells = (len(self.columns) - gaps) * (self.cell + 1)
        return cells + gaps * GAP + _sums_width(self.sums)

    @property
    def left_out(self) -> str:
        """What is not shown, in words; empty where everything is."""
        B, S = self.trace.policy_log_probs.shape
        shown = [sum(place is not None for place in places) for places in (self.rows, self.columns)]
        if shown == [B, S]:
            return ""
        return f"{shown[0]} of {B} rows, {shown[1]} of {S} tokens shown; sums are over all"


def fit(trace: StepTrace, tokens: Tokens | None, width: int, max_rows: int = MAX_ROWS) -> Sheet:
    """Choose the rows and columns of a trace that a width in cells has room for.

    Raises:
        ValueError: there is not one string for each token.
    """
    check_tokens(trace.policy_log_probs.shape, tokens)
    B, S = trace.policy_log_probs.shape
    rows = elide(B, max_rows)
    sums = _write_sums(trace, rows)
    width -= _sums_width(sums)
    # The narrowest cells first: what they have room for says how wide they must be.
    texts = _write(trace, rows, _columns(S, _NARROWEST, width))
    cell = max(max(map(len, texts.values())) + 2, min(CELL, width // S - 1))
    return Sheet(trace, tokens, rows, _columns(S, cell, width), texts, sums, cell)


def _columns(count: int, cell: int, width: int) -> tuple[int | None, ...]:
    """The columns shown of `count`: all that a width in cells has room for."""
    if count <= width // (cell + 1):
        return tuple(range(count))
    shown = (width - GAP) // (cell + 1)
    return (*range(shown - 1), None, count - 1)


def check_tokens(shape: tuple[int, int], tokens: Tokens | None) -> None:
    """Refuse tokens that are not one string for each log-prob."""
    if tokens is None:
        return
    try:  # what can be sliced is a sequence
        kinds = {kind for row in tokens[:] for kind in set(map(type, row[:]))}
    except (TypeError, KeyError):
        raise TypeError(
            f"tokens must be B rows of S strings, got {brief(tokens)}: give one string per token."
        ) from None
    if strange := [kind.__name__ for kind in kinds if not issubclass(kind, str)]:
        raise TypeError(f"tokens must be strings, got {min(strange)}: decode the token ids first.")
    B, S = shape
    if len(tokens) != B or any(len(row) != S for row in tokens):
        lengths = ", ".join(str(len(row)) for row in tokens)
        raise ValueError(
            f"tokens has {len(tokens)} rows of {lengths} strings but policy_log_probs has shape "
            f"{(B, S)}: give one string per token."
        )


def _write(
    trace: StepTrace, rows: tuple[int | None, ...], columns: tuple[int | None, ...]
) -> dict[str, str]:
    """Write the values shown of each token field."""
    shown_rows = [row for row in rows if row is not None]
    shown_columns = [column for column in columns if column is not None]
    return {
        f"{field}[{row},{column}]": number(+entry)  # +True is 1
        for field in TOKEN_FIELDS
        for row, entries in zip(
            shown_rows, getattr(trace, field)[shown_rows][:, shown_columns].tolist(), strict=True
        )
        for column, entry in zip(shown_columns, entries, strict=True)
    }


def _write_sums(trace: StepTrace, rows: tuple[int | None, ...]) -> dict[int, str]:
    shown = [row for row in rows if row is not None]
    sums = trace.masked_log_probs[shown].cpu().double().sum(1).tolist()
    return {row: f"Σ {number(total)}" for row, total in zip(shown, sums, strict=True)}


def _sums_width(sums: dict[int, str]) -> int:
    return max(SUMS, *map(len, sums.values()))


def grid(sheet: Sheet, field: str) -> list[Node]:
    """The shown values of a token field, a line a row; those of masked tokens in their own tone."""

    def cell(row: int, column: int) -> Node:
        is_response = sheet.texts[f"response_mask[{row},{column}]"] == "1"
        key = f"{field}[{row},{column}]"
        tone = TONES[field] if is_response else "masked"
        return Cell(sheet.texts[key], sheet.cell, tone, key)

    return [_line(sheet, row, cell) for row in sheet.rows]


def labels(sheet: Sheet, row: int) -> Node:
    """The tokens of a row, each above its column, flush right as the values are."""

    def label(row: int, column: int) -> Node:
        text = token_label(sheet.tokens[row][column], sheet.cell - 1)
        label = Text(f"{text} ", "muted", f"tokens[{row},{column}]")
        return Placed(label, sheet.cell, "right")

    return _line(sheet, row, label)


def row_sums(sheet: Sheet) -> list[Node]:
    """The sum of each shown row of the masked log-probs, over all its tokens."""
    return [
        Text("") if row is None else Text(sheet.sums[row], "muted", f"masked_log_probs[{row},:]")
        for row in sheet.rows
    ]


def _line(sheet: Sheet, row: int | None, node: Callable[[int, int], Node]) -> Node:
    if row is None:
        return Text("⋮", "muted")
    return Row(
        tuple(
            Text("⋯", "muted") if column is None else node(row, column) for column in sheet.columns
        ),
        gap=1,
    )
