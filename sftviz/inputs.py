"""The arguments of one step as a value, written by hand or read from a file."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.step import StepTrace, trace_step
from sftviz.validate import check_step


@dataclass(frozen=True, eq=False)
class StepInputs:
    """The arguments of one step, with the tokens that they stand for.

    Rows of numbers are made tensors. Whether the arguments fit together is for the step to say.
    """

    policy_log_probs: Tensor  # (B, S)
    response_mask: Tensor  # (B, S)
    gradient_accumulation_steps: int = 1
    normalize_constant: float = 1.0
    tokens: Sequence[Sequence[str]] | None = None  # B rows of S

    def __post_init__(self) -> None:
        for name in ("policy_log_probs", "response_mask"):
            object.__setattr__(self, name, matrix(name, getattr(self, name)))

    def check(self) -> None:
        """Raise a TypeError or ValueError for what the step can't be computed from."""
        check_step(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )

    def trace(self) -> StepTrace:
        """Run the step on this batch, on a fresh leaf."""
        return trace_step(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )


def matrix(name: str, rows: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Make a tensor of rows of numbers, (B, S); a tensor is left as it is.

    Raises:
        ValueError: the rows differ in length or hold something else than numbers.
    """
    if isinstance(rows, Tensor):
        return rows
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
            "make them equally long, and mask the padding."
        )
    return torch.tensor(floats)
