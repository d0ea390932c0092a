"""A task that a small model learns in seconds: write a date as ISO 8601 does.

    7 March 1987→1987-03-07

The dates are computed, so nothing is downloaded. Each date occurs once, in one of three formats,
and every seventh date is held out: no held-out date occurs in training, in any format. The model
has to learn to copy digits, the names of the months, and the order of day and month.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import torch
from torch import nn

from sftviz.validate import check_count

PAD, START, END = 0, 1, 2  # the token ids that are not a character
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
VOCABULARY = ("<pad>", "<start>", "<end>", *sorted({*"".join(MONTHS), *"0123456789 ,.-→"}))
CONTEXT_LENGTH = 32  # positions; the longest pair has 31 tokens

_IDS = {character: i for i, character in enumerate(VOCABULARY) if i > END}
_FORMATS = (
    "{date.day} {month} {date.year}→",
    "{month} {date.day}, {date.year}→",
    "{date.day}.{date.month}.{date.year}→",
)
_FIRST, _LAST, _STRIDE = date(1900, 1, 1), date(2099, 12, 31), timedelta(days=24)
_HELD_OUT = 7  # every seventh date
_ROWS = 64  # completed at once, which limits the memory that is needed


@dataclass(frozen=True)
class Pair:
    """A prompt and its correct response."""

    prompt: str
    response: str


def date_pairs() -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """The task: 2610 pairs for training, and 434 that are held out.

    >>> [pair.prompt for pair in date_pairs()[0][:3]]
    ['1 January 1900→', 'January 25, 1900→', '18.2.1900→']
    """
    pairs = []
    for i in range((_LAST - _FIRST) // _STRIDE + 1):
        day = _FIRST + i * _STRIDE
        month = MONTHS[day.month - 1]  # strftime would use the language of the computer
        prompt = _FORMATS[i % len(_FORMATS)].format(date=day, month=month)
        pairs.append(Pair(prompt, day.isoformat()))
    held_out = pairs[_HELD_OUT - 1 :: _HELD_OUT]
    del pairs[_HELD_OUT - 1 :: _HELD_OUT]
    return tuple(pairs), tuple(held_out)


def encode(text: str) -> list[int]:
    """The token ids of a text, one for each character.

    Raises:
        ValueError: a character is not in the vocabulary.

    >>> encode("7.3.")
    [14, 6, 10, 6]
    """
    for position, character in enumerate(text):
        if character not in _IDS:
            raise ValueError(
                f"{text!r} has {character!r} at position {position}, which is not in the "
                f"vocabulary: use only {''.join(_IDS)!r}."
            )
    return [_IDS[character] for character in text]


def decode(token_ids: Sequence[int]) -> str:
    """The text of token ids; a token that is not a character is written by its name: <end>.

    >>> decode([1, 14, 6, 2])
    '<start>7.<end>'
    """
    return "".join(VOCABULARY[i] for i in token_ids)


def conversation(pair: Pair) -> tuple[tuple[str, list[int]], ...]:
    """A pair as turns of token ids, for `build_token_batch`.

    >>> conversation(Pair("7.3.→", "-"))
    (('prompt', [1, 14, 6, 10, 6, 43]), ('response', [5, 2]))
    """
    return ("prompt", [START, *encode(pair.prompt)]), ("response", [*encode(pair.response), END])


@dataclass(frozen=True)
class Written:
    """What a model wrote after a prompt, up to <end> if it wrote that."""

    tokens: tuple[str, ...]
    log_probs: tuple[float, ...]  # of each token, in nats

    @property
    def text(self) -> str:
        """What is before <end>."""
        return "".join(self.tokens).partition(VOCABULARY[END])[0]


def complete(model: nn.Module, prompts: Sequence[str], max_tokens: int = 12) -> list[str]:
    """Continue each prompt with the model's most probable tokens; return what is before <end>.

    Args:
        model: a causal model of this vocabulary, from (B, S) token ids to (B, S, V) logits.
        prompts: texts of characters in the vocabulary; "" is a prompt of <start> alone.
        max_tokens: the largest number of tokens that are generated for a prompt.

    Raises:
        TypeError, ValueError: max_tokens is not an int of at least 1, a character is not in the
            vocabulary, or a prompt and max_tokens do not fit into the model's context.

    Example:
        >>> model = nn.Embedding(len(VOCABULARY), len(VOCABULARY))  # a bigram model
        >>> len(complete(model, ["7 March 1987→"], max_tokens=3))
        1
    """
    return [written.text for written in write(model, prompts, max_tokens)]


@torch.inference_mode()
def write(model: nn.Module, prompts: Sequence[str], max_tokens: int = 12) -> list[Written]:
    """Continue each prompt as `complete` does; return every token, and how probable it was.

    Raises:
        TypeError, ValueError: what `complete` refuses.

    Example:
        >>> model = nn.Embedding(len(VOCABULARY), len(VOCABULARY))  # a bigram model
        >>> with torch.no_grad():
        ...     _ = model.weight.zero_()  # all tokens are equally probable
        >>> [round(log_prob, 4) for log_prob in write(model, ["1→"], max_tokens=2)[0].log_probs]
        [-3.7842, -3.7842]
    """
    check_count("max_tokens", max_tokens, "it is the number of tokens that may be generated")
    rows = [[START, *encode(prompt)] for prompt in prompts]
    width = max(map(len, rows), default=0) + max_tokens
    parts = [rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS)]
    return [written for part in parts for written in _generate(model, part, width, max_tokens)]


def _generate(
    model: nn.Module, rows: list[list[int]], width: int, max_tokens: int
) -> list[Written]:
    """What the model writes after each row."""
    token_ids = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])  # (B, width)
    row = torch.arange(len(rows))  # (B,)
    end = torch.tensor([len(ids) for ids in rows])  # (B,), where each row goes on
    log_probs = torch.empty(len(rows), max_tokens)
    for step in range(max_tokens):
        # Always the full width: padding on the right changes nothing, and torch would cache plans
        # and memory for the new shape of each step.
        logits = model(token_ids[:, :-1])[row, end + step - 1]  # (B, V)
        ids = logits.argmax(dim=-1)
        token_ids[row, end + step] = ids
        log_probs[:, step] = logits.log_softmax(dim=-1)[row, ids]
    generated = token_ids[row[:, None], end[:, None] + torch.arange(max_tokens)]
    return [_until_end(*pair) for pair in zip(generated.tolist(), log_probs.tolist(), strict=True)]


def _until_end(ids: list[int], log_probs: list[float]) -> Written:
    count = ids.index(END) + 1 if END in ids else len(ids)
    return Written(tuple(VOCABULARY[i] for i in ids[:count]), tuple(log_probs[:count]))


def exact_match(model: nn.Module, pairs: Sequence[Pair]) -> float:
    """The share of pairs, from 0 to 1, whose response the model generates without any mistake.

    Raises:
        ValueError: there is no pair, or one that `complete` refuses.

    >>> bigram_model = nn.Embedding(len(VOCABULARY), len(VOCABULARY))
    >>> exact_match(bigram_model, [Pair("7 March 1987→", "1987-03-07")])
    0.0
    """
    if not pairs:
        raise ValueError("pairs is empty, so there is no share: give at least one pair.")
    longest = max(len(pair.response) for pair in pairs)
    # One token more, for <end>: a response that goes on after the right characters is wrong.
    completions = complete(model, [pair.prompt for pair in pairs], max_tokens=longest + 1)
    matches = [pair.response == text for pair, text in zip(pairs, completions, strict=True)]
    return sum(matches) / len(matches)
