"""A few wrong steps, each with a name: a stand-in with the interface that the judge needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftviz.inputs import StepInputs

Step = Callable[[Tensor, Tensor, int, float], tuple[Tensor, dict[str, Any]]]


@dataclass(frozen=True)
class Mistake:
    """A wrong step."""

    name: str
    cause: str
    remedy: str
    about: str
    seen: str
    run: Step


def _scaled(divisor: Callable[[int, float], float], sign: int = -1, times: bool = False) -> Step:
    def step(log_probs: Tensor, mask: Tensor, G: int, c: float) -> tuple[Tensor, dict[str, Any]]:
        selected = log_probs * mask if times else torch.where(mask.bool(), log_probs, 0)
        masked_sum = selected.sum() / c
        loss = sign * masked_sum * c / divisor(G, c)
        loss.backward()
        metadata = {"num_tokens": int(mask.sum()), "masked_sum": masked_sum.detach()}
        return loss.detach(), metadata

    return step


MISTAKES = (
    Mistake(
        "÷G once",
        "The sum is divided by G once.",
        "Divide by G twice.",
        "divisor",
        "",
        _scaled(lambda G, c: G * c),
    ),
    Mistake(
        "c left out",
        "The loss is not divided by c.",
        "Divide by c.",
        "divisor",
        "",
        _scaled(lambda G, c: G * G),
    ),
    Mistake(
        "sign kept",
        "The sum is not negated.",
        "Negate the sum.",
        "sign",
        "",
        _scaled(lambda G, c: G * G * c, sign=1),
    ),
    Mistake(
        "NaN times 0",
        "The log-probs are multiplied with the mask.",
        "Select with torch.where.",
        "mask",
        "",
        _scaled(lambda G, c: G * G * c, times=True),
    ),
)
TELLING = (StepInputs([[-0.5, -0.25, -1.5], [-1.0, -2.0, -0.5]], [[0, 1, 1], [1, 0, 0]], 3, 5.0),)
