"""Wrong log-probs of the labels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from sftviz.label_log_probs import IGNORE_INDEX
from sftviz.mistakes.mistake import Mistake

Logits = Tensor  # (B, S, V)


def _look_up(log_p: Tensor, labels: Tensor) -> Tensor:
    """The entry of each label, (B, S); 0 where there is no label."""
    found = log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(labels == IGNORE_INDEX, 0, found)


def _wrong(
    name: str,
    cause: str,
    remedy: str,
    score: Callable[[Logits], Tensor] = lambda logits: logits.log_softmax(-1),
    choose: Callable[[Tensor, Tensor], Tensor] = lambda input_ids, labels: labels,
    look_up: Callable[[Tensor, Tensor], Tensor] = _look_up,
) -> Mistake:
    def run(
        model: Callable[[Tensor], object], input_ids: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        output = model(input_ids)
        logits = output if isinstance(output, Tensor) else output.logits
        return {"log_probs": look_up(score(logits), choose(input_ids, labels))}

    return Mistake(name, cause, remedy, "log-probs", run)


_SHIFT = "Pass input_ids = tokens[:, :-1] and labels = tokens[:, 1:], and look up the labels."

LOG_PROBS = (
    _wrong(
        "no shift",
        "At each position the token that was just read is looked up, not the next one.",
        _SHIFT,
        choose=lambda input_ids, labels: input_ids,
    ),
    _wrong(
        "shifted twice",
        "At each position the token after the next one is looked up.",
        _SHIFT,
        choose=lambda input_ids, labels: pad(labels[:, 1:], (0, 1)),
    ),
    _wrong(
        "probabilities",
        "Softmax without the logarithm gives probabilities.",
        "Take log_softmax of the logits.",
        score=lambda logits: logits.softmax(-1),
    ),
    _wrong(
        "logits",
        "The logits are looked up as they are.",
        "Take log_softmax of the logits first.",
        score=lambda logits: logits,
    ),
    _wrong(
        "normalized over positions",
        "log_softmax runs over the positions, so a row's probabilities of one token sum to 1.",
        "Normalize over the vocabulary: log_softmax(dim=-1).",
        score=lambda logits: logits.log_softmax(1),
    ),
    _wrong(
        "wrong gather axis",
        "gather runs over the positions, so a label is used as a position.",
        "Gather over the vocabulary: log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1).",
        look_up=lambda log_p, labels: log_p.gather(1, labels.clamp(min=0).unsqueeze(-1)).squeeze(
            -1
        ),
    ),
    _wrong(
        "most likely token",
        "At each position the largest log-prob is returned, whatever the label is.",
        "Look up the label.",
        look_up=lambda log_p, labels: torch.where(labels == IGNORE_INDEX, 0, log_p.amax(-1)),
    ),
    _wrong(
        "sampling temperature left in",
        "The logits are divided by a temperature of 0.7, as for sampling.",
        "Take log_softmax of the logits as the model returns them.",
        score=lambda logits: (logits / 0.7).log_softmax(-1),
    ),
    _wrong(
        "negative log-probs",
        "The cross-entropy is returned, which is the negative of the log-prob.",
        "Negate the cross-entropy: a log-prob is at most 0.",
        look_up=lambda log_p, labels: -_look_up(log_p, labels),
    ),
    _wrong(
        "log-probs detached",
        "The log-probs are detached, so no gradient reaches the model.",
        "Run the model with gradients on, and detach nothing.",
        score=lambda logits: logits.detach().log_softmax(-1),
    ),
    _wrong(
        "ignored label looked up",
        "Where the label is -100, the log-prob of token 0 is returned.",
        "Return 0 where the label is -100.",
        look_up=lambda log_p, labels: _look_up(log_p, labels.clamp(min=0)),
    ),
)
