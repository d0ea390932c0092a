"""Rows and the documents in them: borders, positions, padding on the left, cuts, duplicates."""

import torch
from torch import Tensor

from sftviz.inspection.checks.finding import MASK, Finding, find_places
from sftviz.inspection.checks.subject import Subject


def border_counts(subject: Subject) -> Finding | None:
    return find_places(
        subject.border & subject.mask,
        "a document is predicted from its neighbour",
        "error",
        (
            "first token of a document counts and is predicted from the document before",
            "first tokens of documents count and are predicted from the document before",
        ),
        "the two have nothing to do with each other",
        "Mask the first token of each document: labels[position_ids == 0] = -100 before labels "
        "are shifted.",
        checklist=MASK,
    )


def positions_run_on(subject: Subject) -> Finding | None:
    positions = subject.batch.position_ids
    if positions is None:
        return None
    runs_on = subject.begins_document.clone()
    runs_on[:, 1:] &= positions[:, 1:] == positions[:, :-1] + 1
    return find_places(
        runs_on,
        "positions run on across documents",
        "warning",
        ("document does not begin at position 0", "documents do not begin at position 0"),
        "attention that finds documents by their positions sees them as one, so each reads its "
        "neighbour",
        "Begin each document again: position_ids = torch.cat([torch.arange(n) for n in "
        "seq_lengths]).",
    )


def left_padding_seen(subject: Subject) -> Finding | None:
    """Padding on the left that is not hidden: causal models read it before each real token."""
    padding, tokens, pad_id = subject.is_padding, subject.batch.tokens, subject.hints.pad_token_id
    seen = subject.batch.attention_mask
    on_left = torch.zeros_like(subject.rows_that_count)
    if padding is not None:
        on_left |= padding[:, 0] & ~padding.all(1)
    if tokens is not None and pad_id is not None:
        # Twice: the padding id may be the start token too.
        on_left |= (tokens[:, :2] == pad_id).all(1) & (tokens != pad_id).any(1)
    if seen is not None:
        on_left &= seen[:, 0]
    return find_places(
        on_left,
        "left padding without an attention mask",
        "error",
        ("row begins with padding that is seen", "rows begin with padding that is seen"),
        "each real token reads it, and the log-probs are those of another text",
        "Give the model the attention_mask that the tokenizer made, or pad on the right; if you "
        "make it from ids, the padding id must not be the end token's too.",
    )


def cut_off(subject: Subject) -> Finding | None:
    """A full row whose last token counts and is no end token, where others have one."""
    if subject.everything_counts or subject.is_inverted or (ends := _ends(subject)) is None:
        return None
    # Templates write a line break after the end token.
    is_cut = subject.mask[:, -1] & ~ends[:, -2:].any(1)
    if subject.is_padding is not None:
        is_cut &= ~subject.is_padding[:, -1]
    last = subject.columns == subject.columns[-1]
    return find_places(
        is_cut[:, None] & last,
        "a response is cut off",
        "warning",
        (
            "row is full and ends in mid-response, without the end token",
            "rows are full and end in mid-response, without the end token",
        ),
        "the model does not see how this response ends, and many such rows teach it not to stop",
        "Raise the maximum length, or leave these rows out: a shorter prompt keeps the response.",
    )


def _ends(subject: Subject) -> Tensor | None:
    """Where an end token is predicted, if one counts: a known id, or that in which at least
    three rows end before they are full, and no such row in another."""
    predicted, is_end = subject.predicted, subject.is_end
    if predicted is None or subject.last_ids is None:
        return None
    if is_end is not None:
        return is_end if subject.an_end_counts else None
    last_ids = subject.last_ids[subject.rows_that_end]
    if len(last_ids) < 3 or not (last_ids == last_ids[0]).all():
        return None
    return predicted == last_ids[0]


def duplicate_rows(subject: Subject) -> Finding | None:
    tokens, predicted = subject.batch.tokens, subject.predicted
    if tokens is None or predicted is None:
        return None
    rows = torch.cat([tokens, predicted[:, -1:]], dim=1)  # (B, S + 1)
    _, which = torch.unique(rows, dim=0, return_inverse=True)  # (B,)
    same = torch.tril(which[:, None] == which, diagonal=-1).any(1)  # as an earlier row
    return find_places(
        same & subject.rows_that_count,
        "duplicate rows",
        "warning",
        ("row repeats an earlier one", "rows repeat an earlier one"),
        "its tokens weigh twice, and there is less in the batch than it seems",
        "Remove duplicates from the data, or check the sampler: without replacement, and with "
        "another seed on each rank.",
    )


CHECKS = (border_counts, positions_run_on, left_padding_seen, cut_off, duplicate_rows)
