"""What a person says that a number is, and how exactly it was said."""

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import torch
from torch import Tensor

from sftviz.rows import log_prob_rows
from sftviz.validate import brief


@dataclass(frozen=True, eq=False)
class Answer:
    """A number or a matrix, and how far from it the truth may be."""

    text: str  # as it was typed
    value: Tensor  # () or (B, S), float64
    tolerance: Tensor  # same shape

    def fits(self, truth: Tensor) -> bool:
        """Whether it is the truth, everywhere if that is a tensor."""
        near = (self.value - truth).abs() <= self.tolerance + 1e-6 * truth.abs()
        same = (self.value == truth) | (self.value.isnan() & truth.isnan())  # also infinity
        return bool((near | same).all()) and truth.numel() > 0


def read_answer(answer: object, quantity: str, shape: torch.Size) -> Answer:
    """Read an answer; a matrix is allowed only for the gradient.

    The digits of a string decide how exact it is: "1.4" is anything that rounds to 1.4. One digit
    counts as two, so 0.7 is 0.70; of a float, at most three digits count.

    Raises:
        TypeError, ValueError: it is not a number, or a matrix of another shape.
    """
    if quantity == "grad" and not isinstance(answer, int | float | str):
        value = log_prob_rows("answer", answer).detach().double()  # type: ignore[arg-type]
        if value.shape != shape:
            raise ValueError(
                f"answer has shape {tuple(value.shape)} but the gradient has shape "
                f"{tuple(shape)}: give one number per token, or one for all response tokens."
            )
        # Seven digits: 0.0089 as a float32 has many more, which nobody typed.
        typed = [[Decimal(f"{entry:.7g}") for entry in row] for row in value.tolist()]
        tolerances = [[_tolerance(number, 3) for number in row] for row in typed]
        return Answer("This", value, torch.tensor(tolerances, dtype=torch.float64))
    if isinstance(answer, bool) or not isinstance(answer, int | float | str):
        raise TypeError(
            f"answer must be a number, got {type(answer).__name__} {brief(answer)}: "
            "give a number such as -0.25, or a string of its digits."
        )
    try:
        text = str(answer).strip()
        number = Decimal(text.replace("−", "-"))
        value = float(number)
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(
            f"answer must be a number, got {brief(answer)}: "
            "write digits with a point, such as -0.25."
        ) from None
    if quantity == "num_tokens":
        tolerance = 0.0  # a count is exact
    else:
        tolerance = _tolerance(number, 3 if isinstance(answer, float) else 15)
    exact = torch.float64
    return Answer(text, torch.tensor(value, dtype=exact), torch.tensor(tolerance, dtype=exact))


def _tolerance(number: Decimal, most: int) -> float:
    """Half of the last digit that counts; 0 for 0, NaN and what a float has as infinity."""
    if not number or not math.isfinite(float(number)):
        return 0.0
    digits = min(max(len(number.as_tuple().digits), 2), most)
    return 0.5 * math.pow(10, number.adjusted() - digits + 1)
