"""What an optimizer makes of the step's divisor."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD, Adam, AdamW, Optimizer

from sftviz.experiments.training import Trainer, TrainingData, Window


@dataclass(frozen=True)
class Recipe:
    """An optimizer with its settings."""

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
    """Where an optimizer ended under ÷G², and where under the mean over sequences."""

    optimizer: str
    gradient_accumulation_steps: int
    factor: float  # B / G: the gradient under ÷G² is so many times that of the mean
    difference: float  # distance of the two ends, in lengths of the way that the mean went
    loss: float  # the last window's returned loss under ÷G²
    mean_loss: float  # the same under the mean
    clipped: float  # share of windows whose gradient was cut, under ÷G²
    mean_clipped: float  # the same under the mean


def optimizer_divergence(
    model: nn.Module,
    data: TrainingData,
    recipes: Mapping[str, Recipe] = RECIPES,
    steps: Sequence[int] = (2, 16, 64),
    microbatch_size: int = 2,
    windows: int = 120,
) -> list[Divergence]:
    """Train copies of a model under ÷G² and under the true mean, and compare where they end.

    Both see the same rows in the same order, in float64, so that what differs is the divisor and
    not the rounding.

    Args:
        model: where all begin; it is not changed.
        data: from `prepare`.
        recipes: the optimizers, by name.
        steps: the G to try.
        microbatch_size: B.
        windows: optimizer steps of each training.

    Returns:
        A record for each recipe and each G, in this order. The time goes with the sum of the G,
        since a window has B·G rows.
    """
    B = microbatch_size
    start = parameters_to_vector(model.parameters()).detach().double()
    records = []
    for name, recipe in recipes.items():
        for G in steps:
            end, history = _train(model, data, recipe, B * G, G * G, windows)
            mean_end, mean_history = _train(model, data, recipe, B * G, B * G, windows)
            records.append(
                Divergence(
                    optimizer=name,
                    gradient_accumulation_steps=G,
                    factor=B / G,
                    difference=((end - mean_end).norm() / (mean_end - start).norm()).item(),
                    loss=history[-1].scaled_loss,
                    mean_loss=mean_history[-1].scaled_loss,
                    clipped=_share_clipped(history, recipe),
                    mean_clipped=_share_clipped(mean_history, recipe),
                )
            )
    return records


def _train(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    window_size: int,
    divisor: float,
    windows: int,
) -> tuple[Tensor, list[Window]]:
    """Train a copy of the model: where it ended, (parameters,), and what its windows did."""
    model = deepcopy(model).double()
    # The step is a sum over rows. So a window in one piece, divided by all that the rule divides
    # by, leaves the gradient that its G microbatches would have added up, in much less time.
    trainer = Trainer(
        model,
        recipe.make(model.parameters()),
        data,
        microbatch_size=window_size,
        gradient_accumulation_steps=1,
        normalize_constant=divisor,
        max_grad_norm=recipe.max_grad_norm,
    )
    for _ in trainer.run(until=windows):
        pass
    return parameters_to_vector(model.parameters()).detach(), trainer.history


def _share_clipped(history: Sequence[Window], recipe: Recipe) -> float:
    return sum(window.grad_norm > recipe.max_grad_norm for window in history) / len(history)
