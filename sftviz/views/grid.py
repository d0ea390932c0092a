"""A grid of values: which rows and columns are shown, how wide its cells are, and its lines.

A picture chooses its columns once, so that a token has the same column in all of its grids. If
there is no room for all, a range of them is shown.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

from sftviz.drawing.scene import Align, Cell, Node, Row, Text
from sftviz.views.parts import CELL

MAX_ROWS = 8
_FEW = 4  # columns: if fewer have room, cells are as narrow as their texts


class Gap(NamedTuple):
    """Rows that are left out between others."""

    count: int


Places = Sequence[int | Gap]  # the indices that are shown, and the gaps between them


@dataclass(frozen=True)
class Columns:
    """The columns that are shown, of how many, and the width of a cell."""

    shown: range
    count: int
    cell: int

    @property
    def width(self) -> int:
        """The width of all columns in cells, each with the blank after it."""
        return len(self.shown) * (self.cell + 1)

    def line(self, node: Callable[[int], Node]) -> Row:
        """One node per shown column."""
        return Row(tuple(map(node, self.shown)), gap=1)

    def numbers(self, name: str = "token") -> list[Node]:
        """If columns are left out, a line with the numbers of the others, counted from 1."""
        if len(self.shown) == self.count:
            return []
        texts = {at: f"{name} {at + 1}" for at in self.shown}
        if max(map(len, texts.values())) >= self.cell:
            texts = {at: str(at + 1) for at in self.shown}

        def number(at: int) -> Node:
            return Align(Text(f"{texts[at]} ", "muted", f"{name}[:,{at}]"), self.cell, "right")

        return [self.line(number)]


def fit_columns(
    count: int,
    width: int,
    widths: Callable[[Sequence[int]], Iterable[int]] = lambda columns: (),
    narrowest: int = CELL,
    first: int = 0,
    most: int | None = None,
) -> Columns:
    """Choose columns for a width in cells.

    Args:
        count: the number of columns.
        width: the width to fill.
        widths: the widths of the texts in some columns; the cells get room for them.
        narrowest: if there is no room for all columns, how narrow cells may become.
        first: if there is no room for all columns, the first one that is shown.
        most: how many columns are shown at most. None: as many as have room.

    >>> fit_columns(9, 60)
    Columns(shown=range(0, 5), count=9, cell=11)
    >>> fit_columns(188, 60, first=161)
    Columns(shown=range(161, 166), count=188, cell=11)
    """
    most = min(count, most or count)

    def widen(cell: int) -> int:
        is_too_wide = most * (cell + 1) > width >= _FEW * (CELL + 1)
        return max(cell, CELL) if is_too_wide else cell  # so columns do not move while G changes

    narrowest = widen(narrowest)
    # All columns that might fit: the texts in these decide how wide a cell must be.
    candidates = fit_range(count, min(most, width // (narrowest + 1)), first)
    longest = max(widths(candidates), default=0)
    cell = widen(max(longest + 2, narrowest, min(CELL, width // most - 1)))
    return Columns(fit_range(count, min(most, width // (cell + 1)), first), count, cell)


def fit_range(count: int, most: int, first: int = 0) -> range:
    """A range of at most `most` indices, at least one, that begins at `first` or not far before it.

    >>> fit_range(20, 8, 3), fit_range(20, 8, 17)
    (range(3, 11), range(12, 20))
    """
    size = min(count, max(1, most))
    start = max(0, min(first, count - size))
    return range(start, start + size)


def elide(
    count: int, most: int, around: Sequence[int] = (0,), beside: Sequence[int] = (-1, 1)
) -> Places:
    """Choose indices for at most `most` lines: all, or those around given ones.

    The given ones with those beside them, and the first and the last of all; then further ones.

    Args:
        count: the number of indices.
        most: the number of lines; a gap takes one, too.
        around: indices, the most important ones first.
        beside: what belongs to a given index: by default the index before it and the one after it.

    >>> elide(100, 7, around=[50])
    (0, Gap(count=48), 49, 50, 51, Gap(count=47), 99)
    """
    if count <= most:
        return tuple(range(count))
    around = [index for index in around if 0 <= index < count][:most] or [0]
    chosen: set[int] = set()
    taken = 1  # all are in one gap
    for index in _by_importance(count, around, most, (0, *beside)):
        if index in chosen:
            continue
        is_before_gap = index + 1 not in chosen and index < count - 1
        is_after_gap = index - 1 not in chosen and index > 0
        takes = is_before_gap + is_after_gap
        if taken + takes <= most or not chosen:
            chosen.add(index)
            taken += takes
        if taken == most:
            break
    return _with_gaps(sorted(chosen), count)


def _by_importance(
    count: int, around: Sequence[int], most: int, group: Sequence[int]
) -> Iterator[int]:
    given = [index + by for index in around for by in group]
    order = chain(
        (*given[:6], count - 1, *given[6:], 0),
        (index + by for by in range(1, most) for index in around),
        (index - by for by in range(1, most) for index in around),
    )
    return (index for index in order if 0 <= index < count)


def _with_gaps(indices: Sequence[int], count: int) -> Places:
    """Indices with gaps between them. A gap of one is filled."""
    places: list[int | Gap] = []
    for before, index in pairwise((-1, *indices, count)):
        left_out = range(before + 1, index)
        if left_out:
            places += left_out if len(left_out) == 1 else [Gap(len(left_out))]
        if index < count:
            places.append(index)
    return tuple(places)


def shown(places: Places) -> list[int]:
    """The indices that are shown."""
    return [place for place in places if not isinstance(place, Gap)]


def grid(rows: Places, columns: Columns, cell: Callable[[int, int], Cell]) -> list[Node]:
    """One line per shown row, with the cells of the shown columns, and a line for each gap."""
    return lines(rows, lambda row: columns.line(lambda column: cell(row, column)))


def lines(rows: Places, line: Callable[[int], Node]) -> list[Node]:
    """One line per shown row, and `⋮ 118 more` where rows are left out."""
    return [
        Text(f"⋮ {row.count} more", "muted") if isinstance(row, Gap) else line(row) for row in rows
    ]
