"""From the values of a batch to its tensors by role, each (B, L).

Nothing is changed and nothing is moved: a tensor of shape (B, L) and of the right dtype is used as
it is. What can't be read is refused here, with a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sftviz.inspection.formats.entries import ROLE_OF, described, read_entries
from sftviz.rows import mask_rows
from sftviz.validate import FLOATS, brief, check_floating, check_ids, check_tensor, listed, place

_MAIN = ("ids", "labels", "mask", "log_probs")  # one of them says how many tokens there are
WEIGHTS = ("weights", "loss_weights")  # masks that may contain any number of at least 0


@dataclass(frozen=True, eq=False)
class Columns:
    """The tensors of a batch by what they are, and the names that they had."""

    names: Mapping[str, str]  # of each role that was found; several masks as "… and …"
    unused: tuple[str, ...]  # names that were not used
    shape: tuple[int, int]  # (B, L)
    ids: Tensor | None = None  # (B, L) int64
    labels: Tensor | None = None  # (B, L) int64
    mask: Tensor | None = None  # (B, L) of numbers or booleans; of several, their product
    log_probs: Tensor | None = None  # (B, L) floating point
    attention: Tensor | None = None  # (B, L)
    positions: Tensor | None = None  # (B, L) int64
    borders: Tensor | None = None  # (B, n) where each document of a row ends, ascending
    is_filled: Tensor | None = None  # (B, L) bool: shorter rows were given, and filled up here

    @property
    def anything(self) -> Tensor:
        """One of the tensors of shape (B, L): what is on its device."""
        found = (self.ids, self.labels, self.mask, self.log_probs)
        return next(tensor for tensor in found if tensor is not None)


def collect(batch: object) -> Columns:
    """Find the tensors of a batch by their names.

    Raises:
        TypeError, ValueError: there is nothing that can be read, or it does not fit together.
    """
    entries = read_entries(batch)
    names: dict[str, list[str]] = {}
    unused = []
    for name, value in entries.items():
        role = ROLE_OF.get(name)
        is_second = role in names and role != "mask"
        if role == "ids" and "policy_log_probs" in entries and _is_text(value):
            continue  # of `StepInputs`: what to show
        no_mask = role in ("attention", "positions") and getattr(value, "ndim", 2) > 2
        if role is None or is_second or no_mask or _is_attention(name, value, entries):
            unused.append(name)
        else:
            names.setdefault(role, []).append(name)
    main = [names[role][0] for role in _MAIN if role in names]
    if not main:
        known = "input_ids, labels, loss_mask or policy_log_probs"
        has = listed([brief(name) for name in entries]) or "only None"
        raise ValueError(
            f"batch has {has} and nothing that says which tokens there are: give {known} by name."
        )
    found = {name: _rows(name, entries[name]) for role in names for name in names[role]}
    tensors = {name: _checked(name, rows) for name, (rows, _) in found.items()}
    first = tensors[main[0]]
    filled = found[main[0]][1]
    for role in (*_MAIN, "attention", "positions"):
        for name in names.get(role, ()):
            _check_fit(name, tensors[name], main[0], first, (found[name][1], filled))
    B, L = first.shape
    columns: dict[str, Any] = {role: tensors[each[0]] for role, each in names.items()}
    for name in names.get("mask", ())[1:]:
        columns["mask"] = columns["mask"] * tensors[name]
    if "positions" in columns:
        columns["positions"] = columns["positions"].expand(B, L)
    lengths = columns.pop("lengths", None)
    if lengths is not None and "borders" not in columns:
        is_one_each = len(lengths) == 1 and B > 1 and lengths.shape[1] == B
        columns["borders"] = lengths.T if is_one_each else lengths.cumsum(1)
        names["borders"] = names["lengths"]
    if "borders" in columns:
        ends = columns["borders"].to(first.device)
        columns["borders"] = _per_row(names["borders"][0], ends, B, L)
    if filled is not None:
        ends = torch.tensor(filled, device=first.device)[:, None]
        columns["is_filled"] = torch.arange(L, device=first.device) >= ends
    spoken = {role: " and ".join(each) for role, each in names.items()}
    return Columns(names=spoken, unused=tuple(unused), shape=(B, L), **columns)


def _is_text(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, str)


def _is_attention(name: str, value: Any, entries: Mapping[str, Any]) -> bool:
    """Whether "mask" says which token sees which, (B, L, L), beside labels."""
    is_square = getattr(value, "ndim", 0) > 2 and value.shape[-1] == value.shape[-2]
    return name == "mask" and is_square and "labels" in entries


def _rows(name: str, value: Any) -> tuple[Tensor, list[int] | None]:
    """A value as a matrix, and the lengths of its rows if these differ."""
    value = _plain(value)
    if isinstance(value, Tensor):
        if value.is_nested:
            return _padded(name, list(value.unbind()))
        check_tensor(name, value)
        _check_meta(name, value)
        return (value[None] if value.ndim == 1 else value), None
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"{name} must be a tensor, an array or lists of numbers, got {described(value)}: "
            "give one entry per token."
        )
    rows = [_plain(each) for each in value]
    if any(isinstance(row, Tensor | list | tuple) for row in rows):
        return _padded(name, rows)
    return _numbers(name, value, [value])[None], None


def _plain(value: Any) -> Any:
    """An array as a tensor; what can give its numbers by a method, as those. Else what it is."""
    if isinstance(value, Tensor):
        return value
    for method in ("to_torch", "to_ints"):  # of a client of a training service
        if hasattr(value, method):
            return getattr(value, method)()
    if not hasattr(value, "__array_interface__"):
        return value
    try:
        return torch.tensor(value.astype(value.dtype.newbyteorder("=")))
    except TypeError:
        return value.tolist()  # of objects: as lists, their entries are looked at


def _padded(name: str, rows: list[Any]) -> tuple[Tensor, list[int] | None]:
    """Rows of any lengths as a matrix."""
    if not any(isinstance(row, Tensor) for row in rows) and len(set(map(_length, rows))) == 1:
        return _numbers(name, rows, rows), None
    tensors = [row if isinstance(row, Tensor) else _numbers(name, row, rows) for row in rows]
    for row in tensors:
        _check_meta(name, row)
    tensors = [row[0] if row.ndim == 2 and len(row) == 1 else row for row in tensors]
    if wrong := [tuple(row.shape) for row in tensors if row.ndim != 1]:
        raise ValueError(f"{name} must be rows of numbers, got a row of shape {wrong[0]}.")
    lengths = [len(row) for row in tensors]
    is_even = len(set(lengths)) == 1
    return pad_sequence(tensors, batch_first=True), None if is_even else lengths


def _length(row: Any) -> int:
    return len(row) if isinstance(row, list | tuple) else -1


def _numbers(name: str, value: Any, rows: list[Any]) -> Tensor:
    """Lists of numbers as a tensor. `rows` is what the message is about if they are not."""
    try:
        return torch.tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        mask_rows(name, rows)  # the same question entry by entry: says which one is no number
        raise ValueError(
            f"{name} must be rows of numbers, got {brief(value)}: give one number per token."
        ) from None


def _check_meta(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise ValueError(
            f"{name} is on the meta device, where tensors have a shape and no numbers: "
            "give the batch that the model is trained on."
        )


def _checked(name: str, rows: Tensor) -> Tensor:
    """Check the shape, the dtype and the numbers of a matrix."""
    if rows.ndim != 2 or rows.numel() == 0:
        raise ValueError(
            f"{name} must have shape (B, S) with at least one token, got {tuple(rows.shape)}: "
            "one row per sequence, one column per token."
        )
    role = ROLE_OF[name]
    if role in ("ids", "labels"):
        return check_ids(name, rows)
    if role in ("positions", "borders", "lengths"):
        if rows.dtype == torch.bool or rows.is_floating_point() or rows.is_complex():
            raise TypeError(f"{name} must contain integers, got {rows.dtype}: it counts tokens.")
        return rows.long()
    if role == "log_probs":
        hint = "pass log-probabilities, for example log_softmax(logits), not token ids"
        check_floating(name, rows, hint)
        return rows
    rows = rows.detach() if rows.requires_grad else rows
    if rows.is_complex() or (rows.is_floating_point() and rows.dtype not in FLOATS):
        raise TypeError(
            f"{name} must be bool, integer or ordinary floating point, got {rows.dtype}: "
            "convert it with .bool()."
        )
    if rows.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch can't compare these
        rows = rows.long()
    if role == "mask":
        _check_weights(name, rows)
    return rows


def _check_weights(name: str, mask: Tensor) -> None:
    if mask.dtype == torch.bool:
        return
    least, most = (float(each) for each in mask.aminmax())
    any_number = name in WEIGHTS
    if least >= 0 and (most < float("inf") if any_number else most <= 1):
        return
    wanted = "0 and 1, or fractions between them"
    is_wrong = ~((mask >= 0) & (mask <= 1))
    if any_number:
        wanted, is_wrong = "finite numbers of at least 0", ~((mask >= 0) & mask.isfinite())
    row, column = is_wrong.nonzero()[0].tolist()
    raise ValueError(
        f"{name} must contain {wanted}, got {mask[row, column].item():g} at {place(row, column)}: "
        "it says how much each token counts."
    )


def _check_fit(
    name: str, tensor: Tensor, first_name: str, first: Tensor, lengths: tuple[Any, Any]
) -> None:
    """Check that a matrix has one entry for each of another one."""
    is_shared = ROLE_OF[name] == "positions" and tensor.shape == (1, first.shape[1])
    if tensor.shape != first.shape and not is_shared:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} but {first_name} has shape "
            f"{tuple(first.shape)}: give one entry per token."
        )
    if not is_shared and lengths[0] != lengths[1]:
        own, other = (each or [first.shape[1]] * len(first) for each in lengths)
        r = next(r for r in range(len(own)) if own[r] != other[r])
        raise ValueError(
            f"{name} has {own[r]} entries in row {r + 1} but {first_name} has {other[r]}: "
            "give one entry per token."
        )
    if tensor.device != first.device:
        raise ValueError(
            f"{name} is on {tensor.device} but {first_name} is on {first.device}: "
            "move one of them to the other's device."
        )


def _per_row(name: str, ends: Tensor, B: int, L: int) -> Tensor:
    """Where documents end in each row, (B, n), ascending. Given so, or counted through all rows."""
    is_through = len(ends) == 1 and B > 1
    most = B * L if is_through else L
    ends = ends.where(ends > 0, ends.cummax(1).values)  # rows are filled up with −1 or 0
    if len(ends) != (1 if is_through else B) or (ends.diff(dim=1) < 0).any() or ends.max() > most:
        raise ValueError(
            f"{name} does not fit {B} rows of {L} tokens: it says that documents end at "
            f"{listed(ends.flatten().tolist())}."
        )
    if is_through:
        ends = (ends - torch.arange(B, device=ends.device)[:, None] * L).clamp(0, L)
    return ends.contiguous()
