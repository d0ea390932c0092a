"""From conversations of token ids to one batch: shifted labels, response mask, padding."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Turn = tuple[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Token ids as a model is trained on them: position for position, what it reads, what it is to
    say next, and whether that belongs to a response."""

    input_ids: Tensor  # (B, S) int64
    labels: Tensor  # (B, S) int64, the token that comes next
    response_mask: Tensor  # (B, S) bool, about the labels

    @property
    def num_tokens(self) -> int:
        """How many response tokens there are."""
        return int(self.response_mask.sum())


def build_token_batch(
    conversations: Sequence[Sequence[Turn]],
    pad_id: int,
    context_length: int | None = None,
    *,
    truncate: bool = False,
    vocab_size: int | None = None,
) -> TokenBatch:
    """Shift, mask and pad conversations into one batch.

    The model reads every token but the last, and is to say every token but the first. So a row of
    n tokens takes n − 1 positions, and the mask belongs to the labels: it is 1 at the last token of
    a prompt, from which the first token of the response is predicted.

    Args:
        conversations: B of them, each a sequence of turns `(role, token_ids)`, the role "prompt" or
            "response". No turn is empty, and one turn at least is a response. The first token of a
            row has nothing before it and is never predicted, so that rows begin with a prompt, be
            it a start token alone.
        pad_id: fills shorter rows up on the right, in `input_ids` and `labels`; masked.
        context_length: how many positions the model has. None: as many as the longest row needs.
        truncate: cut what is longer than that off on the right, instead of refusing it. Every row
            must keep a response token; the end of a response that is cut in two is not learned.
        vocab_size: how many tokens the model knows; None: token ids are not held against it.

    Returns:
        A batch whose S is that of the longest row. Its `num_tokens` is the number of response
        tokens that went in, if each row begins with a prompt and nothing was cut off.

    Raises:
        TypeError, ValueError: with row and position, both counted from 0, if the data is at fault.

    Example:
        >>> batch = build_token_batch(
        ...     [
        ...         [("prompt", [1, 2]), ("response", [3, 4])],
        ...         [("prompt", [1]), ("response", [5])],
        ...     ],
        ...     pad_id=0,
        ... )
        >>> batch.input_ids
        tensor([[1, 2, 3],
                [1, 0, 0]])
        >>> batch.labels
        tensor([[2, 3, 4],
                [5, 0, 0]])
        >>> batch.response_mask.int()
        tensor([[0, 1, 1],
                [1, 0, 0]], dtype=torch.int32)
    """
    _check_count("context_length", context_length)
    _check_count("vocab_size", vocab_size)
    pad_id = _token_id("pad_id", pad_id, vocab_size)
    rows = [_flat(row, turns, vocab_size) for row, turns in enumerate(conversations)]
    if not rows:
        raise ValueError("conversations holds no row: give at least one conversation.")
    if context_length is not None:
        rows = [_fit(row, *flat, context_length, truncate) for row, flat in enumerate(rows)]
    S = max(len(token_ids) for token_ids, _ in rows) - 1

    def padded(row: list, filler: object) -> list:
        return row + [filler] * (S - len(row))

    # Shifted first, then padded: what a row looks like does not depend on its neighbours.
    return TokenBatch(
        input_ids=torch.tensor([padded(token_ids[:-1], pad_id) for token_ids, _ in rows]),
        labels=torch.tensor([padded(token_ids[1:], pad_id) for token_ids, _ in rows]),
        response_mask=torch.tensor([padded(in_response[1:], False) for _, in_response in rows]),
    )


def _flat(row: int, turns: Sequence[Turn], vocab_size: int | None) -> tuple[list[int], list[bool]]:
    """All token ids of a conversation, and beside each whether it belongs to a response."""
    token_ids: list[int] = []
    in_response: list[bool] = []
    for turn, pair in enumerate(turns):
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or not hasattr(pair[1], "__len__"):
            raise TypeError(
                f"row {row}, turn {turn} must be a pair (role, token_ids), got {pair!r}: "
                'a conversation looks like [("prompt", [1, 2]), ("response", [3])].'
            )
        role, ids = pair
        place = f"row {row}, position {len(token_ids)}"
        if role not in ("prompt", "response"):
            raise ValueError(
                f"{place}: a turn's role must be 'prompt' or 'response', got {role!r}: "
                "what the model is to learn to say is a response, all else is prompt."
            )
        if len(ids) == 0:
            raise ValueError(
                f"{place}: a {role} has no token: leave out what is empty, and end a response "
                "with an end token."
            )
        for token in ids:
            place = f"row {row}, position {len(token_ids)}: a token id"
            token_ids.append(_token_id(place, token, vocab_size))
            in_response.append(role == "response")
    if not token_ids:
        raise ValueError(f"row {row}, position 0: the row is empty: leave it out.")
    if not any(in_response[1:]):
        raise ValueError(
            f"row {row}, position {len(token_ids)}: the row ends without a response token that "
            "could be predicted from what is before it: add one, or leave the row out."
        )
    return token_ids, in_response


def _fit(
    row: int,
    token_ids: list[int],
    in_response: list[bool],
    context_length: int,
    truncate: bool,
) -> tuple[list[int], list[bool]]:
    """A row as it is, if it takes no more than context_length positions; else cut or refused."""
    room = context_length + 1  # the last token is only ever a label
    if len(token_ids) <= room:
        return token_ids, in_response
    if not truncate:
        raise ValueError(
            f"row {row}, position {context_length}: the row takes {len(token_ids) - 1} positions, "
            f"context_length is {context_length}: shorten it, or pass truncate=True to cut it off."
        )
    if not any(in_response[1:room]):
        raise ValueError(
            f"row {row}, position {in_response.index(True, 1)}: the response begins beyond "
            f"context_length {context_length}, and truncation would leave nothing of it: "
            "shorten the prompt, or leave the row out."
        )
    return token_ids[:room], in_response[:room]


def _token_id(name: str, value: object, vocab_size: int | None) -> int:
    """An int from what stands for one, NumPy's and torch's integers included."""
    try:
        if isinstance(value, bool):
            raise TypeError
        token = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an int, got {type(value).__name__} {value!r}: tokenize the text first."
        ) from None
    if token < 0 or (vocab_size is not None and token >= vocab_size):
        wanted = "at least 0" if vocab_size is None else f"from 0 to {vocab_size - 1}"
        raise ValueError(f"{name} must be {wanted}, got {token}: use the model's own tokenizer.")
    return token


def _check_count(name: str, value: int | None) -> None:
    if value is not None and (type(value) is not int or value < 1):
        error = ValueError if type(value) is int else TypeError
        raise error(f"{name} must be None or an int of at least 1, got {value!r}.")
