"""What a function is run on, and what is seen of one run.

A mistake is run and seen in the same way as the learner's function, so comparing the two needs no
knowledge of either.
"""

import inspect
import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sftviz.inputs import StepInputs
from sftviz.mistakes import TELLING

Step = Callable[..., Any]  # the arguments of `sft_microbatch_train_step`
NUMBERS = ("num_tokens", "masked_sum", "scaled_loss", "grad")
FLAGS = ("detached results", "unchanged inputs")
_PRECISE = 1e-4  # relative: a function may compute in float32
_ARGUMENTS = (
    "policy_log_probs",
    "response_mask",
    "gradient_accumulation_steps",
    "normalize_constant",
)


@dataclass(frozen=True, eq=False)
class Trial:
    """A batch, and how its log-probs are given."""

    inputs: StepInputs
    is_leaf: bool = True
    grad_before: float = 0.0  # what is in .grad already: gradients add up over calls

    @property
    def condition(self) -> str:
        """What is out of the ordinary; empty if nothing is."""
        mask = self.inputs.response_mask.bool()
        log_probs = self.inputs.policy_log_probs
        conditions = {
            "a masked log-prob is NaN or −inf": not log_probs[~mask].isfinite().all(),
            "the mask contains the numbers 0 and 1": self.inputs.response_mask.dtype != torch.bool,
            f"the log-probs are {log_probs.dtype}": log_probs.dtype.itemsize < 4,
            "no token counts": not mask.any(),
            "policy_log_probs is not a leaf": not self.is_leaf,
            ".grad has a value before the call": self.grad_before != 0,
        }
        return " and ".join(text for text, is_so in conditions.items() if is_so)

    def __str__(self) -> str:
        B, S = self.inputs.policy_log_probs.shape
        G, c = self.inputs.gradient_accumulation_steps, self.inputs.normalize_constant
        text = f"B = {B}, S = {S}, G = {G}, c = {c:g}"
        return f"{text}, where {self.condition}" if self.condition else text


@dataclass(frozen=True, eq=False)
class Run:
    """What a function did with one batch."""

    numbers: Mapping[str, Tensor]  # those of `NUMBERS` that could be read
    flags: Mapping[str, bool]  # those of `FLAGS`
    error: BaseException | None = None
    complaint: str = ""  # why what it returned can't be read
    returned: bool = True  # something other than None or ...
    printed: str = ""  # the beginning of what it printed

    def agrees(self, name: str, other: "Run", dtype: torch.dtype) -> bool:
        """Whether two runs have the same number, or the same flag, on log-probs of a dtype."""
        if name in FLAGS:
            return self.flags.get(name) == other.flags.get(name)
        mine, theirs = self.numbers.get(name), other.numbers.get(name)
        if mine is None or theirs is None:
            return mine is theirs
        if mine.shape != theirs.shape:
            return False
        # A gradient has the dtype of the log-probs, and its roundings.
        rounding = 4 * torch.finfo(dtype).eps if name == "grad" else 0.0
        tolerance = max(_PRECISE, rounding)
        return torch.allclose(mine, theirs, rtol=tolerance, atol=1e-7, equal_nan=True)


@torch.inference_mode(False)
@torch.enable_grad()
def run(step: Step, trial: Trial) -> Run:
    """Call a function on a copy of a batch and look at what it returned and left."""
    inputs = trial.inputs
    leaf = inputs.policy_log_probs.clone().requires_grad_()
    if trial.grad_before:
        leaf.grad = torch.full_like(leaf, trial.grad_before)
    log_probs = leaf if trial.is_leaf else leaf * 1
    mask = inputs.response_mask.clone()
    values = log_probs, mask, inputs.gradient_accumulation_steps, inputs.normalize_constant
    output = Output()
    error = result = None
    with redirect_stdout(output), redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as reading .grad of what is not a leaf
        try:
            result = _call(step, values)
        except (Exception, SystemExit) as raised:
            error = raised
    numbers, complaint, detached = _read(result)
    if leaf.grad is not None:
        numbers["grad"] = leaf.grad.detach().double()
    same = _same(log_probs, inputs.policy_log_probs) and _same(mask, inputs.response_mask)
    flags = {"detached results": detached, "unchanged inputs": same}
    first = result[0] if isinstance(result, tuple | list) and result else result
    returned = first is not None and first is not ...
    return Run(numbers, flags, error, complaint, returned, output.beginning)


