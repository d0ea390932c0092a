"""A window of microbatches, moment by moment: what was in `.grad`, what came, what is there now."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap

import torch
from torch import Tensor

from sftviz.accumulation import AccumulationTrace, MicrobatchRecord, after_step
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, relation, rounded, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text
from sftviz.rules import Gradient, Scaling
from sftviz.views.grid import MAX_ROWS, Columns, Places, elide, fit_columns, grid
from sftviz.views.parts import (
    CELL,
    FRAME,
    TONES,
    WIDTH,
    check_width,
    equals,
    ledger,
    table,
    wrapped_formula,
)
from sftviz.views.stages import Term

_NOTE = 22  # cells: "  99999 response tokens"
_MOST = 4  # columns of a parameter
_NAME = 24  # cells, at most, for the name of a rule
_GAP = 2  # cells, between two blocks
STEP_NAME, ZERO_NAME = "optimizer.step()", "zero_grad()"


def accumulation_flow(
    trace: AccumulationTrace,
    reached: int | None = None,
    width: int = WIDTH,
    axes: tuple[str, str] = ("row", "column"),
) -> Drawing:
    """One moment of a window: what was in `.grad`, what came, and what is there now.

    Args:
        trace: the run to draw; of the model's parameters, the first one that is a matrix. Of a
            large one, the rows and columns with a gradient are shown first.
        reached: how many moments are over: one per microbatch, then the optimizer's step, then
            `zero_grad()`. 0: none. None: all.
        width: in cells, 48 or more. If there is room, two blocks are side by side.
        axes: what a row and a column of the parameter are called.

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
    page = _Page(trace, reached, width - FRAME, axes)
    names = [*(str(at + 1) for at in range(count)), STEP_NAME, ZERO_NAME]
    scene = Column((*timeline(names, reached, width), Card(page.body)))
    return Drawing(scene, _describe(trace, reached))


