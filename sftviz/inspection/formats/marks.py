"""What a mask says: whether 1 marks what counts or what does not, and of which token it speaks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.inspection.batch import Hints
from sftviz.inspection.formats.alignment import Alignment
from sftviz.inspection.formats.collect import WEIGHTS, Columns
from sftviz.inspection.formats.padding import Parts

_ABOUT_TOKENS = ("completion_mask", "assistant_mask")  # by their names


@dataclass(frozen=True, eq=False)
class Marks:
    """How a mask is read."""

    marks_counted: bool = True
    is_about_label: bool = False  # column c speaks of what is predicted there, not of what is read
    evidence: tuple[str, ...] = ()
    question: str = ""


def read_mask(columns: Columns, parts: Parts, alignment: Alignment, hints: Hints) -> Marks:
    """Find out how a mask is to be read."""
    if columns.mask is None:
        return Marks()
    name = columns.names["mask"]
    mask = columns.mask != 0
    counted, reason = _polarity(mask, columns, parts, alignment, hints)
    is_neutral = name == "mask"
    question = ""
    if hints.mask_marks is not None:
        marks_counted, reason = hints.mask_marks == "counted", ""
    elif is_neutral and counted is not None:
        marks_counted = counted
    else:
        marks_counted = True
        if is_neutral and not (mask.all() or not mask.any()):
            question = (
                f"A 1 in {name} may mark what counts or what does not: read as what counts; "
                'give mask_marks="counted" or mask_marks="masked".'
            )
        elif counted is False:
            question = (
                f"{name} marks what counts by its name, but it{reason.removeprefix(name)[:-1]}: "
                'read by its name; give mask_marks="masked" if 1 is meant to mark what does not.'
            )
        reason = ""
    is_about_label, why, asked = _about(mask == marks_counted, columns, parts, alignment, hints)
    evidence = tuple(each for each in (reason, why) if each)
    return Marks(marks_counted, is_about_label, evidence, " ".join(filter(None, (question, asked))))


def _polarity(
    mask: Tensor, columns: Columns, parts: Parts, alignment: Alignment, hints: Hints
) -> tuple[bool | None, str]:
    """Whether 1 marks what counts, as far as anything else in the batch says so, and a reason."""
    name = columns.names["mask"]
    if name in WEIGHTS or bool(mask.all()) or not bool(mask.any()):
        return None, ""
    is_label = alignment.is_label
    if alignment.ignore_index is not None and is_label is not None:
        is_same = mask == is_label
        if parts.is_real is not None:
            is_same = is_same[parts.is_real]
        same, size = int(is_same.sum()), is_same.numel()
        if not 0.25 < same / size < 0.75:
            agree = same if 2 * same > size else size - same
            which = "counts" if 2 * same > size else "is ignored"
            where = "exactly where" if agree == size else "where"
            reason = f"{name} is 1 {where} the label {which}, at {agree} of {size} tokens."
            return 2 * same > size, reason
    is_real = parts.is_real
    if is_real is not None:
        padding, is_end = ~is_real, is_real.clone()
        is_end[:, :-1] &= padding[:, 1:]
        size, marked = int(padding.sum()), int((mask & padding).sum())
        # By its name it marks what counts: then it counts too much, if it is 1 before padding too.
        is_excess = name != "mask" and bool((mask & is_end).any())
        if size and not is_excess and bool((is_real & ~mask).any()):
            reason = f"{name} is {int(2 * marked > size)} at most of {size} tokens of padding."
            return 2 * marked <= size, reason
    if name != "mask":
        return None, ""
    if hints.eos_token_id is not None and columns.ids is not None:
        is_end = _is_any(columns.ids, hints.eos_token_id)
        size, marked = int(is_end.sum()), int((mask & is_end).sum())
        if size and 2 * marked != size:
            reason = f"{name} is {int(2 * marked > size)} at most of {size} end tokens."
            return 2 * marked > size, reason
    first, last = mask[:, 0], mask[:, -1]
    is_full = is_real is None or bool(is_real.all())
    if is_full and (first == first[0]).all() and (last == ~first[0]).all():
        reason = f"{name} begins with {int(first[0])} in every row and ends with {int(last[0])}."
        return bool(last[0]), reason
    return None, ""


def _about(
    counts: Tensor, columns: Columns, parts: Parts, alignment: Alignment, hints: Hints
) -> tuple[bool, str, str]:
    """Whether a mask speaks of the label of its column, a reason, and a question."""
    name = columns.names["mask"]
    if hints.mask_about is not None:
        return hints.mask_about == "label", "", ""
    if columns.labels is not None or columns.ids is None:
        is_label = alignment.is_label
        # Beside labels it speaks of these: of the next token if they are shifted.
        if is_label is not None and alignment.is_shifted and alignment.ignore_index is not None:
            here = int((counts[:, :-1] == is_label[:, :-1]).sum())
            later = int((counts[:, 1:] == is_label[:, :-1]).sum())
            if later > here:
                reason = f"{name} agrees with the labels one column before: it is about tokens."
                return False, reason, ""
        return alignment.is_shifted, "", ""
    if name.startswith(_ABOUT_TOKENS) or not counts.any() or counts.all():
        return False, "", ""
    return _about_by_ends(counts, columns.ids, name, parts.segments, hints)


def _about_by_ends(
    counts: Tensor, ids: Tensor, name: str, segments: Tensor | None, hints: Hints
) -> tuple[bool, str, str]:
    """The same without labels: by where the stretches that count begin and end.

    Responses end with one and the same token, and before them stands one and the same token, the
    last of a header. If the mask is about tokens, the one is at the end of a stretch and the other
    before it. If it is about labels, both are one column further on. And then the last token of a
    row does not count, because nothing is predicted there.
    """
    if segments is not None:
        counts = counts & (segments >= 0)
    before, after = torch.zeros_like(counts), torch.zeros_like(counts)
    before[:, 1:], after[:, :-1] = counts[:, :-1], counts[:, 1:]
    is_last = torch.ones_like(counts)
    is_last[:, :-1] = False
    if segments is not None:
        is_last[:, :-1] = segments[:, :-1] != segments[:, 1:]
        is_last &= segments >= 0
    if (counts & is_last).any():
        count = int((counts & is_last).sum())
        what = "last token of a row or document"
        return False, f"{name} is 1 at the {what} {_times(count)}: it is about tokens.", ""
    rows, ends = (counts & ~after).nonzero(as_tuple=True)
    next_ids = ids[rows, (ends + 1).clamp(max=ids.shape[1] - 1)]
    by_ends = _steady(next_ids, hints) - _steady(ids[rows, ends], hints)
    rows, starts = (counts & ~before).nonzero(as_tuple=True)
    rows, starts = rows[starts > 0], starts[starts > 0]
    by_starts = _steady(ids[rows, starts]) - _steady(ids[rows, starts - 1])
    verdicts = {_sign(by_starts), _sign(by_ends)} - {0}
    if verdicts == {1}:
        reason = f"{name} ends one column before each response does: it is about labels."
        return True, reason, ""
    if verdicts == {-1}:
        return False, f"{name} begins and ends with the responses: it is about tokens.", ""
    stops_early = int((is_last[:, 1:] & counts[:, :-1]).sum()) == int(is_last.sum())
    is_about_label = stops_early and not verdicts
    question = (
        f"{name} may be about the token of its column or about the next one, which is predicted "
        f"there: read as about the {'next one' if is_about_label else 'token of its column'}; "
        'give mask_about="token" or mask_about="label".'
    )
    return is_about_label, "", question


def _steady(ids: Tensor, hints: Hints | None = None) -> float:
    """The share of the most frequent of some ids, or that of the end tokens, if they are known."""
    if not len(ids):
        return 0.0
    if hints is not None and hints.eos_token_id is not None:
        return float(_is_any(ids, hints.eos_token_id).float().mean())
    return float((ids == ids.mode().values).float().mean())


def _sign(difference: float) -> int:
    """0 unless it is more than chance and the odd row that was cut off."""
    return 0 if abs(difference) < 0.3 else 1 if difference > 0 else -1


def _is_any(ids: Tensor, wanted: int | tuple[int, ...]) -> Tensor:
    if isinstance(wanted, int):
        return ids == wanted
    return torch.isin(ids, torch.tensor(wanted, device=ids.device))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
