"""Small batches on which no two mistakes do the same: what a function is judged on."""

import torch

from sftviz.inputs import StepInputs

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
