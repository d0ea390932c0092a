"""A test of the step as a value, and which mistakes pass it: each is run through the test."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from sftviz.inputs import StepInputs
from sftviz.mistakes.changes import BFLOAT16, CHANGES, NAN, SPECIAL, Change
from sftviz.mistakes.mistake import Mistake
from sftviz.mistakes.recognise import HAS_GRAD, HAS_GRAPH, RIGHT, STEP_MISTAKES, run_on
from sftviz.step import StepTrace
from sftviz.validate import place

# What a test may do besides comparing the loss, and how to say that it should.
CHECKS = {
    "grad": "compare the gradient",
    "metadata": "compare num_tokens and masked_sum",
    "no_graph": "check that the loss has no graph",
    "second_call": "call it twice, without clearing .grad",
    "nan": "put NaN at the masked tokens",
    "bfloat16": "try log-probs in bfloat16",
    "precise": "compare more precisely",
}


@dataclass(frozen=True, eq=False)
class StepTest:
    """A test of a step: a batch, what is compared on it, and what else is tried.

    `scaled_loss` is always compared. The log-probs are kept in float64 with six digits, so that a
    file can have them exactly.

    Raises:
        TypeError, ValueError: the step can't be computed from these arguments, or a log-prob is not
            finite.

    Example:
        >>> test = StepTest([[-0.53, -0.31], [-0.41, -0.67]], [[0, 1], [1, 1]], 2, grad=False)
        >>> "÷B·G" in [mistake.name for mistake in test.trace().alive]
        True
    """

    policy_log_probs: Tensor  # (B, S) float64
    response_mask: Tensor  # (B, S) bool
    gradient_accumulation_steps: int
    normalize_constant: float = 1.0
    grad: bool = True
    metadata: bool = True
    no_graph: bool = True
    second_call: bool = True  # .grad is not cleared before it
    nan: bool = True  # in a further call
    bfloat16: bool = True  # in a further call
    precise: bool = True  # not as CS336's tests, whose tolerances are 1e-4 and 0.01

    def __post_init__(self) -> None:
        given = self.inputs
        log_probs = given.policy_log_probs
        if not log_probs.isfinite().all():
            row, column = (~log_probs.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"policy_log_probs must be finite, got {log_probs[row, column]:g} at "
                f"{place(row, column)}: for NaN at the masked tokens, set nan=True."
            )
        for name in CHECKS:
            if not isinstance(getattr(self, name), bool):
                came = getattr(self, name)
                raise TypeError(
                    f"{name} must be True or False, got {type(came).__name__} {came!r}."
                )
        exact = [[float(f"{entry:.6g}") for entry in row] for row in log_probs.tolist()]
        object.__setattr__(self, "policy_log_probs", torch.tensor(exact, dtype=torch.float64))
        object.__setattr__(self, "response_mask", given.response_mask != 0)

    @property
    def inputs(self) -> StepInputs:
        """The batch."""
        return StepInputs(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )

    @property
    def tolerance(self) -> tuple[float, float]:
        """Relative and absolute, as `torch.testing.assert_close` has them."""
        return (1e-9, 1e-14) if self.precise else (1e-4, 1e-2)

    @property
    def tolerance_16(self) -> tuple[float, float]:
        """The same for bfloat16 log-probs, which the right step adds up in float32: 6 digits."""
        G, c = self.gradient_accumulation_steps, self.normalize_constant
        size = self.policy_log_probs[self.response_mask].abs().sum().item() / c / G / G
        return 1e-9, float(f"{1e-6 * size:.1g}")

    def trace(self) -> "Survivors":
        """Run every mistake of the step through this test."""
        killer = _killer(self)
        return Survivors(self, {mistake: killer(mistake) for mistake in STEP_MISTAKES})


class Advice(NamedTuple):
    """A change of a test, and the survivors that it kills."""

    change: str  # "change B", "compare the gradient"
    now: str  # what is so now: "B = G = 2"; may be empty
    kills: tuple[Mistake, ...]


@dataclass(frozen=True, eq=False)
class Survivors:
    """What becomes of each mistake in a test."""

    test: StepTest
    killers: Mapping[Mistake, str]  # the first that differs: "grad", "NaN"; empty: it survives

    @property
    def alive(self) -> tuple[Mistake, ...]:
        """The mistakes that pass the test."""
        return tuple(mistake for mistake, killer in self.killers.items() if not killer)

    @cached_property
    def right(self) -> StepTrace:
        """The right step on the test's batch."""
        return self.test.inputs.trace()

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        """What would kill each survivor: one change, or several where none alone does.

        Each change is made and run. The one that kills the most is the first.
        """
        left, found = self.alive, []
        for name, change in _changes(self.test).items():
            killer = _killer(change(self.test))
            if killed := tuple(filter(killer, left)):
                found.append(Advice(name, _now(self.test, name), killed))
                left = tuple(mistake for mistake in left if mistake not in killed)
        found.sort(key=lambda advice: -len(advice.kills))
        several: dict[str, tuple[Mistake, ...]] = {}
        for mistake in left:
            name = _several(self.test, mistake)
            several[name] = (*several.get(name, ()), mistake)
        return (*found, *(Advice(name, "", killed) for name, killed in several.items()))


