"""Whose gradient is it: the share of each row and of its tokens, under each rule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

import torch

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, percent, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text
from sftviz.rows import Rows
from sftviz.rules import ALL_SCALINGS, Scaling
from sftviz.shares import GradientShares, gradient_shares
from sftviz.views.grid import MAX_ROWS, elide, lines
from sftviz.views.parts import FRAME, WIDTH, check_width

_NAME = 24  # cells, at most, for the name of a rule
_LEAST, _MOST = 20, 30  # cells, of the column of a rule; 0.0008929 % a token
_PERCENT = 11  # cells, after a bar: 0.0008929 %
_GAP = 2
_WIDE = 64  # cells, at least, to name the microbatch of each row
_SAME = 1e-9  # a smaller relative difference is float64 rounding


def shares_table(
    window: Sequence[Rows], scalings: Sequence[Scaling | str] = ALL_SCALINGS, width: int = WIDTH
) -> Drawing:
    """One line per row of a window, one column per rule: the row's share of the gradient, as a bar
    and as a number, and below it the share of one of its tokens.

    Rules that give every row the same share have one column together.

    Args:
        window: the masks or weights of the microbatches, as for `gradient_shares`. Of many rows,
            those with the lightest and the heaviest tokens are shown first.
        scalings: rules, or names of rules in `ALL_SCALINGS`.
        width: in cells, 48 or more; columns that have no room follow below.

    Raises:
        TypeError, ValueError: what `gradient_shares` refuses; there is no rule; or the width is not
            an int, or too small.

    >>> window = [torch.ones(1, 11), torch.ones(1, 101)]  # as in transformers issue 24725
    >>> drawing = shares_table(window, ["G²", "tokens", "averaged averages"], width=80)
    >>> print(drawing)
    ╭─────────────────────────────────────────────────────────────────────────────╮
    │ the row's share of the gradient, and that of a token                        │
    │                                                                             │
    │                        G², tokens                 averaged averages         │
    │ row 1 in microbatch 1  [] 9.821 %                 [      ] 50 %             │
    │ 11 tokens              0.8929 % a token           4.545 % a token           │
    │ row 2 in microbatch 2  [            ] 90.18 %     [      ] 50 %             │
    │ 101 tokens             0.8929 % a token           0.495 % a token           │
    ╰─────────────────────────────────────────────────────────────────────────────╯
    >>> print(drawing.alt)
    Shares of the gradient of a window of 2 microbatches, 2 rows, 112 tokens: a token of row 1 \
