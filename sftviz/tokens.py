"""From conversations of token ids to one batch: padding, shifted labels, response mask.

Needs torch alone.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftviz.label_log_probs import IGNORE_INDEX
from sftviz.validate import brief, check_count, check_ids, check_mask

Turn = tuple[str, Sequence[int]]
FlatRow = tuple[list[int], list[bool]]  # token ids, and whether each is in a response


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Token ids as a model is trained on them: at each position the token that it reads, the token
    that it has to predict, and whether that belongs to a response."""

    input_ids: Tensor  # (B, S) int64
    labels: Tensor  # (B, S) int64, the next token
    response_mask: Tensor  # (B, S) bool, about the labels

    @property
    def num_tokens(self) -> int:
        """The number of response tokens."""
        return int(self.response_mask.sum())


def build_token_batch(
    conversations: Sequence[Sequence[Turn]],
    pad_id: int,
    context_length: int | None = None,
    *,
    truncate: bool = False,
    vocab_size: int | None = None,
) -> TokenBatch:
    """Pad, shift and mask conversations, and make one batch of them.

    In the longest row, the model reads every token except the last, and predicts every token except
    the first. So a row of n tokens has n − 1 positions. A shorter row is padded before it is
    shifted: its last token is read too, but what is predicted there is padding, which is masked.
    The mask is about the labels: it is 1 at the last token of a prompt, where the first token of
    the response is predicted.

    Args:
        conversations: B conversations, each a sequence of turns `(role, token_ids)` with the role
            "prompt" or "response". No turn is empty, and at least one is a response. The first
            token of a row is never predicted, so a row should begin with a prompt, for example a
            start token.
        pad_id: the padding on the right of shorter rows, in `input_ids` and `labels`; masked.
            Causal models need no attention mask for it: no real token sees it.
        context_length: the number of positions of the model; None: what the longest row needs.
        truncate: if a row is longer than that, cut it off on the right instead of raising an error.
            At least one response token must be left. If the end of a response is cut off, the model
            does not learn it.
        vocab_size: the number of tokens of the model; None: token ids are not checked against it.

    Returns:
        A batch with the S of the longest row. Its `num_tokens` is the number of response tokens in
        `conversations` if each row begins with a prompt and nothing was cut off.

    Raises:
        TypeError, ValueError: an argument is invalid; for a conversation, the message has the row
            and the position, both counted from 0.

    Example:
        >>> batch = build_token_batch(
        ...     [
        ...         [("prompt", [1, 2]), ("response", [3, 4])],
        ...         [("prompt", [1]), ("response", [5])],
        ...     ],
        ...     pad_id=0,
        ... )
        >>> batch.input_ids.tolist()
        [[1, 2, 3], [1, 5, 0]]
        >>> batch.labels.tolist()
        [[2, 3, 4], [5, 0, 0]]
        >>> batch.response_mask.int().tolist()
        [[0, 1, 1], [1, 0, 0]]
    """
    if context_length is not None:
        check_count("context_length", context_length, "it is the number of positions of the model")
    if vocab_size is not None:
        check_count("vocab_size", vocab_size, "it is the number of tokens of the model")
    pad_id = _token_id("pad_id", pad_id, vocab_size)
    rows = [_flat(row, turns, vocab_size) for row, turns in enumerate(conversations)]
    if not rows:
        raise ValueError("conversations is empty: give at least one conversation.")
    if context_length is not None:
        rows = [_fit(row, flat, context_length, truncate) for row, flat in enumerate(rows)]
    length = max(len(token_ids) for token_ids, _ in rows)

    def padded(row: list, filler: object) -> list:
        return row + [filler] * (length - len(row))

    token_ids = torch.tensor([padded(token_ids, pad_id) for token_ids, _ in rows])  # (B, S + 1)
    in_response = torch.tensor([padded(in_response, False) for _, in_response in rows])
    # Pad first, then shift, as CS336 does. Copies: a change of the labels in place, for example to
    # -100 where they are masked, must not change input_ids.
    return TokenBatch(
        input_ids=token_ids[:, :-1].clone(),
        labels=token_ids[:, 1:].clone(),
        response_mask=in_response[:, 1:].clone(),
    )


