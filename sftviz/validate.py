"""The checks of arguments: one function per kind of value. Needs torch alone.

A message says what was asked, what came, and what to do. Checks run before any arithmetic. They
cost a few attribute look-ups for a boolean mask; only a mask of numbers has to be read, to see that
it contains 0 and 1 and nothing else.
"""

import reprlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Tokens = Sequence[Sequence[str]]  # B rows of S
_ROUNDING = 1e-4  # logit - logsumexp(logits) in float32 may be that far above 0

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_inputs(
    policy_log_probs: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float,
) -> Tensor:
    """Check the arguments of the step; return the mask as booleans, (B, S)."""
    hint = "pass log-probabilities, for example log_softmax(logits), not token ids"
    check_floating("policy_log_probs", policy_log_probs, hint)
    if policy_log_probs.ndim != 2:
        raise ValueError(
            f"policy_log_probs must have shape (B, S), got {_shape(policy_log_probs)}: "
            "one row per sequence, one column per token."
        )
    if policy_log_probs.numel() == 0:
        raise ValueError(
            f"policy_log_probs has shape {_shape(policy_log_probs)}, so it contains no token: "
            "give at least one sequence of one token."
        )
    if policy_log_probs.is_meta:
        raise ValueError(
            "policy_log_probs is on the meta device, where tensors have a shape and no numbers: "
            "run the model on a real device."
        )
    mask = check_mask("response_mask", response_mask, "policy_log_probs", policy_log_probs)
    check_count(
        "gradient_accumulation_steps",
        gradient_accumulation_steps,
        "it is the number of microbatches in one optimizer step",
    )
    check_constant(normalize_constant)
    return mask


def above_zero(policy_log_probs: Tensor) -> str:
    """Say how many log-probs are above 0, where, and what they may be; empty if none is.

    The step takes any number, so this is a sentence beside the result and not an error. Masked
    entries count, NaN does not. What rounding can put above 0 is no mistake.

    Args:
        policy_log_probs: (B, S) floating point.

    Example:
        >>> above_zero(torch.tensor([[0.0, 0.7], [0.9, 0.1]]))
        '3 log-probs are above 0 (the first: row 1, token 2), but a log-prob is at most 0: these \
look like probabilities, so take their log.'
        >>> above_zero(torch.tensor([[-0.5, -0.3]]))
        ''
    """
    values = policy_log_probs.detach()
    above = values > 0
    if not above.any():
        return ""
    if not ((values < 0) | (values > 1)).any():
        guess = "probabilities, so take their log"
    elif values[above].max() <= _ROUNDING:
        return ""
    else:
        guess = "logits, so take log_softmax"
    count, first = int(above.sum()), place(*above.nonzero()[0].tolist())
    came = f"{count} log-probs are above 0 (the first: {first})"
    if count == 1:
        came = f"1 log-prob is above 0 ({first})"
    these = "this looks" if count == 1 else "these look"
    return f"{came}, but a log-prob is at most 0: {these} like {guess}."


def place(row: int, column: int) -> str:
    """Where an entry of a matrix is, counted from 1 as the pictures do.

    >>> place(0, 2)
    'row 1, token 3'
    """
    return f"row {row + 1}, token {column + 1}"


def check_sum(tensor: Tensor, mask: Tensor, normalize_constant: float, dim: object) -> Tensor:
    """Check the arguments of `masked_normalize`; return the mask as booleans."""
    check_tensor("tensor", tensor)
    mask = check_mask("mask", mask, "tensor", tensor)
    check_constant(normalize_constant)
    check_dim(dim, tensor.ndim)
    return mask


def check_gradient(policy_log_probs: Tensor) -> None:
    """Check that backward() can reach the log-probs."""
    if not policy_log_probs.requires_grad:
        raise ValueError(
            "policy_log_probs does not require grad: either gradients were switched off when it "
            "was computed (no_grad, inference_mode, detach), or no parameter that it was computed "
            "from requires grad (a frozen model; re-entrant checkpointing hides parameters too). "
            "Compute it with gradients, or pass a leaf made with requires_grad=True."
        )
    if not torch.is_grad_enabled():
        raise RuntimeError(
            "sft_microbatch_train_step calls backward(), but gradients are switched off here: "
            "call it outside torch.no_grad() and torch.inference_mode()."
        )


