"""The step from the logits on: one column per token, one line per entry of the vocabulary."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number, token_label
from sftviz.drawing.scene import Cell, Column, Node, Row, Text
from sftviz.logits import LogitsTrace
from sftviz.validate import check_vocabulary
from sftviz.views.grid import Columns, Places, fit_columns, fit_rows, grid, shown
from sftviz.views.parts import (
    CELL,
    FRAME,
    TITLES,
    TONES,
    WIDTH,
    caption,
    describe,
    ledger,
    result,
    sections,
    wrapped_formula,
)
from sftviz.views.stages import Term, explain_step, formula_of_names

_NAMES = 10  # cells, for the names of the entries beside a grid
_BODY = 70  # cells, for the longest formula and its result


def logits_flow(
    trace: LogitsTrace, vocabulary: Sequence[str] | None = None, width: int = WIDTH
) -> Drawing:
    """From the logits to softmax, the label's log-prob, the loss, and back: both gradients.

    Args:
        trace: the run to draw; of a batch, the first sequence.
        vocabulary: V strings; without them the entries are numbered.
        width: in cells; columns that do not fit are left out.

    Raises:
        TypeError, ValueError: there is not one string per entry of the vocabulary.

    >>> from sftviz.examples import FIVE_WORDS
    >>> logits_flow(FIVE_WORDS.trace(), FIVE_WORDS.vocabulary).alt.partition("; gradient")[0]
    'SFT step, G = 2: 3 of 4 tokens count; masked_sum −2.613; loss 1.307; scaled_loss 0.6533'
    """
    _, S, V = trace.logits.shape
    check_vocabulary(vocabulary, V)
    inner = width - FRAME
    entries = fit_rows(V)
    columns = fit_columns(S, inner - _NAMES, lambda columns: _texts(trace, entries, columns))
    body = max(columns.width + _NAMES, min(_BODY, inner))
    names = vocabulary or [str(entry) for entry in range(V)]
    page = _Page(trace, names, entries, columns, body)
    bodies = {
        "Inputs": page.inputs(),
        "Softmax": page.softmax(),
        "The label's log-prob": page.log_probs(),
        "The step": page.step(),
        "At the log-probs": page.gradient(),
        "At the logits": page.logits_gradient(),
    }
    flow = sections(bodies, first=0, beside=TITLES + body <= inner)
    alt = (
        f"{describe(trace.step)} At the logits the gradient goes from "
        f"{number(trace.logits_grad.min().item())} to {number(trace.logits_grad.max().item())}."
    )
    return Drawing(flow, alt)


def readings(trace: LogitsTrace, token: int, entry: int) -> dict[str, Text]:
    """One logit of the first sequence, its probability, the loss, and both gradients."""
    values = {
        f"logits[0,{token},{entry}]": trace.logits[0, token, entry],
        f"probs[0,{token},{entry}]": trace.probs[0, token, entry],
        "scaled_loss": trace.step.scaled_loss,
        f"grad[0,{token}]": trace.step.grad[0, token],
        f"logits_grad[0,{token},{entry}]": trace.logits_grad[0, token, entry],
    }
    names = {key: key.partition("[")[0] for key in values}
    return {
        names[key]: Text(number(value.item()), TONES[names[key]], key)
        for key, value in values.items()
    }


def _texts(trace: LogitsTrace, entries: Places, columns: list[int]) -> Iterator[str]:
    """Every number that is shown in some columns."""
    for values in (trace.logits, trace.probs, trace.logits_grad):  # (B, S, V)
        yield from map(number, values[0, columns][:, shown(entries)].flatten().tolist())
    for values in (trace.step.policy_log_probs, trace.step.grad):  # (B, S)
        yield from map(number, values[0, columns].tolist())


@dataclass(frozen=True)
class _Page:
    """What is shown of a trace, and the sections that show it."""

    trace: LogitsTrace
    vocabulary: Sequence[str]
    entries: Places  # of the vocabulary: the rows of a grid
    columns: Columns
    body: int  # the width of a section's body

    def inputs(self) -> Node:
        B, S, V = self.trace.logits.shape
        return Column(
            (
                caption("logits", f"(B, S, V) = ({B}, {S}, {V})"),
                *self.entry_grid("logits"),
                caption("labels", "the next token"),
                self.labels(),
                caption("response_mask", "1 = response, 0 = masked"),
                self.token_line("response_mask"),
                *ledger(
                    [caption("gradient_accumulation_steps", "= G")],
                    result(self.trace.step, "gradient_accumulation_steps"),
                    self.body,
                ),
            )
        )

    def softmax(self) -> Node:
        heading = self.formula("{probs} = softmax({logits})", "columns add up to 1")
        return Column((*heading, *self.entry_grid("probs")))

    def log_probs(self) -> Node:
        heading = self.formula("{policy_log_probs} = log {probs}", "at the label")
        return Column((*heading, self.token_line("policy_log_probs")))

    def step(self) -> Node:
        lines: list[Node] = []
        for stage in explain_step(self.trace.step)[1:4]:
            terms = (Term(stage.quantity, stage.quantity), Term(" = "), *stage.substitution)
            left = wrapped_formula(terms, self.body - CELL - 1)
            lines += ledger(left, result(self.trace.step, stage.quantity), self.body)
        return Column(tuple(lines))

    def gradient(self) -> Node:
        backward = explain_step(self.trace.step)[4]
        terms = (Term("grad", "grad"), Term(" = "), *backward.substitution)
        heading = wrapped_formula(terms, self.body, "whatever the logits are")
        return Column((*heading, self.token_line("grad")))

    def logits_gradient(self) -> Node:
        heading = self.formula(
            "{logits_grad} = ({probs} − one-hot of {labels}) · −{grad}", "columns add up to 0"
        )
        return Column((*heading, *self.entry_grid("logits_grad")))

    def formula(self, template: str, note: str) -> tuple[Node, ...]:
        return wrapped_formula(formula_of_names(template), self.body, note)

    def token_line(self, field: str) -> Node:
        """A field of the step, (B, S), on one line."""
        values = getattr(self.trace.step, field)[0].tolist()
        return self.line(field, TONES[field], lambda token: number(values[token]))

    def labels(self) -> Node:
        """The name of each token's label."""
        labels, width = self.trace.labels[0].tolist(), self.columns.cell - 2
        return self.line(
            "labels", "response", lambda token: token_label(self.vocabulary[labels[token]], width)
        )

    def line(self, field: str, tone: str, text: Callable[[int], str]) -> Node:
        return self.columns.line(
            lambda token: Cell(
                text(token), self.columns.cell, self.tone(token, tone), f"{field}[0,{token}]"
            )
        )

    def entry_grid(self, field: str) -> list[Node]:
        """A field of the trace, (B, S, V): one line per entry of the vocabulary, then its name."""
        values = getattr(self.trace, field)[0].tolist()
        labels = self.trace.labels[0].tolist()

        def cell(entry: int, token: int) -> Cell:
            is_label = labels[token] == entry and field != "logits_grad"
            return Cell(
                number(values[token][entry]),
                self.columns.cell,
                self.tone(token, "response" if is_label else TONES[field]),
                f"{field}[0,{token},{entry}]",
            )

        lines = grid(self.entries, self.columns, cell)
        return [
            line if entry is None else Row((line, self.name(entry)), gap=1)
            for entry, line in zip(self.entries, lines, strict=True)
        ]

    def name(self, entry: int) -> Text:
        return Text(token_label(self.vocabulary[entry], _NAMES - 1), "muted")

    def tone(self, token: int, tone: str) -> str:
        return tone if self.trace.step.response_mask[0, token] else "masked"
