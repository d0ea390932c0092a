"""Exercise: the gradient of the step, without autograd."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sftviz.exercises.exercise import Function, exercise, wrong
from sftviz.exercises.subject import Trial

_LOGITS = (torch.arange(3 * 4 * 5, dtype=torch.float64) * 1.7).cos().reshape(3, 4, 5)
_LABELS = torch.tensor([[1, 3, 2, 0], [2, 2, 4, 3], [0, 1, 1, 4]])
_MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 0]]).bool()


def gradient_by_hand(
    logits: Tensor, labels: Tensor, mask: Tensor, G: int, c: float
) -> tuple[Tensor, Tensor]:
    """Compute the gradient that the step leaves, without autograd.

    logits: (B, S, V) float. labels: (B, S) int, from 0 to V − 1. mask: (B, S) bool.
    Returns grad, the gradient of scaled_loss at the log-prob of each label, (B, S), and
    logits_grad, its gradient at each logit, (B, S, V).
    """
    grad = mask.to(logits.dtype) / -(G**2 * c)  # (B, S)
    one_hots = torch.nn.functional.one_hot(labels, logits.shape[-1])  # (B, S, V)
    return grad, grad.unsqueeze(-1) * (one_hots - logits.softmax(-1))


def _times(factor: Callable[[Tensor, int], float | Tensor]) -> Function:
    """Both gradients multiplied by a number, which may depend on the mask and on G."""

    def run(logits: Tensor, labels: Tensor, mask: Tensor, G: int, c: float) -> tuple[Tensor, ...]:
        both = gradient_by_hand(logits, labels, mask, G, c)
        return tuple(each * factor(mask, G) for each in both)

    return run


def _slope(slope: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Another slope of the log-probs, made of the logits and of the one-hot labels."""

    def run(logits: Tensor, labels: Tensor, mask: Tensor, G: int, c: float) -> tuple[Tensor, ...]:
        grad, _ = gradient_by_hand(logits, labels, mask, G, c)
        return grad, grad.unsqueeze(-1) * slope(logits, one_hot(labels, logits.shape[-1]))

    return run


EXERCISE = exercise(
    gradient_by_hand,
    title="Its gradient by hand",
    minutes=10,
    goal="`scaled_loss` is a sum of log-probs, negated and divided, so its gradient at a log-prob "
    "is a constant; at the logits it is not. Compute both without autograd.",
    hints=(
        "scaled_loss = −(sum of the response tokens' log-probs) / (G²·c). If one of these "
        "log-probs rises by 1, by how much does that change? And if a masked one rises?",
        "log-prob = logit of the label − ln Σ exp(logits). Its slope is 1 at the label's own logit "
        "(one-hot), minus the softmax at every logit.",
        "A chain: the gradient at a logit is the gradient at the log-prob times that slope. "
        "<code>torch.nn.functional.one_hot(labels, V)</code> and <code>grad.unsqueeze(-1)</code> "
        "have shapes that fit.",
    ),
    returns=("grad", "logits_grad"),
    trials=(
        Trial((_LOGITS, _LABELS, _MASK, 4, 7.0), sizes="B = 3, S = 4, V = 5, G = 4, c = 7"),
        Trial((_LOGITS[:2], _LABELS[:2], _MASK[:2], 3, 0.5), sizes="B = 2, S = 4, V = 5, G = 3"),
    ),
    mistakes=(
        wrong("sign kept", _times(lambda mask, G: -1)),
        wrong("÷G", _times(lambda mask, G: G)),
        wrong("÷G³", _times(lambda mask, G: 1 / G)),
        wrong("token mean ÷G²", _times(lambda mask, G: 1 / mask.sum())),
        wrong(
            "c left out",
            lambda logits, labels, mask, G, c: gradient_by_hand(logits, labels, mask, G, 1),
        ),
        wrong(
            "mask ignored",
            lambda logits, labels, mask, G, c: gradient_by_hand(
                logits, labels, torch.ones_like(mask), G, c
            ),
        ),
        wrong(
            "one-hot left out",
            _slope(lambda logits, one_hots: -logits.softmax(-1)),
            "Only the softmax is in the gradient at the logits.",
            "The label's own logit raises its log-prob: add 1 there.",
        ),
        wrong(
            "softmax left out",
            _slope(lambda logits, one_hots: one_hots),
            "Only the logit of the label has a gradient.",
            "Every logit is in the sum of the softmax, so each lowers the log-prob: subtract it.",
        ),
        wrong(
            "sign of the logits' gradient",
            _slope(lambda logits, one_hots: logits.softmax(-1) - one_hots),
            "The gradient at the logits has the opposite sign.",
            "grad is negative already: multiply it by one-hot − softmax.",
        ),
        wrong(
            "logits for probabilities",
            _slope(lambda logits, one_hots: one_hots - logits),
            "The logits stand where their softmax belongs.",
            "Probabilities are logits.softmax(-1), over the vocabulary.",
        ),
    ),
)