def explain_second_backward(error: RuntimeError) -> None:
    """Raise an error that says what to do, if torch's is about a second backward()."""
    if "backward through the graph a second time" in str(error):
        raise RuntimeError(
            "backward() has been through this forward pass before, or through a part of it: run "
            "the model again before each step, and use nothing again that an earlier forward pass "
            "computed."
        ) from error


def check_mask(mask_name: str, mask: Tensor, tensor_name: str, tensor: Tensor) -> Tensor:
    """Check that a mask fits a tensor and contains only 0 and 1; return it as booleans."""
    check_tensor(mask_name, mask)
    if mask.is_complex() or (mask.is_floating_point() and mask.dtype not in FLOATS):
        raise TypeError(
            f"{mask_name} must be bool, integer or ordinary floating point, got {mask.dtype}: "
            "convert it with .bool()."
        )
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
    invalid = (mask != 0) & (mask != 1)
    if invalid.any():
        entry = mask[invalid][0].item()
        rounded = f"{entry:g}"
        came = repr(entry) if rounded in ("0", "1") else rounded
        where = f" at {place(*invalid.nonzero()[0].tolist())}" if mask.ndim == 2 else ""
        raise ValueError(
            f"{mask_name} must contain only 0 and 1, got {came}{where}: "
            "1 marks a response token, 0 a masked one."
        )
    return mask != 0


MOST_ROWS = 2**20  # of a window: its rows are listed before it begins


def check_count(
    name: str, value: object, reason: str, least: int = 1, most: int = 2**63 - 1
) -> None:
    """Check that a value is an int of at least `least` and at most `most`, by default what torch
    can hold.

    `reason` is what the number is used for; it ends the message.

    >>> check_count("ranks", 1, "one rank has no other to average with", least=2)
    Traceback (most recent call last):
    ValueError: ranks must be an int of at least 2, got 1: one rank has no other to average with.
    """
    is_int = type(value) is int
    if not is_int or value < least:
        raise _error(name, f"an int of at least {least}", value, reason, is_int)
    if value > most:
        limit = "below 2**63" if most == 2**63 - 1 else f"of at most {most:,}"
        raise _error(name, f"an int {limit}", value, reason, is_int)


def check_dim(dim: Any, ndim: int) -> None:
    """Check that a value is None, or one or several different dimensions of a tensor."""
    if dim is None:
        return
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    reason = f"the tensor has {ndim} dimensions"
    if not dims or any(type(each) is not int for each in dims):
        raise _error("dim", "None, an int or a tuple of ints", dim, reason, False)
    places = {each % ndim for each in dims if -ndim <= each < ndim}
    if len(places) < len(dims):
        raise _error("dim", f"from {-ndim} to {ndim - 1}, each once", dim, reason, True)


def check_positive(name: str, value: object, reason: str) -> None:
    """Check that a value is a number above 0. Infinity is allowed."""
    is_infinite = isinstance(value, float) and value == float("inf")
    if not is_infinite:
        _check_number(name, value, "a number above 0", reason, lambda x: x > 0)


def check_constant(normalize_constant: object) -> None:
    """Check that normalize_constant is a finite number above 0."""
    wanted, reason = "a finite number above 0", "it divides the masked sum"
    _check_number("normalize_constant", normalize_constant, wanted, reason, lambda x: x > 0)


def check_finite(name: str, value: object, reason: str) -> None:
    """Check that a value is a number, neither NaN nor infinite."""
    _check_number(name, value, "a finite number", reason, lambda x: True)


def check_fraction(name: str, value: object, reason: str) -> None:
    """Check that a value is a number from 0 to 1."""
    _check_number(name, value, "a number from 0 to 1", reason, lambda x: 0 <= x <= 1)


def _check_number(
    name: str, value: Any, wanted: str, reason: str, is_allowed: Callable[[float], bool]
) -> None:
    is_number = isinstance(value, int | float) and type(value) is not bool
    # An int may be larger than any float.
    if not is_number or not abs(value) <= sys.float_info.max or not is_allowed(value):
        raise _error(name, wanted, value, reason, is_number)


