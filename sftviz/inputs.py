"""The arguments of one step as a value."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.step import StepTrace, trace_step
from sftviz.validate import Tokens, check_inputs, check_tokens, listed


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
    response_mask: Tensor | None = None  # (B, S); None: 1 everywhere
    gradient_accumulation_steps: int = 1
    normalize_constant: float = 1.0
    tokens: Tokens | None = None  # B rows of S strings

    def __post_init__(self) -> None:
        log_probs = matrix("policy_log_probs", self.policy_log_probs)
        mask = self.response_mask
        mask = torch.ones_like(log_probs).bool() if mask is None else matrix("response_mask", mask)
        object.__setattr__(self, "policy_log_probs", log_probs)
        object.__setattr__(self, "response_mask", mask)
        check_inputs(log_probs, mask, self.gradient_accumulation_steps, self.normalize_constant)
        check_tokens(self.tokens, log_probs.shape)
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(map(tuple, self.tokens)))

    def trace(self) -> StepTrace:
        """Run the step on these arguments."""
        scalars = self.gradient_accumulation_steps, self.normalize_constant
        return trace_step(self.policy_log_probs, self.response_mask, *scalars)


def matrix(name: str, rows: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Make a tensor of rows of numbers, (B, S); a tensor is copied.

    Raises:
        ValueError: the rows differ in length or contain something that is not a number.
    """
    if isinstance(rows, Tensor):
        return rows.detach().clone()
    try:
        floats = [[float(entry) for entry in row] for row in rows]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be rows of numbers, such as [[-0.5, -0.3], [-0.4, -0.6]]."
        ) from None
    lengths = [len(row) for row in floats]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name} has rows of {listed(lengths)} entries: "
            "give all rows the same length, and mask the padding."
        )
    return torch.tensor(floats)
