"""What is found in a batch: each mistake once, word for word; and nothing in a healthy one."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from math import log

import pytest
import torch
from torch import Tensor

from sftviz.inspection.batch import Hints, NormalBatch, Reading
from sftviz.inspection.checks.find import CHECKLIST, CHECKS, Finding, Subject, find
from sftviz.step import sft_microbatch_train_step

PAD, EOS, V = 0, 2, 100


def subject_of(
    ids: list[list[int]],
    counts: list[list[float]],
    *,
    seen: list[list[int]] | None = None,
    documents: list[list[int]] | None = None,
    positions: list[list[int]] | None = None,
    log_probs: Tensor | None = None,
    **hints: int | None,
) -> Subject:
    """Rows of n tokens and how much each counts, as a batch of n − 1 predictions."""
    tokens, weights = torch.tensor(ids), torch.tensor(counts, dtype=torch.float64)
    segments = None if documents is None else torch.tensor(documents)
    batch = NormalBatch(
        weights=weights[:, 1:],
        tokens=tokens[:, :-1],
        labels=torch.where(weights != 0, tokens, -100)[:, 1:],
        next_tokens=tokens[:, 1:],
        is_padding=None if seen is None else torch.tensor(seen)[:, 1:] == 0,
        attention_mask=None if seen is None else torch.tensor(seen)[:, :-1] == 1,
        position_ids=None if positions is None else torch.tensor(positions)[:, :-1],
        documents=None if segments is None else segments[:, 1:],
        is_border=None if segments is None else segments[:, 1:] != segments[:, :-1],
    )
    return Subject(Reading("made here", (), batch), Hints(**hints), log_probs)


# Two rows: <start> prompt response <end> padding.
IDS = [[1, 11, 12, 13, 21, 22, 23, EOS, PAD, PAD], [1, 14, 15, 24, 25, 26, 27, 28, 29, EOS]]
COUNTS = [[0, 0, 0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]
SEEN = [[1, 1, 1, 1, 1, 1, 1, 1, 0, 0], [1] * 10]
LEFT = [[PAD, PAD, 1, 11, 12, 13, 21, 22, 23, EOS], IDS[1]]
LEFT_COUNTS = [[0, 0, 0, 0, 0, 0, 1, 1, 1, 1], COUNTS[1]]
# Two documents in a row.
PACKED = [[1, 11, 12, 21, EOS, 1, 14, 24, 25, EOS]]
PACKED_COUNTS = [[0, 0, 0, 1, 1, 0, 0, 1, 1, 1]]
DOCUMENTS = [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]]
POSITIONS = [[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]]


def healthy(**changes) -> Subject:
    known = {"seen": SEEN, "pad_token_id": PAD, "eos_token_id": EOS, "vocab_size": V}
    return subject_of(**{"ids": IDS, "counts": COUNTS, **known, **changes})


def packed(**changes) -> Subject:
    known = {"documents": DOCUMENTS, "positions": POSITIONS, "eos_token_id": EOS}
    return subject_of(**{"ids": PACKED, "counts": PACKED_COUNTS, **known, **changes})


def one_by_one(**changes) -> Subject:
    """The same documents, each shifted by itself: where one would predict the next is no column."""
    subject = packed(**changes)
    batch, keep = subject.batch, ~subject.border[0]
    fields = {name: value[:, keep] for name, value in vars(batch).items() if value is not None}
    return read_as(subject, batch=NormalBatch(**fields))


def only(subject: Subject, **fields) -> Subject:
    """The same with other tensors in its batch; None: not known."""
    return read_as(subject, batch=replace(subject.batch, **fields))


def changed(rows: list[list], *entries: tuple[int, int, float]) -> list[list]:
    rows = [row[:] for row in rows]
    for row, column, entry in entries:
        rows[row][column] = entry
    return rows


def log_probs(*entries: tuple[int, int, float], dtype=torch.float64) -> Tensor:
    values = torch.full((2, 9), -0.5, dtype=dtype)
    for row, column, value in entries:
        values[row, column] = value
    return values.requires_grad_()


def read_as(subject: Subject, **changes) -> Subject:
    return replace(subject, reading=replace(subject.reading, **changes))


def stepped(gradient: float) -> Subject:
    subject = replace(healthy(log_probs=log_probs()), gradient_accumulation_steps=2)
    subject.log_probs.grad = subject.mask.double() * gradient
    return subject


FULL = [*IDS[1][:9], 31]
DUMMY = [PAD] * 10  # a row that is all padding
EOS_PADDED = changed(IDS, (0, 8, EOS), (0, 9, EOS))
NO_END = changed(IDS, (0, 7, 24), (1, 9, PAD))
NO_END_COUNTS, NO_END_SEEN = changed(COUNTS, (1, 9, 0)), changed(SEEN, (1, 9, 0))
INVERTED = [[1 - each for each in row] for row in COUNTS]
CUT = [[1, 11, 21, EOS, PAD, PAD], [1, 12, 22, 23, 24, 25]]
CUT_COUNTS = [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]]
CUT_SEEN = [[1, 1, 1, 1, 0, 0], [1] * 6]
LONG = [[1, 11, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]]
LONG_COUNTS = [[0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]

# A batch, and what is found in it: nothing else.
EACH = {
    "nothing": (
        healthy(counts=[[0] * 10] * 2),
        Finding(
            "nothing counts",
            "error",
            "No token of the batch counts: the loss is 0, every gradient is 0, and a mean over "
            "the tokens would be 0/0.",
            "Mark each response token with 1, and check response_mask.sum() > 0; if the mask "
            "comes from a chat template, that must mark where an assistant's turn is.",
            (),
            "Mask matches output",
        ),
    ),
    "nothing in a row": (
        healthy(counts=[COUNTS[0], [0] * 10]),
        Finding(
            "a row counts nothing",
            "warning",
            "1 row has no token that counts (row 2): such a row costs its time and teaches "
            "nothing; most likely its response was cut off.",
            "Leave these rows out: keep = response_mask.any(1); if the response was cut off, "
            "shorten the prompt instead.",
            ((1, 0),),
            "Mask matches output",
        ),
    ),
    "everything": (
        healthy(counts=[[1] * 10] * 2, seen=None),
        Finding(
            "everything counts",
            "warning",
            "All 18 tokens of the batch count: most likely prompts too, and the model learns to "
            "write them.",
            "Mark response tokens alone with 1: response_mask[:, c] is 1 where labels[:, c] "
            "belongs to a response.",
            (),
            "Mask matches output",
        ),
    ),
    "inverted": (
        healthy(counts=INVERTED),
        Finding(
            "the mask is inverted",
            "error",
            "2 rows count from their beginning (the first: row 1, token 1): none of them counts "
            "where it ends, so most likely 1 marks the prompt, and the model learns to write "
            "prompts and no response.",
            "Exchange 0 and 1: response_mask = ~mask.bool(), or labels[~mask.bool()] = -100.",
            ((0, 0), (1, 0)),
            "Mask matches output",
        ),
    ),
    "prompt": (
        healthy(counts=SEEN),
        Finding(
            "the prompt counts",
            "warning",
            "2 rows count from their beginning (the first: row 1, token 1): most likely prompts "
            "count, and the model learns to write them.",
            "Mask the prompt: labels[row, :prompt_length] = -100, or response_mask = 0 there.",
            ((0, 0), (1, 0)),
            "Mask matches output",
        ),
    ),
    "padding": (
        healthy(counts=changed(COUNTS, (0, 8, 1), (0, 9, 1))),
        Finding(
            "padding counts",
            "error",
            "2 padding tokens count (the first: row 1, token 8): the model learns to write "
            "padding, and short rows get a larger share of the gradient.",
            "Mask padding by the attention mask: labels[attention_mask == 0] = -100; not by its "
            "id, if that is the end token's too.",
            ((0, 7), (0, 8)),
            "Mask matches output",
        ),
    ),
    "end masked": (
        healthy(counts=changed(COUNTS, (0, 7, 0), (1, 9, 0))),
        Finding(
            "the end token never counts",
            "warning",
            "2 responses are followed by an end token that does not count (the first: row 1, "
            "token 7): the model never learns to stop.",
            "Let the end token of each response count: mask padding by the attention mask and not"
            " by its id, and if the mask is about the token that is read, shift it: mask[:, 1:]."
            " If responses end in another token, pass eos_token_id.",
            ((0, 6), (1, 8)),
            "Mask matches output",
        ),
    ),
    "no end": (
        healthy(ids=NO_END, counts=NO_END_COUNTS, seen=NO_END_SEEN),
        Finding(
            "no end token",
            "warning",
            "2 responses end without an end token (the first: row 1, token 7): the batch has no "
            "end token at all, so the model never learns to stop.",
            "Append the end token before padding: ids = ids + [tokenizer.eos_token_id].",
            ((0, 6), (1, 7)),
            "Mask matches output",
        ),
    ),
    "end twice": (
        healthy(ids=changed(IDS, (0, 8, EOS)), counts=changed(COUNTS, (0, 8, 1)), seen=None),
        Finding(
            "an extra end token counts",
            "warning",
            "1 end token counts and ends no response (row 1, token 8): it follows another end "
            "token or a prompt, so most likely it is padding, as if pad_token_id = eos_token_id, "
            "or the end of a prompt.",
            "Let only the first end token after a response count: mask padding by the attention "
            "mask, and the ends of prompts with their prompts.",
            ((0, 7),),
            "Mask matches output",
        ),
    ),
    "hole": (
        healthy(counts=changed(COUNTS, (1, 6, 0))),
        Finding(
            "a hole in a response",
            "warning",
            "1 hole in a response (row 2, token 6): the tokens before and after count and no turn"
            " ends there, so most likely a mask by id or an edit has hit a token of the response.",
            "Let the whole response count: make the mask from the positions where a response "
            "begins and ends, not from token ids.",
            ((1, 5),),
            "Mask matches output",
        ),
    ),
    "question": (
        read_as(healthy(), question="1 may mark what counts: give mask_marks."),
        Finding(
            "the format is a guess",
            "warning",
            "1 may mark what counts: give mask_marks.",
            "Give the keyword or the tensor that is named; all other findings are about the "
            "reading that was taken.",
        ),
    ),
    "not shifted": (
        read_as(healthy(), shift=0, usual_shift=1),
        Finding(
            "labels are not shifted",
            "error",
            "Each label is the token in the same column, but with these names it should be that "
            "in the next column: the model learns to copy what it reads.",
            "Shift them: inputs, targets = ids[:, :-1], ids[:, 1:].",
        ),
    ),
    "shifted before": (
        read_as(healthy(), shift=1, usual_shift=0),
        Finding(
            "labels are shifted twice",
            "error",
            "Each label is the token in the next column, but with these names it should be that "
            "in the same column: shifted once too often, so that the model learns to skip a "
            "token.",
            "Shift once: a model or trainer that shifts labels itself gets a copy of input_ids, "
            "with -100 where a token does not count.",
        ),
    ),
    "label": (
        read_as(
            healthy(),
            batch=replace(
                healthy().batch,
                labels=torch.tensor(changed(IDS, (0, 5, 33), (1, 8, 34), (0, 2, 35)))[:, 1:],
            ),
        ),
        Finding(
            "a label is not the next token",
            "error",
            "2 labels that count are not the next token (the first: row 1, token 5): the model "
            "learns a text that it does not read.",
            "Make labels from the same ids: labels = input_ids.clone(), then put -100 where a "
            "token does not count.",
            ((0, 4), (1, 7)),
        ),
    ),
    "no label": (
        read_as(
            healthy(),
            batch=replace(healthy().batch, labels=torch.tensor(changed(IDS, (0, 5, -100)))[:, 1:]),
        ),
        Finding(
            "a token counts that has no label",
            "error",
            "1 token counts and has no label (row 1, token 5): gather fails there, cross_entropy "
            "makes it a 0, and num_tokens counts it.",
            "Count only where there is a label: response_mask &= labels != -100.",
            ((0, 4),),
        ),
    ),
    "vocabulary": (
        healthy(vocab_size=29),
        Finding(
            "an id is beyond the vocabulary",
            "error",
            "2 ids are not from 0 to 28 (the first: row 2, token 8): the embedding or the loss "
            "fails on it, on a GPU the error appears later and elsewhere.",
            "Use the model's own tokenizer, and after adding tokens call "
            "model.resize_token_embeddings(len(tokenizer)).",
            ((1, 7), (1, 8)),
        ),
    ),
    "above ln V": (
        healthy(log_probs=log_probs() - 6),
        Finding(
            "the loss is above ln V",
            "warning",
            "The mean loss is 6.5 nats a token, and a model that knows nothing has ln 100 = "
            "4.605: most likely log-probs, labels and mask are not of the same column.",
            "Check the shift: logits[:, c] predict the token in column c + 1, so the label of "
            "column c is input_ids[:, c + 1].",
            (),
            "Loss is reasonable",
        ),
    ),
    "border": (
        packed(counts=changed(PACKED_COUNTS, (0, 5, 1))),
        Finding(
            "a document is predicted from its neighbour",
            "error",
            "1 first token of a document counts and is predicted from the document before "
            "(row 1, token 5): the two have nothing to do with each other.",
            "Mask the first token of each document: labels[position_ids == 0] = -100 before "
            "labels are shifted.",
            ((0, 4),),
            "Mask matches output",
        ),
    ),
    "positions": (
        packed(positions=[list(range(10))]),
        Finding(
            "positions run on across documents",
            "warning",
            "1 document does not begin at position 0 (row 1, token 6): attention that finds "
            "documents by their positions sees them as one, so each reads its neighbour.",
            "Begin each document again: position_ids = torch.cat([torch.arange(n) for n in "
            "seq_lengths]).",
            ((0, 5),),
        ),
    ),
    "left padding": (
        healthy(ids=LEFT, counts=LEFT_COUNTS, seen=None),
        Finding(
            "left padding without an attention mask",
            "error",
            "1 row begins with padding that is seen (row 1): each real token reads it, and the "
            "log-probs are those of another text.",
            "Give the model the attention_mask that the tokenizer made, or pad on the right; if "
            "you make it from ids, the padding id must not be the end token's too.",
            ((0, 0),),
        ),
    ),
    "cut off": (
        healthy(ids=CUT, counts=CUT_COUNTS, seen=CUT_SEEN),
        Finding(
            "a response is cut off",
            "warning",
            "1 row is full and ends in mid-response, without the end token (row 2, token 5): the "
            "model does not see how this response ends, and many such rows teach it not to stop.",
            "Raise the maximum length, or leave these rows out: a shorter prompt keeps the "
            "response.",
            ((1, 4),),
        ),
    ),
    "duplicates": (
        healthy(
            ids=[IDS[0], IDS[1], IDS[0]],
            counts=[COUNTS[0], COUNTS[1], COUNTS[0]],
            seen=[SEEN[0], SEEN[1], SEEN[0]],
        ),
        Finding(
            "duplicate rows",
            "warning",
            "1 row repeats an earlier one (row 3): its tokens weigh twice, and there is less in "
            "the batch than it seems.",
            "Remove duplicates from the data, or check the sampler: without replacement, and with"
            " another seed on each rank.",
            ((2, 0),),
        ),
    ),
    "above 0": (
        healthy(log_probs=log_probs((0, 4, 0.0), (0, 5, 0.7), (1, 8, 3.0))),
        Finding(
            "log-probs above 0",
            "error",
            "2 log-probs are above 0 (the first: row 1, token 6), but a log-prob is at most 0: "
            "these look like logits, so take log_softmax.",
            "Compute them from logits: "
            "log_softmax(logits, dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0].",
            ((0, 5), (1, 8)),
            "Log-probs are negative",
        ),
    ),
    "NaN": (
        healthy(log_probs=log_probs((1, 8, float("nan")))),
        Finding(
            "a NaN counts",
            "error",
            "1 log-prob that counts is NaN (row 2, token 9): the loss is NaN, and after "
            "backward() every weight that it depends on is NaN too.",
            "Look for its cause in the forward pass (a row that sees no token, an overflow in "
            "float16), and check log_probs[response_mask.bool()].isfinite().all() before "
            "backward().",
            ((1, 8),),
            "No NaN/Inf",
        ),
    ),
    "-inf": (
        healthy(log_probs=log_probs((1, 8, float("-inf")), (0, 4, float("-inf")))),
        Finding(
            "an infinite log-prob counts",
            "error",
            "2 log-probs that count are infinite (the first: row 1, token 5): the loss is "
            "infinite: −inf is a token with probability 0, as of a logit set to −inf or of "
            "log(softmax(x)) that underflows.",
            "Use log_softmax(logits), not log(softmax(logits)), and set no logit of a label to "
            "−inf.",
            ((0, 4), (1, 8)),
            "No NaN/Inf",
        ),
    ),
    "masked NaN": (
        healthy(log_probs=log_probs((1, 0, float("nan")))),
        Finding(
            "a NaN under the mask",
            "warning",
            "1 masked log-prob is NaN (row 2, token 1): the step selects and ignores it, but "
            "log_probs * mask is NaN, and backward() may bring NaN into the weights through it.",
            "Select instead of multiplying: torch.where(response_mask.bool(), log_probs, 0); and "
            "look for the cause in the forward pass.",
            ((1, 0),),
            "No NaN/Inf",
        ),
    ),
    "masked inf": (
        healthy(log_probs=log_probs((1, 0, float("-inf")))),
        Finding(
            "an infinite log-prob under the mask",
            "note",
            "1 masked log-prob is infinite (row 2, token 1): the step selects and ignores it, but"
            " log_probs * mask is NaN there.",
            "Select instead of multiplying: torch.where(response_mask.bool(), log_probs, 0).",
            ((1, 0),),
            "No NaN/Inf",
        ),
    ),
    "weight": (
        healthy(counts=changed(COUNTS, (1, 6, float("nan")))),
        Finding(
            "a weight is not finite",
            "error",
            "1 weight is NaN or infinite (row 2, token 6): the loss is NaN or infinite.",
            "Divide weights by their sum only where it is not 0.",
            ((1, 5),),
            "No NaN/Inf",
        ),
    ),
    "bf16": (
        healthy(log_probs=log_probs(dtype=torch.bfloat16)),
        Finding(
            "a dtype that loses the sum",
            "warning",
            "The log-probs are bfloat16: a running sum of −1s stalls at −256, a count of 1001 is "
            "1000. The step adds them up in float32, but each one is rounded already.",
            "Convert the logits first: log_softmax(logits.float(), dim=-1).",
        ),
    ),
    "fp16": (
        healthy(log_probs=log_probs(dtype=torch.float16)),
        Finding(
            "a dtype that loses the sum",
            "warning",
            "The log-probs are float16: a sum below −65504 is −inf, a running sum of −1s stalls "
            "at −2048. The step adds them up in float32, but each one is rounded already.",
            "Convert the logits first: log_softmax(logits.float(), dim=-1).",
        ),
    ),
    "no grad": (
        healthy(log_probs=log_probs().detach()),
        Finding(
            "requires_grad is missing",
            "error",
            "The log-probs do not require grad: backward() cannot reach the model.",
            "Compute them outside torch.no_grad() and without detach(), from parameters that are "
            "not frozen.",
            (),
            "Requires grad",
        ),
    ),
    "gradient": (
        stepped(-0.5),
        Finding(
            "the gradient is not −1/(G²·c)",
            "error",
            "11 gradients are not −1/(G²·c) where a token counts and 0 elsewhere (the first: row "
            "1, token 4): with G = 2 and c = 1 that is −0.25, and the first one is −0.5.",
            "Call optimizer.zero_grad() after each window, run the model again for each "
            "microbatch, and divide nowhere else.",
            (
                (0, 3),
                (0, 4),
                (0, 5),
                (0, 6),
                (1, 2),
                (1, 3),
                (1, 4),
                (1, 5),
                (1, 6),
                (1, 7),
                (1, 8),
            ),
            "Gradients have correct scale",
        ),
    ),
    "mean": (
        replace(healthy(log_probs=log_probs()), gradient_accumulation_steps=4),
        Finding(
            "÷G² is not the mean",
            "note",
            "With B = 2 rows, G = 4 and c = 1 the gradient is B/(G·c) = 0.5 times that of the "
            "mean over the rows of the window. AdamW hides such a factor; SGD, clipping and a "
            "logged loss do not.",
            "If you want the mean, pass normalize_constant=B/G, here 0.5.",
            (),
            "Gradients have correct scale",
        ),
    ),
    "window": (
        replace(healthy(), window=(11, 3, 6)),
        Finding(
            "uneven windows",
            "note",
            "The 3 microbatches of the window have from 3 to 11 tokens that count. If each were "
            "averaged over its own tokens, and then the averages, a token would weigh from 0.6061"
            " to 2.222 times what it weighs in the mean over all 20 tokens.",
            "For that mean divide the sum of each microbatch by the tokens of the window, here 20.",
            (),
            "Gradients have correct scale",
        ),
    ),
}

# The same in another form: names and places.
HALF = healthy(counts=[[each / 2 for each in row] for row in COUNTS])

ALSO = {
    "nothing, all padding": (
        healthy(ids=[DUMMY, DUMMY], counts=[[0] * 10] * 2, seen=[[0] * 10] * 2),
        [("nothing counts", "error")],
        [],
    ),
    "rows of padding, that is seen": (
        only(
            healthy(
                ids=[*IDS, DUMMY, DUMMY],
                counts=[*COUNTS, [0] * 10, [0] * 10],
                seen=[*SEEN, [0] * 10, [0] * 10],
            ),
            attention_mask=None,
        ),
        [("a row counts nothing", "warning")],
        [(2, 0), (3, 0)],
    ),
    "no end, and a full row": (
        healthy(
            ids=[*NO_END, FULL], counts=[*NO_END_COUNTS, COUNTS[1]], seen=[*NO_END_SEEN, SEEN[1]]
        ),
        [("no end token", "warning")],
        [(0, 6), (1, 7)],
    ),
    "one row ends, one is full, one is empty": (
        healthy(
            ids=[NO_END[0], FULL, DUMMY],
            counts=[COUNTS[0], COUNTS[1], [0] * 10],
            seen=[*SEEN, [0] * 10],
        ),
        [("a row counts nothing", "warning")],
        [(2, 0)],
    ),
    "padding counts, there is nothing else": (
        healthy(ids=[DUMMY], counts=[[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]], seen=[[0] * 10]),
        [("padding counts", "error")],
        [(0, 2)],
    ),
    "the prompt counts, no end in it": (
        healthy(ids=NO_END, counts=NO_END_SEEN, seen=NO_END_SEEN),
        [("the prompt counts", "warning"), ("no end token", "warning")],
        [(0, 0), (1, 0)],
    ),
    "prompts alone count, no end in it": (
        healthy(
            ids=NO_END,
            counts=[[1, 1, 1, 1, *[0] * 6], [1, 1, 1, *[0] * 7]],
            seen=NO_END_SEEN,
        ),
        [("the mask is inverted", "error")],
        [(0, 0), (1, 0)],
    ),
    "inverted, answers of two tokens": (
        healthy(counts=[[*[1] * 6, 0, 0, 1, 1], [*[1] * 8, 0, 0]], eos_token_id=None),
        [("the mask is inverted", "error")],
        [(0, 0), (1, 0)],
    ),
    "border, no end known": (
        packed(
            ids=changed(PACKED, (0, 4, 26)),
            counts=changed(PACKED_COUNTS, (0, 5, 1)),
            eos_token_id=None,
        ),
        [("a document is predicted from its neighbour", "error")],
        [(0, 4)],
    ),
    "gradient underflow, without a gradient": (
        replace(
            healthy(log_probs=log_probs(dtype=torch.float16).detach()),
            gradient_accumulation_steps=2,
            normalize_constant=1e8,
            is_trained=False,
        ),
        [("a dtype that loses the sum", "warning"), ("÷G² is not the mean", "note")],
        [],
    ),
    "inverted, no end in it": (
        healthy(
            ids=NO_END,
            counts=[[1 - each for each in row] for row in NO_END_COUNTS],
            seen=NO_END_SEEN,
        ),
        [("the mask is inverted", "error")],
        [(0, 0), (1, 0)],
    ),
    "inverted, padding not known": (
        healthy(counts=INVERTED, seen=None),
        [("the mask is inverted", "error")],
        [(0, 0), (1, 0)],
    ),
    "the prompt counts, the last token does not": (
        healthy(counts=changed(SEEN, (0, 7, 0), (1, 9, 0)), eos_token_id=None),
        [("the prompt counts", "warning")],
        [(0, 0), (1, 0)],
    ),
    "the prompt counts, the last but one does not": (
        healthy(counts=changed(SEEN, (0, 6, 0), (1, 8, 0)), eos_token_id=None),
        [("the prompt counts", "warning")],
        [(0, 0), (1, 0)],
    ),
    "the prompt and the end count": (
        healthy(counts=changed(SEEN, (0, 5, 0), (0, 6, 0), (1, 7, 0), (1, 8, 0))),
        [
            ("the prompt counts", "warning"),
            ("an extra end token counts", "warning"),
            ("a hole in a response", "warning"),
        ],
        [(0, 0), (1, 0)],
    ),
    "everything, two ends": (
        healthy(ids=EOS_PADDED, counts=[[1] * 10] * 2, seen=None),
        [("everything counts", "warning")],
        [],
    ),
    "end twice, labels alone": (
        read_as(
            healthy(),
            batch=NormalBatch(
                healthy(counts=changed(COUNTS, (0, 8, 1))).batch.weights,
                labels=torch.tensor(EOS_PADDED)[:, 1:],
            ),
        ),
        [("an extra end token counts", "warning")],
        [(0, 7)],
    ),
    "padding, no labels": (
        only(healthy(counts=changed(COUNTS, (0, 8, 1))), labels=None),
        [("padding counts", "error")],
        [(0, 7)],
    ),
    "hole before the end": (
        healthy(counts=changed(COUNTS, (1, 8, 0))),
        [("a hole in a response", "warning")],
        [(1, 7)],
    ),
    "hole, no ids known": (
        subject_of(IDS, changed(COUNTS, (1, 6, 0))),
        [("a hole in a response", "warning")],
        [(1, 5)],
    ),
    "two holes": (
        subject_of(LONG, changed(LONG_COUNTS, (0, 4, 0), (0, 8, 0))),
        [("a hole in a response", "warning")],
        [(0, 3), (0, 7)],
    ),
    "border that is the end token": (
        packed(ids=changed(PACKED, (0, 5, EOS)), counts=changed(PACKED_COUNTS, (0, 5, 1))),
        [("a document is predicted from its neighbour", "error")],
        [(0, 4)],
    ),
    "positions, padding too": (
        packed(
            ids=[[*PACKED[0], PAD, PAD]],
            counts=[[*PACKED_COUNTS[0], 0, 0]],
            seen=[[1] * 10 + [0] * 2],
            documents=[[*DOCUMENTS[0], 2, 2]],
            positions=[list(range(12))],
        ),
        [("positions run on across documents", "warning")],
        [(0, 5)],
    ),
    "left padding, its id not known": (
        only(
            healthy(
                ids=LEFT, counts=LEFT_COUNTS, seen=[[0, 0, *[1] * 8], [1] * 10], pad_token_id=None
            ),
            attention_mask=None,
        ),
        [("left padding without an attention mask", "error")],
        [(0, 0)],
    ),
    "cut off soon after an end": (
        healthy(
            ids=[CUT[0], [1, 12, 22, EOS, 24, 25]],
            counts=[CUT_COUNTS[0], CUT_COUNTS[1]],
            seen=CUT_SEEN,
        ),
        [("a response is cut off", "warning")],
        [(1, 4)],
    ),
    "duplicates, side by side": (
        healthy(ids=[IDS[0]] * 2, counts=[COUNTS[0]] * 2, seen=[SEEN[0]] * 2),
        [("duplicate rows", "warning")],
        [(1, 0)],
    ),
    "label, shifted": (
        read_as(
            only(healthy(), labels=torch.tensor(changed(IDS, (0, 5, 33)))[:, 1:]),
            shift=1,
            usual_shift=1,
        ),
        [("a label is not the next token", "error")],
        [(0, 4)],
    ),
    "vocabulary, below 0": (
        only(healthy(), tokens=torch.tensor(changed(IDS, (0, 3, -1)))[:, :-1]),
        [("an id is beyond the vocabulary", "error")],
        [(0, 3)],
    ),
    "inverted, padding with eos": (
        healthy(ids=EOS_PADDED, counts=INVERTED, pad_token_id=EOS),
        [("the mask is inverted", "error")],
        [(0, 0), (1, 0)],
    ),
    "inverted, no end known": (
        healthy(counts=INVERTED, eos_token_id=None),
        [("the mask is inverted", "error")],
        [(0, 0), (1, 0)],
    ),
    "inverted, documents": (
        packed(counts=[[1, 1, 1, 0, 0, 0, 1, 0, 0, 0]]),
        [("the mask is inverted", "error")],
        [(0, 0), (0, 5)],
    ),
    "the prompt counts, end tokens masked": (
        healthy(counts=changed(SEEN, (0, 7, 0), (1, 9, 0))),
        [("the prompt counts", "warning"), ("the end token never counts", "warning")],
        [(0, 0), (1, 0)],
    ),
    "everything, no padding in it": (
        healthy(counts=[[1] * 10] * 2, seen=[[1] * 10] * 2),
        [("everything counts", "warning")],
        [],
    ),
    "prompts of documents that were shifted one by one": (
        one_by_one(counts=[[0, 1, 0, 0, 1, 0, 1, 1, 1, 1]], eos_token_id=None),
        [("the prompt counts", "warning")],
        [(0, 0), (0, 4)],
    ),
    "positions of documents that were shifted one by one": (
        one_by_one(positions=[[0, 1, 2, 3, 3, 4, 5, 6, 7, 8]]),
        [("positions run on across documents", "warning")],
        [(0, 4)],
    ),
    "everything, padding too": (
        healthy(counts=[[1] * 10] * 2),
        [("everything counts", "error")],
        [],
    ),
    "everything, no ids": (
        read_as(healthy(), batch=NormalBatch(torch.ones(2, 9))),
        [("everything counts", "note")],
        [],
    ),
    "prompt after left padding": (
        healthy(
            ids=LEFT,
            counts=[[0, 0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 10],
            seen=[[0, 0, *[1] * 8], [1] * 10],
        ),
        [("the prompt counts", "warning")],
        [(0, 2), (1, 0)],
    ),
    "prompts of documents": (
        packed(counts=[[0, 1, 1, 1, 1, 0, 1, 1, 1, 1]]),
        [("the prompt counts", "warning")],
        [(0, 0), (0, 5)],
    ),
    "padding that is eos": (
        healthy(ids=EOS_PADDED, counts=changed(COUNTS, (0, 8, 1), (0, 9, 1))),
        [("padding counts", "error")],
        [(0, 7), (0, 8)],
    ),
    "end of a prompt": (
        healthy(ids=changed(IDS, (0, 2, EOS)), counts=changed(COUNTS, (0, 2, 1))),
        [("an extra end token counts", "warning")],
        [(0, 1)],
    ),
    "hole of three": (
        healthy(counts=changed(COUNTS, (1, 5, 0), (1, 6, 0), (1, 7, 0))),
        [("a hole in a response", "warning")],
        [(1, 4)],
    ),
    "hole, no end known": (
        healthy(counts=changed(COUNTS, (1, 6, 0)), eos_token_id=None),
        [("a hole in a response", "warning")],
        [(1, 5)],
    ),
    "hole, no ids": (
        read_as(
            healthy(), batch=NormalBatch(healthy(counts=changed(COUNTS, (1, 6, 0))).batch.weights)
        ),
        [("a hole in a response", "warning")],
        [(1, 5)],
    ),
    "holes by id": (
        healthy(
            ids=changed(LONG, (0, 4, 0), (0, 7, 0), (0, 10, 0)),
            counts=changed(LONG_COUNTS, (0, 4, 0), (0, 7, 0), (0, 10, 0)),
            seen=None,
            eos_token_id=None,
        ),
        [("a hole in a response", "warning")],
        [(0, 3), (0, 6), (0, 9)],
    ),
    "shifted twice": (
        read_as(
            healthy(),
            shift=2,
            batch=replace(healthy().batch, labels=healthy().batch.next_tokens.roll(-1, 1)),
        ),
        [("labels are shifted twice", "error")],
        [],
    ),
    "shifted, and you say not": (
        read_as(healthy(shifted=False), shift=1, usual_shift=1),
        [("labels are shifted twice", "error")],
        [],
    ),
    "not shifted, and you say they are": (
        read_as(healthy(shifted=True), shift=0, usual_shift=0),
        [("labels are not shifted", "error")],
        [],
    ),
    "vocabulary, labels alone": (
        read_as(
            healthy(), batch=NormalBatch(healthy().batch.weights, labels=torch.full((2, 9), -1))
        ),
        [("an id is beyond the vocabulary", "error")],
        [
            (0, 0),
            (0, 1),
            (0, 2),
            (0, 3),
            (0, 4),
            (0, 5),
            (0, 6),
            (0, 7),
            (0, 8),
            (1, 0),
            (1, 1),
            (1, 2),
            (1, 3),
            (1, 4),
            (1, 5),
            (1, 6),
            (1, 7),
            (1, 8),
        ],
    ),
    "left padding, seen": (
        healthy(ids=LEFT, counts=LEFT_COUNTS, seen=[[1] * 10] * 2),
        [("left padding without an attention mask", "error")],
        [(0, 0)],
    ),
    "cut off, end not known": (
        healthy(
            ids=[CUT[0], *[[1, 13, x, EOS, PAD, PAD] for x in (26, 27)], CUT[1]],
            counts=[CUT_COUNTS[0]] * 3 + [CUT_COUNTS[1]],
            seen=[CUT_SEEN[0]] * 3 + [CUT_SEEN[1]],
            eos_token_id=None,
        ),
        [("a response is cut off", "warning")],
        [(3, 4)],
    ),
    "gradient nan": (
        stepped(float("nan")),
        [("the gradient is not −1/(G²·c)", "error")],
        [
            (0, 0),
            (0, 1),
            (0, 2),
            (0, 3),
            (0, 4),
            (0, 5),
            (0, 6),
            (0, 7),
            (0, 8),
            (1, 0),
            (1, 1),
            (1, 2),
            (1, 3),
            (1, 4),
            (1, 5),
            (1, 6),
            (1, 7),
            (1, 8),
        ],
    ),
    "gradient underflow": (
        replace(
            healthy(log_probs=log_probs(dtype=torch.float16)),
            gradient_accumulation_steps=2,
            normalize_constant=1e8,
        ),
        [
            ("the gradient is not −1/(G²·c)", "error"),
            ("a dtype that loses the sum", "warning"),
            ("÷G² is not the mean", "note"),
        ],
        [(0, 3), (0, 4), (0, 5), (0, 6), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (1, 7), (1, 8)],
    ),
    "window, 0": (replace(healthy(), window=(11, 0)), [("uneven windows", "note")], []),
}


@pytest.mark.parametrize("name", EACH)
def test_each_mistake_is_found_and_nothing_else_and_said_word_for_word(name):
    subject, finding = EACH[name]
    assert find(subject) == (finding,)


@pytest.mark.parametrize("name", ALSO)
def test_a_mistake_is_found_in_its_other_forms(name):
    subject, names, places = ALSO[name]
    found = find(subject)
    assert [(each.name, each.severity) for each in found] == names
    assert list(found[0].places) == places


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_each_check_has_a_batch_that_it_alone_finds_fault_with(check):
    alone = [check(subject) == finding for subject, finding in EACH.values()]
    assert any(alone)


def test_each_line_of_the_checklist_is_answered():
    assert {finding.checklist for _, finding in EACH.values()} - {""} == set(CHECKLIST)


def half_stepped() -> Subject:
    subject = replace(HALF, log_probs=log_probs(), gradient_accumulation_steps=2)
    subject.log_probs.grad = subject.batch.weights * -0.25
    return subject


# What could be taken for a mistake and is none.
HEALTHY = {
    "a document without a prompt, no end known": packed(
        ids=changed(PACKED, (0, 4, 26)),
        counts=changed(PACKED_COUNTS, (0, 6, 1)),
        eos_token_id=None,
    ),
    "one end for several answers": healthy(
        ids=[[1, 11, 12, 21, 22, 13, 14, 15, 16, 23, EOS]],
        counts=[[0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]],
        seen=None,
    ),
    "no labels": only(healthy(), labels=None),
    "the last token that follows is not known": only(
        healthy(), next_tokens=torch.tensor(changed(IDS, (0, 9, -100), (1, 9, -100)))[:, 1:]
    ),
    "no label agrees": read_as(healthy(), usual_shift=1),
    "one row ends, one is full, without the end token": healthy(
        ids=[NO_END[0], FULL], counts=COUNTS, seen=SEEN
    ),
    "both end in the same": healthy(
        ids=changed(NO_END, (1, 8, 24)), counts=NO_END_COUNTS, seen=NO_END_SEEN
    ),
    "a start token that is eos": packed(
        ids=changed(PACKED, (0, 4, 26), (0, 5, EOS), (0, 9, 27)),
        counts=changed(PACKED_COUNTS, (0, 9, 0)),
    ),
    "a turn of one token after what ends a row": subject_of(
        changed(IDS, (1, 5, EOS)), changed(COUNTS, (1, 6, 0))
    ),
    "answers of one token after a turn of one": subject_of(
        [[1, 11, 12, 21, 22, 13, 23, PAD], [1, 11, 12, 24, 13, 25, 26, PAD]],
        [[0, 0, 0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1, 1, 0]],
    ),
    "a short turn after a line break": healthy(
        ids=changed(IDS, (1, 4, EOS), (1, 5, 7)), counts=changed(COUNTS, (1, 6, 0), (1, 7, 0))
    ),
    "half weights, and their gradient": half_stepped(),
    "shifted, as you say": read_as(healthy(shifted=True), shift=1, usual_shift=0),
    "shifted, with names that say nothing": read_as(healthy(), shift=1),
    "documents that were shifted one by one": one_by_one(),
    "one of them without a prompt": one_by_one(counts=changed(PACKED_COUNTS, (0, 1, 1), (0, 2, 1))),
    "right padding": healthy(),
    "log-probs": healthy(log_probs=log_probs()),
    "the gradient that the step leaves": stepped(-0.25),
    "a gradient that was set to 0": stepped(0.0),
    "left padding": healthy(ids=LEFT, counts=LEFT_COUNTS, seen=[[0, 0, *[1] * 8], [1] * 10]),
    "documents": packed(),
    "documents that are not said": packed(documents=None, positions=None),
    "one document without a prompt": packed(counts=changed(PACKED_COUNTS, (0, 6, 1))),
    "padding with eos": healthy(ids=EOS_PADDED, pad_token_id=EOS),
    "padding with eos, by its id": read_as(
        healthy(pad_token_id=EOS),
        batch=replace(healthy().batch, is_padding=healthy().batch.next_tokens == EOS),
    ),
    "start token = padding": healthy(ids=changed(IDS, (0, 0, PAD), (1, 0, PAD)), seen=None),
    "the prompt has an end token": healthy(ids=changed(IDS, (0, 3, EOS), (1, 2, EOS))),
    "a turn of one token": healthy(
        ids=changed(IDS, (1, 5, EOS)), counts=changed(COUNTS, (1, 6, 0))
    ),
    "a line break after the end": healthy(
        ids=changed(IDS, (0, 7, 7), (0, 6, EOS), (1, 8, EOS), (1, 9, 7))
    ),
    "the same end, not known": healthy(eos_token_id=98),
    "many turns of one token": healthy(
        ids=LONG,
        counts=changed(LONG_COUNTS, (0, 4, 0), (0, 7, 0), (0, 10, 0)),
        seen=None,
        eos_token_id=None,
    ),
    "one row without a prompt": healthy(counts=[[0, *[1] * 7, 0, 0], COUNTS[1]]),
    "responses alone": read_as(healthy(), batch=NormalBatch(torch.tensor([[1, 1, 1, 0], [1] * 4]))),
    "half weights": HALF,
    "log-probs of a file": replace(healthy(log_probs=log_probs().detach()), is_trained=False),
    "an even window": replace(healthy(), window=(11, 11)),
    "c = B/G": replace(
        healthy(log_probs=log_probs()), gradient_accumulation_steps=4, normalize_constant=0.5
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_only_looks_like_a_mistake_is_not_found(name):
    assert find(HEALTHY[name]) == ()


@pytest.mark.parametrize(
    ("shift", "usual", "said", "message"),
    [
        (0, 1, None, "in the same column, but with these names it should be that in the next"),
        (1, 0, None, "in the next column, but with these names it should be that in the same"),
        (2, None, None, "2 columns later, which no format has"),
        (2, 0, True, "2 columns later, but as you say it should be that in the next column"),
    ],
)
def test_a_wrong_shift_is_said_with_where_labels_should_be(shift, usual, said, message):
    subject = read_as(healthy(shifted=said), shift=shift, usual_shift=usual)
    assert find(subject)[0].message.startswith(f"Each label is the token {message}")


def test_an_end_token_that_is_only_padding_does_not_show_that_a_row_is_cut_off():
    ids = [[1, 11, 21, 98, EOS, EOS], [1, 12, 22, 23, 24, 98]]  # 98 ends the responses
    batch = healthy(ids=ids, counts=CUT_COUNTS, seen=CUT_SEEN, pad_token_id=EOS)
    assert "a response is cut off" not in [finding.name for finding in find(batch)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "log_softmax(logits, dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]",
            [[-log(5), -log(5)]],
        ),
        ("torch.where(response_mask.bool(), log_probs, 0)", [[0.0, -0.5]]),
        ("log_probs[response_mask.bool()].isfinite().all()", True),
    ],
)
def test_the_code_of_a_remedy_runs_with_ignored_labels_and_a_mask_of_integers(code, expected):
    assert any(code in finding.remedy for _, *found in EACH.values() for finding in found)
    values = {
        "torch": torch,
        "log_softmax": torch.log_softmax,
        "logits": torch.zeros(1, 2, 5),
        "labels": torch.tensor([[-100, 3]]),
        "response_mask": torch.tensor([[0, 1]]),
        "log_probs": torch.tensor([[torch.nan, -0.5]]),
    }
    assert torch.allclose(eval(code, values), torch.tensor(expected))


def test_errors_come_first():
    subject = healthy(counts=changed(COUNTS, (0, 9, 1), (1, 6, 0)), vocab_size=29)
    subject = replace(subject, gradient_accumulation_steps=3)
    kinds = [each.severity for each in find(subject)]
    assert kinds == ["error", "error", "warning", "note"]


def test_all_places_are_counted_and_the_first_thousand_are_listed():
    subject = read_as(Subject(Reading("", (), NormalBatch(torch.ones(64, 1024)))))
    subject = replace(subject, log_probs=torch.full((64, 1024), float("nan"), requires_grad=True))
    nan = find(subject)[0]
    assert nan.message.startswith("65536 log-probs that count are NaN (the first: row 1, token 1)")
    assert nan.places == tuple((0, column) for column in range(1000))


def odd_batches() -> Iterator[Subject]:
    for B, S in ((1, 1), (1, 2), (2, 1), (3, 2), (1, 3), (4, 3)):
        ids = torch.arange(B * S).reshape(B, S)
        no = torch.zeros(B, S, dtype=torch.bool)
        for weights in (torch.zeros(B, S), torch.ones(B, S), torch.rand(B, S), ids % 2.0):
            for batch in (
                NormalBatch(weights),
                NormalBatch(weights, labels=ids),
                NormalBatch(weights, tokens=ids),
                NormalBatch(weights, ids, ids, ids, no, no, ids, ids, no),
                NormalBatch(
                    weights, ids, torch.full_like(ids, -100), ids - 100, ~no, ~no, ids, ids, ~no
                ),
            ):
                reading = Reading("odd", (), batch)
                hints = Hints(pad_token_id=0, eos_token_id=(1, 2), vocab_size=4)
                yield Subject(reading)
                yield Subject(reading, hints, None, 3, 2.0, (1, 0, 2))
                yield Subject(reading, hints, window=(0, 0))
                for values in (-weights.bfloat16(), weights * torch.nan, -weights.half() / 0):
                    yield Subject(reading, hints, values)
                    yield Subject(reading, hints, values.clone().requires_grad_(), 2)


def test_odd_batches_are_judged_too():
    for subject in odd_batches():
        for finding in find(subject):
            assert finding.message.endswith((".", "?")) and finding.remedy.endswith(".")


def test_all_is_computed_on_the_device_of_the_batch():
    with torch.device("meta"):  # what is made elsewhere can't be put together with the batch
        for subject, finding in EACH.values():
            assert find(replace(subject)) == (finding,)


def test_nothing_of_the_caller_is_changed(recwarn):
    values = log_probs()
    subject = replace(healthy(log_probs=values * 1), gradient_accumulation_steps=2)
    with torch.no_grad():
        assert find(subject) == ()
    subject.log_probs.sum().backward()  # its graph is still there
    assert (values.grad == 1).all()
    assert not recwarn.list


def test_the_gradient_of_the_real_step_is_right_once_and_wrong_twice():
    values = log_probs() + 0
    values.retain_grad()
    subject = replace(healthy(log_probs=values), gradient_accumulation_steps=2)
    sft_microbatch_train_step(values, subject.mask, 2)
    assert find(subject) == ()
    sft_microbatch_train_step(values, subject.mask, 2)
    (finding,) = find(subject)
    assert (
        finding.name == "the gradient is not −1/(G²·c)"
        and "the first one is −0.5" in finding.message
    )


def test_what_averaged_averages_would_make_of_a_window_is_what_autograd_says():
    counts = (11, 3, 6)
    parts = [torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in counts]
    (sum(part.mean() for part in parts) / 3).backward()
    weights = [(part.grad[0] * sum(counts)).item() for part in parts]
    (finding,) = find(replace(healthy(), window=counts))
    assert f"from {min(weights):.4g} to {max(weights):.4g} times" in finding.message


@pytest.mark.parametrize("vocabulary", [10, 1000, 50_000])
def test_a_model_that_knows_nothing_is_not_above_ln_v_but_a_wrong_shift_is(vocabulary):
    torch.manual_seed(vocabulary)
    for tokens in (8, 100):
        labels = torch.randint(vocabulary, (tokens,))
        logits = torch.randn(tokens, vocabulary)  # an untrained model has smaller ones
        for scale, is_above in ((1, False), (0.1, False), (3, True)):
            values = (scale * logits).log_softmax(1)[torch.arange(tokens), labels][None]
            reading = Reading("", (), NormalBatch(torch.ones_like(values)))
            subject = Subject(reading, Hints(vocab_size=vocabulary), values.requires_grad_())
            names = [each.name for each in find(subject)]
            assert ("the loss is above ln V" in names) == is_above


NUMBERS_OF_ROWS = (1, 2, 3, 5, 8)


def random_document(rng: random.Random, end: list[int]) -> tuple[list[int], list[int]]:
    """A start token, one to three turns, and which of these tokens count."""
    turns, last_alone, template = rng.choice([1, 1, 2, 3]), rng.random() < 0.2, rng.random() < 0.3
    ids, counts = [1], [0]
    for turn in range(turns):
        prompt = [rng.randrange(9, V) for _ in range(rng.randint(2, 6))]
        response = [rng.randrange(9, V) for _ in range(rng.randint(1, 9))] + end
        after = []
        if template:  # line breaks after end tokens; that of the response may count
            prompt = [3, 4, 7, *prompt, *end, 7, 3, 5, 7]
            response, after = ([*response, 7], []) if rng.random() < 0.5 else (response, [7])
        counted = int(turn == turns - 1 or not last_alone)
        ids += prompt + response + after
        counts += [0] * len(prompt) + [counted] * len(response) + [0] * len(after)
    return ids, counts


def random_healthy(seed: int) -> Subject:
    """A batch as a careful person makes it."""
    rng = random.Random(seed)
    has_end, is_packed = rng.random() < 0.7, rng.random() < 0.3
    on_left, on_right = not is_packed and rng.random() < 0.4, rng.random() < 0.5
    pad = rng.choice([PAD, EOS]) if has_end else PAD
    rows, documents, positions = [], [], []
    for _ in range(rng.choice(NUMBERS_OF_ROWS)):
        parts = [
            random_document(rng, [EOS] * has_end)
            for _ in range(rng.randint(1, 4) if is_packed else 1)
        ]
        rows.append(tuple(list(chain(*part)) for part in zip(*parts, strict=True)))
        documents.append([n for n, (ids, _) in enumerate(parts) for _ in ids])
        positions.append([n for ids, _ in parts for n in range(len(ids))])
    S = max(len(ids) for ids, _ in rows) + rng.choice([0, 0, 1, 5])

    def padded(row: list, filler: int) -> list:
        n = (S - len(row)) * on_left * 2 // 3 if on_right else (S - len(row)) * on_left
        return [filler] * n + row + [filler] * (S - len(row) - n)

    ids = [padded(ids, pad) for ids, _ in rows]
    weight = rng.choice([1, 1, 1, 0.5])
    subject = subject_of(
        ids,
        [padded([weight * each for each in counts], 0) for _, counts in rows],
        seen=[padded([1] * len(ids), 0) for ids, _ in rows],
        documents=[padded(row, row[-1]) for row in documents] if is_packed else None,
        positions=[padded(row, 0) for row in positions]
        if is_packed or rng.random() < 0.3
        else None,
        pad_token_id=pad,
        eos_token_id=EOS if has_end else None,
        vocab_size=rng.choice([None, V]),
    )
    if rng.random() < 0.3:  # labels of all tokens beside a mask
        batch = replace(subject.batch, labels=subject.batch.next_tokens)
        subject = read_as(subject, batch=batch, shift=1, usual_shift=1)
    if rng.random() < 0.2:  # nothing but a mask
        weights = subject.batch.weights
        subject = read_as(subject, batch=NormalBatch(weights))
    if rng.random() < 0.7:
        generator = torch.Generator().manual_seed(seed)
        dtype = rng.choice([torch.float32, torch.float64])
        values = torch.empty(subject.mask.shape, dtype=dtype).exponential_(1, generator=generator)
        G = None if weight != 1 else rng.choice([None, 1, 2, 4])
        subject = replace(
            subject,
            log_probs=(-values).requires_grad_(),
            gradient_accumulation_steps=G,
            normalize_constant=1 if G is None else len(values) / G,  # the mean over the rows
        )
    return subject


def test_a_thousand_healthy_batches_have_no_finding():
    for seed in range(1000):
        assert find(random_healthy(seed)) == (), f"seed {seed}"
