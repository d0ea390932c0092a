"""A learner's run beside the right one, on the same arguments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sftviz.drawing.formatting import number
from sftviz.exercises.runs import Run
from sftviz.exercises.subject import Trial
from sftviz.exercises.verdict import Number

ERROR, RESULT, GRADIENT = "error", "readable result", "any gradient"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs of a trial, and where they part."""

    trial: Trial
    mine: Run
    right: Run

    @cached_property
    def differing(self) -> frozenset[str]:
        """What differs; and ERROR, RESULT or GRADIENT if one can't be read or is missing."""
        mine, right = self.mine, self.right
        found = {name for name in (*right.numbers, *right.flags) if not right.agrees(name, mine)}
        if mine.error:
            found.add(ERROR)
        elif self.complaint:
            found.add(RESULT)
        if right.numbers.keys() & right.gradients.keys() - mine.numbers.keys():
            found.add(GRADIENT)
        return frozenset(found)

    @property
    def wrong(self) -> frozenset[str]:
        """What differs, unless it is rounding alone."""
        return self.differing if self.differing - self.trial.rounded else frozenset()

    @property
    def misshapen(self) -> list[str]:
        """The numbers that have another shape than the right ones."""
        mine, right = self.mine.numbers, self.right.numbers
        return [name for name in right if name in mine and mine[name].shape != right[name].shape]

    @property
    def unreadable(self) -> set[str]:
        """The numbers that can't be compared. No gradient can: that is an answer too."""
        missing = self.right.numbers.keys() - self.mine.numbers.keys()
        return {*self.misshapen, *(missing - self.right.gradients.keys())}

    @property
    def complaint(self) -> str:
        """What is to be changed so that what is returned can be read."""
        shapes = []
        for name in self.misshapen:
            mine, right = (tuple(run.numbers[name].shape) for run in (self.mine, self.right))
            wanted = f"have shape {right}" if right else "be a scalar"
            shapes.append(f"{name} must {wanted}, got shape {mine}.")
        return " ".join(filter(None, (self.mine.complaint, *shapes)))

    def numbers(self) -> Iterator[Number]:
        """Each number beside the right one; of a tensor, the entry that differs most."""
        for name, right in self.right.numbers.items():
            mine = self.mine.numbers.get(name)
            same = self.right.agrees(name, self.mine)
            if name in self.misshapen:
                yield Number(name, *(f"shape {tuple(each.shape)}" for each in (mine, right)), same)
            elif right.numel():
                at = _furthest(mine, right)
                label = f"{name}[{','.join(map(str, at))}]" if at else name
                yield Number(label, _written(mine, at), _written(right, at), same)


def all_names(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """All that is compared: the numbers in the order of computation, then the flags."""
    numbers = dict.fromkeys(name for pair in pairs for name in pair.right.numbers)
    return (*numbers, *pairs[0].right.flags)


def _furthest(mine: Tensor | None, right: Tensor) -> tuple[int, ...]:
    """Where two tensors differ most; or where the right one is largest, if they do not differ."""
    gap = right.abs() if mine is None else (mine - right).abs().nan_to_num(torch.inf)
    if not (gap > 1e-9).any():
        gap = right.abs()
    return tuple(int(each) for each in torch.unravel_index(gap.argmax(), right.shape))


def _written(tensor: Tensor | None, at: tuple[int, ...]) -> str:
    if tensor is None:
        return "none"
    value = tensor[at].item()
    return number(int(value) if abs(value) < 1e6 and value == int(value) else value)
