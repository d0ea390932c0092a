"""How much the step's divisor matters to an optimizer: AdamW, clipping, L2 decay, SGD."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD, Adam, AdamW, Optimizer

from sftviz.experiments.training import Trainer, TrainingData
from sftviz.validate import check_count


@dataclass(frozen=True)
class Recipe:
    """How to make an optimizer from a model's parameters, and the length at which to clip."""

    make: Callable[[Iterable[nn.Parameter]], Optimizer]
    max_grad_norm: float = math.inf


RECIPES: Mapping[str, Recipe] = {
    "AdamW": Recipe(partial(AdamW, lr=3e-3)),
    "AdamW, clipped at 1": Recipe(partial(AdamW, lr=3e-3), max_grad_norm=1.0),
    "AdamW, eps 1e-2": Recipe(partial(AdamW, lr=3e-3, eps=1e-2)),
    "Adam with L2 decay": Recipe(partial(Adam, lr=3e-3, weight_decay=1e-2)),
    "SGD": Recipe(partial(SGD, lr=1e-2)),
}


@dataclass(frozen=True)
class Divergence:
    """One optimizer and one G, trained under ÷ G² and under the mean over sequences."""

    optimizer: str  # name of the recipe
    gradient_accumulation_steps: int  # G
    factor: float  # B / G: the gradient under ÷ G², relative to that under the mean
    difference: float  # distance of the final weights, relative to the change under the mean
    loss: float  # returned loss of the last window under ÷ G²
    mean_loss: float  # the same under the mean
    clipped: float  # share of windows whose gradient was clipped under ÷ G²
    mean_clipped: float  # the same under the mean


def optimizer_divergence(
    model: nn.Module,
    data: TrainingData,
    recipes: Mapping[str, Recipe] = RECIPES,
    steps: Sequence[int] = (2, 16, 64),
    microbatch_size: int = 2,
    windows: int = 120,
) -> list[Divergence]:
    """Train copies of a model under ÷ G² and under the mean, and compare the final weights.

    Both trainings visit the same rows in the same order, in float64: only the divisor differs, and
    with it the gradient, by the factor B / G. There is a record for each recipe and each G. A
    window has B·G rows, so the time is proportional to the sum of `steps`.

    Args:
        model: the start of every training; it is not changed.
        data: from `prepare`.
        recipes: the optimizers, by name.
        steps: the values of G.
        microbatch_size: B.
        windows: the number of optimizer steps of each training.

    Raises:
        TypeError, ValueError: a number is not an int of at least 1.
        FloatingPointError: a gradient became NaN or infinite.

    Example:
        >>> from sftviz.experiments.training import prepare
        >>> model = nn.Embedding(10, 10)  # a bigram model
        >>> data = prepare([[("prompt", [5]), ("response", [6, 7])]], 0, 8, vocab_size=10)
        >>> sgd = {"SGD": Recipe(partial(SGD, lr=0.1))}
        >>> (record,) = optimizer_divergence(model, data, sgd, steps=(8,), windows=1)
        >>> record.factor, round(record.difference, 6)
        (0.25, 0.75)
    """
    for G in steps:
        check_count("every entry of steps", G, "it counts the microbatches of one optimizer step")
    check_count("microbatch_size", microbatch_size, "it is the number of rows of a microbatch")
    check_count("windows", windows, "it is the number of optimizer steps of each training")
    B = microbatch_size
    start = parameters_to_vector(model.parameters()).detach().double()
    records = []
    for name, recipe in recipes.items():
        for G in steps:
            end, loss, clipped = _train(model, data, recipe, B * G, G * G, windows)
            mean_end, mean_loss, mean_clipped = _train(model, data, recipe, B * G, B * G, windows)
            difference = ((end - mean_end).norm() / (mean_end - start).norm()).item()
            records.append(
                Divergence(name, G, B / G, difference, loss, mean_loss, clipped, mean_clipped)
            )
    return records


def _train(
    model: nn.Module, data: TrainingData, recipe: Recipe, rows: int, divisor: float, windows: int
) -> tuple[Tensor, float, float]:
    """The final weights, (parameters,), the last window's loss, and the share of clipped ones."""
    model = deepcopy(model).double()
    # The step sums over rows. So one large microbatch with the rule's divisor has the gradient that
    # G microbatches accumulate, and takes much less time.
    trainer = Trainer(
        model,
        recipe.make(model.parameters()),
        data,
        microbatch_size=rows,
        gradient_accumulation_steps=1,
        normalize_constant=divisor,
        max_grad_norm=recipe.max_grad_norm,
    )
    history = list(trainer.run(until=windows))
    clipped = sum(window.grad_norm > recipe.max_grad_norm for window in history) / windows
    return parameters_to_vector(model.parameters()).detach(), history[-1].scaled_loss, clipped
