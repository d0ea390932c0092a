"""A task small enough to learn in seconds: write a date as ISO 8601 does.

    7 March 1987→1987-03-07

The prompt decides the response, to the letter, and nothing else does: not the calendar, not luck.
The dates are computed, so nothing has to be downloaded and nobody has written them. One date is
asked for once, in one of three formats, and every seventh date is held out: no held-out date is
seen in training, in any format. What the model has to find out is how digits are copied, what the
months are called, and which of the three orders it is looking at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import torch
from torch import Tensor, nn

PAD, START, END = 0, 1, 2  # the token ids that stand for no character
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
VOCABULARY = ("<pad>", "<start>", "<end>", *sorted({*"".join(MONTHS), *"0123456789 ,.-→"}))
CONTEXT_LENGTH = 32  # positions: the longest pair has 31 tokens, of which the last is never read

_IDS = {character: i for i, character in enumerate(VOCABULARY) if i > END}
_FIRST, _LAST, _STRIDE = date(1900, 1, 1), date(2099, 12, 31), timedelta(days=24)
_HELD_OUT = 7
_ROWS = 64  # completed at once: enough to be quick, few enough to need no memory to speak of


@dataclass(frozen=True)
class Pair:
    """A prompt and the only right response to it."""

    prompt: str
    response: str


def date_pairs() -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """The task: 2610 pairs to learn from, and 434 held out.

    >>> train, held_out = date_pairs()
    >>> train[:3]
    (Pair(prompt='1 January 1900→', response='1900-01-01'), \
Pair(prompt='January 25, 1900→', response='1900-01-25'), \
Pair(prompt='18.2.1900→', response='1900-02-18'))
    """
    count = (_LAST - _FIRST) // _STRIDE + 1
    pairs = [_pair(_FIRST + i * _STRIDE, form=i % 3) for i in range(count)]
    held_out = pairs[_HELD_OUT - 1 :: _HELD_OUT]
    del pairs[_HELD_OUT - 1 :: _HELD_OUT]
    return tuple(pairs), tuple(held_out)


def _pair(day: date, form: int) -> Pair:
    month = MONTHS[day.month - 1]  # strftime would write it in the reader's language
    prompt = (
        f"{day.day} {month} {day.year}→",
        f"{month} {day.day}, {day.year}→",
        f"{day.day}.{day.month}.{day.year}→",
    )[form]
    return Pair(prompt, day.isoformat())


def encode(text: str) -> list[int]:
    """The token ids of a text, one a character.

    Raises:
        ValueError: a character is not in the vocabulary.

    >>> encode("7.3.")
    [14, 6, 10, 6]
    >>> decode(encode("7.3."))
    '7.3.'
    """
    if strange := [place for place, character in enumerate(text) if character not in _IDS]:
        place = strange[0]
        raise ValueError(
            f"{text!r} holds {text[place]!r} at position {place}, which the vocabulary lacks: "
            f"use only {''.join(_IDS)!r}."
        )
    return [_IDS[character] for character in text]


def decode(token_ids: Sequence[int]) -> str:
    """The text of token ids; what is no character is written by its name, such as <end>."""
    return "".join(VOCABULARY[i] for i in token_ids)


def conversation(pair: Pair) -> tuple[tuple[str, list[int]], ...]:
    """A pair as turns of token ids, for `build_token_batch`.

    >>> conversation(Pair("7.3.→", "-"))
    (('prompt', [1, 14, 6, 10, 6, 43]), ('response', [5, 2]))
    """
    return ("prompt", [START, *encode(pair.prompt)]), ("response", [*encode(pair.response), END])


@torch.inference_mode()
def complete(model: nn.Module, prompts: Sequence[str], max_tokens: int = 12) -> list[str]:
    """Let the model write on after each prompt, always its most probable token, until it ends.

    Args:
        model: a causal model of this vocabulary, from (B, S) token ids to (B, S, V) logits.
        prompts: texts in characters of the vocabulary; "" lets the model begin on its own.
        max_tokens: where to cut an answer that does not end.

    Returns:
        What the model wrote, without the prompts and without <end>.

    Raises:
        ValueError: a character is not in the vocabulary, or there is no room for `max_tokens`.

    >>> from sftviz.experiments.transformer import TinyTransformer
    >>> _ = torch.manual_seed(0)
    >>> len(complete(TinyTransformer(), ["7 March 1987→"], max_tokens=3))
    1
    """
    rows = [[START, *encode(prompt)] for prompt in prompts]
    width = max(map(len, rows), default=0) + max_tokens
    answers: list[str] = []
    for first in range(0, len(rows), _ROWS):
        written = _write(model, rows[first : first + _ROWS], width, max_tokens)
        answers += [decode(_until_end(row)) for row in written.tolist()]
    return answers


def _write(model: nn.Module, rows: Sequence[Sequence[int]], width: int, max_tokens: int) -> Tensor:
    """The next `max_tokens` tokens of each row, (B, max_tokens)."""
    token_ids = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])  # (B, width)
    row = torch.arange(len(rows))  # (B,)
    end = torch.tensor([len(ids) for ids in rows])  # (B,), so that padding stays on the right
    for step in range(max_tokens):
        # Always the whole width: what is on the right can't be seen, and torch keeps plans and
        # memory for each shape that it is shown.
        logits = model(token_ids[:, :-1])  # (B, width - 1, V)
        token_ids[row, end + step] = logits[row, end + step - 1].argmax(dim=-1)
    return token_ids[row[:, None], end[:, None] + torch.arange(max_tokens)]


def _until_end(token_ids: list[int]) -> list[int]:
    return token_ids[: token_ids.index(END)] if END in token_ids else token_ids


def exact_match(model: nn.Module, pairs: Sequence[Pair]) -> float:
    """The share of pairs that the model completes without a single wrong character.

    >>> from sftviz.experiments.transformer import TinyTransformer
    >>> _ = torch.manual_seed(0)
    >>> exact_match(TinyTransformer(), [Pair("7 March 1987→", "1987-03-07")])
    0.0
    """
    longest = max(len(pair.response) for pair in pairs)
    # One more, for <end>: who writes on after the right answer has not answered right.
    answers = complete(model, [pair.prompt for pair in pairs], max_tokens=longest + 1)
    right = [pair.response == answer for pair, answer in zip(pairs, answers, strict=True)]
    return sum(right) / len(right)
