"""Exercise: the whole step."""

from typing import Any

import torch
from torch import Tensor

from sftviz.exercises.exercise import Exercise
from sftviz.exercises.step import STEP, check_step


def my_step(
    policy_log_probs: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float = 1.0,
) -> tuple[Tensor, dict[str, Any]]:
    """Compute the loss of one microbatch, and call backward() on it.

    policy_log_probs: (B, S), requires grad. response_mask: (B, S), 0 and 1.
    Returns scaled_loss, detached, and a dictionary: num_tokens, the number of response
    tokens, and masked_sum, their sum divided by normalize_constant, detached.
    """
    mask, G = response_mask.bool(), gradient_accumulation_steps
    total = torch.where(mask, policy_log_probs, 0).sum(dtype=torch.float64)
    masked_sum = total / normalize_constant
    scaled_loss = -masked_sum / G / G
    scaled_loss.backward()
    metadata = {"num_tokens": int(mask.sum()), "masked_sum": masked_sum.detach()}
    return scaled_loss.detach(), metadata


EXERCISE = Exercise(
    title="The whole step",
    minutes=10,
    goal="Put the parts together: mask, sum, negate, divide, and `backward()`. The function is "
    "called once for each microbatch, and their gradients must add up.",
    solution=my_step,
    mistakes=STEP.mistakes,
    judge=check_step,
    hints=(
        "You have all parts: the masked sum of exercise 01, and exercise 05. New are backward() "
        "and what is returned.",
        "Call <code>scaled_loss.backward()</code> before you return, and zero_grad() nowhere.",
        "What is returned goes into a log: <code>scaled_loss.detach()</code>, "
        "<code>masked_sum.detach()</code> and <code>int(mask.sum())</code>.",
    ),
)
