"""Wrong masks, and wrong ways to apply a right one."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from sftviz.mistakes.mistake import Mistake, add_rows, vary


def _before(mask: Tensor) -> Tensor:
    """The masked tokens before the first response token of each row."""
    return mask.cumsum(1) == 0


def _after(mask: Tensor) -> Tensor:
    """The masked tokens after the last response token of each row."""
    return _before(mask.flip(1)).flip(1)


def _wrong(name: str, cause: str, remedy: str, mask: Callable[[Tensor], Tensor]) -> Mistake:
    return Mistake(name, cause, remedy, "step", vary(mask=mask))


_LABELS = "Build the mask about the labels, with the same shift as they have."

MASKS = (
    _wrong(
        "mask ignored",
        "All tokens are summed, the masked ones too.",
        "Sum only where response_mask is 1.",
        torch.ones_like,
    ),
    _wrong(
        "mask inverted",
        "The masked tokens are summed, and the response tokens are not.",
        "1 marks a response token: keep these, and drop the others.",
        lambda mask: ~mask,
    ),
    _wrong(
        "mask one too early",
        "The mask is shifted to the left by one token.",
        _LABELS,
        lambda mask: pad(mask[:, 1:], (0, 1)),
    ),
    _wrong(
        "mask one too late",
        "The mask is shifted to the right by one token.",
        _LABELS,
        lambda mask: pad(mask[:, :-1], (1, 0)),
    ),
    _wrong(
        "prompt counted",
        "The tokens before the first response token are summed too.",
        "Mask the prompt: its tokens are given, not to be learned.",
        lambda mask: mask | _before(mask),
    ),
    _wrong(
        "padding counted",
        "The tokens after the last response token are summed too.",
        "Mask the padding: its tokens are no part of the response.",
        lambda mask: mask | _after(mask),
    ),
    _wrong(
        "first row's mask",
        "The mask of the first row is used for every row.",
        "Give the mask the shape (B, S): each row has a mask of its own.",
        lambda mask: mask[:1].expand_as(mask),
    ),
    Mistake(
        "integer mask as index",
        "The mask is used as an index while it contains integers, which selects rows 0 and 1.",
        "Convert the mask with .bool() before you index with it, or use torch.where.",
        "step",
        # The sum of log_probs[mask.long()], without its B·S·S numbers.
        vary(select=lambda log_probs, mask: add_rows(log_probs)[mask.long()]),
    ),
    Mistake(
        "multiplied with NaN",
        "The log-probs are multiplied by the mask, and NaN or infinity times 0 is NaN.",
        "Select with torch.where(mask, log_probs, 0) instead of multiplying.",
        "step",
        vary(select=lambda log_probs, mask: log_probs * mask),
    ),
)
