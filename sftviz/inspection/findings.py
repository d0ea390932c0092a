"""What is looked for in a batch: one function per mistake, and the list of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from sftviz.inspection.batch import Hints, Reading

Severity = Literal["error", "warning", "note"]
Place = tuple[int, int]  # row and column, from 0, in the form of `NormalBatch`


@dataclass(frozen=True)
class Finding:
    """Something in a batch that is wrong, or likely to be.

    `severity` is "error": the step fails or trains on something wrong; "warning": most likely a
    mistake; or "note": right, but good to know. `places` are the first of all places, counted from
    0; the message counts them all, and names the first as the pictures do, from 1.
    """

    name: str
    severity: Severity
    message: str
    remedy: str
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, eq=False)
class Subject:
    """What the checks are about: a batch, and what else is known of its run."""

    reading: Reading
    hints: Hints = field(default_factory=Hints)  # with the ids of a tokenizer, where it has them
    log_probs: Tensor | None = None  # (B, S), as they were given: with their dtype and graph
    gradient_accumulation_steps: int | None = None
    normalize_constant: float = 1.0
    window: tuple[int, ...] = ()  # the tokens that count in each microbatch of the window


CHECKS: tuple[Callable[[Subject], Finding | None], ...] = ()


def find(subject: Subject) -> tuple[Finding, ...]:
    """All findings about a batch, the errors first."""
    found = [finding for check in CHECKS if (finding := check(subject)) is not None]
    return tuple(sorted(found, key=lambda each: ("error", "warning", "note").index(each.severity)))
