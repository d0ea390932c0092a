"""A window of microbatches: `.grad` after each of them, and the full-batch gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap

import torch
from torch import Tensor

from sftviz.accumulation import AccumulationTrace, MicrobatchRecord
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, relation, rounded, token_label
from sftviz.drawing.scene import Card, Cell, Column, Node, Row, Text
from sftviz.rules import Gradient, Scaling
from sftviz.views.grid import MAX_ROWS, Columns, Places, elide, fit_columns, grid
from sftviz.views.parts import (
    CELL,
    FRAME,
    TITLES,
    TONES,
    WIDTH,
    check_width,
    equals,
    formula,
    ledger,
    sections,
    table,
    wrapped_formula,
)
from sftviz.views.stages import Term

_BODY = 66  # cells, for the longest line with its result
_NOTE = 22  # cells: "  99999 response tokens"
_MOST = 6  # columns of a parameter
_NAME = 24  # cells, at most, for the name of a rule


def accumulation_flow(
    trace: AccumulationTrace, reached: int | None = None, width: int = WIDTH
) -> Drawing:
    """A window from its first microbatch to `zero_grad()`, with `.grad` after each microbatch.

    Args:
        trace: the run to draw; of the model's parameters, the first one that is a matrix. Of a
            large one, the rows and columns with a gradient are shown first.
        reached: how many of its moments are shown: one per microbatch, then the optimizer's step,
            then `zero_grad()`. The space of later moments stays empty. None: all moments.
        width: in cells, 48 or more.

    Raises:
        TypeError, ValueError: the width is not an int, or too small.

    >>> from sftviz.accumulation import accumulate
    >>> from sftviz.experiments.bigram import BigramModel, make_window
    >>> trace = accumulate(BigramModel(vocab_size=3), make_window(B=4, G=2, vocab_size=3), "G²")
    >>> accumulation_flow(trace).alt
    'Accumulation of 2 microbatches, by the rule G²: compared with the gradient of the mean per \
sequence, .grad has ratio 2 and cosine 1. zero_grad(): .grad is None, and the next window begins.'
    """
    check_width(width)
    count = len(trace.microbatches)
    reached = count + 2 if reached is None else reached
    page = _Page(trace, reached, width - FRAME)
    bodies = {
        **{f"Microbatch {of.index + 1}": page.microbatch(of) for of in trace.microbatches},
        "optimizer.step()": page.step(),
        "zero_grad()": page.zero_grad(),
    }
    flow = sections(bodies, first=1, beside=TITLES + page.body <= width - FRAME)
    return Drawing(flow, _describe(trace, reached))


def readings(trace: AccumulationTrace, reached: int | None = None) -> dict[str, Text]:
    """The results of a window by name; `…` before its end. `reached` as for the flow."""
    is_shown = reached is None or reached > len(trace.microbatches)
    return {
        name: Text(number(getattr(trace, name)) if is_shown else "…", TONES[name], name)
        for name in ("ratio", "cosine")
    }


def scaling_table(traces: Sequence[AccumulationTrace]) -> Drawing:
    """One line per rule: how its accumulated gradient compares with the full-batch gradient.

    With a ratio and a cosine of 1 both are equal. A ratio that is not 1 is a wrong length, a cosine
    that is not 1 a wrong direction.

    Raises:
        ValueError: there is no trace.

    >>> from sftviz.accumulation import accumulate
    >>> from sftviz.experiments.bigram import BigramModel, make_window
    >>> from sftviz.rules import SCALINGS
    >>> model, window = BigramModel(), make_window(B=4, G=2)
    >>> print(scaling_table([accumulate(model, window, scaling) for scaling in SCALINGS]))
    ╭───────────────────────────────────────────────────────────────────────────────────╮
    │ ÷ 1       = ÷ 1   ratio [        8]  cosine [        1]  of the mean per sequence │
    │ ÷ G       = ÷ 2   ratio [        4]  cosine [        1]  of the mean per sequence │
    │ ÷ G²      = ÷ 4   ratio [        2]  cosine [        1]  of the mean per sequence │
    │ ÷ B·G     = ÷ 8   ratio [        1]  cosine [        1]  of the mean per sequence │
    │ ÷ tokens  = ÷ 32  ratio [        1]  cosine [        1]  of the mean per token    │
    ╰───────────────────────────────────────────────────────────────────────────────────╯
    """
    if len(traces) == 0:
        raise ValueError("traces is empty: give at least one trace of `accumulate`.")
    rows = [
        (
            Text(f"÷ {_name(trace.scaling)}" if trace.scaling.name != "none" else "÷ 1"),
            _divisors(trace),
            Row((Text("ratio "), _value("ratio", trace.ratio))),
            Row((Text("cosine "), _value("cosine", trace.cosine))),
            Text(f"of the mean per {trace.scaling.per}", "muted"),
        )
        for trace in traces
    ]
    values = "; ".join(
        f"÷ {_name(trace.scaling)}: ratio {number(trace.ratio)}, cosine {number(trace.cosine)}"
        for trace in traces
    )
    return Drawing(Card(table(rows, gap=2)), f"Accumulated against full-batch gradient. {values}.")


def _divisors(trace: AccumulationTrace) -> Node:
    """What the microbatches were divided by."""
    divisors = sorted({divisor for of in trace.microbatches for _, divisor in of.parts})
    is_exact = all(rounded(divisor) == divisor for divisor in divisors)
    texts = list(map(number, divisors))
    if len(texts) > MAX_ROWS:
        texts = [*texts[: MAX_ROWS - 2], "…", texts[-1]]
    return equals(Text(f"÷ {', '.join(texts)}"), "=" if is_exact else "≈")


def _name(scaling: Scaling) -> str:
    return token_label(scaling.name, _NAME)


def _describe(trace: AccumulationTrace, reached: int) -> str:
    count = len(trace.microbatches)
    rule = _name(trace.scaling)
    alt = f"Accumulation of {count_of(count, 'microbatch', 'es')}, by the rule {rule}: "
    if reached <= count:
        return f"{alt}{reached} of {count} are in .grad."
    alt += (
        f"compared with the gradient of the mean per {trace.scaling.per}, .grad has ratio "
        f"{number(trace.ratio)} and cosine {number(trace.cosine)}."
    )
    return f"{alt} zero_grad(): {_after_window(trace)}." if reached > count + 1 else alt


@dataclass(frozen=True)
class _Page:
    """How much of a trace is shown, and the sections that show it."""

    trace: AccumulationTrace
    reached: int
    width: int

    @cached_property
    def parameter(self) -> str:
        matrices = (name for name, grad in self.trace.grad.items() if grad.ndim == 2)
        return next(matrices, next(iter(self.trace.grad)))

    @cached_property
    def places(self) -> tuple[Places, Columns]:
        """The rows and columns of the parameter that are shown."""
        full_batch, grad = map(self.matrix, (self.trace.full_batch_grad, self.trace.grad))
        has_grad = (full_batch != 0) | (grad != 0)  # also with a leftover gradient
        rows, columns = (has_grad.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
        width = min(self.width, _MOST * (CELL + 1))
        return (
            elide(len(grad), MAX_ROWS, rows[:MAX_ROWS], beside=()),
            fit_columns(grad.shape[1], width, first=next(iter(columns), 0)),
        )

    @property
    def body(self) -> int:
        longest = max(formula(_terms(of)).width for of in self.trace.microbatches)
        room = min(longest + _NOTE + CELL + 1, self.width - TITLES)
        return min(max(_BODY, room, self.places[1].width), self.width)

    def matrix(self, gradient: Gradient) -> Tensor:
        """The gradient of the parameter; one that is not a matrix is written as one."""
        return torch.atleast_2d(gradient[self.parameter]).flatten(0, -2)

    def microbatch(self, record: MicrobatchRecord) -> Node:
        is_shown = record.index < self.reached
        note = count_of(record.num_tokens, "response token")
        left = wrapped_formula(_terms(record, is_shown), self.body - CELL - 1, note)
        loss = _value("scaled_loss", record.scaled_loss.item() if is_shown else None)
        after = "after backward()"
        if record.index == 0 and self.trace.leftover is not None:
            after += ", added to the gradient of the window before"
        grad, added = map(self.matrix, (record.grad, record.microbatch_grad))
        return Column(
            (
                *ledger(left, loss, self.body),
                *self.caption(".grad", after),
                *self.grid(f"grad_{record.index + 1}", grad, added, is_shown),
            )
        )

    def step(self) -> Node:
        is_shown = self.reached > len(self.trace.microbatches)
        grad = self.matrix(self.trace.full_batch_grad)
        note = f"all rows at once, the mean per {self.trace.scaling.per}"
        ratio, cosine = (
            _value(name, getattr(self.trace, name) if is_shown else None)
            for name in ("ratio", "cosine")
        )
        return Column(
            (
                *self.caption("full batch", note),
                *self.grid("full_batch_grad", grad, grad, is_shown),
                *ledger([Text("length relative to the full batch: ratio")], ratio, self.body),
                *ledger([Text("direction, 1 if the same: cosine")], cosine, self.body),
            )
        )

    def zero_grad(self) -> Node:
        is_shown = self.reached > len(self.trace.microbatches) + 1
        return Text(_after_window(self.trace) if is_shown else "", "muted")

    def grid(self, field: str, grad: Tensor, added: Tensor, is_shown: bool) -> list[Node]:
        """A gradient as a grid. Entries that something was added to have the gradient's tone.

        Before it is shown only these have a key. In a live drawing, a value that changes under the
        same key lights up: so these light up when it is shown, and the others appear.
        """
        rows, columns = self.places

        def cell(row: int, column: int) -> Cell:
            is_added = added[row, column].item() != 0
            text = number(grad[row, column].item()) if is_shown else ""
            tone = "gradient" if is_shown and is_added else "entry"
            key = f"{field}[{row},{column}]" if is_shown or is_added else None
            return Cell(text, CELL, tone, key)

        numbers = columns.numbers("column")
        return [*numbers, *grid(rows, columns, cell)]

    def caption(self, name: str, note: str) -> list[Node]:
        """A name with a note, on one line or two."""
        line = Row((Text(name, "gradient"), Text(note, "muted")), gap=2)
        if line.width <= self.body:
            return [line]
        return [Text(name, "gradient"), *(Text(part, "muted") for part in wrap(note, self.body))]


def _terms(record: MicrobatchRecord, is_shown: bool = True) -> tuple[Term, ...]:
    """`scaled_loss = −(−4.4) ÷ 12`; by row `scaled_loss = −(−2.4 ÷ 12 − 2 ÷ 24)`."""

    def value(masked_sum: float) -> Term:
        return Term(number(masked_sum) if is_shown else "…", "masked_sum")

    (masked_sum, divisor), *others = record.parts
    start = (
        Term("scaled_loss", "scaled_loss"),
        Term(f" {_relation(record, is_shown)} −("),
        value(masked_sum),
    )
    if not isinstance(record.divisor, Sequence):
        return (*start, Term(f") ÷ {number(divisor)}"))
    terms = [*start, Term(f" ÷ {number(divisor)}")]
    for row_sum, row_divisor in others[: MAX_ROWS - 1]:
        sign = " − " if row_sum < 0 else " + "
        terms += [Term(sign), value(abs(row_sum)), Term(f" ÷ {number(row_divisor)}")]
    left_out = len(record.parts) - MAX_ROWS
    return (*terms, Term(f" … {left_out} more rows)" if left_out > 0 else ")"))


def _relation(record: MicrobatchRecord, is_shown: bool) -> str:
    """The sign between the formula of a scaled loss and its value."""
    parts = [(rounded(masked_sum), rounded(divisor)) for masked_sum, divisor in record.parts]
    if not is_shown or not all(divisor for _, divisor in parts):
        return "="  # before it is computed; or NaN, as the mean of no tokens
    written = number(record.scaled_loss.item())
    return relation(-sum(masked_sum / divisor for masked_sum, divisor in parts), written)


def _after_window(trace: AccumulationTrace) -> str:
    """What is in `.grad` after the end of the window."""
    if trace.leftover is None:
        return ".grad is None, and the next window begins"
    return "forgotten: the next window adds to what is in .grad"


def _value(name: str, value: float | None) -> Cell:
    if value is None:
        return Cell("", CELL, "entry", name)
    return Cell(number(value), CELL, TONES[name], name)
