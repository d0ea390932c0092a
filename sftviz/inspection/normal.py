"""From tensors that are understood to the normal form: what is read and predicted where."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.inspection.alignment import Alignment
from sftviz.inspection.batch import NormalBatch
from sftviz.inspection.collect import Columns
from sftviz.inspection.marks import Marks
from sftviz.inspection.padding import Parts


def normal_form(
    columns: Columns, parts: Parts, alignment: Alignment, marks: Marks, pad_id: int | None
) -> NormalBatch:
    """Bring a batch to the normal form.

    Raises:
        ValueError: its rows have one token, which nothing predicts.
    """
    L = columns.shape[1]
    is_shifted = alignment.is_shifted
    if L == 1 and not is_shifted:
        name = columns.names.get("ids") or columns.names["labels"]
        raise ValueError(
            f"{name} has one column, whose token nothing predicts: give rows of at least two "
            "tokens, or shifted=True if there are labels of the next token."
        )
    read = slice(0, L if is_shifted else L - 1)
    ids, positions, attention = columns.ids, columns.positions, columns.attention
    next_tokens = None if ids is None else _next(ids, -100)[:, read]
    labels, is_label = columns.labels, alignment.is_label
    if labels is None:  # a token is the label of the column before
        labels = next_tokens
        is_label = None if is_label is None else _next(is_label, False)[:, read]
    elif not is_shifted:
        labels = labels[:, 1:]
        is_label = None if is_label is None else is_label[:, 1:]
    weights = _weights(columns, marks)
    if not is_shifted:
        weights = weights[:, :-1] if marks.is_about_label else weights[:, 1:]
    elif columns.mask is not None and not marks.is_about_label:
        weights = _next(weights, 0)
    if labels is not None:
        labels = labels if is_label is None else labels.where(is_label, -100)
        weights = weights * (labels != -100)
    predicted = _predicted(parts, labels, weights, next_tokens, is_shifted, pad_id, ids)
    return NormalBatch(
        weights=weights,
        tokens=None if ids is None else ids[:, read],
        labels=labels,
        next_tokens=next_tokens if predicted is None else predicted.next_tokens,
        is_padding=None if predicted is None or parts.is_real is None else predicted.segment < 0,
        attention_mask=None if attention is None else attention[:, read] != 0,
        position_ids=None if positions is None else positions[:, read],
        documents=None if predicted is None or parts.documents is None else predicted.document,
        is_border=None if predicted is None or parts.documents is None else predicted.is_border,
    )


def _weights(columns: Columns, marks: Marks) -> Tensor:
    """How much each column counts by the mask alone, (B, L) floating point."""
    mask = columns.mask
    if mask is None:
        return torch.ones(columns.shape, device=columns.anything.device)
    weights = mask if mask.is_floating_point() else mask.float()
    return weights if marks.marks_counted else 1 - weights


@dataclass(frozen=True, eq=False)
class _Predicted:
    """What the tokens that are predicted belong to, (B, S) each."""

    segment: Tensor  # the document, or −1 for padding
    document: Tensor  # the document, of padding that of its column
    is_border: Tensor
    next_tokens: Tensor | None


def _predicted(
    parts: Parts,
    labels: Tensor | None,
    weights: Tensor,
    next_tokens: Tensor | None,
    is_shifted: bool,
    pad_id: int | None,
    ids: Tensor | None,
) -> _Predicted | None:
    """Find out what the predicted tokens belong to. None: neither padding nor documents are known.

    Rows may have been padded or packed before they were shifted or after it. Before: the label of a
    document's last token is what follows, the first token of the next document or padding. After:
    it is a token of the same document, which is not among the input ids.
    """
    segments = parts.segments
    if segments is None:
        return None
    read, segment = segments, _next(segments, 0)
    segment[:, -1] = segments[:, -1]
    if not is_shifted:
        read, segment = read[:, :-1], segment[:, :-1]
    is_end = read != segment
    into_padding = is_end & (segment < 0)
    stays = torch.zeros_like(is_end)
    if is_shifted or parts.is_guess:
        # Of a run of one id at the end of a row, the first may be the end token: if it counts.
        stays = into_padding & (weights != 0)
    if is_shifted and labels is not None and next_tokens is not None:
        into_next = is_end & (read >= 0) & (segment >= 0)
        differs = into_next & (labels != next_tokens) & (labels >= 0)
        if 2 * int(differs.sum()) > int((into_next & (labels >= 0)).sum()):
            stays = stays | into_next
        pads = None if ids is None or parts.is_real is None else ids[~parts.is_real]
        if pad_id is None and pads is not None and len(pads):
            pad_id = int(pads[0])
        if pad_id is not None:
            is_last_padding = (labels[:, -1] == pad_id) & (weights[:, -1] == 0)
            segment[:, -1] = segment[:, -1].where(~is_last_padding, -1)
    if next_tokens is not None:
        next_tokens = next_tokens.where(~stays, -100)
    segment = segment.where(~stays, read)
    document = segment
    if parts.documents is not None:
        raw = parts.documents if is_shifted else parts.documents[:, 1:]
        document = segment.where(segment >= 0, raw)
    is_border = (read >= 0) & (segment >= 0) & (read != segment)
    return _Predicted(segment, document, is_border, next_tokens)


def _next(tensor: Tensor, filler: int) -> Tensor:
    """Each entry is the next one of its row, (B, L); the last is the filler."""
    return torch.cat((tensor[:, 1:], torch.full_like(tensor[:, :1], filler)), 1)
