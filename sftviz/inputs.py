"""The arguments of one step as a value."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.step import StepTrace, trace_step
from sftviz.validate import Tokens, check_inputs, check_tokens


@dataclass(frozen=True, eq=False)
class StepInputs:
    """The arguments of one step, and the tokens that the log-probs belong to.

    Rows of numbers become tensors, and everything is copied: no later change of what was given
    changes this value.

    Raises:
        TypeError, ValueError: the step can't be computed from these arguments, or there is not one
            string per token.

    Example:
        >>> inputs = StepInputs([[-0.5, -0.3]], [[0, 1]], gradient_accumulation_steps=2)
        >>> inputs.trace().scaled_loss
        tensor(0.0750)
    """

    policy_log_probs: Tensor  # (B, S)
    response_mask: Tensor  # (B, S)
    gradient_accumulation_steps: int = 1
    normalize_constant: float = 1.0
    tokens: Tokens | None = None  # B rows of S strings

    def __post_init__(self) -> None:
        for name in ("policy_log_probs", "response_mask"):
            object.__setattr__(self, name, own_tensor(name, getattr(self, name)))
        check_inputs(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )
        check_tokens(self.tokens, self.policy_log_probs.shape)
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(map(tuple, self.tokens)))

    def trace(self) -> StepTrace:
        """Run the step on these arguments."""
        return trace_step(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )


def own_tensor(name: str, value: object) -> object:
    """A copy of a tensor, or a tensor made of rows of numbers, (B, S).

    Raises:
        ValueError: the rows differ in length or contain something that is not a number.
    """
    return value.detach().clone() if isinstance(value, Tensor) else matrix(name, value)


def matrix(name: str, rows: Sequence[Sequence[float]]) -> Tensor:
    """Make a tensor of rows of numbers, (B, S).

    Raises:
        ValueError: the rows differ in length or contain something that is not a number.
    """
    try:
        floats = [[float(entry) for entry in row] for row in rows]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be rows of numbers, such as [[-0.5, -0.3], [-0.4, -0.6]]."
        ) from None
    lengths = [len(row) for row in floats]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name} has rows of {', '.join(map(str, lengths))} entries: "
            "give all rows the same length, and mask the padding."
        )
    return torch.tensor(floats)
