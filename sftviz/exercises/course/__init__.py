"""The exercises of the course, in order: one file each, with the solution and its wrong versions.

A file has the function, a docstring that says what it computes, and `EXERCISE`. The notebooks of
`notebooks/exercises/` are made of these: see `tools/make_exercises.py`.
"""

from sftviz.exercises.course import (
    accumulate_gradient,
    gradient_by_hand,
    label_log_probs,
    masked_sum,
    my_step,
    my_test,
    negate_and_divide,
    ranks_gradient,
    response_mask,
    shift,
    train,
    window_losses,
)
from sftviz.exercises.exercise import Exercise
from sftviz.exercises.runs import Function
from sftviz.exercises.verdict import Verdict
from sftviz.validate import brief

EXERCISES: dict[str, Exercise] = {
    module.EXERCISE.name: module.EXERCISE
    for module in (
        masked_sum,
        response_mask,
        shift,
        label_log_probs,
        negate_and_divide,
        my_step,
        gradient_by_hand,
        accumulate_gradient,
        window_losses,
        train,
        ranks_gradient,
        my_test,
    )
}


def check_exercise(function: Function, name: str | None = None) -> Verdict:
    """Judge a function that was written for an exercise.

    Args:
        function: what you have written.
        name: of the exercise; None: that of the function.

    Returns:
        A verdict, as of `check_step`.

    Raises:
        TypeError: what is given is not a function.
        ValueError: there is no exercise of this name.

    Example:
        >>> def masked_sum(log_probs, mask):
        ...     return log_probs.sum()
        >>> check_exercise(masked_sum).mistake
        'mask ignored'
    """
    if not callable(function):
        raise TypeError(
            f"give the function itself, without calling it, got {type(function).__name__}."
        )
    name = name or getattr(function, "__name__", "")
    if name not in EXERCISES:
        raise ValueError(
            f"there is no exercise {brief(name)}: keep the name of the function, or give the name "
            f"of the exercise, one of {', '.join(EXERCISES)}."
        )
    return EXERCISES[name].judge(function)
