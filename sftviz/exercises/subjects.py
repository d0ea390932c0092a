"""What `sftviz check` can judge: by the word that chooses it, and by the name of a function."""

from collections.abc import Callable
from functools import partial

from sftviz.exercises.accumulation import ACCUMULATION
from sftviz.exercises.check import check
from sftviz.exercises.course import EXERCISES
from sftviz.exercises.log_probs import LOG_PROBS
from sftviz.exercises.runs import Function
from sftviz.exercises.step import STEP
from sftviz.exercises.verdict import Verdict

Judge = Callable[[Function], Verdict]

SUBJECTS = {"step": STEP, "log-probs": LOG_PROBS, "accumulation": ACCUMULATION}
_EXERCISES: dict[str, Judge] = {name: each.judge for name, each in EXERCISES.items()}
JUDGES: dict[str, Judge] = {
    **{word: partial(check, subject) for word, subject in SUBJECTS.items()},
    **_EXERCISES,
}


def names(word: str | None, *, with_exercises: bool) -> dict[str, Judge]:
    """The names that a function may have in a file, for one subject or for all of them.

    Names of exercises are common ones, such as `train`, so they are not looked for everywhere.
    """
    found = {
        name: JUDGES[each]
        for each, subject in SUBJECTS.items()
        if word in (None, each)
        for name in (*subject.also_called, subject.name)
    }
    return found | {
        name: judge
        for name, judge in _EXERCISES.items()
        if word == name or (word is None and with_exercises)
    }
