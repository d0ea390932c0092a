"""What each token weighs under several losses: a row of cells for each loss, one token per column.

The weight of a token is the negative gradient at its log-prob: by how much the loss falls, per nat,
while the log-prob rises. In a narrow picture the rows of the batch stand below each other.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number, token_label
from sftviz.drawing.scene import HIGHEST, Align, Card, Cell, Column, Node, Row, Strip, Text
from sftviz.losses import EPSILON, LONGEST, LossInputs, LossTrace
from sftviz.views.grid import fit_range
from sftviz.views.parts import CELL, FRAME, WIDTH, check_width

_NAMES = 28  # cells, what the longest formula needs
_GAP = 2  # cells between two rows of the batch
_TITLE = "Weight of a token: −gradient at its log-prob"
_BARS = "A bar is the size of a weight, beside the largest one of the same loss."

Place = tuple[int, int]  # row, column


@dataclass(frozen=True)
class _Page:
    inputs: LossInputs
    traces: Sequence[LossTrace]
    is_beside: bool  # whether the names stand beside the cells, or above them

    def block(self, groups: Sequence[Sequence[Place]]) -> list[Node]:
        """All lines about some tokens, with a gap between two groups."""
        log_probs = self.inputs.policy_log_probs

        def log_prob(at: Place) -> Node:
            return self.cell("policy_log_probs", at, log_probs[at].item(), "response")

        def prob(at: Place) -> Node:
            text = number(log_probs[at].exp().item()) if self.inputs.is_response[at] else ""
            return Align(Text(f"{text} ", "muted", f"probs[{at[0]},{at[1]}]"), CELL, "right")

        lines = [
            *self.line(Text(""), self.cells(groups, self.token)),
            *self.line(Text("log p", "response"), self.cells(groups, log_prob)),
            *self.line(Text("p", "muted"), self.cells(groups, prob)),
        ]
        for trace in self.traces:
            lines += self.about(trace, groups)
        return lines

    def about(self, trace: LossTrace, groups: Sequence[Sequence[Place]]) -> list[Node]:
        """The lines of one loss: bars, and below them the weights."""
        key = re.sub(r"\W+", "_", trace.loss.name)
        heaviest = trace.weights.abs().max().item() or 1.0

        def bar(at: Place) -> Node:
            share = abs(trace.weights[at].item()) / heaviest
            return Strip(CELL, (bytes([math.ceil(share * HIGHEST)]),))

        def weight(at: Place) -> Node:
            value = trace.weights[at].item()
            return self.cell(key, at, value, "scaled_loss" if value < 0 else "gradient")

        name, formula = Text(trace.loss.name), Text(trace.loss.formula, "muted")
        bars, weights = self.cells(groups, bar), self.cells(groups, weight)
        if self.is_beside:
            return [*self.line(name, bars), *self.line(formula, weights)]
        return [Row((name, formula), gap=2), bars, weights]

    def line(self, name: Text, cells: Node) -> list[Node]:
        if self.is_beside:
            return [Row((Align(name, _NAMES), cells))]
        return [name, cells] if name.text else [cells]

    def cells(self, groups: Sequence[Sequence[Place]], node: Callable[[Place], Node]) -> Node:
        return Row(tuple(Row(tuple(map(node, group)), gap=1) for group in groups), gap=_GAP)

    def cell(self, name: str, at: Place, value: float, tone: str) -> Cell:
        tone = tone if self.inputs.is_response[at] else "masked"
        return Cell(number(value), CELL, tone, f"{name}[{at[0]},{at[1]}]")

    def token(self, at: Place) -> Node:
        tokens = self.inputs.tokens
        row, column = at
        text = token_label(tokens[row][column], CELL - 2) if tokens else f"{row + 1}, {column + 1}"
        return Align(Text(f"{text} ", "muted"), CELL, "right")


def weights_view(inputs: LossInputs, traces: Sequence[LossTrace], width: int = WIDTH) -> Drawing:
    """Draw the weight of each token under several losses.

    Args:
        inputs: a small microbatch; of a long one the columns from the first response token on.
        traces: of `inputs.trace`.
        width: in cells, 48 or more.

    Raises:
        TypeError, ValueError: the width is too small.

    >>> inputs = LossInputs([[-0.5, -0.1]], [[1, 1]], gradient_accumulation_steps=2)
    >>> print(weights_view(inputs, inputs.trace()[:1], width=60))
    ╭──────────────────────────────────────────────────────────╮
    │ Weight of a token: −gradient at its log-prob             │
    │                                                          │
    │                                   1, 1        1, 2       │
    │ log p                       [     −0.5] [     −0.1]      │
    │ p                               0.6065      0.9048       │
    │ the step                    ███████████ ███████████      │
    │ −Σ log p ÷ G²               [     0.25] [     0.25]      │
    │                                                          │
    │ A bar is the size of a weight, beside the largest one of │
    │ the same loss. G = 2 microbatches in a window.           │
    ╰──────────────────────────────────────────────────────────╯
    """
    check_width(width)
    B, S = inputs.response_mask.shape
    room = width - FRAME
    whole = B * S * (CELL + 1) - B + _GAP * (B - 1)
    is_beside = room >= S * (CELL + 1) + _NAMES
    room -= _NAMES * is_beside
    first = int(inputs.is_response.any(0).int().argmax())
    shown = fit_range(S, S if whole <= room else (room + 1) // (CELL + 1), first)
    rows = [[(row, column) for column in shown] for row in range(B)]
    page = _Page(inputs, traces, is_beside)
    blocks = [rows] if whole <= room else [[row] for row in rows]
    lines: list[Node] = [Text(_TITLE, "title"), Text("")]
    for block in blocks:
        lines += [*page.block(block), Text("")]
    legend = "; ".join(_legend(inputs, traces))
    lines += [Text(text, "muted") for text in wrap(f"{_BARS} {legend}.", width - FRAME)]
    return Drawing(Card(Column(tuple(lines))), _sentence(inputs, traces))


def _legend(inputs: LossInputs, traces: Sequence[LossTrace]) -> list[str]:
    """What the letters of the formulas are, as far as they are used."""
    counts = inputs.counts
    meanings = {
        "G": f"G = {counts.G} microbatches in a window",
        "N": f"N = {counts.window_tokens} response tokens in the window",
        "R": f"R = {counts.window_rows} rows in the window",
        "T": "T: response tokens of the row",
        "L": f"L = {LONGEST}: the longest response allowed",
        "ε": f"ε = {EPSILON}",
        "m)": "m: mean log-prob of the vocabulary",
        "A": f"A, per row: {', '.join(map(number, inputs.advantages or [1] * counts.B))}",
    }
    used = " ".join(trace.loss.formula for trace in traces)
    return [text for letter, text in meanings.items() if letter in used]


def _sentence(inputs: LossInputs, traces: Sequence[LossTrace]) -> str:
    """The weights of the response tokens, loss by loss."""
    sentences = []
    for trace in traces:
        rows = [
            list(map(number, row[bits].tolist()))
            for row, bits in zip(trace.weights, inputs.is_response, strict=True)
        ]
        values = {value for row in rows for value in row}
        if len(values) == 1:
            said = f"{values.pop()} at every response token"
        else:
            said = "; ".join(f"row {at}: {', '.join(row)}" for at, row in enumerate(rows, 1) if row)
        sentences.append(f"{trace.loss.name}: {said}.")
    return f"Weight of each response token. {' '.join(sentences)}"
