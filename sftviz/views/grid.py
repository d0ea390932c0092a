"""A grid of values: which rows and columns are shown, how wide its cells are, and its lines.

A picture chooses its columns once, so that a token has the same column in all of its grids.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sftviz.drawing.scene import Cell, Node, Row, Text
from sftviz.views.parts import CELL

MAX_ROWS = 8
_GAP = 2  # cells: the sign for left out columns, and a blank

Places = tuple[int | None, ...]  # the indices that are shown; None: some are left out here


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
        return len(self.shown) * (self.cell + 1) + self.places.count(None) * _GAP

    def line(self, node: Callable[[int], Node]) -> Row:
        """One node per shown column, and `⋯` where columns are left out."""
        return Row(
            tuple(Text("⋯", "muted") if at is None else node(at) for at in self.places), gap=1
        )


def fit_columns(
    count: int,
    width: int,
    texts: Callable[[list[int]], Iterable[str]] = lambda columns: (),
    narrowest: int = CELL,
) -> Columns:
    """Choose columns for a width in cells.

    Args:
        count: the number of columns.
        width: the width to fill.
        texts: the texts in some columns; the cells are made wide enough for them.
        narrowest: if there is no room for all columns, how narrow cells may become.

    >>> fit_columns(9, 60)
    Columns(places=(0, 1, 2, None, 8), cell=11)
    """
    # All columns that might fit: the texts in these decide how wide a cell must be.
    candidates = _columns(count, width, narrowest)
    longest = max(map(len, texts(candidates.shown)), default=0)
    cell = max(longest + 2, narrowest, min(CELL, width // count - 1))
    return _columns(count, width, cell)


def _columns(count: int, width: int, cell: int) -> Columns:
    return Columns(elide(count, width // (cell + 1), (width - _GAP) // (cell + 1)), cell)


def fit_rows(count: int, most: int = MAX_ROWS) -> Places:
    """Choose rows: all, or the first ones and the last, on at most `most` lines."""
    return elide(count, most, most - 1)


def elide(count: int, room: int, room_beside_gap: int) -> Places:
    """Choose indices: all if there is room for them, else the first ones and the last."""
    if count <= room:
        return tuple(range(count))
    return (*range(room_beside_gap - 1), None, count - 1)


def shown(places: Places) -> list[int]:
    """The indices that are shown."""
    return [place for place in places if place is not None]


def grid(rows: Places, columns: Columns, cell: Callable[[int, int], Cell]) -> list[Node]:
    """One line per shown row, with the cells of the shown columns; `⋮` where rows are left out."""
    return lines(rows, lambda row: columns.line(lambda column: cell(row, column)))


def lines(rows: Places, line: Callable[[int], Node]) -> list[Node]:
    """One line per shown row, and `⋮` where rows are left out."""
    return [Text("⋮", "muted") if row is None else line(row) for row in rows]