weighs 9.182 times as much as one of row 2 under averaged averages.
    """
    check_width(width)
    if len(scalings) == 0:
        raise ValueError("scalings is empty: give at least one rule, for example 'tokens'.")
    shares = [gradient_shares(window, scaling) for scaling in scalings]
    rules = _merged(shares)
    labels = _labels(shares[0], with_microbatch=width >= _WIDE)
    around = [row for rule in rules for row in rule.extremes]
    rows = elide(len(labels), MAX_ROWS, around=list(dict.fromkeys(around)))
    first = max(label.width for label in labels)
    room = width - FRAME - first
    count = min(len(rules), max(1, room // (_GAP + _LEAST)))  # columns side by side
    column = min(room // count - _GAP, _MOST)
    largest = max(max(rule.rows) for rule in rules)
    bar = column - _PERCENT

    def line(row: int, beside: Sequence[_Rule]) -> Node:
        cells = (Align(rule.cell(row, largest, bar), column) for rule in beside)
        return Row((Align(labels[row], first), *cells), gap=_GAP)

    token = "a token" if _is_mask(shares[0]) else "a token of weight 1"
    note = f"the row's share of the gradient, and that of {token}"
    blocks: list[Node] = [Text(line, "muted") for line in wrap(note, width - FRAME)]
    for start in range(0, len(rules), count):
        beside = rules[start : start + count]
        headings = (Align(rule.heading(column), column) for rule in beside)
        blocks.append(Text(""))
        blocks.append(Row((Text(" " * first), *headings), gap=_GAP))
        blocks += lines(rows, lambda row, beside=beside: line(row, beside))
    return Drawing(Card(Column(tuple(blocks))), _describe(shares[0], rules))


@dataclass(frozen=True)
class _Rule:
    """The shares under one rule, or under several that give the same."""

    names: tuple[str, ...]
    rows: list[float]
    tokens: list[float]  # of a token of weight 1 in each row; NaN in a row without tokens

    @property
    def extremes(self) -> tuple[int, int]:
        """The first rows with the heaviest and with the lightest token."""
        counted = [share for share in self.tokens if share > 0]  # not NaN
        heaviest, lightest = (
            next(row for row, share in enumerate(self.tokens) if _is_same(share, extreme))
            for extreme in (max(counted), min(counted))
        )
        return heaviest, lightest

    @property
    def inequality(self) -> float:
        """How many times as much as the lightest token the heaviest weighs."""
        heaviest, lightest = self.extremes
        return self.tokens[heaviest] / self.tokens[lightest]

    def heading(self, width: int) -> Node:
        names = wrap(", ".join(self.names), width) or [""]
        return Column(tuple(Text(line, "title") for line in names))

    def cell(self, row: int, largest: float, bar: int) -> Node:
        share, token = self.rows[row], self.tokens[row]
        value = Text(percent(share), "gradient")
        if share == 0:
            return Column((value, Text("")))
        length = max(2, round(bar * share / largest))
        return Column(
            (
                Row((Cell("", length, "gradient"), value), gap=1),
                Text(f"{percent(token)} a token", "muted"),
            )
        )


def _is_same(share: float, other: float) -> bool:
    return math.isclose(share, other, rel_tol=_SAME)


def _merged(shares: Sequence[GradientShares]) -> list[_Rule]:
    """One entry for all rules that give every row the same share."""
    merged: list[_Rule] = []
    for each in shares:
        name = token_label(each.scaling.name, _NAME)
        rows = torch.cat(each.rows).tolist()
        for at, other in enumerate(merged):
            if all(map(_is_same, rows, other.rows)):
                merged[at] = replace(other, names=(*other.names, name))
                break
        else:
            merged.append(_Rule((name,), rows, torch.cat(each.per_token).tolist()))
    return merged


def _labels(shares: GradientShares, with_microbatch: bool) -> list[Node]:
    """For each row of the window its number, its microbatch, and what counts in it."""
    is_mask = _is_mask(shares)
    labels: list[Node] = []
    for microbatch, weights in enumerate(shares.weights, start=1):
        for total in weights.sum(1).tolist():
            name = f"row {len(labels) + 1}"
            if with_microbatch:
                name += f" in microbatch {microbatch}"
            labels.append(Column((Text(name), Text(_tokens(total, is_mask), "muted"))))
    return labels


def _is_mask(shares: GradientShares) -> bool:
    return all(((weights == 0) | (weights == 1)).all() for weights in shares.weights)


def _tokens(total: float, is_mask: bool) -> str:
    return count_of(int(total), "token") if is_mask else f"weight {number(total)}"


def _describe(shares: GradientShares, rules: Sequence[_Rule]) -> str:
    """What the window is, and the largest inequality between its tokens."""
    total = sum(weights.sum().item() for weights in shares.weights)
    sizes = count_of(sum(map(len, shares.weights)), "row"), _tokens(total, _is_mask(shares))
    alt = (
        "Shares of the gradient of a window of "
        f"{count_of(len(shares.weights), 'microbatch', 'es')}, {', '.join(sizes)}: "
    )
    worst = max(rules, key=lambda rule: rule.inequality)
    if worst.inequality <= 1 + _SAME:
        return f"{alt}under each rule, every token weighs the same."
    heaviest, lightest = (row + 1 for row in worst.extremes)
    return (
        f"{alt}a token of row {heaviest} weighs {number(worst.inequality)} times as much as one of "
        f"row {lightest} under {' and '.join(worst.names)}."
    )
