"""A test of a training loop: do G microbatches give the gradient of the full batch?

Needs torch alone.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from sftviz.accumulation import full_batch_gradient
from sftviz.rules import Gradient, Per, cosine, distance, ratio
from sftviz.tokens import TokenBatch
from sftviz.validate import check_positive

TrainWindow = Callable[[nn.Module, Optimizer, Sequence[TokenBatch]], object]


@dataclass(frozen=True)
class Equivalence:
    """The gradient that a loop gives to its optimizer, compared with the full batch's.

    `ok` if both are equal, in the first window and in the next one, and there is one step a window.
    """

    ok: bool
    message: str  # what is so, and where to look if it is not
    steps: int  # calls of optimizer.step() in the first window
    ratio: float  # the length relative to the full batch's gradient; NaN without a step
    cosine: float  # 1: it has the direction of the full batch's gradient
    distance: float  # the length of the difference, relative to the full batch's gradient
    again: float  # the same distance when the window is trained a second time


def gradient_equivalence(
    train_window: TrainWindow,
    model: nn.Module,
    microbatches: Sequence[TokenBatch],
    full_batch: Sequence[TokenBatch] = (),
    per: Per = "token",
    tolerance: float = 1e-3,
) -> Equivalence:
    """Train a window twice, and compare the gradient at each step with that of the full batch.

    A copy of the model is trained, with an optimizer that records gradients and changes no weight.
    So the second time has the same gradient, unless something of the first time is left over.

    Use microbatches with different numbers of tokens, and B ≠ G: wrong divisors agree otherwise.

    Args:
        train_window: called as `train_window(model, optimizer, microbatches)`; trains one window as
            your loop does, with `zero_grad`, `backward` and `step`. Without clipping of gradients
            and without dropout.
        model: a torch module that `get_response_log_probs` accepts. Best in float64.
        microbatches: the G microbatches of the window, as your code prepares them.
        full_batch: the same rows, prepared by code that you trust, in one or more batches. Then
            wrong masks and labels are found too. Empty: `microbatches`.
        per: which mean of the full batch is meant: see `full_batch_gradient`.
        tolerance: the largest distance that counts as equal.

    Raises:
        TypeError, ValueError: an argument is not what `full_batch_gradient` takes, or the tolerance
            is not above 0.

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> def train_window(model, optimizer, microbatches):
        ...     optimizer.zero_grad()
        ...     for batch in microbatches:
        ...         log_p = model(batch.input_ids).log_softmax(-1)
        ...         log_probs = log_p.gather(-1, batch.labels[..., None])[..., 0]
        ...         loss = -log_probs[batch.response_mask].mean() / len(microbatches)
        ...         loss.backward()
        ...     optimizer.step()
        >>> window = make_window(B=2, G=3)
        >>> print(gradient_equivalence(train_window, BigramModel(vocab_size=8), window).message)
        The gradient points elsewhere (cosine 0.8832). Some tokens have another weight: look at \
the mask, the labels, the divisor of each microbatch and the place of zero_grad().
    """
    check_positive("tolerance", tolerance, "a smaller distance counts as equal")
    expected = full_batch_gradient(model, full_batch or microbatches, per)
    with torch.inference_mode(False), torch.enable_grad():
        copy = deepcopy(model).eval()
        copy.zero_grad()
        optimizer = _Recorder(copy)
        train_window(copy, optimizer, microbatches)
        first = tuple(optimizer.gradients)
        train_window(copy, optimizer, microbatches)
    second = optimizer.gradients[len(first) :]
    if not first:
        nan = math.nan
        return Equivalence(False, _NO_STEP, 0, nan, nan, nan, nan)
    compared = [compare(first[0], expected) for compare in (ratio, cosine, distance)]
    again = distance(second[0], expected) if second else math.nan
    message = _explain(len(first), *compared, again, tolerance)
    return Equivalence(message == _EQUAL, message, len(first), *compared, again)


class _Recorder(Optimizer):
    """Records the gradient at each step, and leaves the weights as they are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {"lr": 0.0})  # a schedule may read it
        self.parameters = {n: each for n, each in model.named_parameters() if each.requires_grad}
        self.gradients: list[Gradient] = []

    def step(self, closure: object = None) -> None:
        self.gradients.append(
            {
                name: torch.zeros_like(each) if each.grad is None else each.grad.detach().clone()
                for name, each in self.parameters.items()
            }
        )


_EQUAL = "The gradient of the microbatches is that of the full batch."
_NO_STEP = "optimizer.step() was not called: the loop has to call it once a window."


def _explain(
    steps: int, ratio: float, cosine: float, distance: float, again: float, tolerance: float
) -> str:
    if steps > 1:
        return (
            f"optimizer.step() was called {steps} times in one window: call it once, after the "
            "last microbatch."
        )
    if ratio == 0 and math.isnan(cosine):
        return (
            "No gradient reached the parameters: look for detach(), item() or a new tensor between "
            "the model and the loss."
        )
    if not math.isfinite(distance):
        return "The gradient is NaN or infinite: look at what is at masked places."
    if distance <= tolerance and again <= tolerance:
        return _EQUAL
    if distance <= tolerance:
        return (
            "The gradient of the first window is that of the full batch, and that of the next one "
            f"is not (off by {100 * again:.4g} %): call zero_grad() once a window."
        )
    if 1 + cosine <= tolerance**2:
        return "The gradient points in the opposite direction: look at the sign of the loss."
    if 1 - cosine <= tolerance**2:
        return (
            "The gradient has the direction of the full batch's, and "
            f"{ratio:.4g} times its length: look at the divisors."
        )
    return (
        f"The gradient points elsewhere (cosine {cosine:.4g}). Some tokens have another weight: "
        "look at the mask, the labels, the divisor of each microbatch and the place of zero_grad()."
    )