def _call(step: Step, values: tuple[object, ...]) -> object:
    """By name if the function has our names, which may be in another order; else by position."""
    try:
        names = set(inspect.signature(step).parameters)
    except (TypeError, ValueError):  # a callable without a signature
        names = set()
    if names >= set(_ARGUMENTS):
        return step(**dict(zip(_ARGUMENTS, values, strict=True)))
    return step(*values)


def _same(tensor: Tensor, before: Tensor) -> bool:
    return tensor.shape == before.shape and torch.allclose(
        tensor.detach().double(), before.double(), rtol=0, atol=0, equal_nan=True
    )


def _read(result: object) -> tuple[dict[str, Tensor], str, bool]:
    """The numbers in what was returned, why others are missing, and whether all are detached."""
    complaints = []
    loss, metadata = result, {}
    if isinstance(result, tuple | list) and len(result) == 2:
        loss, metadata = result
    else:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        complaints.append(f"Return a tuple of two, (scaled_loss, metadata); got {got}.")
    found: dict[str, object] = {"scaled_loss": loss}
    if not complaints and not isinstance(loss, Tensor):
        complaints.append(
            f"The loss must be a tensor, got {type(loss).__name__}: scaled_loss.detach()."
        )
    if isinstance(metadata, Mapping):
        found |= {name: metadata.get(name) for name in NUMBERS[:2]}
        missing = [f"{name!r}" for name in NUMBERS[:2] if name not in metadata]
        if missing and not complaints:
            complaints.append(f"The metadata lacks {' and '.join(missing)}.")
    else:
        complaints.append(f"The metadata must be a dictionary, got {type(metadata).__name__}.")
    numbers = {}
    for name, value in found.items():
        tensor = _tensor(value)
        if tensor is not None and tensor.ndim:
            complaints.append(f"{name} must be a scalar, got shape {tuple(tensor.shape)}.")
        elif tensor is not None:
            numbers[name] = tensor
    attached = any(isinstance(value, Tensor) and value.requires_grad for value in found.values())
    return numbers, " ".join(complaints), not attached


def _tensor(value: object) -> Tensor | None:
    if value is None or value is ...:
        return None
    try:
        return torch.as_tensor(value).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


class Output(io.TextIOBase):
    """A place for what is printed, of which only the beginning is kept."""

    most = 200  # characters

    def __init__(self) -> None:
        self.beginning = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.beginning) < self.most:
            self.beginning += text[: self.most - len(self.beginning)]
        return len(text)


@cache
def trials() -> tuple[Trial, ...]:
    """Ordinary batches first, so that a number is explained where it is simplest.

    They tell all mistakes apart, and have what a function may stumble over besides.
    """
    nan, inf = float("nan"), float("inf")
    log_probs = torch.tensor(
        [[-0.5, -0.25, -1.5, -0.7], [-0.4, -2.0, -0.3, -0.9], [-1.1, -0.6, -0.8, -0.2]],
        dtype=torch.float64,
    )  # (3, 4)
    uneven = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]])  # one row has no response
    hollow = torch.where(uneven.bool(), log_probs, torch.tensor([nan, -inf, nan, -inf]).double())
    plain = StepInputs(log_probs, uneven.bool(), 2, 7.0)
    every = [
        *map(Trial, TELLING),
        Trial(plain),
        Trial(StepInputs(log_probs.flip(0).float(), uneven.bool().flip(0), 5, 0.5)),
        Trial(StepInputs(log_probs, uneven, 4, 3)),
        Trial(plain, is_leaf=False),
        Trial(plain, grad_before=0.375),
        Trial(StepInputs(hollow, uneven.bool(), 2, 7.0)),
        Trial(plain),  # again: nothing may be left from the first time
    ]
    return tuple(sorted(every, key=lambda trial: bool(trial.condition)))
