"""A picture, measured in character cells.

Nodes are what a picture is made of: a run of text, a cell that holds a value, rows and columns of
them, a card, a flow of cards. Each knows its size in cells and lowers itself to marks: texts,
cells, frames and arrows at integer positions. A mark has a tone, which is its meaning, and where
it shows a value a key, which says what value: `grad[1,3]`. A scene has no colours, no pixels, no
tensors. Needs the standard library and `wcwidth`, which says how many cells a character takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple, Protocol

from wcwidth import width as cells


@lru_cache(maxsize=4096)
def text_width(text: str) -> int:
    """How many cells a text takes."""
    return cells(text)


# What is drawn are tuples: a live picture makes and compares hundreds of them at every change.
class Text(NamedTuple):
    """A run of text on one line, in one tone. An empty one is a blank line."""

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
    """A value in a frame one row high, flush right so that digits stand under digits."""

    text: str
    width: int
    tone: str
    key: str | None = None
    height = 1

    @property
    def indent(self) -> int:
        """How many cells there are before the text."""
        return self.width - 1 - text_width(self.text)

    def marks(self, x: int = 0, y: int = 0) -> "list[Mark]":
        return [(x, y, self)]


class Frame(NamedTuple):
    """The edge of a card."""

    width: int
    height: int
    tone = "card"
    key = None


class Arrow(NamedTuple):
    """Points from the middle of a cell down to that of the one `length` rows below."""

    length: int
    tone = "muted"
    key = None


Shape = Text | Cell | Frame | Arrow
Mark = tuple[int, int, Shape]  # from cell (x, y) to the right and downwards


class Page(NamedTuple):
    """A scene lowered to its marks, in the order in which they are drawn."""

    width: int
    height: int
    marks: Sequence[Mark]


class Node(Protocol):
    """Anything with a size in cells that can say its marks at a position."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def marks(self, x: int = 0, y: int = 0) -> Sequence[Mark]: ...


def lower(scene: Node) -> Page:
    """Lower a scene to its marks."""
    return Page(scene.width, scene.height, scene.marks())


@dataclass(frozen=True)
class Row:
    """Nodes side by side, tops aligned.

    One that comes again, as most do when a live picture changes, says its marks from memory.
    """

    children: tuple[Node, ...]
    gap: int = 0
    width: int = field(init=False)
    height: int = field(init=False)
    _said: dict[tuple[int, int], tuple[Mark, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        widths = [child.width for child in self.children]
        object.__setattr__(self, "width", sum(widths) + self.gap * (len(widths) - 1))
        object.__setattr__(self, "height", max([child.height for child in self.children]))
        object.__setattr__(self, "_said", {})

    def marks(self, x: int = 0, y: int = 0) -> tuple[Mark, ...]:
        if (x, y) not in self._said:
            marks, left = [], x
            for child in self.children:
                marks += child.marks(left, y)
                left += child.width + self.gap
            self._said[x, y] = tuple(marks)
        return self._said[x, y]


@dataclass(frozen=True)
class Column:
    """Nodes one under another, left edges aligned."""

    children: tuple[Node, ...]
    width: int = field(init=False)
    height: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", max([child.width for child in self.children]))
        object.__setattr__(self, "height", sum([child.height for child in self.children]))

    def marks(self, x: int = 0, y: int = 0) -> list[Mark]:
        marks = []
        for child in self.children:
            marks += child.marks(x, y)
            y += child.height
        return marks


@dataclass(frozen=True)
class Align:
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
        return [(x, y, Frame(self.width, self.height)), *self.body.marks(x + 2, y + 1)]


@dataclass(frozen=True)
class Flow:
    """Cards one under another, an arrow from each to the next. All are as wide as the widest."""

    bodies: tuple[Node, ...]

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        width = max(body.width for body in self.bodies)
        return tuple(Card(Align(body, width)) for body in self.bodies)

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
                marks.append((x + 3, y - 1, Arrow(1)))
            y += card.height
        return marks
