"""The rows that are trained on: long answers (`26.4.1901→1901-04-26`), and short ones (`1901→01`).

Rows of about equal length are in one microbatch, as real loaders do it to save padding. So the
microbatches of a window have very different numbers of tokens.
"""

from collections.abc import Iterator, Sequence
from functools import cache

from sftviz.experiments.dates import Pair, date_pairs
from sftviz.experiments.training import visiting_order

B = 8  # rows of a microbatch
LONG_ROWS = (0, 0, 4, 8)  # of each microbatch of a window, so G = 4
_HELD_OUT = 7  # every seventh year


@cache
def long_pairs(held_out: bool = False) -> Sequence[Pair]:
    """Dates in the format with dots."""
    return tuple(pair for pair in date_pairs()[held_out] if pair.prompt.count(".") == 2)


@cache
def short_pairs(held_out: bool = False) -> Sequence[Pair]:
    """Years, and their last two digits."""
    years = [year for year in range(1900, 2100) if (year % _HELD_OUT == 0) == held_out]
    return tuple(Pair(f"{year}→", f"{year % 100:02}") for year in years)


def window_pairs(number: int) -> list[list[Pair]]:
    """The pairs of each microbatch of a window, which is counted from 1."""
    longs = _visit(long_pairs(), number, sum(LONG_ROWS))
    shorts = _visit(short_pairs(), number, len(LONG_ROWS) * B - sum(LONG_ROWS))
    return [
        [next(longs) for _ in range(count)] + [next(shorts) for _ in range(B - count)]
        for count in LONG_ROWS
    ]


def _visit(pairs: Sequence[Pair], number: int, count: int) -> Iterator[Pair]:
    return (pairs[row] for row in visiting_order(len(pairs), number, count, seed=0).tolist())
