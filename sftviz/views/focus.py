"""What of a large batch is shown first: the tokens that count, and those that look wrong."""

from torch import Tensor

from sftviz.step import StepTrace

Place = tuple[int, ...]  # the index of a token, (row, token), or of an entry of its logits


def what_counts(trace: StepTrace) -> list[Place]:
    """The tokens of a run to see first.

    The first response token with a log-prob that is NaN, infinite or above 0; the first response
    token of all; the first masked token that is NaN or infinite; the first response token of every
    other row.

    >>> from sftviz.examples import PRESETS
    >>> what_counts(PRESETS["long prompt"].trace())
    [(0, 5), (1, 5)]
    """
    log_probs, counts = trace.policy_log_probs, trace.response_mask  # (B, S)
    is_finite = log_probs.isfinite()
    is_odd = ~is_finite | (log_probs > 0)
    first, others = starts(counts)[:1], starts(counts)[1:]
    return [*_first(is_odd & counts), *first, *_first(~is_finite & ~counts), *others]


def starts(response_mask: Tensor) -> list[Place]:
    """The first response token of each row that has one."""
    columns = response_mask.byte().argmax(1).tolist()  # of equal ones, the first
    return [(row, columns[row]) for row in response_mask.any(1).nonzero().flatten().tolist()]


def _first(flags: Tensor) -> list[Place]:
    """The place of the first True, if there is one."""
    return [tuple(place) for place in flags.nonzero()[:1].tolist()]
