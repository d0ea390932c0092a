"""A question as a value: what is asked, and how the truth is computed.

Nothing is computed before the learner commits to an answer: a truth is a function without
arguments. What people wrongly believe is computed as well, so that an answer is met by its cause.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.inputs import StepInputs


@dataclass(frozen=True)
class Belief:
    """What a person could think instead: the number that follows from it, and why it is wrong."""

    value: Callable[[], float]
    because: str  # one or two sentences: "This is the loss divided once: the step divides twice."


@dataclass(frozen=True)
class Number:
    """A number is asked for; the learner types it.

    If it is a quantity of a step on `inputs`, every known mistake is tried on an answer too: see
    `sftviz.mistakes.recognise`. Then `quantity` is one of its quantities.
    """

    label: str  # "scaled_loss", "grad at a response token"
    value: Callable[[], float]
    beliefs: tuple[Belief, ...] = ()
    inputs: StepInputs | None = None
    quantity: str = ""


@dataclass(frozen=True)
class Option:
    """One of the answers to choose from, and what is said to a person who has chosen it."""

    text: str
    reply: str  # for a wrong option: what would have to be so, and what is so instead
    after: Callable[[int], Drawing] | None = None  # shown to a person who has chosen it


@dataclass(frozen=True)
class Choice:
    """One of several answers is asked for; `value` computes the place of the right one, from 0."""

    label: str
    options: tuple[Option, ...]
    value: Callable[[], int]


@dataclass(frozen=True)
class Bits:
    """A mask is asked for: the learner paints one bit for each token. 1 = response token."""

    label: str
    tokens: tuple[tuple[str, ...], ...]  # (B, S), what stands over the bits
    value: Callable[[], Tensor]  # (B, S), 0 or 1
    beliefs: tuple[tuple[Callable[[], Tensor], str], ...] = ()  # other masks, and why each is wrong


Ask = Number | Choice | Bits


@dataclass(frozen=True)
class Question:
    """A question with one or more asks.

    `before` is a picture of what is given. `after` is a picture of what is so, drawn from the
    computation; `why` explains it in a sentence or two. Both are shown only after the learner has
    committed to an answer or has given up.
    """

    name: str  # unique in the course, short, says what it is about and not the answer
    text: str  # one to three sentences; the last one ends with a question mark
    asks: tuple[Ask, ...]
    why: str
    before: Callable[[int], Drawing] | None = None  # from a width in cells, 48 or more
    after: Callable[[int], Drawing] | None = None
    minutes: float = 1.0
