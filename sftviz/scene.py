"""A picture, measured in character cells.

Nodes are what a picture is made of: a run of text, a cell that holds a value, rows and columns of
them, a card, a flow of cards. Each knows its size in cells and lowers itself to three marks at
integer positions: glyphs, frames and arrows. A mark carries a tone, which is its meaning, and where
it shows a value a key, which says what value: `grad[1,3]`. A scene has no colours, no pixels, no
tensors. Needs the standard library and `wcwidth`, which says how many cells a character takes.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple, Protocol

from wcwidth import width as cells


class Glyphs(NamedTuple):
    """Text on one line, from cell (x, y) rightwards."""

    x: int
    y: int
    text: str
    tone: str
    key: str | None = None


class Frame(NamedTuple):
    """A rectangle of cells. One row high it holds a value; higher, it is the edge of a card."""

    x: int
    y: int
    width: int
    height: int
    tone: str
    key: str | None = None


class Arrow(NamedTuple):
    """Points from the middle of cell (x, y) down to the one `length` rows below."""

    x: int
    y: int
    length: int
    tone: str = "muted"
    key: None = None


Mark = Glyphs | Frame | Arrow


class Page(NamedTuple):
    """A scene lowered to its marks, in the order in which they are drawn."""

    width: int
    height: int
    marks: list[Mark]


def lower(scene: "Node") -> Page:
    """Lower a scene to its marks."""
    return Page(scene.width, scene.height, scene.marks())


@lru_cache(maxsize=4096)
def text_width(text: str) -> int:
    """How many cells a text takes."""
    return cells(text)


class Node(Protocol):
    """Anything with a size in cells that can say its marks at a position."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def marks(self, x: int = 0, y: int = 0) -> list[Mark]: ...


@dataclass(frozen=True)
class Text:
    """A run of text in one tone. An empty one is a blank line."""

    text: str
    tone: str = "ink"
    key: str | None = None
    height: int = field(default=1, init=False)

    @property
    def width(self) -> int:
        return text_width(self.text)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        return [Glyphs(x, y, self.text, self.tone, self.key)] if self.text else []


@dataclass(frozen=True)
class Cell:
    """A value in a frame one row high, flush right so that digits stand under digits."""

    text: str
    width: int
    tone: str
    key: str | None = None
    height: int = field(default=1, init=False)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        inner = x + self.width - 1 - text_width(self.text)
        return [
            Frame(x, y, self.width, 1, self.tone, self.key),
            Glyphs(inner, y, self.text, self.tone, self.key),
        ]


@dataclass(frozen=True)
class Row:
    """Nodes side by side, tops aligned."""

    children: tuple[Node, ...]
    gap: int = 0

    @cached_property
    def width(self) -> int:
        return sum(child.width for child in self.children) + self.gap * (len(self.children) - 1)

    @cached_property
    def height(self) -> int:
        return max(child.height for child in self.children)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for child in self.children:
            marks += child.marks(x, y)
            x += child.width + self.gap
        return marks


@dataclass(frozen=True)
class Column:
    """Nodes one under another, left edges aligned."""

    children: tuple[Node, ...]

    @cached_property
    def width(self) -> int:
        return max(child.width for child in self.children)

    @cached_property
    def height(self) -> int:
        return sum(child.height for child in self.children)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for child in self.children:
            marks += child.marks(x, y)
            y += child.height
        return marks


@dataclass(frozen=True)
class Placed:
    """A node in a space of a given width, at one of its sides."""

    child: Node
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
    """A node in a frame, with a cell of air at either side."""

    body: Node

    @property
    def width(self) -> int:
        return self.body.width + 4

    @property
    def height(self) -> int:
        return self.body.height + 2

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        return [Frame(x, y, self.width, self.height, "card"), *self.body.marks(x + 2, y + 1)]


@dataclass(frozen=True)
class Flow:
    """Cards one under another, an arrow from each to the next. All are as wide as the widest."""

    bodies: tuple[Node, ...]

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        width = max(body.width for body in self.bodies)
        return tuple(Card(Placed(body, width)) for body in self.bodies)

    @property
    def width(self) -> int:
        return self.cards[0].width

    @cached_property
    def height(self) -> int:
        return sum(card.height for card in self.cards)

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for index, card in enumerate(self.cards):
            marks += card.marks(x, y)
            if index:  # over the edges of both cards
                marks.append(Arrow(x + 3, y - 1, 1))
            y += card.height
        return marks
