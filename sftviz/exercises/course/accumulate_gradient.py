"""Exercise: gradients of microbatches that add up to that of the full batch."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from sftviz.exercises.exercise import Function, exercise, nothing, wrong
from sftviz.exercises.subject import Trial
from sftviz.experiments.bigram import make_window
from sftviz.log_probs import get_response_log_probs
from sftviz.mistakes import tiny_model
from sftviz.tokens import TokenBatch

_WINDOW, _PAIR = make_window(B=2, G=3, vocab_size=7), make_window(B=3, G=2, vocab_size=7)


def accumulate_gradient(model: nn.Module, microbatches: Sequence[TokenBatch]) -> None:
    """Leave the gradient of the whole window in the .grad of the model's parameters.

    microbatches: a list; each has input_ids, labels and response_mask, all (B, S). B is
    the same for all. The window's loss: each row's sum of the negative log-probs of its
    response tokens, and of these the mean over all rows. .grad may contain old values.
    """
    rows = sum(len(batch.labels) for batch in microbatches)
    model.zero_grad()
    for batch in microbatches:
        log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
        (-torch.where(batch.response_mask, log_probs, 0).sum() / rows).backward()


def _with_old_gradient() -> nn.Module:
    model = tiny_model()
    model.weight.grad = torch.full_like(model.weight, 0.375)
    return model


def _loop(
    divisor: Callable[[int, int, int], float] = lambda B, G, N: B * G, zero: str = "window"
) -> Function:
    """The loop with another divisor, or with zero_grad() at another place."""

    def run(model: nn.Module, microbatches: Sequence[TokenBatch]) -> None:
        if zero == "window":
            model.zero_grad()
        for batch in microbatches:
            if zero == "microbatch":
                model.zero_grad()
            log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
            n = len(batch.labels), len(microbatches), batch.num_tokens
            (-torch.where(batch.response_mask, log_probs, 0).sum() / divisor(*n)).backward()

    return run


_DIVIDE = "Divide each microbatch's sum by the rows of the whole window, B·G."

EXERCISE = exercise(
    accumulate_gradient,
    title="Accumulation that equals the full batch",
    minutes=8,
    goal="A window of G microbatches, with one backward pass for each, has to leave the gradient "
    "that all its rows would leave as one batch. Find the divisor, and the place of "
    "`zero_grad()`.",
    hints=(
        "backward() adds to .grad. So the losses of the microbatches have to add up to the loss of "
        "the window.",
        "The window's loss is a sum over all rows, divided by the number of all rows. Which part "
        "of that sum belongs to one microbatch?",
        "Old values have to be cleared once, before the first microbatch. The log-probs are "
        '<code>get_response_log_probs(model, input_ids, labels)["log_probs"]</code>.',
    ),
    gradient="left in .grad",
    read=nothing,
    trials=(
        Trial((tiny_model(), _WINDOW), sizes="B = 2, G = 3"),
        Trial((tiny_model(), _PAIR), sizes="B = 3, G = 2"),
        Trial((_with_old_gradient(), _PAIR), ".grad has a value before the call", "B = 3, G = 2"),
    ),
    mistakes=(
        wrong(
            "the step's ÷G²",
            _loop(lambda B, G, N: G**2),
            "Each sum is divided by G², so the gradient is B/G times as long as it should be.",
            _DIVIDE,
        ),
        wrong("÷G", _loop(lambda B, G, N: G), "Each sum is divided by G, and not by B.", _DIVIDE),
        wrong(
            "÷B",
            _loop(lambda B, G, N: B),
            "The means over the rows of each microbatch are added up, and not divided by G.",
            _DIVIDE,
        ),
        wrong("not divided", _loop(lambda B, G, N: 1), "The sums are divided by nothing.", _DIVIDE),
        wrong(
            "÷B·G²",
            _loop(lambda B, G, N: B * G**2),
            "The mean over the window's rows is divided by G once more.",
            _DIVIDE,
        ),
        wrong("mean of means", _loop(lambda B, G, N: N * G)),
        wrong("sign kept", _loop(lambda B, G, N: -B * G)),
        wrong("zero_grad after each microbatch", _loop(zero="microbatch")),
        wrong("zero_grad forgotten", _loop(zero="never")),
    ),
)
