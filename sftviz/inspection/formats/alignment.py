"""Where labels agree with input ids: in the same column, or in the next. And which are ignored."""

from dataclasses import dataclass

from torch import Tensor

from sftviz.inspection.batch import Hints
from sftviz.inspection.formats.collect import Columns
from sftviz.inspection.formats.padding import Parts

_WORDS = ("the input of the same column", "the input one column later", "that two columns later")


@dataclass(frozen=True, eq=False)
class Alignment:
    """How labels belong to input ids."""

    is_shifted: bool  # what they are taken for
    shift: int | None = None  # what the numbers say: 0 the same column, 1 the next, 2 that after it
    usual_shift: int | None = None  # what the names promise
    ignore_index: int | None = None
    is_label: Tensor | None = None  # (B, L) bool, not ignored and not filled up; None: everywhere
    evidence: tuple[str, ...] = ()
    question: str = ""


def align(columns: Columns, parts: Parts, hints: Hints) -> Alignment:
    """Find out where labels agree with input ids.

    If they agree in several columns, or nowhere, the names of the tensors decide.
    """
    usual = _usual_shift(columns)
    if columns.labels is None:
        is_shifted = columns.ids is None if hints.shifted is None else hints.shifted
        is_label = None if columns.is_filled is None else ~columns.is_filled
        return Alignment(is_shifted, usual_shift=usual, is_label=is_label)
    ignore_index = _ignore_index(columns, hints)
    is_label = columns.labels != (-100 if ignore_index is None else ignore_index)
    shift, evidence = None, []
    if ignore_index is not None:
        count, shown = int((~is_label).sum()), str(ignore_index).replace("-", "−")
        entries = "1 entry is" if count == 1 else f"{count} entries are"
        evidence.append(f"In {columns.names['labels']}, {entries} {shown}.")
    if columns.is_filled is not None:
        is_label &= ~columns.is_filled
    if columns.ids is not None:
        counts = _agreements(columns.ids, columns.labels, is_label, parts.segments, usual)
        shift = _best(counts, usual)
        shown = shift if shift is not None else usual or 0
        agree, compared = counts[shown]
        what = "labels" if ignore_index is None else "labels that count"
        how_many = (
            f"All {agree} {what}" if agree == compared > 0 else f"{agree} of {compared} {what}"
        )
        evidence.append(f"{how_many} equal {_WORDS[shown]}.")
    question = ""
    if hints.shifted is not None:
        is_shifted = hints.shifted
    elif shift in (0, 1):
        is_shifted = shift == 1
    else:
        is_shifted = usual == 1
        if usual is None and is_label.any():
            question = (
                "Labels may be those of the same column or of the next: read as those of the same; "
                "give shifted=True or shifted=False."
            )
    return Alignment(is_shifted, shift, usual, ignore_index, is_label, tuple(evidence), question)


def _usual_shift(columns: Columns) -> int | None:
    """Where the names of the tensors promise that labels agree with input ids."""
    names = columns.names
    if columns.labels is None:
        return None
    if names["labels"] != "labels" or columns.log_probs is not None:
        return 1
    mask = names.get("mask", "")
    is_megatron = names.get("ids") == "tokens" and "loss_mask" in mask
    if "response_mask" in mask or is_megatron:
        return 1
    # The models of Hugging Face shift labels themselves.
    theirs = {"attention", "positions", "borders"} & {*names}
    return 0 if names.get("ids") == "input_ids" and theirs else None


def _ignore_index(columns: Columns, hints: Hints) -> int | None:
    """The label of what does not count: a negative one, or one that often stands where it can't be
    the token of any column nearby."""
    labels, ids = columns.labels, columns.ids
    assert labels is not None
    if hints.ignore_index is not None:
        return hints.ignore_index
    if int(labels.min()) < 0:
        negative = labels[labels < 0]
        return -100 if (negative == -100).any() else int(negative.mode().values)
    if ids is None or labels.shape[1] < 3:
        return None
    before = labels[:, :-1]
    is_other = (before != ids[:, :-1]) & (before != ids[:, 1:])
    other = before[is_other]
    if len(other) < 2:
        return None
    often = other.mode().values
    is_often = is_other & (before == often)
    # It stands in stretches. A label that differs alone may be the last one of a document.
    stretches = int((is_often[:, :-1] & is_often[:, 1:]).sum())
    is_ignored = int(is_often.sum()) >= 0.9 * len(other) and 2 * stretches >= len(other)
    return int(often) if is_ignored else None


def _agreements(
    ids: Tensor, labels: Tensor, is_label: Tensor, segments: Tensor | None, usual: int | None
) -> dict[int, tuple[int, int]]:
    """By distance, how many labels equal the input id there, and how many can be compared.

    The usual distance is the first, and if all labels agree there, the only one.
    """
    L = ids.shape[1]
    found: dict[int, tuple[int, int]] = {}
    for distance in sorted(range(min(3, L)), key=lambda each: each != usual):
        can = is_label[:, : L - distance]
        if segments is not None:  # within one document
            later = segments[:, distance:]
            can = can & (segments[:, : L - distance] == later) & (later >= 0)
        equal = (labels[:, : L - distance] == ids[:, distance:]) & can
        found[distance] = int(equal.sum()), int(can.sum())
        if distance == usual and found[distance][0] == found[distance][1] > 0:
            break
    return found


def _best(counts: dict[int, tuple[int, int]], usual: int | None) -> int | None:
    """The distance at which most labels agree. Of several, the usual one; None: nothing decides."""
    shares = {each: agree / max(compared, 1) for each, (agree, compared) in counts.items()}
    best = [distance for distance, share in shares.items() if share == max(shares.values())]
    if max(shares.values()) <= 0.5:
        return None
    return best[0] if len(best) == 1 else usual if usual in best else None
