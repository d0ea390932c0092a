"""A learner's test of a step: does it pass the right step, and fail for every wrong one?"""

from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import Any

from sftviz.exercises.errors import describe_error, describe_timeout, name_of
from sftviz.exercises.limits import SECONDS, TimeLimit, time_limit
from sftviz.exercises.pair import Pair
from sftviz.exercises.runs import Function, Output, mismatch, run
from sftviz.exercises.step import STEP
from sftviz.exercises.subject import Trial
from sftviz.exercises.verdict import Verdict
from sftviz.mistakes import Mistake

_MOST, _FEW = 8, 2  # names in a sentence

# What a plain .sum() of 16 bits rounds away is no mistake of a step: see `STEP`.
REQUIRED = tuple(mistake for mistake in STEP.mistakes if mistake.name != "sum in 16 bits")


def check_test(test: Function, weak: Sequence[Mistake], seconds: float = SECONDS) -> Verdict:
    """Run a test on the right step and on every mistake, and name the mistakes that survive.

    Args:
        test: a function of a step, which raises an error if the step is wrong.
        weak: tests that are not good enough, by which this one is recognised.
        seconds: the longest that all may take together.
    """
    if problem := mismatch(test, ("step",)):
        return Verdict("error", None, problem)
    try:
        with time_limit(seconds):
            error = _failure(test, STEP.right)
            if isinstance(error, NotImplementedError):
                return Verdict("not attempted", None, "The test calls nothing yet.")
            alive = _survivors(test)
    except TimeLimit as late:
        return Verdict("error", None, describe_timeout(late, name_of(test)))
    if error is not None:
        said = describe_error(error, name_of(test))
        if not isinstance(error, AssertionError):
            return Verdict("error", None, said)
        what = "This is the right step: what the test expects is not what it computes."
        return Verdict("wrong", "fails the right step", f"{said}\n{what}")
    if not alive:
        return Verdict(
            "correct",
            None,
            f"It passes the right step, and fails for all {len(REQUIRED)} mistakes.",
        )
    same = next((each for each in weak if _survivors_of(each) == alive), None)
    said = [f"{same.cause} {same.remedy}"] if same else []
    count = f"{len(alive)} of {len(REQUIRED)} mistakes survive"
    said.append(f"It passes the right step. {count}: {_listed(alive)}.")
    said += _killers(alive)
    return Verdict("wrong", same.name if same else None, "\n".join(said))


def _failure(test: Function, step: Function) -> BaseException | None:
    """What a test raises for a step. It can't see by its name or identity which step it is."""

    def given_step(*arguments: Any, **by_name: Any) -> Any:
        return step(*arguments, **by_name)

    output = Output()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            test(given_step)
        except (KeyboardInterrupt, TimeLimit):
            raise
        except BaseException as error:  # pytest.fail raises what is not an Exception
            return error
    return None


def _survivors(test: Function) -> tuple[Mistake, ...]:
    return tuple(mistake for mistake in REQUIRED if _failure(test, mistake.run) is None)


@lru_cache
def _survivors_of(weak: Mistake) -> tuple[Mistake, ...]:
    return _survivors(weak.run)


def _killers(alive: Sequence[Mistake]) -> Iterator[str]:
    """Batches on which the survivors do not do what the right step does, and what shows it."""
    left = list(alive)
    while left:
        found = [_shown(trial, left) for trial in STEP.trials]
        trial, seen = max(found, key=lambda each: len(each[1]))
        if not seen:
            return
        left = [mistake for mistake in left if mistake not in seen]
        who = _listed(list(seen)) if len(seen) <= _FEW else f"{len(seen)} of them"
        names = ", ".join(sorted(frozenset().union(*seen.values())))
        mask = trial.arguments[1].int().tolist()
        batch = f"{STEP.describe(trial)}, mask {mask}"
        yield f"A test on this batch fails for {who}: {batch}. Look at {names}."


def _shown(trial: Trial, mistakes: Sequence[Mistake]) -> tuple[Trial, dict[Mistake, set[str]]]:
    """The mistakes that differ from the right step on a batch, and in what."""
    right = run(STEP, STEP.right, trial)
    found = {}
    for mistake in mistakes:
        wrong = Pair(trial, run(STEP, mistake.run, trial), right).wrong
        if wrong:
            found[mistake] = wrong & {*right.numbers, *right.flags}
    return trial, found


def _listed(mistakes: Sequence[Mistake]) -> str:
    names = [f"“{mistake.name}”" for mistake in mistakes[:_MOST]]
    more = len(mistakes) - _MOST
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
