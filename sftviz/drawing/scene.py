"""A picture, measured in character cells.

A scene is a tree of nodes: text, cells with a value, strips of bars, rows and columns of them,
cards, a flow of cards. Each node knows its size in cells and lowers itself to marks: texts, cells,
strips, outlines, trails, frames and arrows at integer positions. A mark has a tone, which is its
meaning; if it shows a value, it has a key, which is the name of that value: `grad[1,3]`. There are
no colours and no pixels in a scene.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from sftviz.drawing.formatting import text_width


# The shapes are tuples, because a live picture creates and compares hundreds of them per change.
class Text(NamedTuple):
    """Text on one line, in one tone. An empty text is a blank line."""

    text: str
    tone: str = "ink"
    key: str | None = None
    height = 1

    @property
    def width(self) -> int:
        return text_width(self.text)

    def marks(self, x: int = 0, y: int = 0) -> "list[Mark]":
        return [(x, y, self)] if self.text else []


class Cell(NamedTuple):
    """A value in a frame, one row high and aligned to the right."""

    text: str
    width: int
    tone: str
    key: str | None = None
    height = 1

    @property
    def indent(self) -> int:
        """The number of cells before the text."""
        return self.width - 1 - text_width(self.text)

    def marks(self, x: int = 0, y: int = 0) -> "list[Mark]":
        return [(x, y, self)]


HIGHEST = 8  # the highest bar of a strip
FOLD = 4  # cells between the two columns of a flow that is folded
SIGN = 9  # instead of a bar


class Strip(NamedTuple):
    """Rows of bars on one line, which they share; the bars of a row share its width.

    A row has one level per bar: 0 is hatched, 1 to `HIGHEST` are heights, and `SIGN` is a sign.
    A row without a bar is left blank.
    """

    width: int
    rows: tuple[bytes, ...]
    height = 1
    tone = "strip"
    key = None

    @property
    def cells(self) -> list[int]:
        """The highest level in each cell."""
        width, bars = self.width, max(map(len, self.rows))
        spans = [
            (at * bars // width, max(at * bars // width + 1, (at + 1) * bars // width))
            for at in range(width)
        ]
        return [max([max(row[start:end], default=0) for row in self.rows]) for start, end in spans]

    def marks(self, x: int = 0, y: int = 0) -> "list[Mark]":
        return [(x, y, self)]


class Span(NamedTuple):
    """Some of the rows or columns of strips."""

    first: int
    count: int
    total: int
    shared: int = 1  # that share a bar
    bars: int = 0  # side by side; 0: one for each

    @property
    def ends(self) -> tuple[float, float]:
        """Where the bars of these begin and end, as fractions of all bars."""
        bars = self.bars or self.total
        return self.first // self.shared / bars, -(-(self.first + self.count) // self.shared) / bars


class Outline(NamedTuple):
    """A frame around some of the rows and columns of strips, drawn over them."""

    width: int  # of the strips
    height: int
    rows: Span
    columns: Span
    key: str | None = None
    tone = "lens"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the frame, in cells."""
        (left, right), (top, bottom) = self.columns.ends, self.rows.ends
        return left * self.width, top * self.height, right * self.width, bottom * self.height

    def marks(self, x: int = 0, y: int = 0) -> "list[Mark]":
        return [(x, y, self)]


class Trail(NamedTuple):
    """Arrows head to tail, through points of a plane; or without heads: a curve."""

    width: int
    height: int
    points: tuple[tuple[float, float], ...]  # in cells, from the upper left corner
    tone: str
    is_dashed: bool = False
    has_heads: bool = True
    key = None

    def marks(self, x: int = 0, y: int = 0) -> "list[Mark]":
        return [(x, y, self)]


class Frame(NamedTuple):
    """The border of a card."""

    width: int
    height: int
    tone = "card"
    key = None


class Arrow(NamedTuple):
    """From the middle of a cell down to the middle of the cell `length` rows below."""

    length: int
    tone = "muted"
    key = None


Shape = Text | Cell | Strip | Outline | Trail | Frame | Arrow
Mark = tuple[int, int, Shape]  # the shape's upper left cell is (x, y)


