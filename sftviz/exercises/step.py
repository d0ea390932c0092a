"""The step as a subject: what a function is run on, and how its result is read."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sftviz.exercises.check import check
from sftviz.exercises.runs import Function
from sftviz.exercises.subject import Reading, Subject, Trial, kind
from sftviz.exercises.verdict import Verdict
from sftviz.inputs import StepInputs
from sftviz.mistakes import STEP_MISTAKES, TELLING
from sftviz.step import sft_microbatch_train_step

_METADATA = ("num_tokens", "masked_sum")


def check_step(my_step: Function) -> Verdict:
    """Run a function on batches that tell mistakes apart, and say what is wrong and what is right.

    The function has the arguments and the results of `sft_microbatch_train_step`. Arguments with
    its names may be in another order. Computing in float32 is precise enough.

    Returns:
        The verdict: `outcome` is "correct", "wrong", "not attempted" (it raises
        NotImplementedError, or returns None or ... without a gradient), or "error" (it raises, or
        does not end). `mistake` is the name of the mistake that gives the same numbers, if one
        does. A function that only adds up 16-bit log-probs in 16 bits is correct, and that may be
        its mistake.

    Raises:
        TypeError: what is given is not a function.

    Example:
        >>> def my_step(policy_log_probs, response_mask, gradient_accumulation_steps, c=1.0):
        ...     raise NotImplementedError
        >>> check_step(my_step).outcome
        'not attempted'
    """
    return check(STEP, my_step)


def _read(result: object) -> Reading:
    """The numbers in what was returned, and why others are missing."""
    complaints = []
    loss, metadata = result, {}
    if isinstance(result, tuple | list) and len(result) == 2:
        loss, metadata = result
    else:
        complaints.append(f"Return a tuple of two, (scaled_loss, metadata); got {kind(result)}.")
    if not complaints and not isinstance(loss, Tensor):
        complaints.append(f"The loss must be a tensor, got {kind(loss)}: scaled_loss.detach().")
    found: dict[str, object] = {}
    if isinstance(metadata, Mapping):
        found = {name: metadata[name] for name in _METADATA if name in metadata}
        missing = [f"{name!r}" for name in _METADATA if name not in metadata]
        if missing and not complaints:
            complaints.append(f"The metadata lacks {' and '.join(missing)}.")
    else:
        complaints.append(f"The metadata must be a dictionary, got {kind(metadata)}.")
    return found | {"scaled_loss": loss}, " ".join(complaints)


def _trial(inputs: StepInputs, is_leaf: bool = True, grad_before: float | None = None) -> Trial:
    log_probs, mask = inputs.policy_log_probs.clone().requires_grad_(), inputs.response_mask
    if grad_before is not None:
        log_probs.grad = torch.full_like(log_probs, grad_before)
    G, c, (B, S) = inputs.gradient_accumulation_steps, inputs.normalize_constant, mask.shape
    is_coarse = log_probs.dtype.itemsize < 4
    conditions = {
        "the log-probs have 16 bits": is_coarse,
        "a masked log-prob is NaN or −inf": not log_probs[~mask.bool()].isfinite().all(),
        "the mask contains the numbers 0 and 1": mask.dtype != torch.bool,
        "the log-prob of a response token is 0": (log_probs[mask.bool()] == 0).any(),
        "policy_log_probs is not a leaf": not is_leaf,
        ".grad has a value before the call": grad_before is not None,
    }
    return Trial(
        (log_probs, mask, G, c),
        next((text for text, is_so in conditions.items() if is_so), ""),
        f"B = {B}, S = {S}, G = {G}, c = {c:g}",
        is_leaf,
        # A plain .sum() of 16 bits rounds: that is worth a remark.
        frozenset({"masked_sum", "scaled_loss"}) if is_coarse else frozenset(),
    )


def _trials() -> tuple[Trial, ...]:
    """They tell all mistakes apart, and have what a function may stumble over besides."""
    nan, inf = float("nan"), float("inf")
    log_probs = torch.tensor(
        [[-0.5, -0.25, -1.5, -0.7], [-0.4, -2.0, -0.3, -0.9], [-1.1, -0.6, -0.8, -0.2]],
        dtype=torch.float64,
    )  # (3, 4)
    uneven = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]])  # one row has no response
    mask = uneven.bool()
    hollow = torch.where(mask, log_probs, torch.tensor([nan, -inf, nan, -inf]).double())
    plain = StepInputs(log_probs, mask, 2, 7.0)
    telling = [replace(each, response_mask=each.response_mask.bool()) for each in TELLING]
    every = [
        _trial(plain),
        _trial(StepInputs(log_probs.flip(0).float(), mask.flip(0), 5, 0.5)),
        _trial(plain),  # again: nothing may be left from the first time
        *map(_trial, telling),
        _trial(StepInputs(log_probs, uneven, 2, 7.0)),
        _trial(StepInputs(log_probs * (log_probs != -0.3), mask, 2, 7.0)),
        _trial(plain, is_leaf=False),
        _trial(plain, grad_before=0.375),
        _trial(StepInputs(hollow, mask, 2, 7.0)),
    ]
    return tuple(sorted(every, key=lambda trial: bool(trial.condition)))


STEP = Subject(
    "sft_microbatch_train_step",
    (
        "policy_log_probs",
        "response_mask",
        "gradient_accumulation_steps",
        "normalize_constant",
    ),
    sft_microbatch_train_step,
    STEP_MISTAKES,
    _trials(),
    gradient="left in .grad",
    read=_read,
    also_called=("my_step",),
)
