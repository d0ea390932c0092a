"""The arguments of one step as a value."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.rows import Rows, log_prob_rows, mask_rows
from sftviz.step import StepTrace, trace_step
from sftviz.validate import Tokens, check_inputs, check_tokens


@dataclass(frozen=True, eq=False, init=False)
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
    response_mask: Tensor  # (B, S)
    gradient_accumulation_steps: int
    normalize_constant: float
    tokens: Tokens | None  # B rows of S strings

    def __init__(  # what is given; above is what is kept
        self,
        policy_log_probs: Rows,
        response_mask: Rows | None = None,  # None: 1 everywhere
        gradient_accumulation_steps: int = 1,
        normalize_constant: float = 1.0,
        tokens: Tokens | None = None,
    ) -> None:
        log_probs = log_prob_rows("policy_log_probs", policy_log_probs)
        if response_mask is None:
            response_mask = torch.ones_like(log_probs).bool()
        mask = mask_rows("response_mask", response_mask)
        check_inputs(log_probs, mask, gradient_accumulation_steps, normalize_constant)
        check_tokens(tokens, log_probs.shape)
        object.__setattr__(self, "policy_log_probs", log_probs)
        object.__setattr__(self, "response_mask", mask)
        object.__setattr__(self, "gradient_accumulation_steps", gradient_accumulation_steps)
        object.__setattr__(self, "normalize_constant", normalize_constant)
        object.__setattr__(self, "tokens", None if tokens is None else tuple(map(tuple, tokens)))

    def trace(self) -> StepTrace:
        """Run the step on these arguments."""
        scalars = self.gradient_accumulation_steps, self.normalize_constant
        return trace_step(self.policy_log_probs, self.response_mask, *scalars)
