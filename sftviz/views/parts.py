"""The parts that pictures are made of: formulas, results, captions, tables, titled sections."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from sftviz.drawing.scene import Align, Cell, Column, Node, Row, Text
from sftviz.step import StepTrace
from sftviz.views.stages import Term, value

TONES = {
    "policy_log_probs": "response",
    "response_mask": "response",
    "num_tokens": "response",
    "masked_log_probs": "response",
    "masked_sum": "masked_sum",
    "loss": "loss",
    "scaled_loss": "scaled_loss",
    "grad": "gradient",
    "gradient_accumulation_steps": "knob",
    "normalize_constant": "knob",
    "logits": "entry",
    "probs": "entry",
    "input_ids": "entry",
    "labels": "response",
    "logits_grad": "gradient",
}
CELL = 11  # at least: a gradient of −0.003906 fits, so columns stay where they are while G moves
TITLES = 26  # the column of titles, where there is room for one


@lru_cache(maxsize=512)
def formula(terms: tuple[Term, ...], width: int, note: str = "") -> tuple[Node, ...]:
    """A formula or a line of code, each quantity in its own tone, wrapped to a width."""
    return _wrapped(_unbroken(_texts(terms, note)), width, indent=4)


@lru_cache(maxsize=512)
def formula_width(terms: tuple[Term, ...], note: str = "") -> int:
    """How wide a formula is on one line."""
    return sum([text.width for text in _texts(terms, note)])


def readout(readings: Mapping[str, Text], width: int) -> Node:
    """Names and what they stand at, as many on a line as a width has room for."""
    groups = [
        [reading._replace(text=name), Text(" = "), reading, Text("   ")]
        for name, reading in readings.items()
    ]
    return Column(_wrapped(groups, width, indent=0))


def _wrapped(groups: Iterable[Sequence[Text]], width: int, indent: int) -> tuple[Node, ...]:
    """Lines that end between groups; all but the first are indented."""
    lines: list[list[Node]] = [[]]
    room = width
    for group in groups:
        needed = sum(text.width for text in group)
        if needed > room and lines[-1]:
            lines.append([Text(" " * indent)])
            room = width - indent
        lines[-1] += group
        room -= needed
    return tuple(Row(tuple(line)) for line in lines)


def _texts(terms: tuple[Term, ...], note: str) -> list[Text]:
    texts = [Text(term.text, _tone(term), term.key) for term in terms]
    return [*texts, Text(f"  {note}", "muted")] if note else texts


def _unbroken(texts: Iterable[Text]) -> list[list[Text]]:
    """Texts in groups that stay on one line: what separates or closes does not begin one."""
    groups: list[list[Text]] = []
    for text in texts:
        if groups and text.text[0] in ",)²":
            groups[-1].append(text)
        else:
            groups.append([text])
    return groups


def _tone(term: Term) -> str:
    return TONES[term.key.partition("[")[0]] if term.key else "ink"


def section(badge: str, title: str, body: Node, *, beside: bool) -> Node:
    """A numbered title with what it names, beside it or below."""
    heading = Row((Cell(badge, 3, "badge"), Text(title, "title")), gap=1)
    return Row((Align(heading, TITLES), body)) if beside else Column((heading, body))


def caption(field: str, note: str) -> Node:
    """The name of a field of the trace, with a word on it."""
    return Row((Text(field, TONES[field], field), Text(note, "muted")), gap=2)


def ledger(lines: Sequence[Node], cell: Cell, body: int) -> list[Node]:
    """Lines, with the value that they lead to at the right edge of the last, or below it."""
    if lines[-1].width >= body - cell.width:
        return [*lines, Align(cell, body, "right")]
    return [*lines[:-1], Row((Align(lines[-1], body - cell.width), cell))]


def result(trace: StepTrace, quantity: str) -> Cell:
    """The value of a quantity, framed."""
    text = value(trace, quantity)
    return Cell(text, max(CELL, len(text) + 2), TONES[quantity], quantity)


def aligned(cells: Iterable[Cell]) -> list[Cell]:
    """Cells made as wide as the widest, so that digits stand under digits."""
    cells = list(cells)
    width = max(cell.width for cell in cells)
    return [cell._replace(width=width) for cell in cells]


def equals(node: Node) -> Node:
    """A node behind an equals sign."""
    return Row((Text("= "), node))


def table(rows: Sequence[Sequence[Node]], gap: int) -> Node:
    """Rows whose entries stand in columns, each as wide as its widest entry."""
    widths = [max(entry.width for entry in column) for column in zip(*rows, strict=True)]
    return Column(tuple(Row(tuple(map(Align, row, widths)), gap) for row in rows))


def elide(count: int, room: int) -> tuple[int | None, ...]:
    """The places shown of `count`: all if there is room, else the first ones and the last."""
    if count <= room:
        return tuple(range(count))
    return (*range(room - 2), None, count - 1)
