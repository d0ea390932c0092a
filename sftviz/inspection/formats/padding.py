"""Which columns of a batch are padding, and to which document each of the others belongs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sftviz.inspection.batch import Hints
from sftviz.inspection.formats.collect import Columns


@dataclass(frozen=True, eq=False)
class Parts:
    """What each column of a batch belongs to. None: nothing says so."""

    is_real: Tensor | None  # (B, L) bool, not padding
    documents: Tensor | None  # (B, L) int64, from 0 in each row
    is_guess: bool = False  # padding was recognised by its ids alone
    evidence: tuple[str, ...] = ()
    padding_id: int | None = None  # that of padding, if it is known not to be an end token's too

    @cached_property
    def segments(self) -> Tensor | None:
        """(B, L) int64, the document of each column, and −1 for padding; None: neither is known."""
        if self.is_real is None:
            return self.documents
        known = torch.zeros_like(self.is_real, dtype=torch.int64)
        return (known if self.documents is None else self.documents).where(self.is_real, -1)


def divide(columns: Columns, hints: Hints) -> Parts:
    """Find the padding and the documents of a batch."""
    evidence = []
    is_real, source = _real(columns)
    is_guess = is_real is None
    if is_guess and columns.ids is not None:
        is_real, source = _guessed(columns, hints)
    if is_real is not None and not is_real.all():
        count = int((~is_real).sum())
        sides = [side for side, c in (("left", 0), ("right", -1)) if not is_real[:, c].all()]
        where = f" on the {' and on the '.join(sides)}" if sides else ""
        evidence.append(f"{_many(count, 'token')} of padding{where}: {source}.")
    documents, source = _documents(columns, is_real)
    if documents is not None:
        count = int((documents.amax(1) + 1).sum())
        rows = columns.shape[0]
        if count > rows:
            evidence.append(f"{count} documents in {_many(rows, 'row')}: {source}.")
    padding_id = _padding_id(hints)
    return Parts(is_real, documents, is_guess and padding_id is None, tuple(evidence), padding_id)


def _padding_id(hints: Hints) -> int | None:
    eos = hints.eos_token_id
    end_ids = (eos,) if isinstance(eos, int) else eos or (hints.pad_token_id,)  # not known: may be
    return None if hints.pad_token_id in end_ids else hints.pad_token_id


def _real(columns: Columns) -> tuple[Tensor | None, str]:
    """What is not padding by a tensor that says so, and why."""
    _, L = columns.shape
    if columns.attention is not None:
        return columns.attention != 0, f"{columns.names['attention']} is 0 there"
    if columns.is_filled is not None:
        return ~columns.is_filled, "rows differ in length"
    if columns.borders is not None:
        ends = columns.borders[:, -1:]
        if (ends < L).any():
            places = torch.arange(L, device=ends.device)
            return places < ends, f"{columns.names['borders']} ends before the row does"
    elif columns.positions is not None:
        runs = _run_at_end(columns.positions == 0)  # documents of one token, or padding
        if (runs > 1).any() and not (runs == L).any():
            places = torch.arange(L, device=runs.device)
            is_real = places < L - runs.where(runs > 1, 0)[:, None]
            return is_real, f"{columns.names['positions']} ends with zeros"
    return None, ""


def _guessed(columns: Columns, hints: Hints) -> tuple[Tensor | None, str]:
    """What is not padding by ids: without the runs of one id at the end of rows.

    If the pad id is not known, they must end two rows, or one row where nothing counts from their
    second token on: else they may well be text. If it is known, also those at the beginning of
    rows are padding.
    """
    ids = columns.ids
    assert ids is not None
    pad = hints.pad_token_id
    if pad is not None:
        other = ids != pad
        is_real = _from_first(other) & _from_first(other.flip(1)).flip(1)
        return is_real, "the pad id is at the ends of rows"
    runs = _run_at_end(ids == ids[:, -1:])
    is_run = (runs > 1) & (runs < ids.shape[1])
    if not is_run.any():
        return None, ""
    last = ids[is_run, -1]
    if (last != last[0]).any() or (len(last) == 1 and not _is_unused(columns, is_run, runs)):
        return None, ""
    is_real = _from_first((ids != last[0]).flip(1)).flip(1)
    return is_real, "rows end with one id, again and again"


def _is_unused(columns: Columns, is_run: Tensor, runs: Tensor) -> bool:
    """Whether labels or a mask say that nothing counts in the only run, but for its first token."""
    start = 1 - int(runs[is_run])
    if columns.mask is not None:
        return not columns.mask[is_run, start:].any()
    return columns.labels is not None and bool((columns.labels[is_run, start:] < 0).all())


def _documents(columns: Columns, is_real: Tensor | None) -> tuple[Tensor | None, str]:
    """The document of each column, and why."""
    B, L = columns.shape
    if (ends := columns.borders) is not None:
        places = torch.arange(L, device=ends.device).expand(B, L).contiguous()
        documents = torch.searchsorted(ends, places, right=True)
        documents -= documents[:, :1].clone()
        if is_real is not None:  # what follows the last document belongs to none
            documents = documents.minimum(documents.where(is_real, 0).amax(1, keepdim=True))
        return documents, f"{columns.names['borders']} says where documents end"
    attention = columns.attention
    if attention is not None and not attention.dtype.is_floating_point:
        numbers = attention.long()
        if int(numbers.max()) > 1:  # the number of the document, 0 for padding
            return (numbers - 1).clamp(min=0), f"{columns.names['attention']} numbers documents"
    if columns.positions is None:
        return None, ""
    is_start = columns.positions == 0
    if is_real is not None:
        is_start = is_start & is_real
    documents = is_start.cumsum(1)
    if is_real is None:
        first = documents[:, :1]
    else:
        first = documents.where(is_real, L).amin(1, keepdim=True)
    documents = (documents - first).clamp(min=0)
    return documents, f"{columns.names['positions']} begins again at 0"


def _from_first(is_it: Tensor) -> Tensor:
    """(B, L) bool, whether a column is at or after the first that is it."""
    return is_it.cumsum(1) > 0


def _run_at_end(is_it: Tensor) -> Tensor:
    """(B,) how many columns at the end of each row are all it."""
    places = torch.arange(1, is_it.shape[1] + 1, device=is_it.device)
    return is_it.shape[1] - places.where(~is_it, 0).amax(1)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
