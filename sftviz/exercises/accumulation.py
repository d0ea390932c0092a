"""Gradient accumulation as a subject: what a function is run on, and how its result is read."""

from collections.abc import Mapping

from sftviz.exercises.check import check
from sftviz.exercises.runs import Function
from sftviz.exercises.subject import Reading, Subject, Trial, kind
from sftviz.exercises.verdict import Verdict
from sftviz.mistakes import ACCUMULATION as MISTAKES
from sftviz.mistakes import TELLING_WINDOWS, accumulate_windows, tiny_model


def check_accumulation(my_accumulation: Function) -> Verdict:
    """Run a function on windows that tell mistakes apart; say what is wrong and what is right.

    It has the arguments `(model, microbatches, gradient_accumulation_steps)`; a microbatch is a
    `TokenBatch`. It returns a list with the gradient of each window of G microbatches, which is
    that of the mean over the window's response tokens, as a dictionary `{name: tensor}` of the
    model's parameters. The last window may be shorter. See `check` in `sftviz.exercises.check` for
    what is returned and raised.

    Example:
        >>> def my_accumulation(model, microbatches, gradient_accumulation_steps):
        ...     return [{"weight": model.weight * 0}]
        >>> check_accumulation(my_accumulation).outcome
        'wrong'
    """
    return check(ACCUMULATION, my_accumulation)


def _read(result: object) -> Reading:
    """The number of steps, and the gradient of each."""
    if not isinstance(result, list | tuple):
        return {}, f"Return a list with the gradient of each window; got {kind(result)}."
    found: dict[str, object] = {"steps": len(result)}
    for index, gradient in enumerate(result, start=1):
        if not isinstance(gradient, Mapping):
            return found, (
                f"Return each gradient as a dictionary, {{name: tensor}}; got {kind(gradient)}."
            )
        found |= {f"{name} in step {index}": tensor for name, tensor in gradient.items()}
    return found, ""


def _trial(microbatches: object, G: int, condition: str = "") -> Trial:
    return Trial(
        (tiny_model(), microbatches, G), condition, f"{len(microbatches)} microbatches, G = {G}"
    )


def _trials() -> tuple[Trial, ...]:
    microbatches, G = TELLING_WINDOWS
    return (
        _trial(microbatches[:4], 2),
        _trial(microbatches[:3], G),
        _trial(microbatches, G, "the last window has fewer than G microbatches"),
        _trial(microbatches[:4], G, "the last window has one microbatch"),
        _trial(microbatches[1:3], 1, "G = 1"),
    )


ACCUMULATION = Subject(
    "accumulate_windows",
    ("model", "microbatches", "gradient_accumulation_steps"),
    accumulate_windows,
    MISTAKES,
    _trials(),
    read=_read,
    also_called=("my_accumulation",),
)
