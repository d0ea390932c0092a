"""Exercise: the divisor when the microbatches of a window are uneven."""

import torch
from torch import Tensor

from sftviz.exercises.exercise import exercise, wrong
from sftviz.exercises.subject import Trial

_SUMS = torch.tensor([-14.0, -33.0, -6.0], dtype=torch.float64)
_TOKENS = torch.tensor([10, 22, 7])


def window_losses(masked_sums: Tensor, num_tokens: Tensor) -> Tensor:
    """Make the losses of a window's microbatches, on which backward() is called.

    masked_sums: (G,) float, the sum of each microbatch's log-probs of response tokens.
    num_tokens: (G,) int, its number of response tokens; a microbatch may have none.
    Returns (G,). They add up to the mean, over all response tokens of the window, of the
    negative log-prob; each response token has the same weight, wherever it is.
    """
    return -masked_sums / num_tokens.sum()


EXERCISE = exercise(
    window_losses,
    title="The divisor when the window is uneven",
    minutes=5,
    goal="One microbatch has 10 response tokens, another has 22. Divide their sums so that, after "
    "all backward passes, `.grad` is the gradient of the mean over all tokens of the window.",
    hints=(
        "Write down the loss of the window as one fraction: what is above, what is below?",
        "The sum above can be split over the microbatches. What is below is the same for all.",
        "A mean of each microbatch's mean gives a token of a short microbatch more weight.",
    ),
    gradient="of the result",
    returns=("losses",),
    trials=(
        Trial((_SUMS.clone().requires_grad_(), _TOKENS), sizes="num_tokens = [10, 22, 7]"),
        Trial((_SUMS[:2].clone().requires_grad_(), _TOKENS[:2]), sizes="num_tokens = [10, 22]"),
        Trial(
            ((_SUMS * torch.tensor([1, 0, 1])).requires_grad_(), torch.tensor([10, 0, 7])),
            "a microbatch has no response token",
            "num_tokens = [10, 0, 7]",
        ),
    ),
    mistakes=(
        wrong("mean of means", lambda sums, tokens: -sums / tokens / len(sums)),
        wrong("÷G twice", lambda sums, tokens: -sums / tokens / len(sums) ** 2),
        wrong("÷G forgotten", lambda sums, tokens: -sums / tokens),
        wrong("G times too large", lambda sums, tokens: -sums / tokens.sum() * len(sums)),
        wrong("mean over tokens forgotten", lambda sums, tokens: -sums),
        wrong("sign kept", lambda sums, tokens: sums / tokens.sum()),
        wrong(
            "÷G",
            lambda sums, tokens: -sums / len(sums),
            "Each sum is divided by the number of microbatches.",
            "Divide by the response tokens of the whole window.",
        ),
        wrong(
            "÷G too much",
            lambda sums, tokens: -sums / tokens.sum() / len(sums),
            "The sums are divided by the window's tokens, and by G besides.",
            "Divide by the window's tokens alone: backward() adds up, it does not average.",
        ),
        wrong(
            "largest microbatch",
            lambda sums, tokens: -sums / tokens.max() / len(sums),
            "Every microbatch counts as if it had as many tokens as the largest one.",
            "Divide by the response tokens that there are.",
        ),
    ),
)
