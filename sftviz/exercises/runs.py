"""One call of a function, and what is seen of it.

A mistake is called and seen in the same way as the learner's function, so comparing the two needs
no knowledge of either.
"""

import inspect
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sftviz.drawing.formatting import count_of
from sftviz.exercises.subject import Subject, Trial, kind

Function = Callable[..., Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # by position, and by name
DETACHED, UNCHANGED = "detached results", "unchanged inputs"
_PRECISE = 1e-4  # relative: a function may compute in float32


@dataclass(frozen=True, eq=False)
class Run:
    """What a function did with the arguments of a trial."""

    numbers: Mapping[str, Tensor]  # what could be read, in the order of computation
    gradients: Mapping[str, float]  # which of the numbers are gradients: the eps of each
    flags: Mapping[str, bool]
    error: BaseException | None = None
    complaint: str = ""  # why something can't be read
    is_stub: bool = False  # nothing was returned, and nothing was changed
    printed: str = ""  # the beginning of what it printed

    def agrees(self, name: str, other: "Run") -> bool:
        """Whether two runs on the same arguments have the same number, or the same flag."""
        if name in self.flags:
            return self.flags[name] == other.flags[name]
        mine, theirs = self.numbers.get(name), other.numbers.get(name)
        if mine is None or theirs is None:
            return mine is theirs
        # A gradient has the dtype of its argument, and its roundings.
        tolerance = max(_PRECISE, 4 * self.gradients.get(name, 0.0))
        return mine.shape == theirs.shape and torch.allclose(
            mine, theirs, rtol=tolerance, atol=1e-7, equal_nan=True
        )


@torch.inference_mode(False)
@torch.enable_grad()
def run(subject: Subject, function: Function, trial: Trial) -> Run:
    """Call a function on a copy of a trial's arguments; look at what it returned and left."""
    arguments = deepcopy(trial.arguments)
    leaves = _leaves(subject.arguments, arguments)
    for name, given in _leaves(subject.arguments, trial.arguments).items():
        leaves[name].grad = deepcopy(given.grad)  # deepcopy leaves it out where it is a parameter's
    if not trial.is_leaf:
        arguments = tuple(each * 1 if _needs_grad(each) else each for each in arguments)
    output = Output()
    result: object = None
    error: BaseException | None = None
    values: Mapping[str, object] = {}
    complaint = ""
    gradients: dict[str, Tensor | None] = {}
    with redirect_stdout(output), redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as reading .grad of what is not a leaf
        try:
            positional, by_name = _bind(function, subject.arguments, arguments)
            result = function(*positional, **by_name)
            values, complaint = subject.reading(result)
            values = {name: _stacked(value) for name, value in values.items()}
            if subject.gradient == "of the result":
                gradients = _gradients(values.values(), leaves)
        except (Exception, SystemExit) as raised:
            error = raised
    flags = {}
    if subject.gradient == "left in .grad":
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        flags[DETACHED] = not any(map(_needs_grad, values.values()))
    is_unchanged = _same(arguments, trial.arguments)
    if subject.changes_arguments:
        values = {**values, **_weights(arguments)}
    else:
        flags[UNCHANGED] = is_unchanged
    numbers = {name: _tensor(value) for name, value in {**values, **gradients}.items()}
    complaints = [complaint] if complaint else []
    complaints += [
        f"{name} must be a number or a tensor, got {kind(value)}."
        for name, value in values.items()
        if numbers[name] is None
    ]
    first = result[0] if isinstance(result, tuple | list) and result else result
    is_idle = is_unchanged and all(gradient is None for gradient in gradients.values())
    return Run(
        {name: tensor for name, tensor in numbers.items() if tensor is not None},
        {name: torch.finfo(leaf.dtype).eps for name, leaf in leaves.items() if subject.gradient},
        flags,
        error,
        " ".join(complaints),
        isinstance(error, NotImplementedError)
        or (error is None and is_idle and (first is None or first is ...)),
        output.beginning,
    )


def mismatch(function: Function, names: tuple[str, ...]) -> str:
    """Why a function can't be called with these arguments; empty if it can."""
    try:
        _bind(function, names, names)
    except TypeError:
        own = inspect.signature(function).replace(return_annotation=inspect.Signature.empty)
        return (
            f"The function has {count_of(len(own.parameters), 'parameter')} {own}, and is called "
            f"with {count_of(len(names), 'argument')}: {', '.join(names)}."
        )
    return ""


def _bind(function: Function, names: tuple[str, ...], values: tuple[object, ...]) -> Arguments:
    """By name if the function has our names, which may be in another order; else by position.

    Raises:
        TypeError: it has more parameters, or fewer.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a callable without a signature
        return values, {}
    if signature.parameters.keys() >= {*names}:
        with suppress(TypeError):
            bound = signature.bind(**dict(zip(names, values, strict=True)))
            return bound.args, bound.kwargs
    bound = signature.bind(*values)
    return bound.args, bound.kwargs


def _needs_grad(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _leaves(names: tuple[str, ...], arguments: tuple[object, ...]) -> dict[str, Tensor]:
    """What a gradient can arrive at, by the name of the gradient."""
    found: dict[str, Tensor] = {}
    for name, value in zip(names, arguments, strict=True):
        if isinstance(value, nn.Module):
            found |= value.named_parameters()
        elif _needs_grad(value):
            found[name] = value
    if len(found) == 1:
        return dict(zip(["grad"], found.values(), strict=True))
    return {f"grad of {name}": tensor for name, tensor in found.items()}


def _weights(arguments: Iterable[object]) -> dict[str, Tensor]:
    models = [each for each in arguments if isinstance(each, nn.Module)]
    return {name: weight for model in models for name, weight in model.named_parameters()}


def _gradients(values: Iterable[object], leaves: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Those of a sum in which every entry of every value has a weight of its own."""
    total = sum(
        (value * torch.linspace(1, 2, value.numel()).reshape(value.shape)).sum()
        for value in values
        if _needs_grad(value)
    )
    if not _needs_grad(total):
        return dict.fromkeys(leaves)
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def _same(value: object, before: object) -> bool:
    mine, theirs = list(_flat(value)), list(_flat(before))
    return len(mine) == len(theirs) and all(map(_equal, mine, theirs))


def _flat(value: object) -> Iterator[Tensor | float | str]:
    """All tensors, numbers and strings in a value."""
    match value:
        case Tensor() | int() | float() | str():
            yield value
        case nn.Module():
            yield from _flat(value.state_dict())
        case Mapping():
            yield from _flat(list(value.values()))
        case list() | tuple():
            for each in value:
                yield from _flat(each)
        case _ if is_dataclass(value):
            yield from _flat(vars(value))


def _equal(mine: Tensor | float | str, theirs: Tensor | float | str) -> bool:
    if not isinstance(mine, Tensor) or not isinstance(theirs, Tensor):
        return mine is theirs or mine == theirs
    return mine.shape == theirs.shape and torch.allclose(
        mine.detach().double(), theirs.detach().double(), rtol=0, atol=0, equal_nan=True
    )


def _stacked(value: object) -> object:
    """One tensor instead of a list of them, which keeps their graph."""
    if isinstance(value, list | tuple) and value and all(isinstance(x, Tensor) for x in value):
        with suppress(RuntimeError):  # of different shapes
            return torch.stack(list(value))
    return value


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