class Page(NamedTuple):
    """A scene lowered to its marks, in drawing order."""

    width: int
    height: int
    marks: Sequence[Mark]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the values in frames, one per frame."""
        shapes = [shape for _, _, shape in self.marks]
        return tuple([shape.key for shape in shapes if isinstance(shape, Cell) and shape.key])

    @property
    def outline(self) -> Outline | None:
        """The frame that says which part of a whole is shown; None if all is."""
        shapes = [shape for _, _, shape in self.marks]
        return next((shape for shape in shapes if isinstance(shape, Outline)), None)


@dataclass(frozen=True)
class Row:
    """Nodes side by side, aligned at the top."""

    children: "tuple[Node, ...]"
    gap: int = 0

    @cached_property
    def width(self) -> int:
        return sum([child.width for child in self.children]) + self.gap * (len(self.children) - 1)

    @cached_property
    def height(self) -> int:
        return max([child.height for child in self.children])

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for child in self.children:
            marks += child.marks(x, y)
            x += child.width + self.gap
        return marks


@dataclass(frozen=True)
class Column:
    """Nodes below each other, aligned at the left."""

    children: "tuple[Node, ...]"

    @cached_property
    def width(self) -> int:
        return max([child.width for child in self.children])

    @cached_property
    def height(self) -> int:
        return sum([child.height for child in self.children])

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for child in self.children:
            marks += child.marks(x, y)
            y += child.height
        return marks


@dataclass(frozen=True)
class Stack:
    """Nodes over each other; the first one is behind, and is as large as all of them."""

    children: "tuple[Node, ...]"

    @property
    def width(self) -> int:
        return self.children[0].width

    @property
    def height(self) -> int:
        return self.children[0].height

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        return [mark for child in self.children for mark in child.marks(x, y)]


@dataclass(frozen=True)
class Align:
    """A node at the left or right side of a space of a given width."""

    child: "Node"
    width: int
    side: Literal["left", "right"] = "left"

    @property
    def height(self) -> int:
        return self.child.height

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        slack = self.width - self.child.width
        return self.child.marks(x + (slack if self.side == "right" else 0), y)


@dataclass(frozen=True)
class Card:
    """A node in a frame, with an empty cell at its left and right."""

    body: "Node"

    @property
    def width(self) -> int:
        return self.body.width + 4

    @property
    def height(self) -> int:
        return self.body.height + 2

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        return [(x, y, Frame(self.width, self.height)), *self.body.marks(x + 2, y + 1)]


@dataclass(frozen=True)
class Flow:
    """Cards below each other, all as wide as the widest, with an arrow from each to the next.

    Folded, they go on at the top of a second column, so that they take half the height.
    """

    bodies: "tuple[Node, ...]"
    is_folded: bool = False

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        width = max(body.width for body in self.bodies)
        return tuple(Card(Align(body, width)) for body in self.bodies)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        if not self.is_folded or len(self.cards) < 2:
            return (Column(self.cards),)
        folds = [
            (Column(self.cards[:count]), Column(self.cards[count:]))
            for count in range(len(self.cards) - 1, 0, -1)
        ]
        return min(folds, key=lambda fold: max(fold[0].height, fold[1].height))

    @property
    def width(self) -> int:
        return self.cards[0].width * len(self.columns) + FOLD * (len(self.columns) - 1)

    @property
    def height(self) -> int:
        return max(column.height for column in self.columns)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for number, column in enumerate(self.columns):
            left, top = x + number * (column.width + FOLD), y
            for index, card in enumerate(column.children):
                marks += card.marks(left, top)
                if index:  # drawn over the borders of both cards
                    marks.append((left + 3, top - 1, Arrow(1)))
                top += card.height
            if number:
                bottom = self.columns[0].height
                marks += _turn(bottom - 0.5 * self.columns[0].children[-1].height, left - FOLD, y)
        return marks


def _turn(middle: float, x: int, y: int) -> list[Mark]:
    """An arrow from the middle of a column's last card to the first card of the next column."""
    up = ((0.0, middle), (FOLD / 2, middle), (FOLD / 2, 1.5))
    line = Trail(FOLD, math.ceil(middle) + 1, up, "muted", has_heads=False)
    tip = Trail(FOLD, 2, ((FOLD / 2, 1.5), (FOLD - 0.5, 1.5)), "muted")
    return [(x, y, line), (x, y, tip)]


# Each has a width and a height in cells, and returns its marks at a position.
Node = Text | Cell | Strip | Outline | Trail | Row | Column | Stack | Align | Card | Flow


def lower(scene: Node) -> Page:
    """Lower a scene to its marks."""
    return Page(scene.width, scene.height, list(scene.marks()))
