"""Exercise: from the sum of log-probs to the loss that backward() is called on."""

import torch
from torch import Tensor

from sftviz.exercises.exercise import exercise, wrong
from sftviz.exercises.subject import Trial

_TOTAL = torch.tensor(-8.4, dtype=torch.float64)


def negate_and_divide(total: Tensor, G: int, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """Make the loss of a microbatch from the sum of its log-probs.

    total: (), the sum of the log-probs of the response tokens.
    G: the number of microbatches of a window. c: one more divisor.
    Returns masked_sum, loss and scaled_loss, each made of the one before.
    """
    masked_sum = total / c
    loss = -masked_sum / G
    return masked_sum, loss, loss / G


EXERCISE = exercise(
    negate_and_divide,
    title="Negate and divide",
    minutes=3,
    goal="Log-probs are to become larger, and an optimizer makes a loss smaller. Compute the "
    "step's `masked_sum`, `loss` and `scaled_loss` from the sum of the log-probs.",
    hints=(
        "Three lines, one for each result. The first one divides by c.",
        "The sign changes once, from masked_sum to loss.",
        "G divides two times: once in loss, and scaled_loss is loss divided by G again.",
    ),
    returns=("masked_sum", "loss", "scaled_loss"),
    trials=(Trial((_TOTAL, 4, 7.0)), Trial((_TOTAL, 3, 1.0)), Trial((_TOTAL / 2, 1, 0.5))),
    mistakes=(
        wrong("sign kept", lambda total, G, c: (total / c, total / c / G, total / c / G**2)),
        wrong("÷G", lambda total, G, c: (total / c, -total / c / G, -total / c / G)),
        wrong("÷G³", lambda total, G, c: (total / c, -total / c / G, -total / c / G**3)),
        wrong("÷2G", lambda total, G, c: (total / c, -total / c / G, -total / c / G / 2)),
        wrong("c left out", lambda total, G, c: (total, -total / G, -total / G**2)),
        wrong("c twice", lambda total, G, c: (total / c, -total / c**2 / G, -total / c**2 / G**2)),
        wrong(
            "masked_sum negated",
            lambda total, G, c: (-total / c, -total / c / G, -total / c / G**2),
            "The sign is changed in masked_sum already.",
            "Change it in the loss: masked_sum is a sum of log-probs.",
        ),
        wrong(
            "negated twice",
            lambda total, G, c: (total / c, -total / c / G, total / c / G**2),
            "The sign is changed in loss, and again in scaled_loss.",
            "Change the sign once: scaled_loss is loss divided by G.",
        ),
    ),
)
