"""A mistake as a value, and the parts of the step that a mistake replaces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftviz.accumulation import divide
from sftviz.rules import STEP, Counts, Divisor

StepResult = tuple[Tensor, dict[str, Any]]  # the loss and the metadata


@dataclass(frozen=True)
class Mistake:
    """A wrong computation with a name.

    `run` has the signature of the right function:

    - "step": `sft_microbatch_train_step`. Real autograd leaves the gradient at the log-probs.
    - "accumulation": `accumulate_windows(model, microbatches, gradient_accumulation_steps)`.
    - "log-probs": `get_response_log_probs(model, input_ids, labels)`.
    - any other: the function of this name.

    Example:
        >>> from sftviz.mistakes import MISTAKES
        >>> (mistake,) = [each for each in MISTAKES if each.name == "÷G"]
        >>> log_probs = torch.tensor([[-0.5, -0.3]], requires_grad=True)
        >>> mistake.run(log_probs, torch.tensor([[1, 1]]), 4, 1.0)[0]
        tensor(0.2000)
    """

    name: str
    cause: str  # one sentence
    remedy: str  # one sentence
    about: str
    run: Callable[..., Any]
    seen: str = ""  # who has made it, if that is known


@dataclass(frozen=True)
class Sizes(Counts):
    """What a wrong divisor can be made of."""

    S: int = 0
    c: float = 1.0


def select(log_probs: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, log_probs, 0)  # (B, S)


def add_rows(masked: Tensor) -> Tensor:
    """The sum of each row, at least float32: (B, ...) to (B,)."""
    return masked.flatten(1).sum(1, dtype=torch.promote_types(masked.dtype, torch.float32))


def call_backward(loss: Tensor, log_probs: Tensor, G: int) -> None:
    loss.backward()


def report(loss: Tensor, masked_sum: Tensor, mask: Tensor, n: Sizes) -> StepResult:
    return loss.detach(), {"num_tokens": int(mask.sum()), "masked_sum": masked_sum.detach()}


def vary(
    *,
    mask: Callable[[Tensor], Tensor] = lambda mask: mask,
    select: Callable[[Tensor, Tensor], Tensor] = select,
    add_rows: Callable[[Tensor], Tensor] = add_rows,
    constant: Callable[[float], float] = lambda c: c,
    divisor: Callable[[Sizes], Divisor] = STEP.divisor,
    sign: int = -1,
    backward: Callable[[Tensor, Tensor, int], None] = call_backward,
    report: Callable[[Tensor, Tensor, Tensor, Sizes], StepResult] = report,
) -> Callable[..., StepResult]:
    """A step in which some parts are replaced. With none, it is the right step."""

    def run(
        policy_log_probs: Tensor,
        response_mask: Tensor,
        gradient_accumulation_steps: int,
        normalize_constant: float = 1.0,
    ) -> StepResult:
        used = mask(response_mask != 0)  # (B, S)
        G, c, (B, S) = gradient_accumulation_steps, normalize_constant, used.shape
        rows = tuple(used.sum(1).tolist())
        n = Sizes(B, G, sum(rows), sum(rows), window_rows=B * G, row_tokens=rows, S=S, c=c)
        row_sums = add_rows(select(policy_log_probs, used)) / constant(c)  # (B,)
        loss = sign * divide(row_sums, divisor(n))
        backward(loss, policy_log_probs, G)
        return report(loss, row_sums.sum(), used, n)

    return run
