"""A window on several ranks: each accumulates microbatches of its own, then all are averaged.

It is what DistributedDataParallel leaves in `.grad`, computed in one process, rank after rank: real
processes take seconds to start. `run_window` starts them, and gets the same. Needs torch alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from sftviz.accumulation import AccumulationTrace, accumulate, full_batch_gradient
from sftviz.rules import RANK_SCALINGS, STEP, Counts, Gradient, Scaling, cosine, ratio
from sftviz.tokens import TokenBatch
from sftviz.validate import brief


@dataclass(frozen=True, eq=False)
class RanksTrace:
    """One window under one rule: each rank before the average, and the full-batch gradient."""

    scaling: Scaling
    ranks: tuple[AccumulationTrace, ...]  # W; what each compares itself with is its own rows alone
    full_batch_grad: Gradient  # of the rows of all ranks

    @property
    def total(self) -> Gradient:
        """The sum over the ranks."""
        return {name: sum(rank.grad[name] for rank in self.ranks) for name in self.full_batch_grad}

    @property
    def grad(self) -> Gradient:
        """The average over the ranks: what every rank's optimizer uses."""
        return {name: total / len(self.ranks) for name, total in self.total.items()}

    @property
    def parameters(self) -> Gradient:
        """Before the optimizer's step, equal on all ranks."""
        return self.ranks[0].parameters

    @property
    def ratio(self) -> float:
        """The length of the average along the full-batch gradient, in lengths of it."""
        return ratio(self.grad, self.full_batch_grad)

    @property
    def cosine(self) -> float:
        """1 if the average has the direction of the full-batch gradient."""
        return cosine(self.grad, self.full_batch_grad)


def average_over_ranks(
    model: nn.Module, shares: Sequence[Sequence[TokenBatch]], scaling: Scaling | str
) -> RanksTrace:
    """Accumulate each rank's microbatches, and average the gradients over the ranks.

    Args:
        model: as for `accumulate`; every rank has a copy of it.
        shares: for each of the W ranks its G microbatches.
        scaling: a rule, or the name of one in `RANK_SCALINGS`.

    Raises:
        TypeError, ValueError: no rule has this name, the ranks have different G, or what
            `accumulate` refuses.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> model, window = BigramModel(), make_window(B=3, G=8)
        >>> for rule in ("tokens", "tokens/W"):
        ...     trace = average_over_ranks(model, (window[:4], window[4:]), rule)
        ...     print(f"{rule}: {trace.ratio:.3f}")
        tokens: 0.500
        tokens/W: 1.000
    """
    scaling = find_rank_scaling(scaling)
    sizes = [len(share) for share in shares]
    if len(set(sizes)) != 1:
        raise ValueError(
            f"every rank must have the same number of microbatches, got {brief(sizes)}: otherwise "
            "some would wait for the others' all-reduce for ever."
        )
    window = [batch for share in shares for batch in share]
    rule = _counting_everywhere(scaling, window, len(shares))
    return RanksTrace(
        scaling=scaling,
        ranks=tuple(accumulate(model, share, rule) for share in shares),
        full_batch_grad=full_batch_gradient(model, window, scaling.per),
    )


def find_rank_scaling(scaling: Scaling | str) -> Scaling:
    """Look up a rule of `RANK_SCALINGS` by its name. A `Scaling` is returned as it is.

    Raises:
        ValueError: no rule for ranks has this name.

    >>> find_rank_scaling("own tokens").per
    'token'
    """
    if isinstance(scaling, Scaling):
        return scaling
    known = {rule.name: rule for rule in RANK_SCALINGS}
    if not isinstance(scaling, str) or scaling not in known:
        raise ValueError(f"scaling must be one of {', '.join(known)}, got {brief(scaling)}.")
    return known[scaling]


def everywhere(window: Sequence[TokenBatch], ranks: int) -> dict[str, int]:
    """The fields of `Counts` that are about all ranks; `window` has the microbatches of all."""
    return {
        "window_tokens": sum(batch.num_tokens for batch in window),
        "window_rows": sum(len(batch.labels) for batch in window),
        "ranks": ranks,
    }


def _counting_everywhere(scaling: Scaling, window: Sequence[TokenBatch], ranks: int) -> Scaling:
    """The rule as one rank applies it: what it counts of the window is of all ranks."""
    if scaling is STEP:  # it counts nothing, and the step itself is run for it
        return scaling
    counted = everywhere(window, ranks)

    def divisor(counts: Counts) -> object:
        return scaling.divisor(replace(counts, **counted))

    return replace(scaling, divisor=divisor)