class _Call(NamedTuple):
    """A call of the step in a test, and what is compared after it."""

    name: str  # of a further call
    inputs: StepInputs
    quantities: Sequence[str]
    times: int
    tolerance: tuple[float, float]


def _calls(test: StepTest) -> Iterator[_Call]:
    x, (rtol, atol) = test.inputs, test.tolerance
    grad = ("grad", HAS_GRAD) if test.grad else ()
    returned = ("num_tokens", "masked_sum", "scaled_loss") if test.metadata else ("scaled_loss",)
    graph = (HAS_GRAPH,) if test.no_graph else ()
    yield _Call("", x, (*returned, *grad, *graph), 1, (rtol, atol))
    if test.second_call:
        yield _Call("the second call", x, ("grad", HAS_GRAD), 2, (rtol, atol))
    if test.nan:
        yield _Call("NaN", SPECIAL[NAN](x), (*returned, *grad), 1, (rtol, atol))
    if test.bfloat16:
        yield _Call("bfloat16", SPECIAL[BFLOAT16](x), ("scaled_loss",), 1, test.tolerance_16)


def _killer(test: StepTest) -> Callable[[Mistake], str]:
    """A function from a mistake to the first thing that differs from the right step."""
    right_of = cache(lambda call: run_on(RIGHT, call.inputs, call.times))
    calls = tuple(_calls(test))

    def killer(mistake: Mistake) -> str:
        for call in calls:
            right, mine = right_of(call), run_on(mistake, call.inputs, call.times)
            if mine is None:
                return "an error"
            for name in call.quantities:
                if not torch.allclose(mine[name], right[name], *call.tolerance):
                    return call.name or name.removeprefix("has ")
        return ""

    return killer


def _changes(test: StepTest) -> dict[str, Callable[[StepTest], StepTest]]:
    """Changes of a test by what they are called, the cheapest first."""

    def of_batch(change: Change) -> Callable[[StepTest], StepTest]:
        def changed(test: StepTest) -> StepTest:
            x = change(test.inputs)
            scalars = x.gradient_accumulation_steps, x.normalize_constant
            checks = {name: getattr(test, name) for name in CHECKS}
            return StepTest(x.policy_log_probs, x.response_mask, *scalars, **checks)

        return changed

    missing = {
        text: partial(replace, **{name: True})
        for name, text in CHECKS.items()
        if not getattr(test, name)
    }
    precise = {text: missing.pop(text) for text in (CHECKS["precise"],) if text in missing}
    batch = {f"change {name}": of_batch(change) for name, change in CHANGES.items()}
    return precise | batch | missing


def _now(test: StepTest, change: str) -> str:
    """What is so in a test, and would not be after a change."""
    B, G = len(test.policy_log_probs), test.gradient_accumulation_steps
    sizes = {
        "change B": f"B = G = {B}" if B == G else f"B = {B}",
        "change G": f"G = {G}",
        "change c": f"c = {test.normalize_constant:g}",
    }
    return sizes.get(change, "")


def _several(test: StepTest, mistake: Mistake) -> str:
    """The few of all changes that together kill a mistake that none of them kills alone."""
    changes = _changes(test)

    def kill(names: Sequence[str]) -> bool:
        changed = test
        for name in names:
            changed = changes[name](changed)
        return bool(_killer(changed)(mistake))

    needed = [*changes]
    if not kill(needed):
        return "choose a batch with more tokens"
    for name in reversed(needed):
        fewer = [each for each in needed if each != name]
        if kill(fewer):
            needed = fewer
    return ", and ".join(needed)
