"""A window on several ranks, moment by moment: each adds to its own `.grad`, then all are averaged.

Lengths are along the full-batch gradient, in lengths of it. So they can be added like the gradients
themselves: what the microbatches add, the sum over the ranks, and that sum divided by W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap

import torch
from torch import Tensor

from sftviz.averaging import RanksTrace
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text, Trail
from sftviz.rules import Gradient, ratio
from sftviz.views.accumulation import STEP_NAME, timeline
from sftviz.views.grid import Columns, fit_columns
from sftviz.views.parts import FRAME, NARROWEST, TONES, WIDTH, check_width

_NAMES = 15  # cells: "sum over ranks "
_RANK = 9  # cells: "÷ 0.3333 "
_FIELDS = 7  # cells: "tokens "
_ARROWS = 10  # cells, at least
_NAME = 24  # cells, at most, for the name of a rule
ALL_REDUCE = "all-reduce"
_FULL_BATCH = "lens"  # the tone of its arrow


def ranks_flow(
    trace: RanksTrace,
    reached: int | None = None,
    width: int = WIDTH,
    axes: tuple[str, str] = ("row", "column"),
    note: str = "",
) -> Drawing:
    """One moment of a window on W ranks.

    Args:
        trace: the run to draw; of the model's parameters, the first one that is a matrix, and of it
            the row whose full-batch gradient is the longest.
        reached: how many moments are over: one per microbatch, then the all-reduce, then the
            optimizer's step. 0: none. None: all.
        width: in cells, 48 or more. If there is room, two cards are side by side.
        axes: what a row and a column of the parameter are called.
        note: a sentence below the picture: where its numbers come from.

    Raises:
        TypeError, ValueError: the width is not an int, or too small.

    >>> from sftviz.averaging import average_over_ranks
    >>> from sftviz.experiments.bigram import BigramModel, make_window
    >>> window = make_window(B=3, G=8, vocab_size=3)
    >>> trace = average_over_ranks(BigramModel(vocab_size=3), (window[:4], window[4:]), "tokens/W")
    >>> ranks_flow(trace).alt
    '2 ranks with 4 microbatches each, by the rule tokens/W: the sum over the ranks is 2 times as \
long as the gradient of the mean per token, the average 1 times, with cosine 1. optimizer.step() \
uses the average on every rank.'
    """
    check_width(width)
    count = len(trace.ranks[0].microbatches)
    page = _Page(trace, count + 2 if reached is None else reached, width, axes)
    names = [*(str(at + 1) for at in range(count)), ALL_REDUCE, STEP_NAME]
    notes = [Text(f"  {line}", "muted") for line in wrap(note, width - 2)]
    scene = Column((*timeline(names, page.reached, width), *page.cards(), *notes))
    return Drawing(scene, page.sentence())


def readings(trace: RanksTrace, reached: int | None = None) -> dict[str, Text]:
    """The results of a window by name; `…` before the all-reduce. `reached` as for the flow."""
    is_shown = reached is None or reached > len(trace.ranks[0].microbatches)
    return {
        name: Text(number(getattr(trace, name)) if is_shown else "…", TONES[name], name)
        for name in ("ratio", "cosine")
    }


@dataclass(frozen=True)
class _Page:
    trace: RanksTrace
    reached: int
    width: int
    axes: tuple[str, str]

    @cached_property
    def W(self) -> int:
        return len(self.trace.ranks)

    @cached_property
    def G(self) -> int:
        return len(self.trace.ranks[0].microbatches)

    @property
    def is_averaged(self) -> bool:
        return self.reached > self.G

    def sentence(self) -> str:
        trace = self.trace
        alt = (
            f"{count_of(self.W, 'rank')} with {count_of(self.G, 'microbatch', 'es')} each, "
            f"by the rule {token_label(trace.scaling.name, _NAME)}: "
        )
        if not self.is_averaged:
            return f"{alt}{self.reached} of {self.G} are in the .grad of each rank."
        alt += (
            f"the sum over the ranks is {number(self.length(trace.total))} times as long as the "
            f"gradient of the mean per {trace.scaling.per}, the average {number(trace.ratio)} "
            f"times, with cosine {number(trace.cosine)}."
        )
        step = f" {STEP_NAME} uses the average on every rank."
        return alt + step if self.reached > self.G + 1 else alt

    def cards(self) -> list[Node]:
        """Lanes and lengths, side by side if there is room; then the numbers of a row."""
        lanes = Card(Align(Column((*self.heading(), *self.lanes())), self.lanes_width))
        left = self.width - lanes.width - 1 - FRAME
        if left >= _NAMES + self.cell + 1 + _ARROWS:
            first: list[Node] = [Row((lanes, self.lengths(left)), gap=1)]
        else:
            first = [lanes, self.lengths(self.width - FRAME)]
        return [*first, self.numbers()]

    def heading(self) -> list[Node]:
        """What happens at this moment, in one or two sentences."""
        W, G, at = self.W, self.G, self.reached
        if at == 0:
            title, text = "Before the first microbatch", ".grad is None on every rank."
        elif at < G:
            title = f"Microbatch {at} of {G}, on every rank"
            text = "no_sync(): each rank adds to its own .grad. Nothing is sent."
        elif at == G:
            title = f"Microbatch {G} of {G}, on every rank"
            text = "Outside no_sync(): this backward() ends with the all-reduce, which comes next."
        elif at == G + 1:
            title = "The all-reduce: an average"
            text = f"The .grad of {W} ranks are added, and the sum is divided by W = {W}. Every "
            text += "rank now has the average in .grad."
        else:
            title = STEP_NAME
            text = "Every rank has the same .grad and makes the same step: the copies stay equal."
        return [Text(title, "title"), *(Text(line) for line in wrap(text, self.lanes_width))]

    # ---------------------------------------------------------------- lanes

    @cached_property
    def columns(self) -> int:
        """How many microbatches are side by side."""
        room = self.width - FRAME - _RANK - _FIELDS + 1
        return max(1, min(self.G, room // (self.cell + 1)))

    @property
    def lanes_width(self) -> int:
        return max(_RANK + _FIELDS + self.columns * (self.cell + 1) - 1, NARROWEST - FRAME)

    @cached_property
    def cell(self) -> int:
        """Wide enough for the numbers of every moment, so that nothing moves when it is played."""
        lengths = [at for lane in (*self.added, *self.sums) for at in lane]
        return max(9, *(len(number(length)) + 2 for length in lengths))

    def length(self, gradient: Gradient) -> float:
        """Along the full-batch gradient, in lengths of it."""
        return ratio(gradient, self.trace.full_batch_grad)

    @cached_property
    def added(self) -> list[list[float]]:
        """What each microbatch of each rank adds: its length."""
        return [
            [self.length(at.microbatch_grad) for at in rank.microbatches]
            for rank in self.trace.ranks
        ]

    @cached_property
    def sums(self) -> list[list[float]]:
        """What is in the .grad of each rank after each microbatch: its length."""
        return [[self.length(at.grad) for at in rank.microbatches] for rank in self.trace.ranks]

    def lanes(self) -> list[Node]:
        """The microbatches of each rank; below each other if they have no room side by side."""
        lines: list[Node] = []
        for start in range(0, self.G, self.columns):
            block = range(start, min(start + self.columns, self.G))
            syncs = ["no_sync" if at < self.G - 1 else "sync" for at in block]
            lines += [
                Text(""),
                self.line("", "", [Text(f"{at + 1} ", "muted") for at in block]),
                self.line("", "", [Text(f"{sync} ", "muted") for sync in syncs]),
            ]
            for rank in range(self.W):
                lines += self.lane(rank, block)
        return lines

    def lane(self, rank: int, block: range) -> list[Node]:
        def cells(field: str, lengths: Sequence[float]) -> list[Node]:
            return [
                Cell(
                    number(lengths[at]) if at < self.reached else "",
                    self.cell,
                    "gradient" if at + 1 == self.reached else "entry",
                    f"{field}[{rank},{at}]",
                )
                for at in block
            ]

        records = self.trace.ranks[rank].microbatches
        tokens = [
            Cell(str(records[at].num_tokens), self.cell, "response", f"num_tokens[{rank},{at}]")
            for at in block
        ]
        return [
            self.line(f"rank {rank}", "tokens", tokens),
            self.line(self.divisor(rank), "adds", cells("microbatch_grad", self.added[rank])),
            self.line("", ".grad", cells("grad", self.sums[rank])),
        ]

    def divisor(self, rank: int) -> str:
        """What this rank divides by, if it is the same for all of its microbatches."""
        divisors = {by for at in self.trace.ranks[rank].microbatches for _, by in at.parts}
        return f"÷ {number(divisors.pop())}" if len(divisors) == 1 else ""

    def line(self, name: str, field: str, nodes: Sequence[Node]) -> Node:
        aligned = tuple(Align(node, self.cell, "right") for node in nodes)
        heads = (Align(Text(name), _RANK), Align(Text(field, "muted"), _FIELDS))
        return Row((*heads, Row(aligned, gap=1)))

    # ---------------------------------------------------------------- lengths

    def lengths(self, width: int) -> Node:
        """Each rank's .grad, their sum, and their average, as arrows beside the full batch's."""
        shown = [lane[min(self.reached, self.G) - 1] if self.reached else 0.0 for lane in self.sums]
        ends = [lane[-1] for lane in self.sums]
        after = shown if self.is_averaged else None
        average = [self.trace.ratio] if self.is_averaged else None
        low, high = min(0.0, *ends, sum(ends)), max(1.0, *ends, sum(ends))
        room = width - _NAMES - self.cell - 1

        def line(name: str, key: str, steps: list[float] | None, tone: str, arrow: str) -> Node:
            cell = Cell("" if steps is None else number(sum(steps)), self.cell, tone, key)
            xs = [sum((steps or [])[:count]) for count in range(len(steps or []) + 1)]
            points = tuple(((x - low) / (high - low) * (room - 0.5), 0.5) for x in xs)
            trail = Trail(room, 1, points, arrow) if any(steps or []) else Text(" " * room)
            return Row((Align(Text(name), _NAMES), cell, Text(" "), trail))

        each = [
            line(f"rank {rank}", f"length[{rank}]", at, "entry", "response")
            for rank, at in enumerate([[at] if self.reached else None for at in shown])
        ]
        text = (
            f"Lengths, also those of microbatches, are along the full batch's gradient: of all "
            f"{self.rows} rows at once, the mean per {self.trace.scaling.per}. It has length 1."
        )
        cosine = number(self.trace.cosine) if self.is_averaged else ""
        return Card(
            Column(
                (
                    Text("Over the ranks", "title"),
                    *(Text(part, "muted") for part in wrap(text, width)),
                    Text(""),
                    *each,
                    line("sum over ranks", "total", after, "scaled_loss", "scaled_loss"),
                    line(f"÷ {self.W}: average", "ratio", average, TONES["ratio"], "gradient"),
                    line("full batch", "full_batch", [1.0], "entry", _FULL_BATCH),
                    Row(
                        (
                            Align(Text("cosine"), _NAMES),
                            Cell(cosine, self.cell, TONES["cosine"], "cosine"),
                            Text(" of the average", "muted"),
                        )
                    ),
                )
            )
        )

    @property
    def rows(self) -> int:
        return sum(len(at.row_sums) for rank in self.trace.ranks for at in rank.microbatches)

    # ---------------------------------------------------------------- numbers

    def numbers(self) -> Node:
        """One row of .grad in numbers: of each rank, their sum, their average, the full batch."""
        trace, at = self.trace, min(self.reached, self.G)
        row = int(self.matrix(trace.full_batch_grad).norm(dim=1).argmax())
        size = self.matrix(trace.full_batch_grad).shape[1]
        columns = fit_columns(size, self.width - FRAME - _NAMES, most=8)
        over, done = self.is_averaged, self.reached > self.G + 1
        ranks = [rank.microbatches[at - 1].grad if at else None for rank in trace.ranks]
        lines = [
            (f"rank {place}", f"rank_grad[{place}", grad, "entry")
            for place, grad in enumerate(ranks)
        ]
        lines += [
            ("sum over ranks", "total[0", trace.total if over else None, "scaled_loss"),
            (f"÷ {self.W}: average", "average[0", trace.grad if over else None, "gradient"),
            ("full batch", "full_batch_grad[0", trace.full_batch_grad, "entry"),
        ]
        if done:
            after = {name: trace.parameters[name] - trace.grad[name] for name in trace.grad}
            lines += [
                ("before step", "parameters_before[0", trace.parameters, "entry"),
                ("after step", "parameters_after[0", after, "gradient"),
            ]
        heads = columns.line(lambda at: Align(Text(f"{at} ", "muted"), columns.cell, "right"))
        title = f"The same in numbers: row {row} of .grad"
        rows, entries = self.axes
        text = f"Rows: {rows}. Columns: {entries}."
        if len(columns.shown) < size:
            last = columns.shown.stop - 1
            text += f" Of {size} columns, {columns.shown.start} to {last} are shown."
        if done:
            text += " Below: the same row of the parameters, before and after SGD with rate 1."
        return Card(
            Column(
                (
                    Text(title, "title"),
                    *(Text(part, "muted") for part in wrap(text, self.width - FRAME)),
                    Row((Text(" " * _NAMES), heads)),
                    *(self.entries(row, columns, *line) for line in lines),
                )
            )
        )

    def entries(
        self, row: int, columns: Columns, name: str, key: str, grad: Gradient | None, tone: str
    ) -> Node:
        def cell(column: int) -> Cell:
            text = "" if grad is None else number(self.matrix(grad)[row, column].item())
            return Cell(text, columns.cell, tone if text else "entry", f"{key},{column}]")

        return Row((Align(Text(name), _NAMES), columns.line(cell)))

    def matrix(self, gradient: Gradient) -> Tensor:
        """The first parameter that is a matrix; without one, the first, written as a matrix."""
        matrices = (value for value in gradient.values() if value.ndim == 2)
        first = next(matrices, next(iter(gradient.values())))
        return torch.atleast_2d(first).flatten(0, -2)
