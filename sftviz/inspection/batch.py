"""The form that every batch is brought to: that of the step, aligned to the labels.

In column c of a row, a model reads `tokens[row, c]` and has to predict `labels[row, c]`. So a batch
whose labels are not shifted has one column less in this form than its tensors have.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from sftviz.validate import brief


@dataclass(frozen=True, eq=False)
class NormalBatch:
    """What a model reads and predicts in each column, and how much that counts.

    What a batch does not say is None. All tensors are on the device of the batch.
    """

    weights: Tensor  # (B, S) floating point: 0 where a token does not count, 1 where it does
    tokens: Tensor | None = None  # (B, S) int64, what is read
    labels: Tensor | None = None  # (B, S) int64, what is predicted; −100 where there is no label
    next_tokens: Tensor | None = None  # (B, S) int64, what follows in the row; −100: nothing known
    is_padding: Tensor | None = None  # (B, S) bool, whether what is predicted is padding
    attention_mask: Tensor | None = None  # (B, S) bool, whether what is read is seen
    position_ids: Tensor | None = None  # (B, S) int64, of what is read
    documents: Tensor | None = None  # (B, S) int64, the document of what is predicted, from 0
    is_border: Tensor | None = None  # (B, S) bool: read in one document, predicted in another

    @cached_property
    def response_mask(self) -> Tensor:
        """(B, S) bool, the tokens that count, with whatever weight."""
        return self.weights != 0

    @cached_property
    def num_tokens(self) -> int:
        """The number of tokens that count."""
        return int(self.response_mask.sum())

    @cached_property
    def known_labels(self) -> Tensor | None:
        """(B, S) int64, the labels; where there is none, what follows in the row, or −100."""
        if self.labels is None or self.next_tokens is None:
            return self.labels if self.next_tokens is None else self.next_tokens
        return self.labels.where(self.labels >= 0, self.next_tokens)


@dataclass(frozen=True)
class Hints:
    """What a user says about a batch, where it can be read in more than one way. None: not said."""

    shifted: bool | None = None  # whether labels are those of the next token already
    mask_about: Literal["token", "label"] | None = None  # what column c of a mask speaks of
    mask_marks: Literal["counted", "masked"] | None = None  # what a 1 in a mask means
    ignore_index: int | None = None  # the label of tokens that do not count
    pad_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("shifted", (True, False)),
            ("mask_about", ("token", "label")),
            ("mask_marks", ("counted", "masked")),
        ):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                first, second = map(repr, allowed)
                raise ValueError(f"{name} must be {first}, {second} or None, got {brief(value)}.")
        for name in ("ignore_index", "pad_token_id", "eos_token_id", "vocab_size"):
            value = getattr(self, name)
            each = value if name == "eos_token_id" and isinstance(value, tuple) else (value,)
            if value is not None and not all(type(one) is int for one in each):
                raise TypeError(f"{name} must be an int or None, got {brief(value)}.")


@dataclass(frozen=True, eq=False)
class Reading:
    """What a batch was taken for, and why."""

    format: str  # in one phrase
    evidence: tuple[str, ...]  # in sentences
    batch: NormalBatch
    shift: int | None = None  # where labels agree with input ids: 0 the same column, 1 the next
    usual_shift: int | None = None  # what the names of the tensors promise
    question: str = ""  # if two readings fit: both, and the keyword that decides
    log_probs: Tensor | None = None  # those that the batch has, as they are; if it has any
