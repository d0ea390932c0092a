"""Changes of a batch, by which mistakes can be told apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from sftviz.inputs import StepInputs

Change = Callable[[StepInputs], StepInputs]


def replaced(
    x: StepInputs,
    log_probs: Tensor | None = None,
    mask: Tensor | None = None,
    G: int | None = None,
    c: float | None = None,
) -> StepInputs:
    return StepInputs(
        x.policy_log_probs if log_probs is None else log_probs,
        x.response_mask if mask is None else mask,
        x.gradient_accumulation_steps if G is None else G,
        x.normalize_constant if c is None else c,
    )


def _one_more_row(x: StepInputs) -> StepInputs:
    log_probs, mask = x.policy_log_probs, x.response_mask
    return replaced(x, torch.cat([log_probs, log_probs[:1] * 1.4]), torch.cat([mask, mask[:1]]))


def _sloped(log_probs: Tensor) -> Tensor:
    slope = torch.linspace(0.1, 1.9, log_probs.numel(), device=log_probs.device)
    return log_probs - slope.to(log_probs.dtype).reshape(log_probs.shape)


def _pattern(mask: Tensor) -> Tensor:
    """A mask with rows of unequal length, and masked tokens before, among and after the others."""
    B, S = mask.shape
    rows, columns = torch.arange(B).unsqueeze(1), torch.arange(S)
    is_response = ((2 * rows + columns) % 3 == 1) | ((columns == S - 2) & (rows == 0))
    return is_response.to(mask.device)


# The first that is enough is advised.
CHANGES: dict[str, Change] = {
    "B": lambda x: _one_more_row(x),
    "G": lambda x: replaced(x, G=x.gradient_accumulation_steps % 1000 + 4),
    "c": lambda x: replaced(
        x, c=x.normalize_constant * (7 if x.normalize_constant <= 1 else 1 / 7)
    ),
    "the mask": lambda x: replaced(x, mask=_pattern(x.response_mask)),
    "the log-probs": lambda x: replaced(x, log_probs=_sloped(x.policy_log_probs)),
}

# What may be at a masked place, and in which dtype.
NAN = "a masked log-prob to NaN"
BFLOAT16 = "the dtype to bfloat16"
SPECIAL: dict[str, Change] = {
    NAN: lambda x: replaced(
        x, log_probs=x.policy_log_probs.where(x.response_mask != 0, float("nan"))
    ),
    BFLOAT16: lambda x: replaced(x, log_probs=x.policy_log_probs.bfloat16()),
}
