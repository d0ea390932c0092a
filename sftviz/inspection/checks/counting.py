"""Which tokens count: none, all, those of the prompt, padding, end tokens, all but a few."""

import torch
from torch import Tensor

from sftviz.inspection.checks.finding import MASK, Finding, find_places
from sftviz.inspection.checks.subject import Subject, after, before


def nothing_counts(subject: Subject) -> Finding | None:
    if subject.rows_that_count.any():
        return None
    return Finding(
        "nothing counts",
        "error",
        "No token of the batch counts: the loss is 0, every gradient is 0, and a mean over the "
        "tokens would be 0/0.",
        "Mark each response token with 1, and check response_mask.sum() > 0; if the mask comes "
        "from a chat template, that must mark where an assistant's turn is.",
        checklist=MASK,
    )


def row_counts_nothing(subject: Subject) -> Finding | None:
    if not subject.rows_that_count.any():
        return None
    return find_places(
        ~subject.rows_that_count,
        "a row counts nothing",
        "warning",
        ("row has no token that counts", "rows have no token that counts"),
        "such a row costs its time and teaches nothing; most likely its response was cut off",
        "Leave these rows out: keep = response_mask.any(1); if the response was cut off, shorten "
        "the prompt instead.",
        checklist=MASK,
    )


def everything_counts(subject: Subject) -> Finding | None:
    if not subject.everything_counts:
        return None
    padding = subject.is_padding
    if padding is not None and padding.any():
        severity, what = "error", "prompts and padding too, and the model learns to write both"
    elif subject.predicted is not None:
        severity, what = "warning", "most likely prompts too, and the model learns to write them"
    else:  # log-probs of responses alone, of the same length, are right
        severity, what = "note", "that is right only if there are no prompts and no padding in it"
    return Finding(
        "everything counts",
        severity,
        f"All {subject.mask.numel()} tokens of the batch count: {what}.",
        "Mark response tokens alone with 1: response_mask[:, c] is 1 where labels[:, c] belongs to "
        "a response.",
        checklist=MASK,
    )


def mask_is_inverted(subject: Subject) -> Finding | None:
    if not subject.is_inverted:
        return None
    return find_places(
        subject.is_start,
        "the mask is inverted",
        "error",
        _from_the_beginning(subject),
        "none of them counts where it ends, so most likely 1 marks the prompt, and the model "
        "learns to write prompts and no response",
        "Exchange 0 and 1: response_mask = ~mask.bool(), or labels[~mask.bool()] = -100.",
        checklist=MASK,
    )


def prompt_counts(subject: Subject) -> Finding | None:
    if subject.predicted is None or subject.everything_counts or subject.is_inverted:
        return None
    if (subject.is_start & ~subject.mask).any():  # one row shows that prompts are masked
        return None
    return find_places(
        subject.is_start,
        "the prompt counts",
        "warning",
        _from_the_beginning(subject),
        "most likely prompts count, and the model learns to write them",
        "Mask the prompt: labels[row, :prompt_length] = -100, or response_mask = 0 there.",
        checklist=MASK,
    )


def _from_the_beginning(subject: Subject) -> tuple[str, str]:
    what = "document" if subject.begins_document.any() else "row"
    return f"{what} counts from its beginning", f"{what}s count from their beginning"


def padding_counts(subject: Subject) -> Finding | None:
    padding = subject.is_padding
    if padding is None or subject.everything_counts or subject.is_inverted:
        return None
    return find_places(
        padding & subject.mask,
        "padding counts",
        "error",
        ("padding token counts", "padding tokens count"),
        "the model learns to write padding, and short rows get a larger share of the gradient",
        "Mask padding by the attention mask: labels[attention_mask == 0] = -100; not by its id, if "
        "that is the end token's too.",
        checklist=MASK,
    )


