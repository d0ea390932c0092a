"""The lines of the loop over windows and microbatches, to be put in order.

An order is run on a small real model. What the optimizer saw is compared with the right loop, and
with the loops that people build instead.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple

import torch

from sftviz.drawing.formatting import count_of, number
from sftviz.exercises.order import TAB, Order, describe, fault, read, source_lines
from sftviz.exercises.verdict import Number, Verdict
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.log_probs import get_response_log_probs
from sftviz.rules import Gradient, distance, ratio
from sftviz.step import sft_microbatch_train_step

_B, _G = 3, 2  # not equal: see docs/cheatsheet.md
_SAME = 1e-9  # relative: everything is computed in float64
_LINES = {
    "windows": "for window in windows:",
    "batches": "for batch in window:",
    "zero": "optimizer.zero_grad()",
    "forward": "log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)"
    '["log_probs"]',
    "train": "scaled_loss, metadata = sft_microbatch_train_step(log_probs, batch.response_mask, G)",
    "step": "optimizer.step()",
    # These do not belong there.
    "again": "scaled_loss.backward()",
    "divide": "log_probs = log_probs / G",
    "no_grad": "with torch.no_grad():",
}


def write(sketch: str) -> str:
    """The source of an order: words for its lines, and parentheses for its blocks."""
    level, lines = 0, []
    for word in sketch.split():
        if word in "()":
            level += 1 if word == "(" else -1
        else:
            lines.append(TAB * level + _LINES[word])
    return "\n".join(lines)


_RIGHT = write("windows ( zero batches ( forward train ) step )")


class Trap(NamedTuple):
    """A loop that people build. It is recognised by what it does, not by how it is written."""

    sketch: str
    because: str
    mistake: str | None = None  # its name in MISTAKES, if it has one there


TRAPS = (
    Trap(
        "windows ( batches ( zero forward train ) step )",
        "zero_grad() stands inside the loop over the microbatches: only the gradient of the last "
        "microbatch is left.",
        "zero_grad after each microbatch",
    ),
    Trap(
        "windows ( batches ( forward train ) step )",
        "zero_grad() is not called between one window and the next.",
        "zero_grad forgotten",
    ),
    Trap(
        "windows ( batches ( forward train ) zero step )",
        "The optimizer finds no gradient: backward() has not been called yet, or zero_grad() "
        "stands between it and the optimizer's step.",
    ),
    Trap(
        "windows ( batches ( zero forward train step ) )",
        "The optimizer steps inside the loop over the microbatches: each of them is a window of "
        "its own.",
        "step after each microbatch",
    ),
    Trap(
        "windows ( zero batches ( forward train step ) )",
        "The optimizer steps inside the loop over the microbatches: it uses a part of the "
        "window's gradient, and later that part again.",
        "step after each microbatch",
    ),
    Trap(
        "windows ( zero batches ( forward train ) ) step",
        "The optimizer steps after the loop over the windows: all gradients but those of the last "
        "window are cleared without being used.",
    ),
    Trap(
        "windows ( zero batches ( forward divide train ) step )",
        "The step divides by G twice, and log_probs / G does it once more.",
        "÷G³",
    ),
    Trap(
        "windows ( zero batches ( forward train again ) step )",
        "The step has called backward() already. The loss that it returns is detached, so a second "
        "backward() has nothing to go through.",
    ),
    Trap(
        "windows ( zero batches ( no_grad ( forward ) train ) step )",
        "The log-probs are computed without a graph, so backward() can't reach the model.",
    ),
    Trap(
        "windows ( zero batches ( forward no_grad ( train ) ) step )",
        "The step calls backward(), and gradients are switched off around it.",
    ),
)


class LoopRun(NamedTuple):
    """What an order does to a model."""

    steps: tuple[Gradient, ...]  # what is in .grad each time that the optimizer steps
    weights: Gradient  # at the end
    error: Exception | None = None
    fault: str = ""  # the line that raised it

    def equals(self, other: "LoopRun") -> bool:
        if self.error or other.error:
            return (repr(self.error), self.fault) == (repr(other.error), other.fault)
        mine, theirs = (*self.steps, self.weights), (*other.steps, other.weights)
        return len(mine) == len(theirs) and all(map(_equal, mine, theirs))


@torch.inference_mode(False)
@torch.enable_grad()
def run_loop(source: str, learning_rate: float = 0.5) -> LoopRun:
    """Run an order of the loop on a new model."""
    model = BigramModel(vocab_size=5, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    steps: list[Gradient] = []

    def record(*_: object) -> None:
        grad = model.table.grad
        steps.append({"table": torch.zeros_like(model.table) if grad is None else grad.clone()})

    optimizer.register_step_pre_hook(record)
    names: dict[str, Any] = {
        "torch": torch,
        "model": model,
        "optimizer": optimizer,
        "windows": [make_window(_B, _G, vocab_size=5, seed=seed) for seed in range(2)],
        "G": _G,
        "get_response_log_probs": get_response_log_probs,
        "sft_microbatch_train_step": sft_microbatch_train_step,
    }
    error = None
    try:
        exec(read(source), names)
    except Exception as raised:
        error = raised
    line = fault(error, source)[1] if error else ""
    return LoopRun(tuple(steps), {"table": model.table.detach()}, error, line)


def judge_loop(source: str) -> Verdict:
    """Compare an order of the loop with the right one, and with the traps."""
    mine, right = run_loop(source), _run(_RIGHT)
    if mine.equals(right):
        said = [
            "Each time that the optimizer steps, .grad is the gradient of one whole window, "
            "and the final weights are right.",
            *(f"Not needed: {line}" for line, rest in _shorter(source) if rest.equals(mine)),
        ]
        return Verdict("correct", None, "\n".join(said))
    trap = _recognise(mine)
    said = [trap.because] if trap else list(_second_mistake(source))
    if mine.error:
        said.append(describe(mine.error, source))
        return Verdict("error", trap and trap.mistake, "\n".join(said))
    return Verdict(
        outcome="wrong",
        mistake=trap and trap.mistake,
        message="\n".join([*said, *_differences(mine, right)]),
        numbers=tuple(_numbers(mine, right)),
        where="The length of the gradient each time that the optimizer steps:",
    )


@cache
def _run(source: str) -> LoopRun:
    return run_loop(source)


def _recognise(mine: LoopRun) -> Trap | None:
    return next((trap for trap in TRAPS if mine.equals(_run(write(trap.sketch)))), None)


def _shorter(source: str) -> Iterator[tuple[str, LoopRun]]:
    """Each line of an order, and what the order does without it."""
    lines = source_lines(source)
    for at, line in enumerate(lines):
        rest = "\n".join(lines[:at] + lines[at + 1 :])
        with suppress(SyntaxError):
            read(rest)
            yield line.strip(), run_loop(rest)


def _second_mistake(source: str) -> Iterator[str]:
    """What is wrong besides a line that does not belong there."""
    distractors = [line for line in LOOP.distractors if line in source]
    for line, rest in _shorter(source):
        trap = _recognise(rest)
        if line in distractors and trap:
            yield f"More than one thing is wrong. Without {line} it is this: {trap.because}"


def _differences(mine: LoopRun, right: LoopRun) -> Iterator[str]:
    if len(mine.steps) != len(right.steps):
        times = count_of(len(mine.steps), "time")
        yield f"The optimizer steps {times}; there are {len(right.steps)} windows."
    for at, (grad, reference) in enumerate(zip(mine.steps, right.steps, strict=False), start=1):
        if not _equal(grad, reference):
            share = number(ratio(grad, reference))
            yield f"At step {at}, the length of .grad relative to the right one is {share}."
            return


def _numbers(mine: LoopRun, right: LoopRun) -> Iterator[Number]:
    for at, pair in enumerate(zip_longest(mine.steps, right.steps), start=1):
        yours, ours = (number(grad["table"].norm().item()) if grad else "none" for grad in pair)
        yield Number(f"grad[step {at}]", yours, ours, None not in pair and _equal(*pair))


def _equal(mine: Gradient, theirs: Gradient) -> bool:
    if not theirs["table"].any():
        return not mine["table"].any()
    return distance(mine, theirs) < _SAME


LOOP = Order(
    name="the loop",
    text=(
        "Train a model on windows of G microbatches: the optimizer should step once for each "
        "window, with the gradient of that window alone. model, optimizer, windows and G are "
        "there already. Not every line is needed."
    ),
    solution=_RIGHT,
    distractors=tuple(_LINES[name] for name in ("again", "divide", "no_grad")),
    judge=judge_loop,
    minutes=8,
)
