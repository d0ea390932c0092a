"""Exercise: the training loop."""

from collections.abc import Callable, Sequence

from torch import nn
from torch.optim import SGD, Optimizer

from sftviz.exercises.exercise import Function, exercise, wrong
from sftviz.exercises.subject import Trial
from sftviz.experiments.bigram import make_window
from sftviz.log_probs import get_response_log_probs
from sftviz.mistakes import tiny_model
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch

_WINDOW, _PAIR = make_window(B=2, G=3, vocab_size=7), make_window(B=3, G=2, vocab_size=7)


def train(
    model: nn.Module, optimizer: Optimizer, microbatches: Sequence[TokenBatch], G: int
) -> list[float]:
    """Train on one window after another, with one step of the optimizer for each.

    microbatches: each has input_ids, labels and response_mask. A window is G of them; the
    last window may have fewer, and is trained on too. Call sft_microbatch_train_step.
    Returns the loss of each window: the sum of its microbatches' scaled losses, a float.
    """
    losses = []
    for start in range(0, len(microbatches), G):
        optimizer.zero_grad()
        loss = 0.0
        for batch in microbatches[start : start + G]:
            log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
            scaled_loss, _ = sft_microbatch_train_step(log_probs, batch.response_mask, G)
            loss += scaled_loss.item()
        optimizer.step()
        losses.append(loss)
    return losses


def _loop(
    begin: str = "zero_grad",  # what the optimizer does at the beginning of a window
    before: str = "",  # before each microbatch
    after: str = "",  # after each microbatch
    end: str = "step",
    drop_short: bool = False,
    divide: Callable[[int, int], int] = lambda G, found: G,  # found: microbatches of this window
    backward: bool = False,  # on what the step returns
    report: Callable[[list[float]], list[float]] = lambda found: [sum(found)],  # of the losses
) -> Function:
    """The loop with some parts replaced."""

    def run(
        model: nn.Module, optimizer: Optimizer, microbatches: Sequence[TokenBatch], G: int
    ) -> list[float]:
        def call(names: str) -> None:
            for name in names.split():
                getattr(optimizer, name)()

        losses = []
        for start in range(0, len(microbatches), G):
            window = microbatches[start : start + G]
            if drop_short and len(window) < G:
                break
            call(begin)
            scaled_losses = []
            for batch in window:
                call(before)
                ids, labels = batch.input_ids, batch.labels
                log_probs = get_response_log_probs(model, ids, labels)["log_probs"]
                divisor = divide(G, len(window))
                scaled_loss, _ = sft_microbatch_train_step(log_probs, batch.response_mask, divisor)
                if backward:
                    scaled_loss.backward()
                scaled_losses.append(scaled_loss.item())
                call(after)
            call(end)
            losses += report(scaled_losses)
        return losses

    return run


def _trial(microbatches: Sequence[TokenBatch], G: int) -> Trial:
    model = tiny_model()
    B = len(microbatches[0].labels)
    sizes = f"B = {B}, G = {G}, {len(microbatches)} microbatches"
    return Trial((model, SGD(model.parameters(), lr=0.5), microbatches, G), sizes=sizes)


EXERCISE = exercise(
    train,
    title="The training loop",
    minutes=10,
    goal="Two loops: over the windows, and over the microbatches of a window. Put "
    "`zero_grad()`, the step and `optimizer.step()` where they belong, and lose no microbatch at "
    "the end of the data.",
    hints=(
        "<code>for start in range(0, len(microbatches), G)</code> with "
        "<code>microbatches[start : start + G]</code> gives the windows, the short one too.",
        "In the inner loop: log-probs, step, add up the loss. In the outer loop, once for each "
        "window: clear the gradient before the first microbatch, step after the last.",
        '<code>get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]</code> '
        "computes the log-probs. sft_microbatch_train_step calls backward() itself; its loss is a "
        "tensor, <code>.item()</code> makes a float of it.",
    ),
    changes_arguments=True,
    returns=("losses",),
    trials=(_trial([*_WINDOW, *_PAIR], 3), _trial([*_PAIR, *_WINDOW], 2), _trial(_PAIR, 1)),
    mistakes=(
        wrong("zero_grad forgotten", _loop(begin="")),
        wrong("zero_grad after each microbatch", _loop(before="zero_grad")),
        wrong("step after each microbatch", _loop(after="step", end="")),
        wrong("leftover window dropped", _loop(drop_short=True)),
        wrong(
            "each microbatch as a window",
            _loop(before="zero_grad", after="step", end=""),
            "The optimizer clears the gradient and steps in the inner loop, for each microbatch.",
            "Call both in the outer loop: once for each window.",
        ),
        wrong(
            "no step with a gradient",
            _loop(end="zero_grad step"),
            "optimizer.step() is not called, or zero_grad() stands between backward() and it, so "
            "the weights stay as they are.",
            "Clear the gradient before the first microbatch of a window, and step after the last.",
        ),
        wrong(
            "step one window late",
            _loop(begin="step zero_grad", end=""),
            "The optimizer steps before the microbatches, with the gradient of the window before.",
            "Step after the last microbatch of a window.",
        ),
        wrong(
            "another G for the short window",
            _loop(divide=lambda G, found: found),
            "The step is given the number of microbatches that are left, not G, so the last "
            "window counts more.",
            "Pass G to the step in every window.",
        ),
        wrong(
            "loss of the last microbatch",
            _loop(report=lambda found: found[-1:]),
            "The loss of a window is that of its last microbatch alone.",
            "Add up the scaled losses of its microbatches.",
        ),
        wrong(
            "a loss for each microbatch",
            _loop(report=list),
            "There is a loss for each microbatch.",
            "Add up the scaled losses of a window, and append the sum once for each window.",
        ),
        wrong(
            "second backward",
            _loop(backward=True),
            "backward() is called on what the step returns. It has been called in the step, and "
            "the loss that is returned is detached.",
            "Leave backward() to the step.",
        ),
        wrong(
            "mean of the losses",
            _loop(report=lambda found: [sum(found) / len(found)]),
            "The scaled losses of a window are averaged, and each was divided by G already.",
            "Add them up.",
        ),
    ),
)
