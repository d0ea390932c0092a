"""Scaling rules: what the summed loss of a microbatch is divided by. And how gradients compare.

A rule is a value: a name, a description, and a function from counts to a divisor. Accumulation on
one device, on several ranks, and the shares of a gradient use the same rules. Needs torch alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sftviz.validate import brief

Gradient = Mapping[str, Tensor]  # one tensor per parameter, by its name
Per = Literal["sequence", "token", "example"]
Divisor = float | Sequence[float]  # one of the microbatch, or one per row of it


@dataclass(frozen=True)
class Counts:
    """The numbers that a divisor can be made of. A token with a weight counts with its weight."""

    B: int  # rows of this microbatch
    G: int  # gradient_accumulation_steps
    num_tokens: float  # response tokens of this microbatch
    window_tokens: float  # response tokens of the whole window, on all ranks
    rank_tokens: float = 0  # response tokens of the window's microbatches on this rank
    ranks: int = 1  # W, over which the gradients are averaged
    window_rows: int = 0  # rows of the whole window, on all ranks
    row_tokens: tuple[float, ...] = ()  # response tokens of each row of this microbatch


@dataclass(frozen=True)
class Scaling:
    """A scaling rule: the negative masked sum of a microbatch is divided by `divisor`, then
    `backward()` is called.

    If `divisor` returns one number per row, each row's sum is divided by its own. `per` names the
    full-batch mean that the rule is compared with: the mean over sequences, the mean over response
    tokens, or the mean over examples of each example's mean over its tokens.
    """

    name: str
    description: str
    divisor: Callable[[Counts], Divisor]
    per: Per = "sequence"


STEP = Scaling(
    "G²",
    "divided by G twice, as sft_microbatch_train_step does: B/G times the mean over sequences",
    lambda n: n.G * n.G,
)
SEQUENCE_MEAN = Scaling(
    "B·G",
    "the mean over the microbatch's rows, divided by G: the mean over sequences, "
    "if every microbatch has B rows",
    lambda n: n.B * n.G,
)
TOKEN_MEAN = Scaling(
    "tokens",
    "divided by the response tokens of the whole window: the mean over tokens, "
    "however they are distributed over the microbatches of one device",
    lambda n: n.window_tokens,
    per="token",
)

SCALINGS = (
    Scaling("none", "not divided: the sum over the window, which grows with G", lambda n: 1),
    Scaling("G", "divided by G: B times the mean over sequences", lambda n: n.G),
    STEP,
    SEQUENCE_MEAN,
    TOKEN_MEAN,
)

# https://github.com/thinking-machines-lab/tinker-cookbook/pull/334
EXAMPLE_MEAN = Scaling(
    "one weight per example",
    "each row's sum is divided by the row's response tokens, and by the rows of the window: a "
    "token in a short row has more weight than one in a long row",
    lambda n: [n.window_rows * (tokens or 1) for tokens in n.row_tokens],  # an empty row adds 0
    per="example",
)

# Rules that are meant to give a mean and do not.
MISTAKEN_SCALINGS = (
    Scaling(
        "averaged averages",
        "the mean over the microbatch's tokens, divided by G: a token in a short microbatch has "
        "more weight than one in a long microbatch",
        lambda n: n.num_tokens * n.G,
        per="token",
    ),
    Scaling(
        "B·G²",
        "the mean over the microbatch's rows, divided by G, and then by G again",
        lambda n: n.B * n.G * n.G,
    ),
)

# Every rule for one device.
ALL_SCALINGS = (*SCALINGS, EXAMPLE_MEAN, *MISTAKEN_SCALINGS)

# Rules for several ranks, whose gradients are averaged: after the rule's division, a division by W.
RANK_SCALINGS = (
    STEP,
    SEQUENCE_MEAN,
    Scaling(
        "own tokens",
        "divided by the response tokens of this rank's microbatches: a token on a rank with few "
        "tokens has more weight than one on a rank with many",
        lambda n: n.rank_tokens,
        per="token",
    ),
    TOKEN_MEAN,
    Scaling(
        "tokens/W",
        "divided by the response tokens of all ranks, and multiplied by W, because averaging over "
        "the ranks divides by W again: the mean over tokens",
        lambda n: n.window_tokens / n.ranks,
        per="token",
    ),
)


def count_window(window: Sequence[Tensor], G: int) -> list[Counts]:
    """Count each microbatch of a window on one device.

    Args:
        window: masks or weights of the microbatches, each (B, S).
        G: gradient_accumulation_steps.

    >>> count_window([torch.tensor([[0, 1, 1], [1, 1, 1]]), torch.tensor([[1, 0]])], G=2)[0]
    Counts(B=2, G=2, num_tokens=5, window_tokens=6, rank_tokens=6, ranks=1, window_rows=3, \
row_tokens=(2, 3))
    """
    rows = [tuple(weights.sum(1).tolist()) for weights in window]
    total, window_rows = sum(map(sum, rows)), sum(map(len, rows))
    return [Counts(len(row), G, sum(row), total, total, 1, window_rows, row) for row in rows]


def find_scaling(scaling: Scaling | str) -> Scaling:
    """Look up a rule by its name. A `Scaling` is returned as it is.

    Raises:
        ValueError: no rule has this name.

    >>> find_scaling("B·G").divisor(Counts(B=3, G=4, num_tokens=5, window_tokens=20))
    12
    """
    if isinstance(scaling, Scaling):
        return scaling
    known = {rule.name: rule for rule in ALL_SCALINGS}
    if not isinstance(scaling, str) or scaling not in known:
        raise ValueError(f"scaling must be one of {', '.join(known)}, got {brief(scaling)}.")
    return known[scaling]


def ratio(grad: Gradient, reference: Gradient) -> float:
    """The length of `grad` along `reference`, in lengths of `reference`; NaN if that is 0.

    >>> ratio({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([2.0, 0.0])})
    1.5
    """
    a, b = _flat(grad), _flat(reference)
    return ((a @ b) / (b @ b)).item()


def cosine(grad: Gradient, reference: Gradient) -> float:
    """1 if both point in the same direction, whatever their lengths; NaN if one of them is 0."""
    a, b = _flat(grad), _flat(reference)
    return ((a / a.norm()) @ (b / b.norm())).item()


def distance(grad: Gradient, reference: Gradient) -> float:
    """The length of `grad − reference`, in lengths of `reference`; 0 if both are equal."""
    a, b = _flat(grad), _flat(reference)
    return ((a - b).norm() / b.norm()).item()


def _flat(gradient: Gradient) -> Tensor:
    return torch.cat([gradient[name].flatten().cpu().double() for name in sorted(gradient)])
