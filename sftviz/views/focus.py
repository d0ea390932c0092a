"""What of a large batch is shown first: the tokens that count, and those that look wrong."""

from collections.abc import Sequence
from itertools import chain
from math import inf

import torch
from torch import Tensor

from sftviz.step import StepTrace
from sftviz.validate import above_zero

Place = tuple[int, ...]  # the index of a token: row, column


def what_counts(trace: StepTrace) -> list[Place]:
    """The tokens of a run to see first.

    The first response token with a log-prob that is NaN or infinite; the first with one above 0;
    the first response token of all; the first masked token with NaN or infinity; the first response
    token of every other row.

    >>> from sftviz.examples import PRESETS
    >>> what_counts(PRESETS["long prompt"].trace())
    [(0, 5), (1, 5)]
    """
    log_probs, counts = trace.policy_log_probs, trace.response_mask  # (B, S)
    places = starts(counts)
    if not (looks_wrong := wrong(log_probs, counts)):
        return places
    return [
        *(place for flags in looks_wrong for place in first(flags)),
        *places[:1],
        *first(~log_probs.isfinite() & ~counts),
        *places[1:],
    ]


def lens_start(trace: StepTrace, signs: Sequence[Place] = ()) -> Place:
    """The row and the column that a lens begins with: one token before the first to see.

    That is the first that has a sign; if none has, the first of `what_counts`.
    """
    row, column = next(chain(signs, what_counts(trace)), (0, 0))
    return row, max(0, column - 1)


def wrong(policy_log_probs: Tensor, counts: Tensor) -> list[Tensor]:
    """Where tokens that count are NaN or infinite, and where they are above 0, each (B, S) bool.

    Empty if all log-probs are right.
    """
    least, most = map(Tensor.item, policy_log_probs.aminmax())
    if -inf < least and most <= 0:  # not so if one is NaN
        return []
    is_finite = policy_log_probs.isfinite()
    is_above = (policy_log_probs > 0) & is_finite & counts
    if not above_zero(policy_log_probs):  # what rounding can do
        is_above = torch.zeros_like(is_above)
    return [~is_finite & counts, is_above]


def starts(response_mask: Tensor) -> list[Place]:
    """The first response token of each row that has one."""
    most, columns = response_mask.max(1)  # of equal ones, the first
    pairs = zip(most.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, (has_one, column) in enumerate(pairs) if has_one]


def first(flags: Tensor) -> list[Place]:
    """The place of the first True, if there is one."""
    return [tuple(place) for place in flags.nonzero()[:1].tolist()]
