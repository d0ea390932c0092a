"""Which mistakes give an answer: the right step and every mistake are run on the same arguments."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from sftviz.inputs import StepInputs
from sftviz.mistakes.answer import Answer, read_answer
from sftviz.mistakes.backward import BACKWARDS, DTYPES, RETURNS, SIGNS
from sftviz.mistakes.changes import CHANGES, SPECIAL
from sftviz.mistakes.divisors import CONSTANTS, DIVISORS
from sftviz.mistakes.masks import MASKS
from sftviz.mistakes.mistake import Mistake
from sftviz.mistakes.telling import TELLING
from sftviz.step import sft_microbatch_train_step
from sftviz.validate import brief

KINDS = {
    "divisor": DIVISORS,
    "constant": CONSTANTS,
    "mask": MASKS,
    "sign": SIGNS,
    "dtype": DTYPES,
    "backward": BACKWARDS,
    "return": RETURNS,
}
STEP_MISTAKES = tuple(chain(*KINDS.values()))
QUANTITIES = ("num_tokens", "masked_sum", "loss", "scaled_loss", "grad")

HAS_GRAD, HAS_GRAPH = "has grad", "has graph"
_AT_RESPONSE = "grad at response tokens"  # what one number for "grad" is about
RIGHT = Mistake("the right step", "", "", "step", sft_microbatch_train_step)


@dataclass(frozen=True)
class Recognition:
    """What an answer is."""

    outcome: Literal["right", "mistake", "unknown"]
    mistakes: tuple[Mistake, ...]  # that give this answer here, also if it is right
    message: str


def recognise(answer: object, quantity: str, arguments: StepInputs) -> Recognition:
    """Find out whether an answer is right, or which mistakes give it.

    A mistake that can never change the quantity is left out: the right answer says nothing about
    it.

    Args:
        answer: a number, or a string of its digits, which then decide how exact it is: "1.4" is
            anything that rounds to 1.4. For "grad" either the number at every response token, or
            the whole gradient, (B, S).
        quantity: "num_tokens", "masked_sum", "loss", "scaled_loss" or "grad".
        arguments: those of the step.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.

    Example:
        >>> from sftviz.examples import WORKED_EXAMPLE
        >>> print(recognise("2.8", "loss", WORKED_EXAMPLE).message)
        2.8 is not loss. 2 mistakes give it here: "÷G" and "÷B". With B = G = 2 and c = 1 they \
