"""Wrong signs, dtypes, backward passes and returned values."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sftviz.mistakes.mistake import Mistake, Sizes, StepResult, report, vary


def _twice(loss: Tensor, log_probs: Tensor, G: int) -> None:
    loss.backward(retain_graph=True)
    loss.backward()


def _cleared(loss: Tensor, log_probs: Tensor, G: int) -> None:
    log_probs.grad = None
    loss.backward()


def _returns(
    **changed: Callable[[Tensor, Tensor, Tensor, Sizes], object],
) -> Callable[[Tensor, Tensor, Tensor, Sizes], StepResult]:
    """A report in which the loss or an entry of the metadata is another one."""

    def wrong(loss: Tensor, masked_sum: Tensor, mask: Tensor, n: Sizes) -> StepResult:
        right, metadata = report(loss, masked_sum, mask, n)
        values = {"loss": right, **metadata}
        values |= {name: make(loss, masked_sum, mask, n) for name, make in changed.items()}
        return values.pop("loss"), values

    return wrong


_attached = _returns(loss=lambda loss, masked_sum, mask, n: loss)


def _wrong(name: str, cause: str, remedy: str, seen: str = "", **parts: Any) -> Mistake:
    return Mistake(name, cause, remedy, "step", vary(**parts), seen)


SIGNS = (
    _wrong(
        "sign kept",
        "The masked sum is not negated, so training makes the response less likely.",
        "Negate the masked sum: the loss is what becomes smaller.",
        sign=1,
    ),
    _wrong(
        "backward on the negative",
        "The loss is right, and backward() is called on its negative.",
        "Call backward() on the loss that you return.",
        backward=lambda loss, log_probs, G: (-loss).backward(),
    ),
    _wrong(
        "masked_sum negated",
        "The metadata has the negative of the masked sum.",
        "Negate for the loss only: masked_sum is a sum of log-probs.",
        report=_returns(masked_sum=lambda loss, masked_sum, mask, n: -masked_sum.detach()),
    ),
)

DTYPES = (
    _wrong(
        "sum in 16 bits",
        "The log-probs are added up in their own dtype, which may be bfloat16 or float16.",
        "Add up in float32: sum(dtype=torch.float32).",
        add_rows=lambda masked: masked.flatten(1).sum(1),
    ),
    _wrong(
        "log-probs cut to 16 bits",
        "The log-probs are converted to bfloat16 before they are added up.",
        "Keep the log-probs in float32 at least.",
        add_rows=lambda masked: masked.bfloat16().flatten(1).sum(1, dtype=torch.float32),
    ),
)

BACKWARDS = (
    _wrong(
        "backward not called",
        "The loss is returned and nothing calls backward(), so no gradient is left.",
        "Call scaled_loss.backward() in the step.",
        backward=lambda loss, log_probs, G: None,
        report=_attached,
    ),
    _wrong(
        "backward twice",
        "backward() is called two times, and gradients add up.",
        "Call backward() once.",
        backward=_twice,
    ),
    _wrong(
        "backward on a detached loss",
        "The loss is detached before backward(), so there is no way back to the log-probs.",
        "Call backward() first, and detach only what you return.",
        backward=lambda loss, log_probs, G: loss.detach().backward(),
    ),
    _wrong(
        "backward on a fresh leaf",
        "The log-probs are copied to a new leaf, and the gradient stays at the copy.",
        "Compute the loss from policy_log_probs itself.",
        select=lambda log_probs, mask: torch.where(
            mask, log_probs.detach().clone().requires_grad_(), 0
        ),
    ),
    _wrong(
        "backward on the unscaled loss",
        "The returned loss is divided by G once more than the one that backward() is called on.",
        "Call backward() on the scaled loss.",
        "verl #3332",
        backward=lambda loss, log_probs, G: (loss * G).backward(),
    ),
    _wrong(
        "gradient cleared in the step",
        "The step clears the gradient before backward(), so only the last microbatch counts.",
        "Leave .grad alone in the step: clear it after the optimizer's step.",
        backward=_cleared,
    ),
)

RETURNS = (
    _wrong(
        "loss returned attached",
        "The returned loss still has its graph, so a list of losses keeps all graphs.",
        "Return scaled_loss.detach().",
        report=_attached,
    ),
    _wrong(
        "loss returned unscaled",
        "The gradient is right, but the returned loss was not divided by G the second time.",
        "Return the loss that backward() was called on.",
        report=_returns(loss=lambda loss, masked_sum, mask, n: loss.detach() * n.G),
    ),
    _wrong(
        "all tokens counted",
        "num_tokens is the number of all tokens.",
        "Count the response tokens: response_mask.sum().",
        report=_returns(num_tokens=lambda loss, masked_sum, mask, n: mask.numel()),
    ),
    _wrong(
        "rows counted",
        "num_tokens is the number of rows.",
        "Count the response tokens: response_mask.sum().",
        report=_returns(num_tokens=lambda loss, masked_sum, mask, n: len(mask)),
    ),
    _wrong(
        "masked_sum without c",
        "The masked sum in the metadata is the one before the division by normalize_constant.",
        "Report the masked sum that the loss is made of.",
        report=_returns(masked_sum=lambda loss, masked_sum, mask, n: masked_sum.detach() * n.c),
    ),
)
