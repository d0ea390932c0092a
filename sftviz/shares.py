"""Whose gradient is it? The share of each token and each row in the gradient of a window.

The gradient at a log-prob does not depend on the log-probs, only on the masks and on the rule that
scales them. Still, it is not written down here: every rule is run, and autograd's gradient is read.
Needs torch alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sftviz.accumulation import backward
from sftviz.rows import Rows, mask_rows
from sftviz.rules import Scaling, count_window, find_scaling
from sftviz.validate import brief, place


@dataclass(frozen=True, eq=False)
class GradientShares:
    """The shares of a window's tokens under one rule. Together they are 1. All are float64."""

    scaling: Scaling
    weights: tuple[Tensor, ...]  # per microbatch (B, S), 0 where a token does not count
    tokens: tuple[Tensor, ...]  # per microbatch (B, S)

    @cached_property
    def rows(self) -> tuple[Tensor, ...]:
        """The share of each row, (B,) per microbatch: the sum over its tokens."""
        return tuple(shares.sum(1) for shares in self.tokens)

    @cached_property
    def per_token(self) -> tuple[Tensor, ...]:
        """The share of a token of weight 1 in each row, (B,) per microbatch; NaN in a row without
        a token that counts."""
        totals = (weights.sum(1) for weights in self.weights)
        return tuple(row / total for row, total in zip(self.rows, totals, strict=True))


def gradient_shares(window: Sequence[Rows], scaling: Scaling | str) -> GradientShares:
    """Each token's share of the gradient: |gradient at its log-prob|, relative to their sum.

    A rule that divides every microbatch by the same number changes the gradient's length and no
    share: the sum, ÷ G, ÷ G² and ÷ the tokens of the window have the same shares.

    Args:
        window: the microbatches of one optimizer step; for each a mask or weights, (B, S), as a
            tensor, an array or lists. They may differ in B and S. A token with a weight counts with
            its weight, also where a rule counts tokens.
        scaling: a rule, or the name of one in `ALL_SCALINGS`.

    Raises:
        TypeError: the window is not a sequence, or a microbatch is not made of numbers.
        ValueError: a microbatch has another shape, or a weight that is negative or not finite; or
            nothing in the window counts, or has a gradient that is finite.

    Example:
        >>> window = [torch.ones(1, 11), torch.ones(1, 101)]  # as in transformers issue 24725
        >>> for rule in ("tokens", "averaged averages"):
        ...     short, long = gradient_shares(window, rule).per_token
        ...     print(f"{rule}: a token of the short row weighs {(short / long).item():.3f} times")
        tokens: a token of the short row weighs 1.000 times
        averaged averages: a token of the short row weighs 9.182 times

    Source: https://github.com/huggingface/transformers/issues/24725
    """
    scaling = find_scaling(scaling)
    with torch.inference_mode(False), torch.enable_grad():
        weights = _check_window(window)
        sizes = []
        for each, counts in zip(weights, count_window(weights, G=len(weights)), strict=True):
            log_probs = torch.full_like(each, -1.0, requires_grad=True)  # any would do
            backward(each * log_probs, each != 0, scaling, counts)
            sizes.append(log_probs.grad.abs())
    total = sum(size.sum() for size in sizes)
    if not (total > 0 and total.isfinite()):
        raise ValueError(
            f"under the rule {brief(scaling.name)} the gradient of the window is "
            f"{total.item():g} in all: it has no shares; give another divisor."
        )
    return GradientShares(scaling, weights, tuple(size / total for size in sizes))


def _check_window(window: Sequence[Rows]) -> tuple[Tensor, ...]:
    """The weights of each microbatch as float64."""
    if isinstance(window, Tensor | str) or not isinstance(window, Sequence) or len(window) == 0:
        came = "an empty one" if window == [] or window == () else type(window).__name__
        raise TypeError(
            f"window must be a sequence of microbatches, got {came}: give a mask or weights (B, S) "
            "for each, for example [mask_1, mask_2]."
        )
    weights = tuple(_check_weights(f"microbatch {i}", each) for i, each in enumerate(window, 1))
    if not any(each.any() for each in weights):
        raise ValueError(
            f"no token of the window counts, in {len(weights)} microbatches: "
            "there is no gradient to share; give at least one weight above 0."
        )
    return weights


def _check_weights(name: str, given: Rows) -> Tensor:
    rows = mask_rows(name, given)
    if rows.ndim != 2 or rows.numel() == 0 or rows.is_complex():
        raise ValueError(
            f"{name} must be a mask or weights of shape (B, S), got {rows.dtype} "
            f"{tuple(rows.shape)}: one row per sequence, one column per token."
        )
    weights = rows.cpu().double()
    invalid = ~(weights.isfinite() & (weights >= 0))
    if invalid.any():
        where = tuple(invalid.nonzero()[0].tolist())
        raise ValueError(
            f"{name} must have weights of at least 0, got {weights[where].item():g} at "
            f"{place(*where)}: 0 is a token that does not count."
        )
    return weights
