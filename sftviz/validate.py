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


def check_count(name: str, value: int, reason: str, least: int = 1) -> None:
    """Refuse what is not a count: an int of at least `least` that fits in 64 bits.

    Args:
        name: of the argument, which begins the message.
        value: what was passed.
        reason: what the number is used for, which ends the message.
        least: the smallest value that is allowed.

    Raises:
        TypeError: value is not an int; True and 2.0 are not.
        ValueError: value is below `least`, or 2**63 or more.

    >>> check_count("ranks", 1, "one rank has no other to average with", least=2)
    Traceback (most recent call last):
    ValueError: ranks must be an int of at least 2, got 1: one rank has no other to average with.
    """
    if type(value) is not int or not least <= value < 2**63:
        is_large = type(value) is int and value >= least
        wanted = "an int below 2**63" if is_large else f"an int of at least {least}"
        raise _number_error(name, wanted, value, reason, wrong_type=type(value) is not int)


def check_positive(name: str, value: float, reason: str) -> None:
    """Refuse what is not a number above 0. Infinity is allowed.

    Raises:
        TypeError: value is not an int or a float; True is not.
        ValueError: value is 0, negative, NaN, or an int that no float can hold.

    >>> check_positive("max_grad_norm", -1.0, "longer gradients are scaled to this length")
    Traceback (most recent call last):
    ValueError: max_grad_norm must be a number above 0, got -1.0: longer gradients are scaled to \
this length.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 < value <= sys.float_info.max or value == float("inf")):
        raise _number_error(name, "a number above 0", value, reason, wrong_type=not is_number)


def check_fraction(name: str, value: float, reason: str) -> None:
    """Refuse what is not a number from 0 to 1.

    Raises:
        TypeError: value is not an int or a float; True is not.
        ValueError: value is below 0, above 1 or NaN.

    >>> check_fraction("unevenness", 1.5, "1 is the largest difference between the rows")
    Traceback (most recent call last):
    ValueError: unevenness must be a number from 0 to 1, got 1.5: 1 is the largest difference \
between the rows.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise _number_error(name, "a number from 0 to 1", value, reason, wrong_type=not is_number)
