"""A conversation as a model is trained on it, rightly and in the ways in which it goes wrong.

Each way builds what the model reads, what it has to predict, and what counts. Tokens are words
here, so that one can read them. Needs torch alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.step import trace_step
from sftviz.validate import brief

START, END, PAD = "<start>", "<end>", "<pad>"
_NEXT = ("1 + 1 =", "2 .")  # the document that is packed into the same row
_MOST = 200  # words


@dataclass(frozen=True)
class Position:
    """One column: what is read there, what has to be predicted there, and whether that counts."""

    read: str
    label: str
    counts: bool
    read_place: int | None  # in the text; None: it is padding
    place: int | None  # of the label in the text
    is_next: bool = True  # the label is the token after the one that is read


@dataclass(frozen=True)
class Way:
    """A way to build a training example, which is right or has a name."""

    name: str
    because: str  # where it comes from
    build: Callable[["Text"], list[Position]]
    whole: Callable[["Text", "Text"], "Text"] = lambda text, after: text  # what is in the row


@dataclass(frozen=True)
class Text:
    """The tokens of a conversation, and which of them the model has to learn."""

    tokens: tuple[str, ...]
    in_response: tuple[bool, ...]  # about the tokens themselves

    @classmethod
    def of(cls, prompt: str, response: str) -> "Text":
        """Words as tokens, between a start and an end token.

        Raises:
            ValueError: there is no word in one of them, or there are too many.
        """
        parts = {"prompt": prompt.split(), "response": response.split()}
        for name, words in parts.items():
            if not words:
                raise ValueError(f"the {name} has no word: write at least one.")
            if len(words) > _MOST:
                raise ValueError(
                    f"the {name} has {len(words)} words, and at most {_MOST} can be shown: "
                    "shorten it."
                )
        tokens = (START, *parts["prompt"], *parts["response"], END)
        begin = 1 + len(parts["prompt"])
        return cls(tokens, tuple(at >= begin for at in range(len(tokens))))


def positions(
    text: Text,
    labels_from: int = 1,  # how far after the read token the label is
    counts: Callable[[int], bool] | None = None,  # of a place in the text; None: the right ones
    pads: int = 2,
    pad: str = PAD,
) -> list[Position]:
    """The positions of a text with padding on the right: the right ones by default."""
    length = len(text.tokens)
    padded = (*text.tokens, *[pad] * pads)
    counted = [*text.in_response, *[False] * pads]
    found = []
    for at in range(len(padded) - max(1, labels_from)):
        place = at + labels_from
        found.append(
            Position(
                read=padded[at],
                label=padded[place],
                counts=counted[place] if counts is None else counts(place),
                read_place=at if at < length else None,
                place=place if place < length else None,
                is_next=labels_from == 1,
            )
        )
    return found


def _about_the_token_read(text: Text) -> list[Position]:
    in_response = [*text.in_response, False, False, False]
    return positions(text, counts=lambda place: in_response[place - 1])


def _without_the_end(text: Text, pad: str = PAD) -> list[Position]:
    last = len(text.tokens) - 1
    return positions(text, counts=lambda place: place < last and text.in_response[place], pad=pad)


def _padding_too(text: Text) -> list[Position]:
    begin = text.in_response.index(True)
    return positions(text, counts=lambda place: place >= begin)


def _everything(text: Text) -> list[Position]:
    return positions(text, counts=lambda place: place < len(text.tokens))


def _padded_left(text: Text) -> list[Position]:
    padding = [
        Position(PAD, PAD, counts=False, read_place=None, place=None),
        Position(PAD, text.tokens[0], counts=False, read_place=None, place=0),
    ]
    return [*padding, *positions(text, pads=0)]


def _cut_off(text: Text) -> list[Position]:
    kept = text.in_response.index(True) + max(1, (sum(text.in_response) - 1) // 2)
    return positions(Text(text.tokens[:kept], text.in_response[:kept]), pads=0)


def _two_documents(text: Text, after: Text) -> Text:
    return Text((*text.tokens, *after.tokens), (*text.in_response, *after.in_response))


def _border_counted(whole: Text) -> list[Position]:
    border = whole.tokens.index(START, 1)
    return positions(whole, counts=lambda at: whole.in_response[at] or at == border, pads=0)


RIGHT = Way("nothing", "each label is the next token, and the mask is about the labels", positions)
WAYS = (
    RIGHT,
    Way(
        "mask about the token read",
        "the mask was made for the tokens, and was not shifted with the labels",
        _about_the_token_read,
    ),
    Way(
        "labels not shifted",
        "each label is the token that is read at the same place",
        lambda text: positions(text, labels_from=0),
    ),
    Way(
        "labels shifted twice",
        "the data was shifted already, and the model shifts once more",
        lambda text: positions(text, labels_from=2),
    ),
    Way("<end> left out", "the end token was added after the mask was made", _without_the_end),
    Way(
        "pad is end",
        "<end> is used as padding, and whatever is padding is masked",
        lambda text: _without_the_end(text, pad=END),
    ),
    Way("padding counted", "the mask begins at the response and has no end", _padding_too),
    Way("prompt counted", "whatever is not padding counts", _everything),
    Way(
        "padding on the left",
        "as for generation; without an attention mask the model reads the padding first",
        _padded_left,
    ),
    Way("response cut off", "the row is longer than the model's context", _cut_off),
    Way(
        "two documents in one row",
        "the mask does not know the border, and the second one is read after the first",
        _border_counted,
        _two_documents,
    ),
)


@dataclass(frozen=True)
class Masking:
    """A conversation built in one way, beside the right way."""

    way: Way
    text: Text
    positions: tuple[Position, ...]
    grad: Tensor  # (S,), at the log-probs, with G = 1
    lost: tuple[int, ...]  # places in the text that should be learned and are not
    gained: tuple[int, ...]  # positions that count and should not

    @property
    def num_tokens(self) -> int:
        """The number of positions that count."""
        return sum(at.counts for at in self.positions)


def build(text: Text, way: Way) -> Masking:
    """Build a conversation in a way, run the step on it, and compare it with the right way.

    Example:
        >>> masking = build(Text.of("2 + 2 =", "4 ."), WAYS[1])
        >>> masking.way.name, [masking.text.tokens[place] for place in masking.lost]
        ('mask about the token read', ['4'])
        >>> [masking.positions[at].label for at in masking.gained]
        ['<pad>']
    """
    text = way.whole(text, Text.of(*_NEXT))
    found = way.build(text)
    wanted = {at.place for at in RIGHT.build(text) if at.counts}
    is_right = [at.counts and at.is_next and at.place in wanted for at in found]
    learned = {at.place for at, right in zip(found, is_right, strict=True) if right}
    mask = torch.tensor([[at.counts for at in found]])
    log_probs = torch.full(mask.shape, -0.5)  # any: the gradient does not depend on them
    return Masking(
        way=way,
        text=text,
        positions=tuple(found),
        grad=trace_step(log_probs, mask, gradient_accumulation_steps=1).grad[0],
        lost=tuple(sorted(wanted - learned)),
        gained=tuple(at for at, right in enumerate(is_right) if found[at].counts and not right),
    )


def find_way(name: str) -> Way:
    """Look up a way by its name.

    Raises:
        ValueError: there is none of that name.
    """
    known = {way.name: way for way in WAYS}
    if name not in known:
        raise ValueError(f"way must be one of {', '.join(known)}, got {brief(name)}.")
    return known[name]
