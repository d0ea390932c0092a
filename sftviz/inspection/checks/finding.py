"""A finding: what is wrong in a batch, where, why it matters and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sftviz.validate import place

Severity = Literal["error", "warning", "note"]
Place = tuple[int, int]  # row and column, from 0, in the form of `NormalBatch`
MOST_PLACES = 1000  # that a finding lists; its message counts them all

# The debugging checklist of the cheatsheet. Each line has findings that answer it.
CHECKLIST = (
    "Log-probs are negative",
    "Mask matches output",
    "Gradients have correct scale",
    "Loss is reasonable",
    "No NaN/Inf",
    "Requires grad",
)
LOG_PROBS, MASK, GRADIENTS, LOSS, FINITE, REQUIRES_GRAD = CHECKLIST


@dataclass(frozen=True)
class Finding:
    """Something in a batch that is wrong, or likely to be.

    `severity` is "error": the step fails or trains on something wrong; "warning": most likely a
    mistake; or "note": right, but good to know. `places` are the first of all places, counted from
    0; the message counts them all, and names the first as the pictures do, from 1. `checklist` is
    the line of `CHECKLIST` that the finding answers, if it answers one.
    """

    name: str
    severity: Severity
    message: str
    remedy: str
    places: tuple[Place, ...] = ()
    checklist: str = ""


def find_places(
    found: Tensor,
    name: str,
    severity: Severity,
    what: tuple[str, str],
    why: str,
    remedy: str,
    checklist: str = "",
) -> Finding | None:
    """The finding that is made wherever `found` is true, if it is anywhere.

    `found` is (B, S) bool; or (B,) of whole rows, whose place is their first column. `what` is said
    of one place and of several: ("padding token counts", "padding tokens count").

    >>> import torch
    >>> words = ("is", "are"), "why", "remedy"
    >>> find_places(torch.tensor([[False, True]]), "name", "note", *words).message
    '1 is (row 1, token 2): why.'
    >>> find_places(torch.tensor([False, True, True]), "name", "note", *words).message
    '2 are (the first: row 2): why.'
    """
    if not found.any():
        return None
    is_row = found.ndim == 1
    places = places_of(found[:, None] if is_row else found)
    first = f"row {places[0][0] + 1}" if is_row else place(*places[0])
    count, (one, several) = int(found.sum()), what
    where = f"1 {one} ({first})" if count == 1 else f"{count} {several} (the first: {first})"
    return Finding(name, severity, f"{where}: {why}.", remedy, places, checklist)


def places_of(found: Tensor) -> tuple[Place, ...]:
    """The first places where a (B, S) boolean is true."""
    return tuple((row, column) for row, column in found.nonzero()[:MOST_PLACES].tolist())
