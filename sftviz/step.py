"""One training step of supervised fine-tuning, and a record of one run of it.

The arithmetic is the six lines of `_step`. The function that trains and the trace that is drawn
both run them. The gradient is what autograd computed, never a formula. Needs torch alone.

The function is the one that Stanford's CS336 (assignment 5, 2025) asks for. It divides the sum over
the response tokens by G². This is the mean over a window's sequences only if B = G: see
`docs/cheatsheet.md`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftviz.validate import check_gradient, check_inputs, check_sum, explain_second_backward


def _step(policy_log_probs: Tensor, response_mask: Tensor, G: int, normalize_constant: float):
    num_tokens = response_mask.sum()
    # Select, do not multiply: NaN * 0 is NaN, and a masked position may contain anything.
    masked_log_probs = torch.where(response_mask, policy_log_probs, 0)  # (B, S)
    masked_sum = _sum(masked_log_probs) / normalize_constant
    loss = -masked_sum / G
    scaled_loss = loss / G
    scaled_loss.backward()
    count = num_tokens.item()
    if count == 0:
        loss, scaled_loss = loss + 0, scaled_loss + 0  # 0, not -0: the negative of an empty sum
    return count, masked_log_probs, masked_sum, loss, scaled_loss


def _sum(tensor: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.sum(dim=dim)  # in int64, which is exact
    # At least float32: a running bfloat16 sum of -1s stalls at -256, a float16 one overflows.
    return tensor.sum(dim=dim, dtype=torch.promote_types(tensor.dtype, torch.float32))


def sft_microbatch_train_step(
    policy_log_probs: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float = 1.0,
) -> tuple[Tensor, dict[str, Any]]:
    """Compute the SFT loss of one microbatch and backpropagate it.

        masked_sum  = Σ policy_log_probs over response tokens / normalize_constant
        loss        = -masked_sum / G
        scaled_loss = loss / G          backward() is called on this

    Gradients add up over calls, as always with `backward()`: zero them after the optimizer's step.
    They are in `policy_log_probs.grad` if that is a leaf, else in the `.grad` of the parameters.

    Args:
        policy_log_probs: (B, S) floating point, log-probability of each token, in nats. Must
            require grad. Values at masked positions are never used, not even NaN and inf.
        response_mask: (B, S) bool, or exact 0/1 of any dtype; 1 = response token.
        gradient_accumulation_steps: int G >= 1, the number of microbatches in one optimizer step.
        normalize_constant: finite number > 0 that divides the masked sum.

    Returns:
        scaled_loss: detached scalar, at least float32. 0 if every token is masked.
        metadata: `num_tokens` (int, response tokens) and `masked_sum` (detached scalar).

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.
        RuntimeError: gradients are switched off, or backward() has been through the same forward
            pass before.

    Example:
        >>> log_probs = torch.tensor([[-0.5, -0.3, -0.8, -0.2],
        ...                           [-0.4, -0.6, -0.3, -0.5]], requires_grad=True)
        >>> mask = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]])
        >>> loss, metadata = sft_microbatch_train_step(log_probs, mask, 2)
        >>> loss, metadata
        (tensor(0.7000), {'num_tokens': 7, 'masked_sum': tensor(-2.8000)})
        >>> log_probs.grad
        tensor([[-0.2500, -0.2500,  0.0000, -0.2500],
                [-0.2500, -0.2500, -0.2500, -0.2500]])
    """
    mask = check_inputs(
        policy_log_probs, response_mask, gradient_accumulation_steps, normalize_constant
    )
    check_gradient(policy_log_probs)
    try:
        num_tokens, _, masked_sum, _, scaled_loss = _step(
            policy_log_probs, mask, gradient_accumulation_steps, float(normalize_constant)
        )
    except RuntimeError as error:
        explain_second_backward(error)
        raise
    metadata = {"num_tokens": num_tokens, "masked_sum": masked_sum.detach()}
    return scaled_loss.detach(), metadata


def masked_normalize(
    tensor: Tensor,
    mask: Tensor,
    *,
    normalize_constant: float = 1.0,
    dim: int | tuple[int, ...] | None = None,
) -> Tensor:
    """Sum a tensor where the mask is 1, and divide by a constant.

    `normalize_constant` and `dim` are keywords only: other versions of this function have them in
    the other order.

    Args:
        tensor: any shape. Values at masked positions are never used.
        mask: same shape, bool or exact 0/1 of any dtype.
        normalize_constant: finite number > 0.
        dim: the dimension or dimensions to sum over; None sums over all.

    Returns:
        The sum, at least float32, with the tensor's shape without `dim`. Integers are added up
        exactly, and the result is rounded once.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.

    Example:
        >>> tensor = torch.tensor([[1.0, 2.0], [3.0, float("nan")]])
        >>> mask = torch.tensor([[1, 1], [1, 0]])
        >>> masked_normalize(tensor=tensor, mask=mask, normalize_constant=2.0, dim=1)
        tensor([1.5000, 1.5000])
    """
    mask = check_sum(tensor, mask, normalize_constant, dim)
    return _sum(torch.where(mask, tensor, 0), dim) / float(normalize_constant)


@dataclass(frozen=True, eq=False)
class StepTrace:
    """The arguments, every intermediate and the gradient of one run of the step.

    Every number in a picture, a formula or a caption is read from here. Tensors are detached and on
    the device of the inputs. Scalars are 0-d tensors of the dtype that they were computed in.
    """

    policy_log_probs: Tensor  # (B, S)
    response_mask: Tensor  # (B, S) bool
    gradient_accumulation_steps: int
    normalize_constant: float
    num_tokens: int
    masked_log_probs: Tensor  # (B, S)
    masked_sum: Tensor  # ()
    loss: Tensor  # ()
    scaled_loss: Tensor  # ()
    grad: Tensor  # (B, S), the gradient at policy_log_probs, computed by autograd

    def rerun(self, gradient_accumulation_steps: int) -> "StepTrace":
        """Run the step again with another G and everything else unchanged.

        Example:
            >>> trace = trace_step(torch.tensor([[-0.5]]), torch.tensor([[1]]), 2)
            >>> trace.rerun(4).grad
            tensor([[-0.0625]])
        """
        G, c = gradient_accumulation_steps, self.normalize_constant
        return trace_step(self.policy_log_probs, self.response_mask, G, c)


def trace_step(
    policy_log_probs: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float = 1.0,
) -> StepTrace:
    """Run the step on a fresh leaf and keep every intermediate.

    The arguments are those of `sft_microbatch_train_step`. The log-probs need not require grad, and
    it may be called under `no_grad`: the step runs on a copy. No tensor or gradient of the caller
    is changed.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.

    Example:
        >>> log_probs = torch.tensor([[-0.5, -0.3, -0.8]])
        >>> mask = torch.tensor([[0, 1, 1]])
        >>> trace = trace_step(log_probs, mask, gradient_accumulation_steps=4)
        >>> trace.num_tokens, trace.masked_sum, trace.scaled_loss
        (2, tensor(-1.1000), tensor(0.0688))
        >>> trace.grad
        tensor([[ 0.0000, -0.0625, -0.0625]])
    """
    mask = check_inputs(
        policy_log_probs, response_mask, gradient_accumulation_steps, normalize_constant
    )
    with torch.inference_mode(False), torch.enable_grad():
        leaf = policy_log_probs.detach().clone().requires_grad_()
        mask = mask.clone()
        num_tokens, masked_log_probs, masked_sum, loss, scaled_loss = _step(
            leaf, mask, gradient_accumulation_steps, float(normalize_constant)
        )
    assert leaf.grad is not None  # backward() has been called
    return StepTrace(
        policy_log_probs=leaf.detach(),
        response_mask=mask,
        gradient_accumulation_steps=gradient_accumulation_steps,
        normalize_constant=float(normalize_constant),
        num_tokens=num_tokens,
        masked_log_probs=masked_log_probs.detach(),
        masked_sum=masked_sum.detach(),
        loss=loss.detach(),
        scaled_loss=scaled_loss.detach(),
        grad=leaf.grad,
    )
