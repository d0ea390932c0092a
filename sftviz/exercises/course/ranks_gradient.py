"""Exercise: the gradient of two ranks, each with a part of the window."""

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


def ranks_gradient(models: Sequence[nn.Module], batches: Sequence[TokenBatch]) -> None:
    """Leave the gradient of all ranks' tokens in the .grad of every copy of the model.

    models: W equal copies, one for each rank, without a gradient. batches: W, each with
    input_ids, labels and response_mask. First each rank calls backward() on a loss of
    its own batch. Then, as DistributedDataParallel does, every gradient is replaced by
    its mean over the ranks. It must be that of the mean over all response tokens.
    """
    W, num_tokens = len(models), sum(int(batch.response_mask.sum()) for batch in batches)
    for model, batch in zip(models, batches, strict=True):
        log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
        (-torch.where(batch.response_mask, log_probs, 0).sum() * W / num_tokens).backward()
    for copies in zip(*(model.parameters() for model in models), strict=True):
        mean = sum(each.grad for each in copies) / W
        for each in copies:
            each.grad = mean.clone()


def _ranks(
    factor: Callable[[int, int, int], float] = lambda W, mine, all_tokens: W / all_tokens,
    combine: Callable[[torch.Tensor], torch.Tensor] = lambda grads: grads.mean(0),
    receivers: slice = slice(None),
) -> Function:
    """The same with another factor of the loss, or with gradients combined in another way."""

    def run(models: Sequence[nn.Module], batches: Sequence[TokenBatch]) -> None:
        all_tokens = sum(batch.num_tokens for batch in batches)
        for model, batch in zip(models, batches, strict=True):
            log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
            scale = factor(len(models), batch.num_tokens, all_tokens)
            (-torch.where(batch.response_mask, log_probs, 0).sum() * scale).backward()
        for copies in zip(*(model.parameters() for model in models), strict=True):
            combined = combine(torch.stack([each.grad for each in copies]))  # (W, …)
            for each in copies[receivers]:
                each.grad = combined.clone()

    return run


def _trial(batches: Sequence[TokenBatch]) -> Trial:
    models = nn.ModuleList(tiny_model() for _ in batches)
    counts = ", ".join(str(batch.num_tokens) for batch in batches)
    return Trial((models, batches), sizes=f"W = {len(batches)} ranks with {counts} tokens")


EXERCISE = exercise(
    ranks_gradient,
    title="Two ranks",
    minutes=10,
    goal="Ranks average their gradients, although each has another number of response tokens. "
    "With what must the sum of a rank's log-probs be multiplied, so that the average is right?",
    hints=(
        "Write down the wanted loss of all ranks together as one fraction. The number below it is "
        "about all batches, so in reality the ranks have to exchange it first.",
        "The average divides by W, the number of ranks, which nobody has asked for: multiply the "
        "loss of each rank by W.",
        "<code>zip(*(model.parameters() for model in models))</code> gives the copies of each "
        "parameter. Compute the mean of their <code>.grad</code> before you replace any of them.",
    ),
    gradient="left in .grad",
    read=nothing,
    trials=(_trial(_PAIR), _trial(_WINDOW)),
    mistakes=(
        wrong(
            "W left out",
            _ranks(lambda W, mine, every: 1 / every),
            "The average over the ranks divides by W once more, so the gradient is too short.",
            "Multiply the loss of each rank by W, the number of ranks.",
        ),
        wrong(
            "mean of the ranks' means",
            _ranks(lambda W, mine, every: 1 / mine),
            "Each rank divides by its own tokens, so a token of a short batch has more weight.",
            "Divide by the response tokens of all ranks, and multiply by W.",
        ),
        wrong(
            "gradients added up",
            _ranks(combine=lambda grads: grads.sum(0)),
            "The gradients are added up and not averaged, so with the factor W they are too long.",
            "Replace each gradient by the mean over the ranks.",
        ),
        wrong(
            "always two ranks",
            _ranks(lambda W, mine, every: 2 / every),
            "The loss is multiplied by 2, which is right for two ranks alone.",
            "Multiply by the number of ranks: len(models).",
        ),
        wrong(
            "gradients not averaged",
            _ranks(combine=lambda grads: grads, receivers=slice(0)),
            "Each rank keeps its own gradient, so after a step the models differ.",
            "Replace each gradient by the mean over the ranks.",
        ),
        wrong(
            "only the first rank",
            _ranks(receivers=slice(1)),
            "Only the first copy has the average; the others keep their own gradient.",
            "Give every copy the average.",
        ),
        wrong(
            "sum over tokens",
            _ranks(lambda W, mine, every: W),
            "The loss is a sum over tokens, divided by nothing.",
            "Divide by the response tokens of all ranks.",
        ),
        wrong("sign kept", _ranks(lambda W, mine, every: -W / every)),
    ),
)