def timeline(names: Sequence[str], reached: int, width: int) -> list[Node]:
    """The moments of a window in their order; the one that is shown is dark."""
    lines: list[list[Node]] = [[Text("  ")]]
    room = width - 2
    for at, name in enumerate(names, start=1):
        tone = "badge" if at == reached else "response" if at < reached else "entry"
        link = Text("──" if at < len(names) else "  and the next window", "muted")
        needed = len(name) + 2 + link.width
        if needed > room and len(lines[-1]) > 1:
            lines.append([Text("  ")])
            room = width - 2
        lines[-1] += [Cell(name, len(name) + 2, tone), link]
        room -= needed
    return [Row(tuple(line)) for line in lines]


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
    axes: tuple[str, str]

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
    def body(self) -> Node:
        count = len(self.trace.microbatches)
        if self.reached == 0:
            return self.before()
        if self.reached <= count:
            return self.microbatch(self.trace.microbatches[self.reached - 1])
        return self.step()

    def matrix(self, gradient: Gradient) -> Tensor:
        """The gradient of the parameter; one that is not a matrix is written as one."""
        return torch.atleast_2d(gradient[self.parameter]).flatten(0, -2)

    def before(self) -> Node:
        """Before the first microbatch: `.grad` is None, or what is left of another window."""
        leftover = self.trace.leftover
        note = ".grad is None" if leftover is None else ".grad of the window before"
        there = self.block("what is there", note, "grad", leftover)
        title = Text("Before the first microbatch", "title")
        return Column((title, Text(""), *self.side_by_side(there, self.full_batch())))

    def microbatch(self, record: MicrobatchRecord) -> Node:
        trace, index = self.trace, record.index
        first = sum(len(each.row_sums) for each in trace.microbatches[:index])
        last = first + len(record.row_sums) - 1
        samples = f"sample {first}" if first == last else f"samples {first}–{last}"
        title = f"Microbatch {index + 1} of {len(trace.microbatches)}: {samples}"
        note = count_of(record.num_tokens, "response token")
        left = wrapped_formula(_terms(record), self.width - CELL - 1, note)
        loss = _value("scaled_loss", record.scaled_loss.item())
        before = trace.microbatches[index - 1].grad if index else trace.leftover
        came = record.microbatch_grad
        if before is None:
            was: list[Node] = self.block("what was there", ".grad is None", "grad_before", None)
        else:
            of = f"after microbatch {index}" if index else "of the window before"
            was = self.block("what was there", f".grad {of}", "grad_before", before)
        sign = "=" if before is None else self.sign(before, came, record.grad)
        return Column(
            (
                Text(title, "title"),
                *ledger(left, loss, self.width if self.is_narrow else self.pair),
                *self.side_by_side(
                    was,
                    self.block(
                        "+ what came", "from this backward()", "microbatch_grad", came, came
                    ),
                ),
                *self.side_by_side(
                    self.block(f"{sign} what is there now", ".grad", "grad", record.grad, came),
                    self.full_batch(),
                ),
                *self.meaning(),
            )
        )

    def step(self) -> Node:
        trace = self.trace
        before, after = trace.parameters, after_step(trace)
        is_over = self.reached > len(trace.microbatches) + 1
        after_it = wrap(_after_window(trace), self.width) if is_over else []
        changed = {name: -grad for name, grad in trace.grad.items()}
        sign = self.sign(before, changed, after)
        ratio, cosine = (_value(name, getattr(trace, name)) for name in ("ratio", "cosine"))
        width = self.width if self.is_narrow else self.pair
        return Column(
            (
                Text(ZERO_NAME if is_over else STEP_NAME, "title"),
                *(Text(line) for line in after_it),
                *ledger([Text("length relative to the full batch: ratio")], ratio, width),
                *ledger([Text("direction, 1 if the same: cosine")], cosine, width),
                *self.side_by_side(
                    self.block("parameters before", "", "parameters_before", before),
                    self.block(
                        "− 1 · .grad", "SGD, learning rate 1", "grad", trace.grad, trace.grad
                    ),
                ),
                *self.side_by_side(
                    self.block(
                        f"{sign} parameters after", "", "parameters_after", after, trace.grad
                    ),
                    self.full_batch(),
                ),
                *self.meaning(),
            )
        )

    def full_batch(self) -> list[Node]:
        note = f"all rows at once, per {self.trace.scaling.per}"
        return self.block("full batch", note, "full_batch_grad", self.trace.full_batch_grad)

    def meaning(self) -> list[Node]:
        rows, columns = self.axes
        text = f"Rows: {rows}. Columns: {columns}. Coloured: what was added to."
        shown, count = self.places[1].shown, self.places[1].count
        if len(shown) < count:
            text += f" Of {count} columns, {shown.start} to {shown.stop - 1} are shown."
        return [Text(part, "muted") for part in wrap(text, self.width)]

    @property
    def pair(self) -> int:
        """The width of two blocks side by side, with the names of their rows on the left."""
        return self.names + 2 * self.places[1].width + _GAP - 2

    @property
    def is_narrow(self) -> bool:
        return self.pair > self.width

    @cached_property
    def names(self) -> int:
        """The width of the names of rows."""
        return 1 + max([len(str(row)) for row in self.places[0] if isinstance(row, int)])

    def side_by_side(self, left: list[Node], right: list[Node]) -> list[Node]:
        if self.is_narrow:
            return [self.named(left), self.named(right)]
        return [Row((self.named(left), Column(tuple(right))), gap=_GAP - 1)]

    def named(self, block: list[Node]) -> Node:
        """A block with the names of its rows on the left."""
        rows = self.places[0]
        labels = [str(row) if isinstance(row, int) else "" for row in rows]
        blank = [""] * (len(block) - len(labels))
        names = [Align(Text(label, "muted"), self.names) for label in (*blank, *labels)]
        return Row((Column(tuple(names)), Column(tuple(block))))

    def block(
        self,
        name: str,
        note: str,
        field: str,
        value: Gradient | None,
        added: Gradient | None = None,
    ) -> list[Node]:
        """A name, the numbers of the columns, and a matrix with the numbers of its rows."""
        rows, columns = self.places
        matrix = None if value is None else self.matrix(value)
        is_added = None if added is None else self.matrix(added) != 0

        def cell(row: int, column: int) -> Cell:
            text = "" if matrix is None else number(matrix[row, column].item())
            tone = "entry" if is_added is None or not is_added[row, column] else "gradient"
            return Cell(text, columns.cell, tone, f"{field}[{row},{column}]")

        heads = columns.line(lambda at: Align(Text(f"{at} ", "muted"), columns.cell, "right"))
        return [Text(""), *self.caption(name, note), heads, *grid(rows, columns, cell)]

    def sign(self, one: Gradient, other: Gradient, total: Gradient) -> str:
        """Whether the numbers that are shown add up to the digits that are shown."""
        parts = (self.matrix(each).flatten().tolist() for each in (one, other, total))
        return (
            "="
            if all(
                relation(rounded(a) + rounded(b), number(c)) == "="
                for a, b, c in zip(*parts, strict=True)
            )
            else "≈"
        )

    def caption(self, name: str, note: str) -> list[Node]:
        """A name with a note, on one line or more."""
        line = Row((Text(name, "gradient"), Text(note, "muted")), gap=2)
        room = self.places[1].width
        if line.width <= room:
            return [line]
        return [Text(name, "gradient"), *(Text(part, "muted") for part in wrap(note, room))]


def _terms(record: MicrobatchRecord) -> tuple[Term, ...]:
    """`scaled_loss = −(−4.4) ÷ 12`; by row `scaled_loss = −(−2.4 ÷ 12 − 2 ÷ 24)`."""

    def value(masked_sum: float) -> Term:
        return Term(number(masked_sum), "masked_sum")

    (masked_sum, divisor), *others = record.parts
    start = (
        Term("scaled_loss", "scaled_loss"),
        Term(f" {_relation(record)} −("),
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


def _relation(record: MicrobatchRecord) -> str:
    """The sign between the formula of a scaled loss and its value."""
    parts = [(rounded(masked_sum), rounded(divisor)) for masked_sum, divisor in record.parts]
    if not all(divisor for _, divisor in parts):
        return "="  # NaN, as the mean of no tokens
    written = number(record.scaled_loss.item())
    return relation(-sum(masked_sum / divisor for masked_sum, divisor in parts), written)


def _after_window(trace: AccumulationTrace) -> str:
    """What is in `.grad` after the end of the window."""
    if trace.leftover is None:
        return ".grad is None, and the next window begins"
    return "forgotten: the next window adds to what is in .grad"


def _value(name: str, value: float) -> Cell:
    return Cell(number(value), CELL, TONES[name], name)