def check_tensor(name: str, value: object) -> None:
    """Check that a value is a tensor that stores each of its numbers."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(value).__name__}: "
            f"wrap it in torch.tensor(...)."
        )
    if value.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {value.layout}: call .to_dense().")


def check_floating(name: str, value: Any, hint: str) -> None:
    """Check that a value is a floating point tensor."""
    check_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: {hint}.")
    if value.dtype not in FLOATS:
        raise TypeError(
            f"{name} must be float64, float32, bfloat16 or float16, got {value.dtype}: "
            "convert it with .float()."
        )


def check_ids(name: str, ids: Tensor) -> Tensor:
    """Check that a tensor contains integers and has shape (B, S); return it as int64."""
    check_tensor(name, ids)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{name} must contain integers, got {ids.dtype}: pass token ids.")
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"{name} must have shape (B, S) with at least one token, got {_shape(ids)}: "
            "one row per sequence, one column per token."
        )
    return ids.long()


def check_range(name: str, ids: Tensor, is_wrong: Tensor, reason: str) -> None:
    """Check that no id is marked as wrong; the message has the first one's row and position."""
    if is_wrong.any():
        row, position = is_wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{name} has {ids[row, position].item()} at row {row}, position {position}: {reason}."
        )


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Check that logits (B, S, V) and int64 labels (B, S) belong together."""
    check_tensor("logits", logits)
    check_tensor("labels", labels)
    if logits.ndim != 3 or logits.dtype not in FLOATS or not logits.numel():
        raise ValueError(
            f"logits must be floating point of shape (B, S, V), got {logits.dtype} "
            f"{_shape(logits)}: one score per entry of the vocabulary, at each token."
        )
    if labels.shape != logits.shape[:2] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape {tuple(logits.shape[:2])}, got {labels.dtype} "
            f"{_shape(labels)}: one entry of the vocabulary per token."
        )
    V = logits.shape[2]
    reason = (
        f"labels are indices of the vocabulary, from 0 to {V - 1}; "
        "where there is no label, give 0 and mask the token"
    )
    check_range("labels", labels, (labels < 0) | (labels >= V), reason)


def check_tokens(tokens: Any, shape: Sequence[int]) -> None:
    """Check that tokens are None, or one string per log-prob."""
    if tokens is None:
        return
    try:  # what can be sliced is a sequence
        kinds = {kind for row in tokens[:] for kind in set(map(type, row[:]))}
    except (TypeError, KeyError):
        raise TypeError(
            f"tokens must be B rows of S strings, got {brief(tokens)}: give one string per token."
        ) from None
    if invalid := [kind.__name__ for kind in kinds if not issubclass(kind, str)]:
        raise TypeError(f"tokens must be strings, got {min(invalid)}: decode the token ids first.")
    B, S = shape
    if len(tokens) != B or any(len(row) != S for row in tokens):
        lengths = listed([len(row) for row in tokens])
        raise ValueError(
            f"tokens has {len(tokens)} rows of {lengths} strings but policy_log_probs has shape "
            f"{(B, S)}: give one string per token."
        )


def check_vocabulary(vocabulary: Sequence[str] | None, V: int) -> None:
    """Check that a vocabulary is None, or V strings."""
    if vocabulary is not None and not isinstance(vocabulary, Sequence):
        raise TypeError(
            f"vocabulary must be a list of strings, got {type(vocabulary).__name__}: "
            "the place of a string in it is its id."
        )
    if invalid := [word for word in vocabulary or () if not isinstance(word, str)]:
        raise TypeError(
            f"vocabulary must be strings, got {type(invalid[0]).__name__} {brief(invalid[0])}: "
            "decode the token ids first."
        )
    if vocabulary is not None and len(vocabulary) != V:
        raise ValueError(
            f"vocabulary has {len(vocabulary)} strings but the last dimension of the logits has "
            f"{V} entries: give one string per entry."
        )


def _error(name: str, wanted: str, value: object, reason: str, is_type_right: bool) -> Exception:
    came = brief(value) if is_type_right else f"{type(value).__name__} {brief(value)}"
    error = ValueError if is_type_right else TypeError
    return error(f"{name} must be {wanted}, got {came}: {reason}.")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def brief(value: object) -> str:
    """A value in a message, shortened if it is long.

    >>> brief(2**70), brief("a" * 100), brief(-0.5)
    ('an int of 71 bits', "'aaaaaaaaaaaa...aaaaaaaaaaaaa'", '-0.5')
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    return reprlib.repr(value)


def listed(values: Sequence[object]) -> str:
    """Values in a message, separated by commas; of many, the first.

    >>> listed(range(3)), listed(range(1000))
    ('0, 1, 2', '0, 1, 2, 3, 4, 5, … (1000 in all)')
    """
    few = ", ".join(map(str, values[:6]))
    return few if len(values) <= 6 else f"{few}, … ({len(values)} in all)"