cannot be told apart: change B.
    """
    if quantity not in QUANTITIES:
        known = ", ".join(QUANTITIES)
        raise ValueError(f"quantity must be one of {known}, got {brief(quantity)}.")
    if not isinstance(arguments, StepInputs):
        raise TypeError(
            f"arguments must be a StepInputs, got {type(arguments).__name__}: "
            "make one with StepInputs(policy_log_probs, response_mask, ...)."
        )
    read = read_answer(answer, quantity, arguments.policy_log_probs.shape)
    if quantity == "grad" and read.value.ndim == 0:
        quantity = _AT_RESPONSE
    is_right = _gives(RIGHT, read, quantity, arguments)
    found = tuple(
        mistake
        for mistake in STEP_MISTAKES
        if mistake in _touching(quantity) and _gives(mistake, read, quantity, arguments)
    )
    outcome = "right" if is_right else "mistake" if found else "unknown"
    return Recognition(
        outcome, found, " ".join(_sentences(read, quantity, arguments, outcome, found))
    )


def run_on(mistake: Mistake, arguments: StepInputs, calls: int = 1) -> dict[str, Tensor] | None:
    """What a mistake gives in place of each quantity, in float64; None if it raises an error.

    Of several calls, the results of the last one, and the gradient of all.
    """
    G, c = arguments.gradient_accumulation_steps, arguments.normalize_constant
    with torch.inference_mode(False), torch.enable_grad():
        leaf = arguments.policy_log_probs.detach().clone().requires_grad_()
        try:
            for _ in range(calls):
                loss, metadata = mistake.run(leaf, arguments.response_mask.clone(), G, c)
        except (RuntimeError, IndexError, ArithmeticError):  # a wrong step may fail
            return None
    found = {name: torch.as_tensor(value).detach().double() for name, value in metadata.items()}
    grad = (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).double()
    is_response = arguments.response_mask != 0
    scaled_loss = loss.detach().double()
    return {
        **found,
        "loss": scaled_loss * G,  # the last line of the step divides it by G
        "scaled_loss": scaled_loss,
        "grad": grad,
        HAS_GRAD: torch.tensor(float(leaf.grad is not None)),
        HAS_GRAPH: torch.tensor(float(loss.requires_grad)),
        _AT_RESPONSE: grad[is_response] if is_response.any() else grad,
    }


def _gives(mistake: Mistake, answer: Answer, quantity: str, arguments: StepInputs) -> bool:
    values = run_on(mistake, arguments)
    return values is not None and answer.fits(values[quantity])


@cache
def _touching(quantity: str) -> frozenset[Mistake]:
    """The mistakes that can change a quantity."""
    # What is returned wrongly was right inside the step.
    candidates = [each for each in STEP_MISTAKES if quantity != "loss" or each not in RETURNS]
    return frozenset(
        each for each in candidates if len(_groups((RIGHT, each), quantity, TELLING)) > 1
    )


def _groups(
    mistakes: Iterable[Mistake], quantity: str, batches: Sequence[StepInputs]
) -> list[list[Mistake]]:
    """Mistakes that give the same quantity on every batch are in one group."""
    groups: list[tuple[list[Tensor | None], list[Mistake]]] = []
    for mistake in mistakes:
        runs = [run_on(mistake, batch) for batch in batches]
        values = [None if run is None else run[quantity] for run in runs]
        for others, group in groups:
            if all(map(_equal, values, others)):
                group.append(mistake)
                break
        else:
            groups.append((values, [mistake]))
    return [group for _, group in groups]


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)


def _sentences(
    answer: Answer, quantity: str, arguments: StepInputs, outcome: str, found: Sequence[Mistake]
) -> Iterable[str]:
    names = _listed([f'"{mistake.name}"' for mistake in found])
    if outcome == "unknown":
        yield f"{answer.text} is not {quantity}, and no known mistake gives it here."
    elif outcome == "right":
        yield f"{answer.text} is right."
        if found:
            yield f"{_count(found)} it here too: {names}."
            yield from _advice([RIGHT, *found], quantity, arguments)
    else:
        yield f"{answer.text} is not {quantity}."
        yield f"{_count(found)} it here: {names}."
        if len(found) == 1:
            yield f"{found[0].cause} {found[0].remedy}"
        else:
            yield from _advice(found, quantity, arguments)


def _count(found: Sequence[Mistake]) -> str:
    return "1 mistake gives" if len(found) == 1 else f"{len(found)} mistakes give"


def _listed(names: Sequence[str]) -> str:
    return (
        names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
    )


def _advice(mistakes: Sequence[Mistake], quantity: str, arguments: StepInputs) -> Iterable[str]:
    """How to tell mistakes apart: by few changes, and what no change tells by another quantity."""

    def groups(names: Sequence[str]) -> list[list[Mistake]]:
        return _groups(mistakes, quantity, _changed(arguments, names))

    needed = [*CHANGES, *SPECIAL]
    most = groups(needed)
    for name in reversed(needed):
        fewer = [each for each in needed if each != name]
        if len(groups(fewer)) == len(most):
            needed = fewer
    if needed:
        B, G = len(arguments.policy_log_probs), arguments.gradient_accumulation_steps
        sizes = f"B = G = {B}" if B == G else f"B = {B}, G = {G}"
        c = f"{arguments.normalize_constant:g}"
        yield f"With {sizes} and c = {c} they cannot be told apart: change {_listed(needed)}."
    elif len(most) > 1:
        yield "More digits tell them apart."
    for group in _groups(mistakes, quantity, TELLING):
        if len(group) > 1:
            size = len(group)
            others = [name for name in QUANTITIES if len(_groups(group, name, TELLING)) == size]
            where = others[-1] if others else "what is returned and what is left in .grad"
            names = _listed([f'"{mistake.name}"' for mistake in group])
            yield f"{names} always give the same {quantity}: look at {where}."


def _changed(arguments: StepInputs, names: Sequence[str]) -> list[StepInputs]:
    """The changed arguments, and each special batch beside them: NaN would hide all else."""
    for name, change in CHANGES.items():
        arguments = change(arguments) if name in names else arguments
    return [arguments, *(make(arguments) for name, make in SPECIAL.items() if name in names)]
