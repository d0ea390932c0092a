"""What of a trace a picture shows: its tokens in grids, elided where they do not fit.

A `Sheet` says what is shown and how wide its cells are, once for a whole picture, so
that a token keeps its column in every grid of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from reprlib import repr as brief

from sftviz.drawing.formatting import number, token_label
from sftviz.drawing.scene import Align, Cell, Node, Row, Text
from sftviz.step import StepTrace
from sftviz.views.parts import CELL, TONES, elide

Tokens = Sequence[Sequence[str]]  # B rows of S

TOKEN_FIELDS = ("policy_log_probs", "response_mask", "masked_log_probs", "grad")  # each (B, S)

SUMS = 10  # at least: the row sums beside a grid
MAX_ROWS = 8
_NARROWEST = 3  # cells: a digit and its flanks
_GAP = 2  # cells: the sign of what is left out, and the blank behind it

Places = tuple[int | None, ...]  # of rows or columns; None stands for those left out
Line = tuple[str, ...]  # a value of each shown column, written


@dataclass(frozen=True)
class Sheet:
    """What is shown of a trace."""

    trace: StepTrace
    tokens: Tokens | None
    rows: Places
    columns: Places
    lines: dict[str, dict[int, Line]]  # of each token field, by shown row
    sums: dict[int, str]  # of the masked log-probs of each shown row, written
    cell: int  # the width of a cell

    @property
    def grid_width(self) -> int:
        """The width of a grid with its row sums."""
        return columns_width(self.columns, self.cell) + _sums_width(self.sums)

    @property
    def left_out(self) -> str:
        """What is not shown, in words; empty where everything is."""
        B, S = self.trace.policy_log_probs.shape
        shown = [len(_shown(self.rows)), len(_shown(self.columns))]
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
    lines = _write(trace, rows, columns_in(S, _NARROWEST, width))
    longest = max(max(map(len, line)) for field in lines.values() for line in field.values())
    cell = max(longest + 2, min(CELL, width // S - 1))
    columns = columns_in(S, cell, width)
    count = len(_shown(columns))
    for field in lines.values():
        for row, line in field.items():
            field[row] = line[: count - 1] + line[-1:]
    return Sheet(trace, tokens, rows, columns, lines, sums, cell)


def columns_in(count: int, cell: int, width: int) -> Places:
    """The columns shown of `count`: all that a width in cells has room for."""
    if count <= width // (cell + 1):
        return tuple(range(count))
    shown = (width - _GAP) // (cell + 1)
    return (*range(shown - 1), None, count - 1)


def columns_width(columns: Places, cell: int) -> int:
    """How wide columns are, each with the blank behind it."""
    gaps = columns.count(None)
    return (len(columns) - gaps) * (cell + 1) + gaps * _GAP


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


def _write(trace: StepTrace, rows: Places, columns: Places) -> dict[str, dict[int, Line]]:
    """Write what is shown of each token field, by row."""
    rows, columns = _shown(rows), _shown(columns)
    fields = {name: getattr(trace, name)[rows][:, columns].tolist() for name in TOKEN_FIELDS}
    fields["response_mask"] = [map(int, bits) for bits in fields["response_mask"]]  # 1, not True
    return {
        name: {row: tuple(map(number, line)) for row, line in zip(rows, lines, strict=True)}
        for name, lines in fields.items()
    }


def _write_sums(trace: StepTrace, rows: Places) -> dict[int, str]:
    shown = _shown(rows)
    sums = trace.masked_log_probs[shown].cpu().double().sum(1).tolist()
    return {row: f"Σ {number(total)}" for row, total in zip(shown, sums, strict=True)}


def _sums_width(sums: dict[int, str]) -> int:
    return max(SUMS, *map(len, sums.values()))


def grid(sheet: Sheet, field: str) -> list[Node]:
    """The shown values of a token field, a line a row; those of masked tokens in their own tone."""
    lines, mask = sheet.lines[field], sheet.lines["response_mask"]
    return [
        Text("⋮", "muted")
        if row is None
        else _values(field, row, sheet.columns, lines[row], mask[row], sheet.cell)
        for row in sheet.rows
    ]


# A redraw of a live picture changes few rows: the others are not laid out again.
@lru_cache(maxsize=1024)
def _values(field: str, row: int, columns: Places, line: Line, mask: Line, width: int) -> Row:
    tones = {"1": TONES[field], "0": "masked"}
    cells = [
        Cell(text, width, tones[bit], f"{field}[{row},{column}]")
        for column, text, bit in zip(_shown(columns), line, mask, strict=True)
    ]
    return _side_by_side(columns, cells)


def labels(sheet: Sheet, row: int) -> Node:
    """The tokens of a row, each above its column, flush right as the values are."""
    tokens = sheet.tokens[row]
    labels = [
        Text(f"{token_label(tokens[column], sheet.cell - 1)} ", "muted", f"tokens[{row},{column}]")
        for column in _shown(sheet.columns)
    ]
    return _side_by_side(sheet.columns, [Align(label, sheet.cell, "right") for label in labels])


def row_sums(sheet: Sheet) -> list[Node]:
    """The sum of each shown row of the masked log-probs, over all its tokens."""
    return [
        Text("") if row is None else Text(sheet.sums[row], "muted", f"masked_log_probs[{row},:]")
        for row in sheet.rows
    ]


def _side_by_side(columns: Places, nodes: list[Node]) -> Row:
    """A node for each shown column, with a sign where others are left out."""
    if None in columns:
        nodes.insert(columns.index(None), Text("⋯", "muted"))
    return Row(tuple(nodes), gap=1)


def _shown(places: Places) -> list[int]:
    return [place for place in places if place is not None]
