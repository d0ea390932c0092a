"""What is judged, as a value: the right function, its mistakes, and what all of them are run on.

No answer is stored: whatever a learner's function gives is compared with what the right function
and each mistake give on the same arguments. So the trials have to tell the mistakes apart: give at
least one in which no two sizes are equal. Put ordinary arguments first. A new subject:

    >>> from sftviz.exercises.check import check
    >>> def masked_sum(log_probs, mask):
    ...     return torch.where(mask, log_probs, 0).sum()
    >>> log_probs = torch.tensor([[-0.5, -0.25, -2.0]], requires_grad=True)
    >>> MASKED_SUM = Subject(
    ...     "masked_sum",
    ...     ("log_probs", "mask"),
    ...     masked_sum,
    ...     mistakes=(
    ...         Mistake(
    ...             "mask ignored",
    ...             "All tokens are summed, the masked ones too.",
    ...             "Sum only where the mask is 1.",
    ...             "masked_sum",
    ...             lambda log_probs, mask: log_probs.sum(),
    ...         ),
    ...     ),
    ...     trials=(
    ...         Trial((log_probs, torch.tensor([[False, True, True]]))),
    ...         Trial((log_probs, torch.tensor([[False] * 3])), condition="no token counts"),
    ...     ),
    ...     gradient="of the result",
    ... )
    >>> check(MASKED_SUM, lambda log_probs, mask: log_probs.sum()).mistake
    'mask ignored'
    >>> check(MASKED_SUM, lambda log_probs, mask: log_probs[mask].sum()).outcome
    'correct'

A function with several results names them: `returns=("input_ids", "labels")`. If what is returned
has another form, such as a list of dictionaries, `read` makes named numbers of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from sftviz.mistakes import Mistake

Reading = tuple[Mapping[str, object], str]  # numbers and tensors by name, and what is missing
Gradient = Literal["", "left in .grad", "of the result"]


@dataclass(frozen=True, eq=False)
class Trial:
    """The arguments of one call. Each call gets a copy, with the `.grad` that a tensor has."""

    arguments: tuple[Any, ...]
    condition: str = ""  # what is out of the ordinary: "no token counts"
    sizes: str = ""  # "B = 3, G = 2"; empty: the shapes and numbers of the arguments
    is_leaf: bool = True  # whether tensors that require a gradient are given as leaves
    rounded: frozenset[str] = frozenset()  # numbers in which a difference is not a mistake here


@dataclass(frozen=True, eq=False)
class Subject:
    """A function that learners write, and all that is needed to judge it.

    `gradient` says which gradient belongs to the answer, with respect to all tensors and models
    among the arguments that require one: none, what the function itself leaves in `.grad` (then
    what it returns must be detached), or that of what it returns.
    """

    name: str  # of the function
    arguments: tuple[str, ...]  # their names
    right: Callable[..., Any]
    mistakes: tuple[Mistake, ...]
    trials: tuple[Trial, ...]
    returns: tuple[str, ...] = ()  # in the order of computation; empty: one, with the name above
    gradient: Gradient = ""
    read: Callable[[Any], Reading] | None = None  # None: `returns` says how
    changes_arguments: bool = False  # whether it may: then its models' weights are an answer too
    also_called: tuple[str, ...] = ()  # names that it has in learners' files besides

    def reading(self, result: object) -> Reading:
        """What was returned, by name."""
        return self.read(result) if self.read else _read(self.returns or (self.name,), result)

    def describe(self, trial: Trial) -> str:
        """The arguments of a trial in a few words."""
        named = zip(self.arguments, trial.arguments, strict=True)
        sizes = trial.sizes or ", ".join(filter(None, (_size(*each) for each in named)))
        return f"{sizes}, where {trial.condition}" if trial.condition else sizes


def _size(name: str, value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{name} {tuple(value.shape)}"
    return f"{name} = {value}" if isinstance(value, int | float | list) else ""


def _read(names: tuple[str, ...], result: object) -> Reading:
    if isinstance(result, Mapping):
        missing = " and ".join(f"{name!r}" for name in names if name not in result)
        found = {name: result[name] for name in names if name in result}
        return found, f"What is returned lacks {missing}." if missing else ""
    if len(names) == 1:
        return {names[0]: result}, ""
    if isinstance(result, tuple | list) and len(result) == len(names):
        return dict(zip(names, result, strict=True)), ""
    return {}, f"Return {len(names)} values, {', '.join(names)}; got {kind(result)}."


def kind(result: object) -> str:
    """What a function has returned, in few words."""
    return f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
