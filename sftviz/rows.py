"""Rows of numbers as a tensor of their own, (B, S).

A tensor or an array is copied and keeps its dtype. Lists may contain anything, so each entry is
checked: a string is never converted to a number, and only a mask may contain booleans.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from sftviz.validate import brief, listed, place

Rows = Tensor | Sequence[Sequence[float]]  # (B, S); also a NumPy array


def log_prob_rows(name: str, rows: Rows) -> Tensor:
    """Make a tensor of log-probs, (B, S). Lists become a tensor of torch's default dtype.

    Raises:
        TypeError: it is an array that torch does not have, or lists of token ids: of integers alone
            with one above 0.
        ValueError: the rows differ in length or contain something that is not a number.
    """
    if (copied := _copy(name, rows)) is not None:
        return copied
    entries = _entries(name, rows, _is_number, "[[-0.5, -0.3], [-0.4, -0.6]]")
    exact = _tensor(name, entries)
    above = exact > 0
    if above.any() and all(issubclass(kind, Integral) for row in entries for kind in _kinds(row)):
        raise TypeError(
            f"{name} must be floating point, got {_first(entries, above)}: "
            "pass log-probabilities, for example log_softmax(logits), not token ids."
        )
    log_probs = exact.to(torch.get_default_dtype())
    lost = log_probs.isinf() & exact.isfinite()
    if lost.any():
        raise ValueError(
            f"{name} must fit into {log_probs.dtype}, got {_first(entries, lost)}: "
            "the log-prob of an impossible token is -Infinity."
        )
    return log_probs


def mask_rows(name: str, rows: Rows) -> Tensor:
    """Make a tensor of a mask, (B, S). Lists become a tensor of torch's default dtype.

    Raises:
        TypeError: it is an array that torch does not have.
        ValueError: the rows differ in length or contain something that is not a number or boolean.
    """
    if (copied := _copy(name, rows)) is not None:
        return copied
    exact = _tensor(name, _entries(name, rows, _is_number_or_bool, "[[0, 1], [1, 1]]"))
    mask = exact.to(torch.get_default_dtype())
    return mask if torch.equal(mask, exact) else exact  # 0.9999999999 is not to become 1


def _copy(name: str, rows: Any) -> Tensor | None:
    """A copy of a tensor, of a list of tensors of one shape or of an array; else None."""
    if isinstance(rows, Tensor):
        return rows.detach().clone()
    if hasattr(rows, "__array_interface__"):  # what a NumPy array has
        try:
            return torch.tensor(rows.astype(rows.dtype.newbyteorder("=")))
        except TypeError:
            raise TypeError(
                f"{name} must be an array of a dtype that torch has too, got {rows.dtype}: "
                "convert it, for example to float32."
            ) from None
    if isinstance(rows, list | tuple) and all(isinstance(row, Tensor) for row in rows):
        return torch.stack(list(rows)).detach() if len({row.shape for row in rows}) == 1 else None
    return None


def _entries(
    name: str, rows: Any, is_allowed: Callable[[type], bool], example: str
) -> list[list[float]]:
    """Rows of numbers as lists, all of the same length."""
    asked = f"{name} must be rows of numbers"
    try:  # what can be sliced is a sequence
        entries = [list(row[:]) for row in rows[:]]
    except (TypeError, KeyError, IndexError):
        raise ValueError(f"{asked}, got {brief(rows)}: write them as {example}.") from None
    for r, row in enumerate(entries):
        if invalid := [kind for kind in _kinds(row) if not is_allowed(kind)]:
            c = next(c for c, entry in enumerate(row) if type(entry) in invalid)
            came = f"{type(row[c]).__name__} {brief(row[c])} at {place(r, c)}"
            raise ValueError(f"{asked}, got {came}: write them as {example}.")
    lengths = list(map(len, entries))
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name} has rows of {listed(lengths)} entries: "
            "give all rows the same length, and mask the padding."
        )
    return entries


def _tensor(name: str, entries: list[list[float]]) -> Tensor:
    try:
        return torch.tensor(entries, dtype=torch.float64)
    except OverflowError:
        raise ValueError(f"{name} contains an int that is too large for a float.") from None


def _first(entries: list[list[float]], chosen: Tensor) -> str:
    """The first entry that is chosen, and where it is."""
    r, c = chosen.nonzero()[0].tolist()
    return f"{entries[r][c]} at {place(r, c)}"


def _kinds(row: list[float]) -> set[type]:
    return set(map(type, row))


def _is_number(kind: type) -> bool:
    return _is_number_or_bool(kind) and not kind.__name__.startswith("bool")  # NumPy's too


def _is_number_or_bool(kind: type) -> bool:
    return hasattr(kind, "__float__")
