"""Some tests of the step: those of CS336's assignment, and better ones."""

from collections.abc import Sequence

import torch

from sftviz.mistakes.survivors import CHECKS, StepTest

_ROWS = [
    [-0.53, -0.31, -0.82, -0.23, -1.17, -0.74],
    [-0.41, -0.67, -0.36, -2.03, -0.92, -0.13],
    [-1.43, -0.27, -0.61, -0.19, -0.88, -1.51],
    [-0.34, -1.92, -0.71, -0.47, -0.58, -2.26],
    [-0.86, -0.22, -1.14, -0.95, -0.52, -0.17],
]
_MASK = [
    [0, 1, 1, 0, 1, 0],
    [0, 0, 1, 1, 1, 1],
    [0, 0, 0, 1, 0, 0],
    [0, 1, 1, 1, 1, 0],
    [0, 0, 1, 1, 0, 0],
]
# The batch of CS336's assignment 5, to two decimals: torch.randn, so more than half are positive.
_CS336 = [
    [1.93, 1.49, 0.90, -2.11, -0.76, 1.08, 0.80, 1.68, 0.36, -0.69],
    [-0.49, 0.24, -0.23, 0.04, -0.25, 0.86, -0.31, -0.40, 0.80, -0.62],
]
_CS336_MASK = [[1, 1, 0, 1, 0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0, 1, 1, 0, 1]]
_ONLY_NUMBERS = {name: name == "grad" for name in CHECKS}  # the loss and the gradient, roughly


def _of(
    rows: Sequence[Sequence[float]], mask: Sequence[Sequence[int]], G: int, c: float, **checks: bool
) -> StepTest:
    return StepTest(torch.tensor(rows, dtype=torch.float64), torch.tensor(mask), G, c, **checks)


STEP_TESTS = {
    "CS336: (2, 2, 1)": _of(_CS336, _CS336_MASK, 2, 1.0, **_ONLY_NUMBERS),
    "CS336: (2, 2, 42)": _of(_CS336, _CS336_MASK, 2, 42.0, **_ONLY_NUMBERS),
    "(3, 2, 42)": _of(_ROWS[:3], _MASK[:3], 2, 42.0),
    "(5, 3, 7)": _of(_ROWS, _MASK, 3, 7.0),
}
