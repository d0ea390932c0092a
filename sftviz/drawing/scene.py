"""A picture, measured in character cells.

A scene is a tree of nodes: text, cells with a value, rows and columns of them, cards, a flow of
cards. Each node knows its size in cells and lowers itself to marks: texts, cells, frames and arrows
at integer positions. A mark has a tone, which is its meaning; if it shows a value, it has a key,
which is the name of that value: `grad[1,3]`. There are no colours and no pixels in a scene.
"""

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


Shape = Text | Cell | Frame | Arrow
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


@dataclass(frozen=True)
class Row:
    """Nodes side by side, aligned at the top."""

    children: "tuple[Node, ...]"
    gap: int = 0

    @cached_property
    def width(self) -> int:
        return sum([child.width for child in self.children]) + self.gap * (len(self.children) - 1)

    @property
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

    @property
    def height(self) -> int:
        return sum([child.height for child in self.children])

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for child in self.children:
            marks += child.marks(x, y)
            y += child.height
        return marks


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
    """Cards below each other, all as wide as the widest, with an arrow from each to the next."""

    bodies: "tuple[Node, ...]"

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        width = max(body.width for body in self.bodies)
        return tuple(Card(Align(body, width)) for body in self.bodies)

    @property
    def width(self) -> int:
        return self.cards[0].width

    @property
    def height(self) -> int:
        return sum(card.height for card in self.cards)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for index, card in enumerate(self.cards):
            marks += card.marks(x, y)
            if index:  # drawn over the borders of both cards
                marks.append((x + 3, y - 1, Arrow(1)))
            y += card.height
        return marks


# Each has a width and a height in cells, and returns its marks at a position.
Node = Text | Cell | Row | Column | Align | Card | Flow


def lower(scene: Node) -> Page:
    """Lower a scene to its marks."""
    return Page(scene.width, scene.height, scene.marks())
