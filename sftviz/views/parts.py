"""The parts of pictures: formulas, results, captions, tables, titled sections; and their widths."""

from collections.abc import Iterable, Mapping, Sequence

from sftviz.drawing.formatting import count_of, number, token_label
from sftviz.drawing.scene import FOLD, Align, Cell, Column, Flow, Node, Row, Text
from sftviz.step import StepTrace
from sftviz.validate import above_zero, check_count
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
    "ratio": "loss",
    "cosine": "masked_sum",
}
NOT_SCORED = "not scored"
# All widths are in cells.
WIDTH = 112  # of a picture: what a notebook shows on a small laptop
NARROWEST = 48  # of a picture: what a formula needs
_SHORT = 20  # cells: parentheses that are not longer stay on one line
FRAME = 4  # what a card adds to its body
TITLES = 26  # the column of titles, if there is room for it
CELL = 11  # at least: a gradient of −0.003906 fits, so columns do not move while G changes


def describe(trace: StepTrace) -> str:
    """Describe a run of the step in one sentence, and in another one what looks wrong."""
    count, size = trace.num_tokens, trace.response_mask.numel()
    sentence = (
        f"SFT step, G = {trace.gradient_accumulation_steps}: "
        f"{count} of {count_of(size, 'token')} {'counts' if count == 1 else 'count'}; "
        f"masked_sum {value(trace, 'masked_sum')}; loss {value(trace, 'loss')}; "
        f"scaled_loss {value(trace, 'scaled_loss')}; gradient {value(trace, 'grad')} "
        f"{_places(count, size)}."
    )
    return f"{sentence} {above_zero(trace.policy_log_probs)}".rstrip()


def _places(count: int, size: int) -> str:
    """Where the gradient has its value."""
    if count == 0:
        return "everywhere"
    if count == size:
        return "at every token"
    return f"at {'the response token' if count == 1 else 'response tokens'}, 0 elsewhere"


def formula(terms: tuple[Term, ...], note: str = "") -> Row:
    """A formula or a line of code on one line, each quantity in its tone."""
    return Row(tuple(_texts(terms, note)))


def wrapped_formula(terms: tuple[Term, ...], width: int, note: str = "") -> tuple[Node, ...]:
    """A formula or a line of code, on as many lines as it needs."""
    groups: list[list[Text]] = []
    texts = _texts(terms, note)
    while texts:
        count = _together(texts)
        if groups and texts[0].text[0] in ",)²":  # these do not begin a line
            groups[-1] += texts[:count]
        else:
            groups.append(texts[:count])
        texts = texts[count:]
    return _wrap(groups, width, indent=4)


def _together(texts: Sequence[Text]) -> int:
    """How many of the first texts stay on one line: one, a sign with it, short parentheses."""
    if len(texts) > 1 and texts[0].text.strip() in ("=", "≈"):
        return 1 + _together(texts[1:])
    depth = width = 0
    for count, text in enumerate(texts, start=1):
        depth += text.text.count("(") - text.text.count(")")
        width += text.width
        if depth <= 0:
            return count
        if width > _SHORT:
            break
    return 1


def label_text(label: int, counts: bool, vocabulary: Sequence[str] | None, width: int) -> str:
    """A label as a word, in at most `width` cells, or as its number if there is no vocabulary.

    A masked label that is not in the vocabulary, such as −100, is not scored. One that counts is a
    mistake, and is written as its number.
    """
    if not 0 <= label < (len(vocabulary) if vocabulary else label + 1):
        return number(label) if counts else NOT_SCORED
    return token_label(vocabulary[label], width) if vocabulary else str(label)


def readout(readings: Mapping[str, Text], width: int) -> Node:
    """Names and their values, as many on a line as there is room for."""
    groups = [
        [reading._replace(text=name), Text(" = "), reading, Text("   ")]
        for name, reading in readings.items()
    ]
    return Column(_wrap(groups, width, indent=0))


def _wrap(groups: Iterable[Sequence[Text]], width: int, indent: int) -> tuple[Node, ...]:
    """Lines that end between groups; all except the first are indented."""
    lines: list[list[Node]] = [[]]
    room = width
    for group in groups:
        needed = sum([text.width for text in group])
        if needed > room and lines[-1]:
            lines.append([Text(" " * indent)])
            room = width - indent
        lines[-1] += group
        room -= needed
    return tuple(Row(tuple(line)) for line in lines)


def _texts(terms: tuple[Term, ...], note: str) -> list[Text]:
    texts = [Text(term.text, _tone(term), term.key) for term in terms]
    return [*texts, Text(f"  {note}", "muted")] if note else texts


def _tone(term: Term) -> str:
    return TONES[term.key.partition("[")[0]] if term.key else "ink"


def half(width: int) -> int:
    """The width of a section's body in a flow of this width that is folded; 0: it is too narrow."""
    column = (width - FOLD) // 2
    return column - FRAME if column >= NARROWEST else 0


def sections(
    bodies: Mapping[str, Node], first: int, *, beside: bool, is_folded: bool = False
) -> Flow:
    """A flow of numbered sections, each with its title beside its body or above it."""
    cards: list[Node] = []
    for index, (title, body) in enumerate(bodies.items(), start=first):
        heading = Row((Cell(str(index), 3, "badge"), Text(title, "title")), gap=1)
        cards.append(Row((Align(heading, TITLES), body)) if beside else Column((heading, body)))
    return Flow(tuple(cards), is_folded)


def caption(field: str, note: str) -> Node:
    """The name of a field of the trace, with a note."""
    return Row((Text(field, TONES[field], field), Text(note, "muted")), gap=2)


def ledger(lines: Sequence[Node], cell: Cell, body: int) -> list[Node]:
    """Lines, with their result at the right edge of the last one, or below it."""
    if lines[-1].width >= body - cell.width:
        return [*lines, Align(cell, body, "right")]
    return [*lines[:-1], Row((Align(lines[-1], body - cell.width), cell))]


def result(trace: StepTrace, quantity: str) -> Cell:
    """The value of a quantity in a frame."""
    text = value(trace, quantity)
    return Cell(text, max(CELL, len(text) + 2), TONES[quantity], quantity)


def same_width(cells: Iterable[Cell]) -> list[Cell]:
    """Cells made as wide as the widest, so that digits are aligned."""
    cells = list(cells)
    width = max(cell.width for cell in cells)
    return [cell._replace(width=width) for cell in cells]


def equals(node: Node, sign: str = "=") -> Node:
    """A node after an equals sign."""
    return Row((Text(f"{sign} "), node))


def check_width(width: int) -> None:
    """Check that a width in cells has room for a formula."""
    check_count("width", width, "it is a number of character cells")
    if width < NARROWEST:
        raise ValueError(
            f"width must be at least {NARROWEST} cells, got {width}: a formula needs that many."
        )


def table(rows: Sequence[Sequence[Node]], gap: int) -> Node:
    """Rows whose entries are aligned in columns, each as wide as its widest entry."""
    widths = [max(entry.width for entry in column) for column in zip(*rows, strict=True)]
    return Column(tuple(Row(tuple(map(Align, row, widths)), gap) for row in rows))
