"""From tensors that are understood to the normal form: what is read and predicted where."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from sftviz.inspection.batch import NormalBatch
from sftviz.inspection.formats.alignment import Alignment
from sftviz.inspection.formats.collect import Columns
from sftviz.inspection.formats.marks import Marks
from sftviz.inspection.formats.padding import Parts


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
    batch = NormalBatch(
        weights=weights,
        tokens=None if ids is None else ids[:, read],
        labels=labels,
        next_tokens=next_tokens,
        attention_mask=None if attention is None else attention[:, read] != 0,
        position_ids=None if positions is None else positions[:, read],
    )
    if parts.segments is None:
        return batch
    if is_shifted:
        return _with_parts_shifted(batch, parts, parts.segments, pad_id)
    return _with_parts(batch, parts, parts.segments[:, :-1], parts.segments[:, 1:])


def _weights(columns: Columns, marks: Marks) -> Tensor:
    """How much each column counts by the mask alone, (B, L) floating point."""
    mask = columns.mask
    if mask is None:
        return torch.ones(columns.shape, device=columns.anything.device)
    weights = mask if mask.is_floating_point() else mask.float()
    return weights if marks.marks_counted else 1 - weights


def _with_parts(batch: NormalBatch, parts: Parts, read: Tensor, predicted: Tensor) -> NormalBatch:
    """Add padding and documents, of what is read and of what is predicted: −1 for padding."""
    if parts.is_guess:
        # Of a run of one id at the end of a row, the first may be the end token: if it counts.
        is_end_token = (predicted < 0) & (read >= 0) & batch.response_mask
        predicted = predicted.where(~is_end_token, read)
    if parts.is_real is not None:
        batch = replace(batch, is_padding=predicted < 0)
    if parts.documents is not None:
        is_border = (read >= 0) & (predicted >= 0) & (read != predicted)
        of_column = parts.documents[:, -predicted.shape[1] :]
        documents = predicted.where(predicted >= 0, of_column)
        batch = replace(batch, documents=documents, is_border=is_border)
    return batch


def _with_parts_shifted(
    batch: NormalBatch, parts: Parts, read: Tensor, pad_id: int | None
) -> NormalBatch:
    """Add padding and documents to a batch of shifted labels.

    Its rows may have been padded and packed before they were shifted or after it. Before: the label
    of a document's last token is what follows, the first token of the next document or padding.
    After: it is the last token of the same document, which is not among the input ids.
    """
    follows = torch.cat((read[:, 1:], read[:, -1:]), 1)
    stays = (read >= 0) & (follows < 0) & batch.response_mask  # padding does not count
    labels, next_tokens, tokens = batch.labels, batch.next_tokens, batch.tokens
    if labels is None or next_tokens is None or tokens is None:
        return _with_parts(batch, parts, read, follows.where(~stays, read))
    if parts.padding_id is not None:
        stays &= labels != parts.padding_id
    if parts.documents is not None:
        into_next = (read != follows) & (read >= 0) & (follows >= 0)
        known = into_next & (labels >= 0)
        if 2 * int((known & (labels != next_tokens)).sum()) > int(known.sum()):
            stays = stays | into_next
    predicted = follows.where(~stays, read)
    if parts.is_real is not None:  # what is predicted in the last column is not among the ids
        padding = tokens[~parts.is_real] if pad_id is None else tokens.new_tensor([pad_id])
        is_padding = (labels[:, -1:] == padding[:1]).any(1) & ~batch.response_mask[:, -1]
        predicted[:, -1] = predicted[:, -1].where(~is_padding, -1)
    batch = replace(batch, next_tokens=next_tokens.where(~stays, -100))
    return _with_parts(batch, parts, read, predicted)


def _next(tensor: Tensor, filler: int) -> Tensor:
    """Each entry is the next one of its row, (B, L); the last is the filler."""
    return pad(tensor[:, 1:], (0, 1), value=filler)