def end_never_counts(subject: Subject) -> Finding | None:
    predicted = subject.predicted
    if predicted is None or subject.is_end is None or subject.an_end_counts:
        return None
    found = subject.is_end & before(subject.mask) & ~subject.mask & ~subject.border
    last_ids = predicted.roll(1, 1)[found]
    if len(last_ids) > 1 and (last_ids == last_ids[0]).all():  # that is the end token, not eos
        return None
    return find_places(
        found,
        "the end token never counts",
        "warning",
        (
            "response is followed by an end token that does not count",
            "responses are followed by an end token that does not count",
        ),
        "the model never learns to stop",
        "Let the end token of each response count: mask padding by the attention mask and not by "
        "its id, and if the mask is about the token that is read, shift it: mask[:, 1:]. If "
        "responses end in another token, pass eos_token_id.",
        checklist=MASK,
    )


def no_end_token(subject: Subject) -> Finding | None:
    """Rows end in different tokens, and none of them is known to end a response."""
    if subject.last_ids is None or subject.is_end is None or subject.is_end.any():
        return None
    rows = subject.rows_that_end
    last_ids = subject.last_ids[rows]
    if len(last_ids) < 2 or (last_ids == last_ids[0]).all() or subject.is_inverted:
        return None
    return find_places(
        (subject.columns == subject.last_that_counts[:, None]) & rows[:, None],
        "no end token",
        "warning",
        ("response ends without an end token", "responses end without an end token"),
        "the batch has no end token at all, so the model never learns to stop",
        "Append the end token before padding: ids = ids + [tokenizer.eos_token_id].",
        checklist=MASK,
    )


def end_counts_outside(subject: Subject) -> Finding | None:
    """An end token counts that ends nothing: after another one, or where no response was."""
    ends, follows_end = subject.ends, subject.follows_end
    if ends is None or follows_end is None or subject.everything_counts:
        return None
    nothing_before = ~before(subject.mask) & ~before(before(subject.mask))  # one 0 may be a hole
    nothing_before[:, 0] = False  # not known
    return find_places(
        ends & subject.mask & (follows_end | nothing_before) & ~subject.border,
        "an extra end token counts",
        "warning",
        ("end token counts and ends no response", "end tokens count and end no response"),
        "it follows another end token or a prompt, so most likely it is padding, as if "
        "pad_token_id = eos_token_id, or the end of a prompt",
        "Let only the first end token after a response count: mask padding by the attention mask, "
        "and the ends of prompts with their prompts.",
        checklist=MASK,
    )


def hole(subject: Subject) -> Finding | None:
    """A few masked tokens between tokens that count, where most likely no turn ends."""
    if subject.is_inverted:
        return None
    mask, border = subject.mask, subject.border
    # Where a response is interrupted; what comes after a border is another text.
    holes = before(mask & ~border) & ~mask & ~border  # (B, S)
    if subject.an_end_counts:
        assert subject.is_end is not None
        # A turn ends with an end token, and perhaps a line break. What follows none, and is at most
        # three tokens long, is no turn.
        holes &= after(mask | after(mask | after(mask)))
        holes &= ~before(subject.is_end | before(subject.is_end))
    else:
        holes &= _is_rare_hole(subject, holes & after(mask))
    return find_places(
        holes,
        "a hole in a response",
        "warning",
        ("hole in a response", "holes in responses"),
        "the tokens before and after count and no turn ends there, so most likely a mask by id or "
        "an edit has hit a token of the response",
        "Let the whole response count: make the mask from the positions where a response begins "
        "and ends, not from token ids.",
        checklist=MASK,
    )


def _is_rare_hole(subject: Subject, single: Tensor) -> Tensor:
    """Which single masked tokens are holes if no end token is known: at most two, between pairs of
    tokens that count, after an id that ends no row. What is frequent may be a turn of one token,
    unless all of them are the padding id.
    """
    mask, predicted, pad_id = subject.mask, subject.predicted, subject.hints.pad_token_id
    holes = single & before(before(mask)) & after(after(mask))
    if not holes.any():
        return holes
    if predicted is not None and subject.last_ids is not None:
        holes &= ~before(torch.isin(predicted, subject.last_ids[subject.rows_that_count]))
        if pad_id is not None and (predicted[holes] == pad_id).all():
            return holes
    return holes if holes.sum() <= 2 else torch.zeros_like(holes)


CHECKS = (
    nothing_counts,
    row_counts_nothing,
    everything_counts,
    mask_is_inverted,
    prompt_counts,
    padding_counts,
    end_never_counts,
    no_end_token,
    end_counts_outside,
    hole,
)
