"""What is said about a function: what is wrong, what led to it, and what is right."""

from collections.abc import Iterator, Sequence

from sftviz.exercises.errors import describe_error, name_of, outside_data
from sftviz.exercises.pair import GRADIENT, Pair, all_names
from sftviz.exercises.runs import DETACHED, UNCHANGED, Function
from sftviz.exercises.subject import Subject
from sftviz.mistakes import Mistake


def explain_right(pairs: Sequence[Pair], mistakes: Sequence[Mistake]) -> Iterator[str]:
    """Sentences about a function that is correct; `mistakes` are about its rounding."""
    yield f"Right: {_listed(all_names(pairs))}."
    yield from _printed(pairs)
    rounded = next((pair.trial for pair in pairs if pair.differing), None)
    if rounded:
        yield f"Where {rounded.condition}, the sum loses digits: sum(dtype=torch.float32)."
        yield from _causes(mistakes)


def explain_wrong(
    subject: Subject,
    function: Function,
    pairs: Sequence[Pair],
    mistakes: Sequence[Mistake],
    *,
    is_stable: bool,
) -> Iterator[str]:
    """Sentences about a function that is not. `is_stable`: it gives the same when called again."""
    first = next(pair for pair in pairs if pair.wrong)
    failed = next((pair for pair in pairs if pair.mine.error), None)
    wrong = frozenset().union(*(pair.wrong for pair in pairs if not pair.mine.error))
    names = all_names(pairs)
    if failed is first:
        yield from _failure(function, first)
    elif first.complaint:
        yield first.complaint
    yield from _causes(mistakes)
    if first.trial.condition:
        yield f"On ordinary arguments all is right. It goes wrong where {first.trial.condition}."
    elif not mistakes and not first.complaint and first is not failed:
        yield "No known mistake gives these numbers."
    if not is_stable:
        yield "Called again with the same arguments, it gives something else."
    if outside := outside_data(function):
        yield f"It uses {_listed(outside)} from outside of the function: is an argument meant?"
    if GRADIENT in wrong and not failed:
        at = f"No gradient arrives at {subject.arguments[0]}:"
        if subject.gradient == "of the result":
            yield f"{at} what is returned must keep its graph, so detach nothing."
        else:
            yield f"{at} is backward() called on the scaled loss?"
    if DETACHED in wrong:
        yield "What is returned still hangs on the graph: return scaled_loss.detach()."
    if UNCHANGED in wrong:
        yield "The function changes its arguments: work on a copy."
    if failed is not first and wrong & {*names}:
        yield f"Wrong: {_listed([name for name in names if name in wrong])}."
    if not failed and not wrong >= {*names}:
        yield f"Right: {_listed([name for name in names if name not in wrong])}."
    if failed and failed is not first:
        yield from _failure(function, failed)
    yield from _printed(pairs)


def _failure(function: Function, pair: Pair) -> Iterator[str]:
    assert pair.mine.error
    yield describe_error(pair.mine.error, name_of(function))
    if "inplace" in str(pair.mine.error) or "in-place" in str(pair.mine.error):
        yield "Work on a copy: an operation whose name ends in _ changes its tensor."


def _causes(mistakes: Sequence[Mistake]) -> Iterator[str]:
    for at, mistake in enumerate(mistakes):
        yield f"{'' if at == 0 else f'Or {mistake.name}: '}{mistake.cause} {mistake.remedy}"


def _printed(pairs: Sequence[Pair]) -> Iterator[str]:
    printed = next((pair.mine.printed for pair in pairs if pair.mine.printed.strip()), "")
    if printed:
        yield f"It also prints, beginning with “{printed.strip().splitlines()[0][:40]}”."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
