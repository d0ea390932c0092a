"""The picture of an inspection: what was found, the whole batch, and its tokens under a lens."""

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text
from sftviz.inspection.findings import Finding
from sftviz.token_texts import token_texts
from sftviz.views.focus import starts
from sftviz.views.grid import MAX_ROWS, Columns, fit_columns, fit_range
from sftviz.views.overview import Lens, asked, overview
from sftviz.views.parts import FRAME, TONES, check_width
from sftviz.views.shares import shares_table

if TYPE_CHECKING:
    from sftviz.inspection.inspection import Inspection

_SIGNS = {"error": ("✗", "scaled_loss"), "warning": ("!", "loss"), "note": ("i", "muted")}
_NAMES = 8  # cells, for the names of the lines of a row
_TOKEN = 10  # cells, of a token
_SHOWN = {  # the lines of a row: their names, and the tensors that they show
    "reads": "tokens",
    "predicts": "labels",
    "counts": "response_mask",
    "log-prob": "policy_log_probs",
}


def draw(inspection: "Inspection", width: int, column: int | None = None) -> Drawing:
    """Cards below each other: the findings, and the batch.

    Args:
        inspection: what to draw.
        width: in cells, 48 or more.
        column: the first one of the tables, from 0. None: at the first finding, or what counts.

    Raises:
        TypeError, ValueError: there is no such column, or the width is too small.
    """
    check_width(width)
    inner = width - FRAME
    cards = [Card(Align(_findings(inspection, inner), inner)), _batch(inspection, inner, column)]
    if len(inspection.window) > 1:
        cards.append(shares_table(inspection.window, width=width).scene)
    return Drawing(Column(tuple(cards)), describe(inspection))


def describe(inspection: "Inspection") -> str:
    """The inspection in a few sentences."""
    B, S = inspection.batch.weights.shape
    count = inspection.num_tokens
    found = "; ".join(f"{each.severity}: {each.name}" for each in inspection.findings)
    return (
        f"A batch of {count_of(B, 'row')} and {count_of(S, 'column')}, taken for "
        f"{inspection.format}. {count} of {count_of(B * S, 'token')} "
        f"{'counts' if count == 1 else 'count'}. {found or 'Nothing wrong was found'}."
    )


def _findings(inspection: "Inspection", width: int) -> Node:
    lines: list[Node] = [
        Text("Taken for", "title"),
        *_wrapped(inspection.format, width),
        *(line for each in inspection.evidence for line in _wrapped(each, width, "muted")),
        Text(""),
        Text("Findings", "title"),
    ]
    if not inspection.findings:
        lines.append(Text("Nothing wrong was found.", "response"))
    for at, finding in enumerate(inspection.findings, start=1):
        lines += _finding(at, finding, width)
    return Column(tuple(lines))


def _finding(at: int, finding: Finding, width: int) -> Iterator[Node]:
    sign, tone = _SIGNS[finding.severity]
    yield Text(f"{sign} {at}  {finding.severity}: {finding.name}", tone)
    for text, shade in ((finding.message, "ink"), (f"To do: {finding.remedy}", "muted")):
        yield from (Row((Text(" " * 5), line)) for line in _wrapped(text, width - 5, shade))


def _batch(inspection: "Inspection", width: int, column: int | None) -> Node:
    batch, log_probs = inspection.batch, inspection.log_probs
    B, S = batch.weights.shape
    flagged = [each for finding in inspection.findings for each in finding.places]
    at_row, at_column = next(iter([*flagged, *starts(inspection.response_mask)]), (0, 0))
    rows = fit_range(B, MAX_ROWS, at_row)
    texts: dict[str, dict[int, dict[int, str]]] = {}

    def write(columns: Sequence[int]) -> Iterator[int]:
        for name in _SHOWN:
            lines = _texts(inspection, name, rows, columns)
            if lines is not None:
                texts[name] = {
                    row: dict(zip(columns, line, strict=True))
                    for row, line in zip(rows, lines, strict=True)
                }
                yield max(len(text) for line in lines for text in line)

    first, _ = asked("column", column, S, at_column)
    columns = fit_columns(S, width - _NAMES - 1, write, 3, first)
    lines: list[Node] = [Text("The batch", "title")]
    if len(rows) < B or len(columns.shown) < S:
        lens = Lens(rows.start, len(rows), columns.shown.start, len(columns.shown))
        lines += [overview(inspection.response_mask, log_probs, width, lens, flagged), Text("")]
    numbers = [Row((Text(" " * _NAMES), each), gap=1) for each in columns.numbers()]
    blocks = [block for row in rows for block in _row(inspection, row, columns, texts)]
    return Card(Align(Column((*lines, *numbers, *blocks)), width))


def _texts(
    inspection: "Inspection", name: str, rows: range, columns: Sequence[int]
) -> list[list[str]] | None:
    """What a line shows in some rows and columns; None if the batch has nothing to show."""
    batch = inspection.batch
    values = {
        "reads": batch.tokens,
        "predicts": batch.known_labels,
        "counts": batch.weights,
        "log-prob": inspection.log_probs,
    }[name]
    if values is None:
        return None
    part = values[rows.start : rows.stop, columns[0] : columns[-1] + 1]
    if name in ("counts", "log-prob"):
        return [list(map(number, line)) for line in part.tolist()]
    texts = token_texts(inspection.tokenizer, part)
    return [[token_label(text, _TOKEN) for text in line] for line in texts]


def _row(
    inspection: "Inspection",
    row: int,
    columns: Columns,
    texts: dict[str, dict[int, dict[int, str]]],
) -> Iterator[Node]:
    """The lines of a row, and below them the numbers of the findings."""
    counts = inspection.response_mask[row].tolist()
    count = f"{sum(counts)} of {len(counts)} count"
    yield Row((Text(f"row {row + 1}", "title"), Text(count, "muted")), gap=2)
    for name, lines in texts.items():
        key = _SHOWN[name]

        def cell(column: int, name: str = name, key: str = key, lines: dict = lines) -> Cell:
            is_entry = name == "reads" or counts[column]
            tone = "entry" if name == "reads" else TONES[key] if is_entry else "masked"
            return Cell(lines[row][column], columns.cell, tone, f"{key}[{row},{column}]")

        yield Row((Text(f"{name:<{_NAMES}}", "muted"), columns.line(cell)), gap=1)
    numbers = {column: _numbers(inspection, (row, column)) for column in columns.shown}
    if any(numbers.values()):

        def sign(column: int) -> Node:
            return Align(Text(f"{numbers[column]} ", "scaled_loss"), columns.cell, "right")

        yield Row((Text(f"{'finding':<{_NAMES}}", "scaled_loss"), columns.line(sign)), gap=1)


def _numbers(inspection: "Inspection", at: tuple[int, int]) -> str:
    """The numbers of the findings about a token."""
    found = enumerate(inspection.findings, start=1)
    return ",".join(str(index) for index, finding in found if at in finding.places)


def _wrapped(text: str, width: int, tone: str = "ink") -> list[Text]:
    return [Text(line, tone) for line in wrap(text, width)]
