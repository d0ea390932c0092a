"""What accumulates in `.grad`, microbatch by microbatch, and what it was meant to come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from torch import Tensor

from sftviz.accumulation import AccumulationTrace, MicrobatchRecord
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Card, Cell, Column, Flow, Node, Row, Text
from sftviz.views.parts import CELL, TITLES, elide, equals, formula, ledger, section, table
from sftviz.views.stages import Term
from sftviz.views.step import FRAME, WIDTH

_BODY = 66  # cells, for the longest line with its result
_MAX = 6  # rows and columns of a parameter; more are left out
_TONES = {"ratio": "loss", "cosine": "masked_sum"}


def accumulation_flow(
    trace: AccumulationTrace, reached: int | None = None, width: int = WIDTH
) -> Drawing:
    """A window from its first microbatch to `zero_grad()`, with what is in `.grad` after each.

    Args:
        trace: the run to draw; of the model's parameters, the first one that is a table.
        reached: how many of its moments are shown: one a microbatch, then the optimizer's step,
            then `zero_grad()`. What comes later keeps its place, empty. None: all of them.
        width: in cells, what the picture should fit.

    >>> from sftviz.accumulation import accumulate
    >>> from sftviz.experiments.bigram import BigramModel, make_window
    >>> trace = accumulate(BigramModel(vocab_size=3), make_window(B=4, G=2, vocab_size=3), "G²")
    >>> accumulation_flow(trace).alt
    'Accumulation of 2 microbatches, by the rule G²: .grad has grown to 2 times the gradient \
of the mean per sequence. zero_grad(): .grad is None, and the next window begins.'
    """
    moments = len(trace.microbatches) + 2
    reached = moments if reached is None else reached
    page = _Page(trace, reached, width - FRAME)
    told = [
        *((f"Microbatch {tick.index + 1}", page.microbatch(tick)) for tick in trace.microbatches),
        ("optimizer.step()", page.step()),
        ("zero_grad()", page.zero_grad()),
    ]
    beside = TITLES + page.body <= width - FRAME
    sections = [
        section(str(place), title, node, beside=beside)
        for place, (title, node) in enumerate(told, start=1)
    ]
    count, rule = len(trace.microbatches), trace.scaling.name
    alt = f"Accumulation of {count} microbatches, by the rule {rule}: "
    if reached > len(trace.microbatches):
        mean = f"the gradient of the mean per {trace.scaling.per}"
        alt += f".grad has grown to {number(trace.ratio)} times {mean}."
        if reached >= moments:
            alt += f" zero_grad(): {_cleared(trace)}."
    else:
        alt += f"{reached} of {len(trace.microbatches)} are in .grad."
    return Drawing(Flow(tuple(sections)), alt)


def readings(trace: AccumulationTrace, reached: int) -> dict[str, Text]:
    """What the window came to, by name; that it has not yet, before its end."""
    shown = reached > len(trace.microbatches)
    return {
        name: Text(number(getattr(trace, name)) if shown else "…", tone, name)
        for name, tone in _TONES.items()
    }


def scaling_table(traces: Sequence[AccumulationTrace]) -> Drawing:
    """One line a rule: what of the full batch's gradient is in the accumulated one.

    A ratio of 1 and a cosine of 1 mean that the two are the same. A ratio that is not 1 is a
    gradient too long or too short; a cosine that is not 1 points somewhere else.

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
            equals(
                Text("÷ " + ", ".join(sorted({str(tick.divisor) for tick in trace.microbatches})))
            ),
            Row((Text("ratio "), _value("ratio", trace.ratio))),
            Row((Text("cosine "), _value("cosine", trace.cosine))),
            Text(f"of the mean per {trace.scaling.per}", "muted"),
        )
        for trace in traces
    ]
    sentences = "; ".join(
        f"÷ {trace.scaling.name}: ratio {number(trace.ratio)}, cosine {number(trace.cosine)}"
        for trace in traces
    )
    return Drawing(
        Card(table(rows, gap=2)), f"Accumulated against full-batch gradient. {sentences}."
    )


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
    def columns(self) -> tuple[int | None, ...]:
        room = min(_MAX, self.width // (CELL + 1))
        return elide(self.trace.grad[self.parameter].shape[1], room)

    @property
    def body(self) -> int:
        return min(max(_BODY, len(self.columns) * (CELL + 1)), self.width)

    def microbatch(self, tick: MicrobatchRecord) -> Node:
        shown = tick.index < self.reached
        masked_sum = Term(self.write(tick.masked_sum, shown) or "…", "masked_sum")
        terms = (
            Term("scaled_loss", "scaled_loss"),
            Term(" = −("),
            masked_sum,
            Term(f") ÷ {tick.divisor}"),
        )
        lines = formula(terms, self.body - CELL - 1, f"{tick.num_tokens} response tokens")
        tone = "scaled_loss" if shown else "entry"
        loss = Cell(self.write(tick.scaled_loss, shown), CELL, tone, "scaled_loss")
        grad, added = (of[self.parameter] for of in (tick.grad, tick.microbatch_grad))
        grid = self.grid(f"grad_{tick.index + 1}", grad, added, shown)
        after = "after backward()"
        if tick.index == 0 and self.trace.leftover is not None:
            after += ", on top of what was left in it"
        return Column((*ledger(lines, loss, self.body), *self.caption(".grad", after), *grid))

    def step(self) -> Node:
        shown = self.reached > len(self.trace.microbatches)
        grad = self.trace.full_batch_grad[self.parameter]
        full = self.grid("full_batch_grad", grad, grad, shown)
        per = self.trace.scaling.per
        ratio, cosine = (
            _value(name, getattr(self.trace, name) if shown else None)
            for name in ("ratio", "cosine")
        )
        return Column(
            (
                *self.caption("full batch", f"all rows at once, the mean per {per}"),
                *full,
                *ledger([Text(".grad is so many times that: ratio")], ratio, self.body),
                *ledger([Text("and points the same way if 1: cosine")], cosine, self.body),
            )
        )

    def zero_grad(self) -> Node:
        shown = self.reached > len(self.trace.microbatches) + 1
        return Text(_cleared(self.trace) if shown else "", "muted")

    def grid(self, field: str, grad: Tensor, added: Tensor, shown: bool) -> list[Node]:
        """A parameter's gradient as a grid, in its tone where something was added to it.

        While it is not shown, its empty places.
        """
        values, touched = grad.tolist(), added.ne(0).tolist()
        return [
            Text("⋮", "muted")
            if row is None
            else Row(
                tuple(
                    Text("⋯", "muted")
                    if column is None
                    else Cell(
                        self.write(values[row][column], shown),
                        CELL,
                        "gradient" if shown and touched[row][column] else "entry",
                        f"{field}[{row},{column}]",
                    )
                    for column in self.columns
                ),
                gap=1,
            )
            for row in elide(len(values), _MAX)
        ]

    def caption(self, name: str, note: str) -> list[Node]:
        """A name with a word on it; where both have no room, one below the other."""
        line = Row((Text(name, "gradient"), Text(note, "muted")), gap=2)
        if line.width <= self.body:
            return [line]
        return [Text(name, "gradient"), *(Text(part, "muted") for part in wrap(note, self.body))]

    def write(self, value: Tensor | float, shown: bool) -> str:
        return number(float(value)) if shown else ""


def _cleared(trace: AccumulationTrace) -> str:
    """What the end of the window leaves in `.grad`."""
    if trace.leftover is None:
        return ".grad is None, and the next window begins"
    return "forgotten: the next window adds to what is in .grad"


def _value(name: str, value: float | None) -> Cell:
    if value is None:
        return Cell("", CELL, "entry", name)
    return Cell(number(value), CELL, _TONES[name], name)
