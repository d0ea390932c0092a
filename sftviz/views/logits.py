"""The step drawn from the logits on: one column a token, one line an entry of the vocabulary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number, token_label
from sftviz.drawing.scene import Cell, Column, Flow, Node, Row, Text
from sftviz.logits import LogitsTrace
from sftviz.views.grid import Places, columns_in, columns_width
from sftviz.views.parts import (
    CELL,
    TITLES,
    TONES,
    caption,
    elide,
    formula,
    ledger,
    result,
    section,
)
from sftviz.views.stages import Term, explain_step
from sftviz.views.step import FRAME, WIDTH, sentence

_MAX_ENTRIES = 8  # of the vocabulary; more are left out
_NAMES = 10  # cells, for their names beside a grid
_BODY = 70  # cells, for the longest formula and its result


def logits_flow(
    trace: LogitsTrace, vocabulary: Sequence[str] | None = None, width: int = WIDTH
) -> Drawing:
    """Logits to softmax, to the log-prob of the label, to the loss, and both gradients back.

    Args:
        trace: the run to draw; of a batch, the first sequence.
        vocabulary: V strings; without them the entries are numbered.
        width: in cells, what the picture should fit; what does not is left out.

    Raises:
        ValueError: there is not one string for each entry of the vocabulary.

    >>> from sftviz.examples import FIVE_WORDS
    >>> logits_flow(FIVE_WORDS.trace(), FIVE_WORDS.vocabulary).alt.partition("; gradient")[0]
    'SFT step, G = 2: 3 of 4 tokens count; masked_sum −2.613; loss 1.307; scaled_loss 0.6533'
    """
    _, S, V = trace.logits.shape
    check_vocabulary(trace, vocabulary)
    inner = width - FRAME
    cell = _widest(trace, columns_in(S, CELL, inner - _NAMES))
    columns = columns_in(S, cell, inner - _NAMES)
    body = max(columns_width(columns, cell) + _NAMES, min(_BODY, inner))
    beside = TITLES + body <= inner
    page = _Page(trace, vocabulary or [str(entry) for entry in range(V)], columns, cell, body)
    told = (
        ("Inputs", page.inputs()),
        ("Softmax", page.softmax()),
        ("The label's log-prob", page.log_probs()),
        ("The step", page.step()),
        ("At the log-probs", page.gradient()),
        ("At the logits", page.logits_gradient()),
    )
    sections = tuple(
        section(str(place), title, node, beside=beside) for place, (title, node) in enumerate(told)
    )
    alt = (
        f"{sentence(trace.step)} At the logits the gradient goes from "
        f"{number(trace.logits_grad.min().item())} to {number(trace.logits_grad.max().item())}."
    )
    return Drawing(Flow(sections), alt)


def readings(trace: LogitsTrace, token: int, entry: int) -> dict[str, Text]:
    """One logit of the first sequence, what becomes of it, and the gradients at both ends."""
    values = {
        f"logits[0,{token},{entry}]": trace.logits[0, token, entry],
        f"probs[0,{token},{entry}]": trace.probs[0, token, entry],
        "scaled_loss": trace.step.scaled_loss,
        f"grad[0,{token}]": trace.step.grad[0, token],
        f"logits_grad[0,{token},{entry}]": trace.logits_grad[0, token, entry],
    }
    names = {key: key.partition("[")[0] for key in values}
    return {
        names[key]: Text(number(+value.item()), TONES[names[key]], key)
        for key, value in values.items()
    }


def _widest(trace: LogitsTrace, columns: Places) -> int:
    """How wide a cell must be for every number that is shown."""
    shown = [column for column in columns if column is not None]
    entries = [entry for entry in elide(trace.logits.shape[2], _MAX_ENTRIES) if entry is not None]
    tables = (trace.logits, trace.probs, trace.logits_grad)  # (B, S, V)
    values = [value for table in tables for value in table[0, shown][:, entries].flatten().tolist()]
    for line in (trace.step.policy_log_probs, trace.step.grad):  # (B, S)
        values += line[0, shown].tolist()
    return max(CELL, 2 + max(len(number(value)) for value in values))


def check_vocabulary(trace: LogitsTrace, vocabulary: Sequence[str] | None) -> None:
    """Refuse a vocabulary that is not one string for each of its entries."""
    if strange := [word for word in vocabulary or () if not isinstance(word, str)]:
        raise TypeError(
            f"vocabulary must be strings, got {type(strange[0]).__name__} {strange[0]!r}: "
            "decode the token ids first."
        )
    if vocabulary is not None and len(vocabulary) != trace.logits.shape[2]:
        raise ValueError(
            f"vocabulary has {len(vocabulary)} strings but logits has shape "
            f"{tuple(trace.logits.shape)}: give one string for each entry of the last dimension."
        )


@dataclass(frozen=True)
class _Page:
    """What is shown of a trace, and the sections that show it."""

    trace: LogitsTrace
    vocabulary: Sequence[str]
    columns: Places
    cell: int  # the width of a cell
    body: int

    def inputs(self) -> Node:
        B, S, V = self.trace.logits.shape
        return Column(
            (
                caption("logits", f"(B, S, V) = ({B}, {S}, {V})"),
                *self.entries("logits"),
                caption("labels", "what came next"),
                self.labels(),
                caption("response_mask", "1 = response, 0 = masked"),
                self.tokens("response_mask"),
                *ledger(
                    [caption("gradient_accumulation_steps", "= G")],
                    result(self.trace.step, "gradient_accumulation_steps"),
                    self.body,
                ),
            )
        )

    def softmax(self) -> Node:
        heading = self.words("{probs} = softmax({logits})", "columns add up to 1")
        return Column((*heading, *self.entries("probs")))

    def log_probs(self) -> Node:
        heading = self.words("{policy_log_probs} = log {probs}", "at the label")
        return Column((*heading, self.tokens("policy_log_probs")))

    def step(self) -> Node:
        lines: list[Node] = []
        for stage in explain_step(self.trace.step)[1:4]:
            terms = (Term(stage.quantity, stage.quantity), Term(" = "), *stage.substitution)
            left = formula(terms, self.body - CELL - 1)
            lines += ledger(left, result(self.trace.step, stage.quantity), self.body)
        return Column(tuple(lines))

    def gradient(self) -> Node:
        backward = explain_step(self.trace.step)[4]
        terms = (Term("grad", "grad"), Term(" = "), *backward.substitution)
        heading = formula(terms, self.body, "whatever the logits are")
        return Column((*heading, self.tokens("grad")))

    def logits_gradient(self) -> Node:
        heading = self.words(
            "{logits_grad} = ({probs} − one-hot of {labels}) · −{grad}", "columns add up to 0"
        )
        return Column((*heading, *self.entries("logits_grad")))

    def words(self, template: str, note: str) -> tuple[Node, ...]:
        """A formula of names, each in its tone."""
        parts = Formatter().parse(template)
        terms = tuple(
            term
            for literal, name, _, _ in parts
            for term in ([Term(literal)] if literal else []) + ([Term(name, name)] if name else [])
        )
        return formula(terms, self.body, note)

    def tokens(self, field: str) -> Node:
        """A field of the step, (B, S), as one line."""
        values = getattr(self.trace.step, field)[0].tolist()
        return self.line(
            lambda token: Cell(
                number(+values[token]),
                self.cell,
                self.tone(token, TONES[field]),
                f"{field}[0,{token}]",
            )
        )

    def labels(self) -> Node:
        """The name of each token's label, above its column's values."""
        labels = self.trace.labels[0].tolist()
        return self.line(
            lambda token: Cell(
                token_label(self.vocabulary[labels[token]], self.cell - 2),
                self.cell,
                self.tone(token, "response"),
                f"labels[0,{token}]",
            )
        )

    def entries(self, field: str) -> list[Node]:
        """A field of the trace, (B, S, V): a line an entry of the vocabulary, its name behind."""
        values = getattr(self.trace, field)[0].tolist()
        labels = self.trace.labels[0].tolist()
        lines: list[Node] = []
        for entry in elide(len(self.vocabulary), _MAX_ENTRIES):
            if entry is None:
                lines.append(Text("⋮", "muted"))
                continue
            line = self.line(
                lambda token, entry=entry: Cell(
                    number(values[token][entry]),
                    self.cell,
                    self.tone(token, "response" if labels[token] == entry else TONES[field])
                    if field != "logits_grad"
                    else self.tone(token, "gradient"),
                    f"{field}[0,{token},{entry}]",
                )
            )
            name = Text(token_label(self.vocabulary[entry], _NAMES - 1), "muted")
            lines.append(Row((line, name), gap=1))
        return lines

    def line(self, cell: Callable[[int], Node]) -> Node:
        return Row(
            tuple(Text("⋯", "muted") if at is None else cell(at) for at in self.columns), gap=1
        )

    def tone(self, token: int, tone: str) -> str:
        return tone if self.trace.step.response_mask[0, token] else "masked"
