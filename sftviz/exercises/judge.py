"""A learner's function compared with the right step, and with every known mistake."""

import linecache
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sftviz.drawing.formatting import number
from sftviz.exercises.trials import FLAGS, NUMBERS, Run, Step, Trial, run, trials
from sftviz.exercises.verdict import Number, Verdict
from sftviz.mistakes import MISTAKES, Mistake
from sftviz.step import sft_microbatch_train_step

_LIBRARIES = tuple(
    {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
    | {str(Path(__file__).parents[1])}
)
_MOST_LINES = 3  # of the learner's, of a traceback
_LONGEST = 160  # characters of an error's message, or of what was printed

Runs = Sequence[Run]  # one for each trial


def check_step(my_step: Step) -> Verdict:
    """Run a function on batches that tell mistakes apart, and say what is wrong and what is right.

    The function has the arguments and the results of `sft_microbatch_train_step`. Arguments with
    its names may be in another order. Computing in float32 is precise enough.

    Returns:
        The verdict: `outcome` is "correct", "wrong", "not attempted" (it raises
        NotImplementedError, or returns None or ... without a gradient), or "error" (it raises).
        `mistake` is the name of the mistake that gives the same numbers, if one does. A function
        that only adds up 16-bit log-probs in 16 bits is correct, and that may be its mistake.

    Example:
        >>> def my_step(policy_log_probs, response_mask, gradient_accumulation_steps, c=1.0):
        ...     raise NotImplementedError
        >>> check_step(my_step).outcome
        'not attempted'
    """
    seen = trials()
    mine: list[Run] = []
    for trial in seen:
        mine.append(run(my_step, trial))
        if len(mine) == 1 and _is_stub(mine[0]):
            return Verdict("not attempted", None, "The function computes nothing yet.")
    right = [run(sft_microbatch_train_step, trial) for trial in seen]
    wrong = [_wrong(trial, *runs) for trial, *runs in zip(seen, mine, right, strict=True)]
    rounding = [_is_rounding(*each) for each in zip(seen, wrong, strict=True)]
    if all(rounding):
        kept = (*NUMBERS, *FLAGS)
        sentences = [f"Right: {_listed(kept)}. Gradients add up over calls.", *_remarks(mine)]
        mistakes = _recognise(mine, wrong) if any(wrong) else []
        if any(wrong):
            sentences.append(
                "Where the log-probs have 16 bits, the sum loses digits: sum(dtype=torch.float32)."
            )
            sentences += [f"{mistake.cause} {mistake.remedy}" for mistake in mistakes]
        name = mistakes[0].name if mistakes else None
        return Verdict("correct", name, "\n".join(sentences), right=kept)
    wrong = [
        set() if is_rounding else names for names, is_rounding in zip(wrong, rounding, strict=True)
    ]
    first = next(at for at, names in enumerate(wrong) if names)
    mistakes = _recognise(mine, wrong)
    return Verdict(
        outcome="error" if mine[first].error else "wrong",
        mistake=mistakes[0].name if mistakes else None,
        message="\n".join(_sentences(my_step, mine, wrong, first, mistakes)),
        right=tuple(name for name in (*NUMBERS, *FLAGS) if not any(name in each for each in wrong)),
        wrong=tuple(name for name in (*NUMBERS, *FLAGS) if any(name in each for each in wrong)),
        numbers=()
        if mine[first].error
        else tuple(_numbers(seen[first], mine[first], right[first])),
        where=f"The batch: {seen[first]}.",
    )


def describe_error(error: BaseException, name: str) -> str:
    """What was raised, and the lines of the learner's that led to it."""
    what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SystemExit):
        what = "sys.exit(): a function returns, it does not end the program"
    lines = [f"{name} raised {what[:_LONGEST]}{'…' if len(what) > _LONGEST else ''}"]
    if isinstance(error, SyntaxError) and error.lineno is not None:
        own = [(error.filename or "", error.lineno, error.text or "")]
    else:
        frames = traceback.walk_tb(error.__traceback__)
        places = [(frame.f_code.co_filename, line) for frame, line in frames]
        own = [
            (file, line, linecache.getline(file, line))
            for file, line in places
            if not file.startswith((*_LIBRARIES, "<frozen"))
        ]
    for file, line, text in own[-_MOST_LINES:]:
        lines.append(f"{Path(file).name}, line {line}: {text.strip()[:_LONGEST]}")
    return "\n".join(lines)


def _is_stub(run: Run) -> bool:
    if run.error is not None:
        return isinstance(run.error, NotImplementedError)
    return not run.returned and "grad" not in run.numbers


def _wrong(trial: Trial, mine: Run, right: Run) -> set[str]:
    """The numbers and flags in which a run differs from the right one."""
    dtype = trial.inputs.policy_log_probs.dtype
    names = {name for name in (*NUMBERS, *FLAGS) if not mine.agrees(name, right, dtype)}
    return names | ({"error"} if mine.error else {"return"} if mine.complaint else set())


def _is_rounding(trial: Trial, wrong: set[str]) -> bool:
    """Whether a run differs at most in what a sum in 16 bits rounds away: the plain .sum()."""
    has_16_bits = trial.inputs.policy_log_probs.dtype.itemsize < 4
    return not wrong or (has_16_bits and wrong <= {"masked_sum", "scaled_loss"})


