"""A learner's function compared with the right one, and with every known mistake."""

import traceback
from collections.abc import Collection, Sequence
from functools import cache

from sftviz.exercises.errors import describe_timeout, name_of
from sftviz.exercises.explain import explain_right, explain_wrong
from sftviz.exercises.limits import SECONDS, TimeLimit, time_limit
from sftviz.exercises.pair import ERROR, Pair, all_names
from sftviz.exercises.runs import Function, Run, mismatch, run
from sftviz.exercises.subject import Subject, Trial
from sftviz.exercises.verdict import Verdict
from sftviz.mistakes import Mistake


def check(subject: Subject, function: Function, seconds: float = SECONDS) -> Verdict:
    """Run a function on what tells mistakes apart, and say what is wrong and what is right.

    Arguments with the subject's names may be in another order. Computing in float32 is precise
    enough. Nothing is run for longer than `seconds`, where the system has a timer.

    Returns:
        The verdict: `outcome` is "correct", "wrong", "not attempted" (it raises
        NotImplementedError, or returns None or ... and leaves nothing), or "error" (it raises, or
        does not end). `mistake` is the name of the mistake that gives the same numbers, if one
        does. A function whose only mistake is how it rounds is correct.

    Raises:
        TypeError: what is given is not a function.
    """
    if not callable(function):
        raise TypeError(
            f"give the function itself, without calling it, got {type(function).__name__}."
        )
    if problem := mismatch(function, subject.arguments):
        return Verdict("error", None, problem)
    pairs: list[Pair] = []
    try:
        with time_limit(seconds):
            for trial in subject.trials:
                mine = run(subject, function, trial)
                pairs.append(Pair(trial, mine, _right_run(subject, trial)))
                if len(pairs) == 1 and pairs[0].mine.is_stub:
                    left = ", and leaves no gradient" if subject.gradient == "left in .grad" else ""
                    said = f"The function returns nothing yet{left}."
                    return Verdict("not attempted", None, said)
            first = next((pair for pair in pairs if pair.wrong), None)
            again = run(subject, function, first.trial) if first else None
    except TimeLimit as error:
        return Verdict("error", None, describe_timeout(error, name_of(function)))
    mistakes = _recognise(subject, pairs)
    name = mistakes[0].name if mistakes else None
    names = all_names(pairs)
    if first is None:
        return Verdict("correct", name, "\n".join(explain_right(pairs, mistakes)), right=names)
    is_stable = all(first.mine.agrees(each, again) for each in names)
    said = explain_wrong(subject, function, pairs, mistakes, is_stable=is_stable)
    wrong = frozenset().union(*(pair.wrong for pair in pairs))
    return Verdict(
        outcome="error" if first.mine.error else "wrong",
        mistake=name,
        message="\n".join(said),
        right=tuple(each for each in names if each not in wrong),
        wrong=tuple(each for each in names if each in wrong),
        numbers=() if first.mine.error else tuple(first.numbers()),
        where=f"The arguments: {subject.describe(first.trial)}.",
    )


def _recognise(subject: Subject, pairs: Sequence[Pair]) -> list[Mistake]:
    """The mistakes that do the same; first those that do so in all that is seen.

    A learner may have made two: then the one that explains the readable numbers on ordinary
    arguments is named, or the gradient, or what is wrong under a condition alone.
    """
    flags, gradients = pairs[0].right.flags, pairs[0].right.gradients
    names = all_names(pairs)
    numbers = [name for name in names if name not in flags]
    unreadable = frozenset().union(*(pair.unreadable for pair in pairs))
    readable = [name for name in numbers if name not in unreadable]
    faulty = [pair for pair in pairs if pair.wrong]
    ordinary = [pair for pair in pairs if not pair.trial.condition]

    def same(group: Sequence[Pair], compared: Collection[str]) -> list[Mistake]:
        if not any(pair.differing & {*compared, ERROR} for pair in group):
            return []  # nothing that is compared is wrong
        return [
            mistake
            for mistake in subject.mistakes
            if all(
                _alike(pair.mine, _mistake_run(subject, mistake, pair.trial), compared)
                for pair in group
            )
        ]

    return (
        [*dict.fromkeys(same(pairs, names) + same(pairs, numbers))]
        or same(pairs, readable)
        or same(ordinary, readable)
        or same(pairs, gradients)
        or (same(faulty, readable) if all(pair.trial.condition for pair in faulty) else [])
    )


def _alike(mine: Run, theirs: Run, names: Collection[str]) -> bool:
    if mine.error or theirs.error:
        return _raised(mine) == _raised(theirs)
    return all(mine.agrees(name, theirs) for name in names)


def _raised(run: Run) -> list[str]:
    return traceback.format_exception_only(run.error) if run.error else []


@cache
def _right_run(subject: Subject, trial: Trial) -> Run:
    return run(subject, subject.right, trial)


@cache  # one by one: most mistakes differ on the first trial already
def _mistake_run(subject: Subject, mistake: Mistake, trial: Trial) -> Run:
    return run(subject, mistake.run, trial)
