"""The picture of an inspection: what was found, the whole batch, and its tokens under a lens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, text_width, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text
from sftviz.inspection.checks.find import Finding
from sftviz.inspection.judgement import Judgement
from sftviz.token_texts import token_texts
from sftviz.views.grid import MAX_ROWS, Columns, fit_columns, fit_range
from sftviz.views.overview import Lens, asked, overview
from sftviz.views.parts import FRAME, check_width
from sftviz.views.shares import shares_table

_SIGNS = {"error": ("✗", "scaled_loss"), "warning": ("!", "loss"), "note": ("i", "muted")}
_NAMES = 8  # cells, for the names of the lines of a row
_TOKEN = 10  # cells, of a token
_SHOWN = {  # the lines of a row: which tensor each shows, and its tone where a token counts
    "reads": ("input_ids", "entry"),
    "predicts": ("labels", "response"),
    "counts": ("response_mask", "response"),
    "log-prob": ("policy_log_probs", "response"),
}


Part = int | range | slice | None  # of the rows or columns: the first of the table, or all


def draw(judgement: Judgement, width: int, columns: Part = None, rows: Part = None) -> Drawing:
    """Cards below each other: the findings, the batch, and the shares of a window. See
    `Inspection.draw`.
    """
    check_width(width)
    inner = width - FRAME
    findings = Card(Align(_findings(judgement, inner), inner))
    cards = [findings, draw_batch(judgement, width, columns, rows)]
    if len(judgement.window) > 1:
        cards.append(shares_table(judgement.window, width=width).scene)
    return Drawing(Column(tuple(cards)), describe(judgement))


def describe(judgement: Judgement) -> str:
    """The inspection in a few sentences."""
    B, S = judgement.batch.weights.shape
    count = judgement.num_tokens
    found = "; ".join(f"{each.severity}: {each.name}" for each in judgement.findings)
    return (
        f"A batch of {count_of(B, 'row')} and {count_of(S, 'column')}, taken for "
        f"{judgement.format}. {count} of {count_of(B * S, 'token')} "
        f"{'counts' if count == 1 else 'count'}. {found or 'Nothing wrong was found'}."
    )


def _findings(judgement: Judgement, width: int) -> Node:
    lines: list[Node] = [
        Text("Taken for", "title"),
        *_wrapped(judgement.format, width),
        *(line for each in judgement.evidence for line in _wrapped(each, width, "muted")),
        Text(""),
        Text("Findings", "title"),
    ]
    if not judgement.findings:
        lines.append(Text("Nothing wrong was found.", "response"))
    for at, finding in enumerate(judgement.findings, start=1):
        lines += _finding(at, finding, width)
    lines += _wrapped(judgement.not_checked, width, "muted")
    return Column(tuple(lines))


def _finding(at: int, finding: Finding, width: int) -> Iterator[Node]:
    sign, tone = _SIGNS[finding.severity]
    yield Text(f"{sign} {at}  {finding.severity}: {finding.name}", tone)
    for text, shade in ((finding.message, "ink"), (f"To do: {finding.remedy}", "muted")):
        yield from (Row((Text(" " * 5), line)) for line in _wrapped(text, width - 5, shade))


def draw_batch(judgement: Judgement, width: int, columns: Part = None, rows: Part = None) -> Node:
    """A card with the whole batch, and its tokens under the lens."""
    width -= FRAME
    batch, log_probs = judgement.batch, judgement.log_probs
    B, S = batch.weights.shape
    flagged = [each for finding in judgement.findings for each in finding.places]
    row, column = judgement.begin
    first_row, most_rows = asked("rows", rows, B, row)
    first, most = asked("columns", columns, S, max(0, column - 1))  # with its neighbour
    shown_rows = fit_range(B, min(MAX_ROWS, most_rows), first_row)
    texts: dict[str, dict[int, dict[int, str]]] = {}

    def write(candidates: Sequence[int]) -> Iterator[int]:
        for name, written in _texts(judgement, shown_rows, candidates).items():
            texts[name] = {
                row: dict(zip(candidates, line, strict=True))
                for row, line in zip(shown_rows, written, strict=True)
            }
            yield max(text_width(text) for line in written for text in line)

    fitted = fit_columns(S, width - _NAMES - 1, write, 3, first, most)
    table = _Table(judgement, fitted, texts)
    lines: list[Node] = [Text("The batch", "title")]
    if len(shown_rows) < B or len(fitted.shown) < S:
        lens = Lens(shown_rows.start, len(shown_rows), fitted.shown.start, len(fitted.shown))
        lines += [overview(judgement.response_mask, log_probs, width, lens, flagged), Text("")]
    lines += [Row((Text(" " * _NAMES), numbers), gap=1) for numbers in fitted.numbers()]
    lines += [line for row in shown_rows for line in table.row(row)]
    return Card(Align(Column(tuple(lines)), width))


def _texts(judgement: Judgement, rows: range, columns: Sequence[int]) -> dict[str, list[list[str]]]:
    """What the batch has to show in some rows and columns, by the name of the line."""
    batch = judgement.batch
    ids = {"reads": batch.tokens, "predicts": batch.known_labels}
    numbers = {"counts": batch.weights, "log-prob": judgement.log_probs}
    part = slice(rows.start, rows.stop), slice(columns[0], columns[-1] + 1)
    words = {
        name: [
            [token_label(text, _TOKEN) for text in line]
            for line in token_texts(judgement.tokenizer, values[part])
        ]
        for name, values in ids.items()
        if values is not None
    }
    return words | {
        name: [list(map(number, line)) for line in values[part].tolist()]
        for name, values in numbers.items()
        if values is not None
    }


@dataclass(frozen=True)
class _Table:
    """The tokens of a batch in some columns: a few lines for each row."""

    judgement: Judgement
    columns: Columns
    texts: Mapping[str, Mapping[int, Mapping[int, str]]]  # of each line, by row, by column

    def row(self, row: int) -> Iterator[Node]:
        """A heading, a line for each thing that is known, and the numbers of the findings."""
        counts = self.judgement.response_mask[row].tolist()
        count = f"{sum(counts)} of {len(counts)} count"
        yield Row((Text(f"row {row + 1}", "title"), Text(count, "muted")), gap=2)
        for name in self.texts:
            cells = self.columns.line(lambda at, name=name: self.cell(name, row, at, counts[at]))
            yield self.line(name, "muted", cells)
        found = {at: self.findings((row, at)) for at in self.columns.shown}
        if any(found.values()):
            numbers = self.columns.line(lambda at: self.number(found[at]))
            yield self.line("finding", "scaled_loss", numbers)

    def line(self, name: str, tone: str, cells: Node) -> Node:
        """A line with its name."""
        return Row((Text(f"{name:<{_NAMES}}", tone), cells), gap=1)

    def cell(self, name: str, row: int, column: int, counts: bool) -> Cell:
        """What one line shows in one column."""
        field, tone = _SHOWN[name]
        tone = tone if counts or name == "reads" else "masked"
        text = self.texts[name][row][column]
        return Cell(text, self.columns.cell, tone, f"{field}[{row},{column}]")

    def number(self, text: str) -> Node:
        """The numbers of findings, below the digits of a cell."""
        return Align(Text(f"{text} ", "scaled_loss"), self.columns.cell, "right")

    def findings(self, at: tuple[int, int]) -> str:
        """The numbers of the findings about a token."""
        found = enumerate(self.judgement.findings, start=1)
        return ",".join(str(index) for index, finding in found if at in finding.places)


def _wrapped(text: str, width: int, tone: str = "ink") -> list[Text]:
    return [Text(line, tone) for line in wrap(text, width)]
