"""A grid of values: which rows and columns are shown, how wide its cells are, and its lines.

A picture chooses its columns once, so that a token has the same column in all of its grids. If
there is no room for all, those around given ones are shown, and signs for the gaps between them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

from sftviz.drawing.scene import Align, Cell, Node, Row, Text
from sftviz.views.parts import CELL

MAX_ROWS = 8
_GAP = 2  # cells: the sign for left out columns, and a blank


class Gap(NamedTuple):
    """Rows or columns that are left out between others."""

    count: int


Places = tuple[int | Gap, ...]  # the indices that are shown, and the gaps between them


@dataclass(frozen=True)
class Columns:
    """The columns that are shown, and the width of a cell."""

    places: Places
    cell: int

    @property
    def shown(self) -> list[int]:
        """The indices of the columns that are shown."""
        return shown(self.places)

    @property
    def width(self) -> int:
        """The width of all columns in cells, each with the blank after it."""
        gaps = len(self.places) - len(self.shown)
        return len(self.shown) * (self.cell + 1) + gaps * _GAP

    def line(self, node: Callable[[int], Node]) -> Row:
        """One node per shown column, and `⋯` where columns are left out."""
        return Row(
            tuple(Text("⋯", "muted") if isinstance(at, Gap) else node(at) for at in self.places),
            gap=1,
        )

    def numbers(self, name: str = "token") -> list[Node]:
        """If columns are left out, a line with the numbers of the others, counted from 1."""
        if len(self.shown) == len(self.places):
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
    widths: Callable[[list[int]], Iterable[int]] = lambda columns: (),
    narrowest: int = CELL,
    around: Sequence[int] = (0,),
) -> Columns:
    """Choose columns for a width in cells.

    Args:
        count: the number of columns.
        width: the width to fill.
        widths: the widths of the texts in some columns; the cells get room for them.
        narrowest: if there is no room for all columns, how narrow cells may become.
        around: the columns that are shown first, with their neighbours.

    >>> fit_columns(9, 60)
    Columns(places=(0, 1, 2, Gap(count=5), 8), cell=11)
    >>> fit_columns(188, 60, around=[161])
    Columns(places=(Gap(count=160), 160, 161, 162, Gap(count=24), 187), cell=11)
    """
    # All columns that might fit: the texts in these decide how wide a cell must be.
    candidates = shown(elide(count, width, around, narrowest + 1, _GAP))
    longest = max(widths(candidates), default=0)
    cell = max(longest + 2, narrowest, min(CELL, width // count - 1))
    return Columns(elide(count, width, around, cell + 1, _GAP, candidates), cell)


def fit_rows(count: int, most: int = MAX_ROWS, around: Sequence[int] = (0,)) -> Places:
    """Choose rows: all, or given ones and others, on at most `most` lines."""
    return elide(count, most, around, beside=())


def elide(
    count: int,
    room: int,
    around: Sequence[int] = (0,),
    size: int = 1,
    gap: int = 1,
    among: Collection[int] | None = None,
    beside: Sequence[int] = (-1, 1),
) -> Places:
    """Choose indices: all if there is room for them, else those around given ones.

    The most important indices that fit are shown: the given ones with those beside them, and the
    first and the last of all; then further ones to the right.

    Args:
        count: the number of indices.
        room: the room for all that is shown.
        around: indices, the most important ones first.
        size: the room that an index takes.
        gap: the room that a gap takes.
        among: the indices to choose from. None: all.
        beside: what belongs to a given index: by default the index before it and the one after it.

    >>> elide(100, 7, around=[50])
    (0, Gap(count=48), 49, 50, 51, Gap(count=47), 99)
    """
    if count * size <= room:
        return tuple(range(count))
    most = max(1, room // size)
    around = [index for index in around if 0 <= index < count][:most] or [0]
    chosen: set[int] = set()
    taken = gap  # all are in one gap
    for index in _by_importance(count, around, most, (0, *beside)):
        if index in chosen or not (among is None or index in among):
            continue
        is_before_gap = index + 1 not in chosen and index < count - 1
        is_after_gap = index - 1 not in chosen and index > 0
        takes = size + (is_before_gap + is_after_gap - 1) * gap
        if taken + takes <= room or not chosen:
            chosen.add(index)
            taken += takes
        if room - taken < max(1, size - gap):
            break
    return _with_gaps(sorted(chosen), count, least=gap // size)


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


def _with_gaps(indices: Sequence[int], count: int, least: int) -> Places:
    """Indices with gaps between them. A gap that is not larger than `least` is filled."""
    places: list[int | Gap] = []
    for before, index in pairwise((-1, *indices, count)):
        left_out = range(before + 1, index)
        if left_out:
            places += left_out if len(left_out) <= least else [Gap(len(left_out))]
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
