"""What of a large batch is shown first: the tokens that count, and those that look wrong."""

from math import inf

from torch import Tensor

from sftviz.step import StepTrace

Place = tuple[int, ...]  # the index of a token, (row, token), or of an entry of its logits


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
    least, most = map(Tensor.item, log_probs.aminmax())
    if -inf < least and most <= 0:  # not so if one is NaN
        return places
    is_finite = log_probs.isfinite()
    return [
        *_first(~is_finite & counts),
        *_first(is_finite & counts & (log_probs > 0)),
        *places[:1],
        *_first(~is_finite & ~counts),
        *places[1:],
    ]


def starts(response_mask: Tensor) -> list[Place]:
    """The first response token of each row that has one."""
    most, columns = response_mask.max(1)  # of equal ones, the first
    pairs = zip(most.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, (has_one, column) in enumerate(pairs) if has_one]


def _first(flags: Tensor) -> list[Place]:
    """The place of the first True, if there is one."""
    return [tuple(place) for place in flags.nonzero()[:1].tolist()]
