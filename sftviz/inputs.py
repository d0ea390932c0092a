"""The arguments of one step as a value."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.rows import log_prob_rows, mask_rows
from sftviz.step import StepTrace, trace_step
from sftviz.validate import Tokens, check_inputs, check_tokens


@dataclass(frozen=True, eq=False)
class StepInputs:
    """The arguments of one step, and the tokens that the log-probs belong to.

    Rows of numbers and arrays become tensors, and everything is copied: no later change of what
    was given changes this value.

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
        log_probs = log_prob_rows("policy_log_probs", self.policy_log_probs)
        mask = self.response_mask
        if mask is None:
            mask = torch.ones_like(log_probs).bool()
        mask = mask_rows("response_mask", mask)
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
