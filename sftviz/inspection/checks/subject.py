"""What the checks are about, and what several of them need to know of it."""

import functools
import operator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sftviz.inspection.batch import Hints, NormalBatch, Reading


@dataclass(frozen=True, eq=False)
class Subject:
    """A batch, and what else is known of its run.

    `log_probs` has the shape of the batch's normal form and is on its device; G and c are valid
    arguments of the step. What is computed here is computed once, and only if a check needs it.
    """

    reading: Reading
    hints: Hints = field(default_factory=Hints)  # with the ids of a tokenizer, where it has them
    log_probs: Tensor | None = None  # (B, S), as they were given: with their dtype and graph
    gradient_accumulation_steps: int | None = None
    normalize_constant: float = 1.0
    window: tuple[int, ...] = ()  # the tokens that count in each microbatch of the window
    is_trained: bool = True  # False: no graph is expected, as of log-probs from a file

    @property
    def batch(self) -> NormalBatch:
        return self.reading.batch

    @property
    def mask(self) -> Tensor:  # (B, S) bool
        return self.batch.response_mask

    @cached_property
    def rows_that_count(self) -> Tensor:  # (B,) bool
        return self.mask.any(1)

    @cached_property
    def rows_that_end(self) -> Tensor:  # (B,) bool: what counts ends before the row does
        return self.rows_that_count & ~self.mask[:, -1]

    @cached_property
    def everything_counts(self) -> bool:
        return bool(self.mask.all())

    @cached_property
    def columns(self) -> Tensor:  # (S,)
        return torch.arange(self.mask.shape[1], device=self.mask.device)

    @property
    def predicted(self) -> Tensor | None:  # (B, S) int64: the token to predict; −100: not known
        return self.batch.known_labels

    @cached_property
    def is_end(self) -> Tensor | None:  # (B, S) bool: an end token is predicted
        return None if self.predicted is None else self._is_end_id(self.predicted)

    @cached_property
    def follows_end(self) -> Tensor | None:  # (B, S) bool: an end token is read
        if self.is_end is None:
            return None
        tokens = self.batch.tokens
        return before(self.is_end) if tokens is None else self._is_end_id(tokens)

    @cached_property
    def ends(self) -> Tensor | None:  # (B, S) bool: an end token is predicted that is no padding
        padding = self.is_padding
        return self.is_end if self.is_end is None or padding is None else self.is_end & ~padding

    @cached_property
    def an_end_counts(self) -> bool:
        return self.ends is not None and bool((self.ends & self.mask).any())

    def _is_end_id(self, ids: Tensor) -> Tensor | None:
        eos = self.hints.eos_token_id
        end_ids = (eos,) if isinstance(eos, int) else eos
        if not end_ids:
            return None
        return functools.reduce(operator.or_, [ids == each for each in end_ids])

    @cached_property
    def is_padding(self) -> Tensor | None:  # (B, S) bool: padding is predicted
        """Padding, but not the first end token: if eos is the padding too, that may be real."""
        padding = self.batch.is_padding
        if padding is None or self.is_end is None:
            return padding
        return padding & ~(self.is_end & ~self.follows_end)

    @cached_property
    def border(self) -> Tensor:  # (B, S) bool: false where no documents are known
        border = self.batch.is_border
        return torch.zeros_like(self.mask) if border is None else border

    @cached_property
    def begins_document(self) -> Tensor:  # (B, S) bool: false in the first column
        """The columns that read the first token of a document and predict its second."""
        begins, documents = before(self.border), self.batch.documents
        if documents is not None:  # without a border, if each document was shifted by itself
            begins[:, 1:] |= documents[:, 1:] != documents[:, :-1]
        begins &= ~self.border
        return begins if self.is_padding is None else begins & ~self.is_padding

    @cached_property
    def is_start(self) -> Tensor:  # (B, S) bool
        """The same, and the columns that read the first token of a row."""
        start, padding = self.begins_document.clone(), self.is_padding
        start[:, 0] = True
        if padding is not None:
            # After padding on the left, the first token is predicted before it is read.
            start |= ((~padding).cumsum(1) == 2) & padding[:, :1]
            start &= ~padding
        return start & ~self.border

    @cached_property
    def last_that_counts(self) -> Tensor:  # (B,) the last column that counts; −1: none
        return torch.where(self.mask, self.columns, -1).amax(1)

    @cached_property
    def last_ids(self) -> Tensor | None:  # (B,) the last id that counts; any id, if none does
        if self.predicted is None:
            return None
        return self.predicted.gather(1, self.last_that_counts.clamp(min=0)[:, None])[:, 0]

    @cached_property
    def is_inverted(self) -> bool:
        """Whether each row counts where a prompt is, and none where a response ends.

        Two tokens must be masked there: an end token alone is masked for other reasons. Where a
        response ends is known by end tokens, or else by padding.
        """
        ends, padding = self.ends, self.is_padding
        if ends is not None and ends.any():
            near_end = ends | after(ends)
        elif padding is not None:
            last = torch.where(padding, -1, self.columns).amax(1, keepdim=True)  # (B, 1)
            near_end = (self.columns <= last) & (self.columns > last - 2)
        else:
            return False
        starts, mask = self.is_start, self.mask
        return bool(starts.any() and not (starts & ~mask | near_end & mask).any())

    @cached_property
    def has_fractions(self) -> bool:
        """Whether a weight is neither 0 nor 1, so that it is not a mask for the step."""
        return not torch.equal(self.batch.weights, self.mask.to(self.batch.weights.dtype))

    @cached_property
    def counted_log_probs(self) -> Tensor | None:  # (num_tokens,) without graph
        return None if self.log_probs is None else self.log_probs.detach()[self.mask]

    @cached_property
    def log_probs_not_finite(self) -> Tensor | None:  # (B, S) without graph
        """The log-probs, if at least one of them is NaN or infinite."""
        if self.log_probs is None or self.log_probs.detach().isfinite().all():
            return None
        return self.log_probs.detach()


def before(values: Tensor) -> Tensor:
    """What a matrix of booleans has one column earlier; false in the first column."""
    shifted = torch.zeros_like(values)
    shifted[:, 1:] = values[:, :-1]
    return shifted


def after(values: Tensor) -> Tensor:
    """What a matrix of booleans has one column later; false in the last column."""
    shifted = torch.zeros_like(values)
    shifted[:, :-1] = values[:, 1:]
    return shifted
