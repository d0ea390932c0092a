"""What the step refuses, and the sentence it says: what was asked, what came, what to do.

Every check runs at the public edge, before any arithmetic, and costs no more than a few attribute
look-ups for a boolean mask: only a mask of numbers has to be read to know that it holds 0 and 1.
"""

import sys

import torch
from torch import Tensor


def check_step(
    policy_log_probs: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float,
) -> Tensor:
    """Refuse what the step can't be computed from; return the mask as booleans, (B, S)."""
    check_tensor("policy_log_probs", policy_log_probs)
    if not policy_log_probs.is_floating_point():
        raise TypeError(
            f"policy_log_probs must be floating point, got {policy_log_probs.dtype}: "
            "pass log-probabilities, for example log_softmax(logits), not token ids."
        )
    if policy_log_probs.ndim != 2:
        raise ValueError(
            f"policy_log_probs must have shape (B, S), got {_shape(policy_log_probs)}: "
            "one row a sequence, one column a token."
        )
    if policy_log_probs.numel() == 0:
        raise ValueError(
            f"policy_log_probs has shape {_shape(policy_log_probs)}, so there is no token in it: "
            "give at least one sequence of one token."
        )
    mask = check_mask("response_mask", response_mask, "policy_log_probs", policy_log_probs)
    G = gradient_accumulation_steps
    if type(G) is not int or not 1 <= G < 2**63:  # which is what torch can divide by
        raise _number_error(
            "gradient_accumulation_steps",
            "an int of at least 1" if type(G) is not int or G < 1 else "an int below 2**63",
            G,
            "it counts the microbatches of one optimizer step",
            wrong_type=type(G) is not int,
        )
    check_constant(normalize_constant)
    return mask


def check_gradient(policy_log_probs: Tensor) -> None:
    """Refuse log-probs that backward() could not reach."""
    if not policy_log_probs.requires_grad:
        raise ValueError(
            "policy_log_probs does not require grad, so backward() has nowhere to go: pass the "
            "model's own output, or a leaf made with requires_grad=True."
        )
    if not torch.is_grad_enabled():
        raise RuntimeError(
            "sft_microbatch_train_step calls backward(), but gradients are switched off here: "
            "call it outside torch.no_grad() and torch.inference_mode()."
        )


def check_mask(mask_name: str, mask: Tensor, tensor_name: str, tensor: Tensor) -> Tensor:
    """Refuse a mask that does not fit the tensor or holds more than 0 and 1; return booleans."""
    check_tensor(mask_name, mask)
    if mask.shape != tensor.shape:
        raise ValueError(
            f"{mask_name} has shape {_shape(mask)} but {tensor_name} has shape "
            f"{_shape(tensor)}: give one mask entry per token."
        )
    if mask.device != tensor.device:
        raise ValueError(
            f"{mask_name} is on {mask.device} but {tensor_name} is on {tensor.device}: "
            "move one of them to the other's device."
        )
    if mask.dtype == torch.bool:
        return mask
    strangers = mask[(mask != 0) & (mask != 1)]
    if strangers.numel():
        raise ValueError(
            f"{mask_name} must hold only 0 and 1, got {strangers[0].item():g}: "
            "1 marks a response token, 0 a masked one."
        )
    return mask != 0


def check_constant(normalize_constant: float) -> None:
    """Refuse a normalize_constant that is no finite number above 0."""
    is_number = isinstance(normalize_constant, int | float) and not isinstance(
        normalize_constant, bool
    )
    if not is_number or not 0 < normalize_constant <= sys.float_info.max:  # an int may be larger
        raise _number_error(
            "normalize_constant",
            "a finite number above 0",
            normalize_constant,
            "it divides the masked sum",
            wrong_type=not is_number,
        )


def check_tensor(name: str, value: object) -> None:
    """Refuse anything but a tensor: lists and arrays are converted by who has them."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(value).__name__}: "
            f"wrap it in torch.tensor(...)."
        )


def _number_error(
    name: str, wanted: str, value: object, reason: str, *, wrong_type: bool
) -> Exception:
    came = f"{type(value).__name__} {value!r}" if wrong_type else f"{value!r}"
    error = TypeError if wrong_type else ValueError
    return error(f"{name} must be {wanted}, got {came}: {reason}.")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
