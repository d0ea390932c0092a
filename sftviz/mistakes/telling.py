"""Small batches on which no two mistakes do the same: what a function is judged on."""

import torch
from torch import Tensor, nn

from sftviz.inputs import StepInputs
from sftviz.label_log_probs import IGNORE_INDEX
from sftviz.tokens import TokenBatch

_LOG_PROBS = torch.tensor(
    [
        [-0.53, -0.31, -0.82, -0.23, -1.17, -0.74],
        [-0.41, -0.67, -0.36, -2.03, -0.92, -0.13],
        [-1.43, -0.27, -0.61, -0.19, -0.88, -1.51],
    ],
    dtype=torch.float64,
)
_MASK = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0]])

TELLING = (
    StepInputs(_LOG_PROBS, _MASK, 5, 7.0),
    StepInputs(_LOG_PROBS[:2], _MASK[:2], 3, 2.0),
    # What may be at a masked place, and in which dtype.
    StepInputs(torch.where(_MASK.bool(), _LOG_PROBS, float("nan")), _MASK, 2, 42.0),
    StepInputs(_LOG_PROBS.bfloat16(), _MASK, 4, 7.0),
)


class _TinyModel(nn.Embedding):
    """Both `model(input_ids)` and `model(input_ids=input_ids).logits` are its logits."""

    def forward(self, input_ids: Tensor, **ignored: object) -> Tensor:
        logits = super().forward(input_ids)
        logits.logits = logits
        return logits


def tiny_model() -> nn.Embedding:
    """A model that predicts from the last token alone: 7 tokens, float64, always the same."""
    weights = (torch.arange(49, dtype=torch.float64) * 2.3).sin().reshape(7, 7)
    return _TinyModel.from_pretrained(weights, freeze=False)


def _batch(rows: int, mask: list[int], start: int) -> TokenBatch:
    S = len(mask)
    tokens = (torch.arange(rows * (S + 1)) * 3 + start).reshape(rows, S + 1) % 7
    return TokenBatch(tokens[:, :-1], tokens[:, 1:], torch.tensor([mask] * rows).bool())


# The arguments of `accumulate_windows` after the model: five microbatches in windows of G = 3.
TELLING_WINDOWS = (
    [
        _batch(2, [0, 1, 1, 1], 1),
        _batch(2, [0, 0, 1], 2),
        _batch(1, [0, 1, 1, 0, 1], 4),
        _batch(2, [1, 1], 5),
        _batch(2, [0, 0, 0, 1], 6),
    ],
    3,
)

# The arguments of `get_response_log_probs` after the model.
TELLING_TOKENS = (
    torch.tensor([[1, 4, 2, 2, 6, 0, 3, 5], [3, 5, 5, 1, 0, 6, 4, 2]]),
    torch.tensor([[4, 2, 2, 6, 0, 3, 5, 1], [5, 5, 1, 0, 6, 4, IGNORE_INDEX, IGNORE_INDEX]]),
)
