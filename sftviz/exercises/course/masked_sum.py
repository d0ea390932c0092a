"""Exercise: add up the log-probs of the response tokens."""

import torch
from torch import Tensor

from sftviz.exercises.exercise import exercise, wrong
from sftviz.exercises.subject import Trial

_LOG_PROBS = torch.tensor(
    [[-0.5, -0.25, -1.5, -0.7], [-0.4, -2.0, -0.3, -0.9], [-1.1, -0.6, -0.8, -0.2]],
    dtype=torch.float64,
)
_MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]])
_HOLLOW = torch.where(_MASK.bool(), _LOG_PROBS, float("nan"))


def masked_sum(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Add up the log-probs where the mask is 1.

    log_probs: (B, S) float; where the mask is 0 it may contain anything, also NaN.
    mask: (B, S), 0 and 1, as bool or as int.
    Returns a tensor of shape (), through which the gradient flows back to log_probs.
    """
    return torch.where(mask.bool(), log_probs, 0).sum()


EXERCISE = exercise(
    masked_sum,
    title="Masked sum",
    minutes=3,
    goal="Only the response tokens count in the loss. Add up their log-probs, and let nothing "
    "that stands at a masked token change the sum or its gradient.",
    hints=(
        "Give every masked token the value 0. Then the sum over all tokens is the one you need.",
        "NaN × 0 is NaN, so a product does not give 0. Select instead: "
        "<code>torch.where(condition, a, b)</code> takes a where the condition is true, else b.",
        "The condition must be bool: <code>mask.bool()</code> is right for both kinds of mask.",
    ),
    gradient="of the result",
    trials=(
        Trial((_LOG_PROBS.clone().requires_grad_(), _MASK.bool())),
        Trial((_LOG_PROBS[:2].clone().requires_grad_(), _MASK[:2]), "the mask has the dtype int64"),
        Trial((_HOLLOW.requires_grad_(), _MASK.bool()), "a masked log-prob is NaN"),
    ),
    mistakes=(
        wrong("mask ignored", lambda log_probs, mask: log_probs.sum()),
        wrong("mask inverted", lambda log_probs, mask: torch.where(mask == 0, log_probs, 0).sum()),
        wrong("multiplied with NaN", lambda log_probs, mask: (log_probs * mask).sum()),
        wrong("integer mask as index", lambda log_probs, mask: log_probs[mask].sum()),
        wrong(
            "mean of the response tokens",
            lambda log_probs, mask: log_probs[mask.bool()].mean(),
            "The sum is divided by the number of response tokens.",
            "Add up, and divide by nothing: the divisor comes later.",
        ),
        wrong(
            "a sum for each row",
            lambda log_probs, mask: torch.where(mask.bool(), log_probs, 0).sum(1),
            "The result has one sum for each row.",
            "Add up over rows and positions: .sum() without a dimension.",
        ),
        wrong(
            "gradient cut",
            lambda log_probs, mask: torch.where(mask.bool(), log_probs.detach(), 0).sum(),
            "The sum is cut off from log_probs, so nothing can be learned from it.",
            "Compute with log_probs itself: no .detach(), no .item(), no new tensor.",
        ),
    ),
)
