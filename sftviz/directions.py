"""How gradients of one window point: in a plane that has the directions of all of them.

One axis is the direction of the full-batch gradient. The other one is what the gradient of a rule
has besides, at right angles to the first: so that gradient is in the plane exactly, and every rule
that only rescales is on the first axis. Needs torch alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.accumulation import AccumulationTrace
from sftviz.rules import Gradient

_SMALLEST = 1e-6  # of a part that is not a rounding error; the full-batch gradient has length 1


@dataclass(frozen=True)
class Direction:
    """The accumulated gradient of a rule beside the full-batch gradient."""

    rule: str
    length: float  # 1 is that of the full-batch gradient
    degrees: float  # the angle between both, from 0 to 180
    points: tuple[tuple[float, float], ...]  # .grad in the plane: at first, after each microbatch


def directions(traces: Sequence[AccumulationTrace]) -> tuple[Direction, ...]:
    """Project what is in `.grad` after each microbatch, for several rules, on one plane.

    The plane is that of the full-batch gradient and of the accumulated gradient that is farthest
    from its direction. If all have its direction, it is that of the full-batch gradient and of the
    first microbatch. Lengths are relative to the mean that the rule is about.

    Args:
        traces: of one window and one model, under different rules.

    Returns:
        One direction per trace. A point before the last one is a projection: what leaves the plane
        is not seen. The last point is exact if the rule has the direction of the full-batch
        gradient, or is the one that defines the plane.

    Example:
        >>> from sftviz.accumulation import accumulate
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> model, window = BigramModel(8, dtype=torch.float64), make_window(B=3, G=4)
        >>> for at in directions([accumulate(model, window, rule) for rule in ("G²", "tokens")]):
        ...     print(f"{at.rule}: length {at.length:.2f}, turned by {at.degrees:.0f}°")
        G²: length 0.75, turned by 0°
        tokens: length 1.00, turned by 0°
    """
    ways = [_relative(trace) for trace in traces]  # of each, (1 + microbatches, parameters)
    axis = _unit(_flat(traces[0].full_batch_grad))
    ends = [way[-1] for way in ways]
    aside = max((_aside(end, axis) for end in ends), key=torch.linalg.vector_norm)
    if aside.norm() < _SMALLEST:
        aside = _aside(ways[0][1], axis)
    up = _unit(aside) if aside.norm() > _SMALLEST else torch.zeros_like(axis)
    plane = torch.stack([axis, up], dim=1)  # (parameters, 2)
    return tuple(
        Direction(
            rule=trace.scaling.name,
            length=way[-1].norm().item(),
            degrees=math.degrees(
                math.atan2(_aside(way[-1], axis).norm().item(), (way[-1] @ axis).item())
            ),
            points=tuple((x, y) for x, y in (way @ plane).tolist()),
        )
        for trace, way in zip(traces, ways, strict=True)
    )


def _relative(trace: AccumulationTrace) -> Tensor:
    """.grad before the window and after each microbatch, in lengths of the full-batch gradient."""
    grads = [_flat(record.grad) for record in trace.microbatches]
    first = torch.zeros_like(grads[0]) if trace.leftover is None else _flat(trace.leftover)
    return torch.stack([first, *grads]) / _flat(trace.full_batch_grad).norm()


def _aside(gradient: Tensor, axis: Tensor) -> Tensor:
    return gradient - (gradient @ axis) * axis


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def _flat(gradient: Gradient) -> Tensor:
    return torch.cat([gradient[name].flatten().double() for name in sorted(gradient)])