def mask_labels(labels: Tensor, response_mask: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Labels with −100 where the mask is 0, as torch's cross-entropy and Hugging Face read them.

    The way back is `labels != -100`.

    Args:
        labels: (B, S) integer, the next token at each position. Not changed.
        response_mask: (B, S), 0 and 1, about the labels.
        ignore_index: the label of a token that does not count.

    Returns:
        (B, S) int64.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.

    Example:
        >>> from torch.nn.functional import cross_entropy
        >>> logits, labels = torch.zeros(1, 3, 5), torch.tensor([[4, 2, 0]])  # V = 5
        >>> masked = mask_labels(labels, torch.tensor([[0, 1, 1]]))
        >>> masked
        tensor([[-100,    2,    0]])
        >>> cross_entropy(logits.flatten(0, 1), masked.flatten(), reduction="sum")  # 2 · ln 5
        tensor(3.2189)

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    """
    ids = check_ids("labels", labels)
    mask = check_mask("response_mask", response_mask, "labels", ids)
    return ids.masked_fill(~mask, ignore_index)


def _flat(row: int, turns: Sequence[Turn], vocab_size: int | None) -> FlatRow:
    """All token ids of a conversation, and beside each whether it belongs to a response."""
    token_ids: list[int] = []
    in_response: list[bool] = []
    for turn, pair in enumerate(turns):
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or not hasattr(pair[1], "__len__"):
            raise TypeError(
                f"row {row}, turn {turn} must be a pair (role, token_ids), got {brief(pair)}: "
                'a conversation looks like [("prompt", [1, 2]), ("response", [3])].'
            )
        role, ids = pair
        place = f"row {row}, position {len(token_ids)}"
        if role not in ("prompt", "response"):
            raise ValueError(
                f"{place}: a turn's role must be 'prompt' or 'response', got {brief(role)}: "
                "a response is what the model learns to write, everything else is a prompt."
            )
        if len(ids) == 0:
            raise ValueError(
                f"{place}: a {role} has no token: leave out empty turns, and end a response "
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
            f"row {row}, position {len(token_ids)}: the row ends without a response token after "
            "its first token: add one, or leave the row out."
        )
    return token_ids, in_response


def _fit(row: int, flat: FlatRow, context_length: int, truncate: bool) -> FlatRow:
    """A row of at most context_length positions; a longer one is cut, or an error is raised."""
    token_ids, in_response = flat
    room = context_length + 1  # the last token is only a label
    if len(token_ids) <= room:
        return token_ids, in_response
    if not truncate:
        raise ValueError(
            f"row {row}, position {context_length}: the row needs {len(token_ids) - 1} positions, "
            f"context_length is {context_length}: shorten it, or pass truncate=True to cut it off."
        )
    if not any(in_response[1:room]):
        raise ValueError(
            f"row {row}, position {in_response.index(True, 1)}: the response begins beyond "
            f"context_length {context_length}, so truncation would leave nothing of it: "
            "shorten the prompt, or leave the row out."
        )
    return token_ids[:room], in_response[:room]


def _token_id(name: str, value: Any, vocab_size: int | None) -> int:
    """An int, also from an integer of NumPy or torch."""
    try:
        if isinstance(value, bool):
            raise TypeError
        token = operator.index(value)
    except TypeError:
        came = f"{type(value).__name__} {brief(value)}"
        raise TypeError(f"{name} must be an int, got {came}: tokenize the text first.") from None
    end = 2**63 if vocab_size is None else vocab_size
    if not 0 <= token < end:
        lowest_or_end = "at least 0" if token < 0 else "below 2**63"
        wanted = lowest_or_end if vocab_size is None else f"from 0 to {vocab_size - 1}"
        came = brief(token)
        raise ValueError(f"{name} must be {wanted}, got {came}: use the model's own tokenizer.")
    return token
