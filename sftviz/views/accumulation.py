"""A window of microbatches: `.grad` after each of them, and the full-batch gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from torch import Tensor

from sftviz.accumulation import AccumulationTrace, MicrobatchRecord
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Card, Cell, Column, Node, Row, Text
from sftviz.views.grid import Columns, fit_columns, fit_rows, grid
from sftviz.views.parts import (
    CELL,
    FRAME,
    TITLES,
    TONES,
    WIDTH,
    equals,
    ledger,
    sections,
    table,
    wrapped_formula,
)
from sftviz.views.stages import Term

_BODY = 66  # cells, for the longest line with its result
_MOST = 6  # rows and columns of a parameter


def accumulation_flow(
    trace: AccumulationTrace, reached: int | None = None, width: int = WIDTH
) -> Drawing:
    """A window from its first microbatch to `zero_grad()`, with `.grad` after each microbatch.

    Args:
        trace: the run to draw; of the model's parameters, the first one that is a matrix.
        reached: how many of its moments are shown: one per microbatch, then the optimizer's step,
            then `zero_grad()`. The space of later moments stays empty. None: all moments.
        width: in cells.

    >>> from sftviz.accumulation import accumulate
    >>> from sftviz.experiments.bigram import BigramModel, make_window
    >>> trace = accumulate(BigramModel(vocab_size=3), make_window(B=4, G=2, vocab_size=3), "G²")
    >>> accumulation_flow(trace).alt
    'Accumulation of 2 microbatches, by the rule G²: .grad has grown to 2 times the gradient \
of the mean per sequence. zero_grad(): .grad is None, and the next window begins.'
    """
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


def readings(trace: AccumulationTrace, reached: int) -> dict[str, Text]:
    """The results of a window by name; `…` before its end."""
    is_shown = reached > len(trace.microbatches)
    return {
        name: Text(number(getattr(trace, name)) if is_shown else "…", TONES[name], name)
        for name in ("ratio", "cosine")
    }


def scaling_table(traces: Sequence[AccumulationTrace]) -> Drawing:
    """One line per rule: how its accumulated gradient compares with the full-batch gradient.

    With a ratio and a cosine of 1 both are equal. A ratio that is not 1 is a wrong length, a cosine
    that is not 1 a wrong direction.

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
    rows = [
        (
            Text(f"÷ {trace.scaling.name}" if trace.scaling.name != "none" else "÷ 1"),
            equals(Text(f"÷ {', '.join(sorted({str(of.divisor) for of in trace.microbatches}))}")),
            Row((Text("ratio "), _value("ratio", trace.ratio))),
            Row((Text("cosine "), _value("cosine", trace.cosine))),
            Text(f"of the mean per {trace.scaling.per}", "muted"),
        )
        for trace in traces
    ]
    values = "; ".join(
        f"÷ {trace.scaling.name}: ratio {number(trace.ratio)}, cosine {number(trace.cosine)}"
        for trace in traces
    )
    return Drawing(Card(table(rows, gap=2)), f"Accumulated against full-batch gradient. {values}.")


def _describe(trace: AccumulationTrace, reached: int) -> str:
    count = len(trace.microbatches)
    alt = f"Accumulation of {count} microbatches, by the rule {trace.scaling.name}: "
    if reached <= count:
        return f"{alt}{reached} of {count} are in .grad."
    mean = f"the gradient of the mean per {trace.scaling.per}"
    alt += f".grad has grown to {number(trace.ratio)} times {mean}."
    return f"{alt} zero_grad(): {_after_window(trace)}." if reached > count + 1 else alt


@dataclass(frozen=True)
class _Page:
    """How much of a trace is shown, and the sections that show it."""

    trace: AccumulationTrace
    reached: int
    width: int

    @property
    def parameter(self) -> str:
        return next(name for name, grad in self.trace.grad.items() if grad.ndim == 2)

    @property
    def columns(self) -> Columns:
        columns = self.trace.grad[self.parameter].shape[1]
        return fit_columns(columns, min(self.width, _MOST * (CELL + 1)))

    @property
    def body(self) -> int:
        return min(max(_BODY, self.columns.width), self.width)

    def microbatch(self, record: MicrobatchRecord) -> Node:
        is_shown = record.index < self.reached
        masked_sum = Term(number(record.masked_sum.item()) if is_shown else "…", "masked_sum")
        terms = (
            Term("scaled_loss", "scaled_loss"),
            Term(" = −("),
            masked_sum,
            Term(f") ÷ {record.divisor}"),
        )
        note = f"{record.num_tokens} response tokens"
        left = wrapped_formula(terms, self.body - CELL - 1, note)
        loss = _value("scaled_loss", record.scaled_loss.item() if is_shown else None)
        after = "after backward()"
        if record.index == 0 and self.trace.leftover is not None:
            after += ", added to the gradient of the window before"
        grad, added = (of[self.parameter] for of in (record.grad, record.microbatch_grad))
        return Column(
            (
                *ledger(left, loss, self.body),
                *self.caption(".grad", after),
                *self.grid(f"grad_{record.index + 1}", grad, added, is_shown),
            )
        )

    def step(self) -> Node:
        is_shown = self.reached > len(self.trace.microbatches)
        grad = self.trace.full_batch_grad[self.parameter]
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
        """A gradient as a grid. Entries that something was added to have the gradient's tone."""
        values, is_added = grad.tolist(), added.ne(0).tolist()

        def cell(row: int, column: int) -> Cell:
            text = number(values[row][column]) if is_shown else ""
            tone = "gradient" if is_shown and is_added[row][column] else "entry"
            return Cell(text, CELL, tone, f"{field}[{row},{column}]")

        return grid(fit_rows(len(values), _MOST), self.columns, cell)

    def caption(self, name: str, note: str) -> list[Node]:
        """A name with a note, on one line or two."""
        line = Row((Text(name, "gradient"), Text(note, "muted")), gap=2)
        if line.width <= self.body:
            return [line]
        return [Text(name, "gradient"), *(Text(part, "muted") for part in wrap(note, self.body))]


def _after_window(trace: AccumulationTrace) -> str:
    """What is in `.grad` after the end of the window."""
    if trace.leftover is None:
        return ".grad is None, and the next window begins"
    return "forgotten: the next window adds to what is in .grad"


def _value(name: str, value: float | None) -> Cell:
    if value is None:
        return Cell("", CELL, "entry", name)
    return Cell(number(value), CELL, TONES[name], name)