def _recognise(mine: Runs, wrong: Sequence[set[str]]) -> list[Mistake]:
    """The mistakes that do the same. A learner may have made two: then the one that explains the
    numbers on ordinary batches is named.
    """
    seen = trials()
    everywhere = range(len(seen))
    ordinary = [at for at in everywhere if not seen[at].condition]
    for where, names in (
        (everywhere, (*NUMBERS, *FLAGS)),
        (everywhere, NUMBERS),
        (ordinary, NUMBERS),
    ):
        unreadable = {name for at in where for name in NUMBERS[:3] if name not in mine[at].numbers}
        if not any({*names, "error"} - unreadable & wrong[at] for at in where):
            continue  # nothing that could be read is wrong
        same = [
            mistake
            for mistake, theirs in _mistake_runs()
            if all(_alike(seen[at], mine[at], theirs[at], names) for at in where)
        ]
        if same:
            return same
    return []


@cache
def _mistake_runs() -> list[tuple[Mistake, Runs]]:
    of_the_step = [mistake for mistake in MISTAKES if mistake.about == "step"]
    return [(mistake, [run(mistake.run, trial) for trial in trials()]) for mistake in of_the_step]


def _alike(trial: Trial, mine: Run, theirs: Run, names: Iterable[str]) -> bool:
    """Whether two runs agree in what could be read of the first."""
    if mine.error or theirs.error:
        return _raised(mine) == _raised(theirs)
    dtype = trial.inputs.policy_log_probs.dtype
    readable = {"grad", *mine.numbers, *FLAGS} if mine.complaint else {*names}
    return all(mine.agrees(name, theirs, dtype) for name in names if name in readable)


def _raised(run: Run) -> list[str]:
    return traceback.format_exception_only(run.error) if run.error else []


def _sentences(
    my_step: Step, mine: Runs, wrong: Sequence[set[str]], first: int, mistakes: Sequence[Mistake]
) -> Iterator[str]:
    seen, run = trials(), mine[first]
    if run.error is not None:
        yield describe_error(run.error, getattr(my_step, "__name__", "the function"))
        if "inplace" in str(run.error) or "in-place" in str(run.error):
            yield "Work on a copy: an operation whose name ends in _ changes its tensor."
    for at, mistake in enumerate(mistakes):
        yield f"{'' if at == 0 else f'Or {mistake.name}: '}{mistake.cause} {mistake.remedy}"
    if run.complaint and run.error is None:
        yield run.complaint
    condition = seen[first].condition
    if condition:
        yield f"On ordinary batches everything is right. It goes wrong where {condition}."
    elif not mistakes and run.error is None and wrong[first] & {*NUMBERS}:
        yield "No known mistake gives these numbers."
    differing = set().union(*wrong)
    if any("grad" not in each.numbers for each in mine) and not any(each.error for each in mine):
        yield "No gradient arrives at policy_log_probs: is backward() called on the scaled loss?"
    if FLAGS[0] in differing:
        yield "What is returned still hangs on the graph: return scaled_loss.detach()."
    if FLAGS[1] in differing:
        yield "The function changes its arguments: work on a copy."
    wrong_names = [name for name in (*NUMBERS, *FLAGS) if name in differing]
    right_names = [name for name in (*NUMBERS, *FLAGS) if name not in differing]
    if wrong_names and run.error is None:
        yield f"Wrong: {_listed(wrong_names)}."
    if right_names and not any(each.error for each in mine):
        yield f"Right: {_listed(right_names)}."
    yield from _remarks(mine)


def _remarks(mine: Runs) -> list[str]:
    printed = next((each.printed for each in mine if each.printed.strip()), "")
    beginning = (printed.strip().splitlines() or [""])[0][:40]
    return [f"It also prints, beginning with “{beginning}”."] if beginning else []


def _numbers(trial: Trial, mine: Run, right: Run) -> Iterator[Number]:
    dtype = trial.inputs.policy_log_probs.dtype
    for name in NUMBERS:
        same = mine.agrees(name, right, dtype)
        yours, ours = mine.numbers.get(name), right.numbers[name]
        if name != "grad":
            yield Number(name, _written(yours), _written(ours), same)
            continue
        row, column = _differing(trial, yours, ours)
        at = f"grad[{row},{column}]"
        yield Number(at, _written(yours, row, column), _written(ours, row, column), same)


def _differing(trial: Trial, yours: Tensor | None, ours: Tensor) -> tuple[int, int]:
    """The token whose gradient differs most, or else the first response token."""
    mask = trial.inputs.response_mask.double()
    gap = mask if yours is None else (yours - ours).abs().nan_to_num(torch.inf)
    if not (gap > 1e-9).any():
        gap = mask
    row, column = divmod(int(gap.argmax()), mask.shape[1])
    return row, column


def _written(tensor: Tensor | None, *at: int) -> str:
    if tensor is None:
        return "none"
    value = tensor[at].item()
    return number(int(value) if abs(value) < 1e6 and value == int(value) else value)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
