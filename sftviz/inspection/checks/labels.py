"""Whether a model predicts the token that follows: shift, labels, vocabulary."""

from math import log, sqrt

import torch

from sftviz.inspection.checks.finding import LOSS, Finding, find_places
from sftviz.inspection.checks.subject import Subject


def format_is_a_guess(subject: Subject) -> Finding | None:
    if not subject.reading.question:
        return None
    return Finding(
        "the format is a guess",
        "warning",
        subject.reading.question,
        "Give the keyword or the tensor that is named; all other findings are about the reading "
        "that was taken.",
    )


def wrong_shift(subject: Subject) -> Finding | None:
    """Labels are not where the names of the tensors, or the user, say they are."""
    shift, usual = subject.reading.shift, subject.reading.usual_shift
    reason = "with these names"
    if subject.hints.shifted is not None:
        usual, reason = int(subject.hints.shifted), "as you say"
    if shift is None or shift == usual or (usual is None and shift < 2):
        return None
    wanted = "which no format has"
    if usual is not None:
        wanted = f"but {reason} it should be that {_where(usual)}"
    if usual is not None and shift < usual:
        name, effect = "labels are not shifted", "the model learns to copy what it reads"
        remedy = "Shift them: inputs, targets = ids[:, :-1], ids[:, 1:]."
    else:
        name = "labels are shifted twice"
        effect = "shifted once too often, so that the model learns to skip a token"
        remedy = (
            "Shift once: a model or trainer that shifts labels itself gets a copy of input_ids, "
            "with -100 where a token does not count."
        )
    message = f"Each label is the token {_where(shift)}, {wanted}: {effect}."
    return Finding(name, "error", message, remedy)


def _where(shift: int) -> str:
    return {0: "in the same column", 1: "in the next column"}.get(shift, f"{shift} columns later")


def label_disagrees(subject: Subject) -> Finding | None:
    labels, follows = subject.batch.labels, subject.batch.next_tokens
    if labels is None or follows is None or (subject.reading.shift or 0) > 1:  # all: a wrong shift
        return None
    return find_places(
        subject.mask & (labels != follows) & (labels >= 0) & (follows >= 0),
        "a label is not the next token",
        "error",
        ("label that counts is not the next token", "labels that count are not the next token"),
        "the model learns a text that it does not read",
        "Make labels from the same ids: labels = input_ids.clone(), then put -100 where a token "
        "does not count.",
    )


def label_missing(subject: Subject) -> Finding | None:
    labels = subject.batch.labels
    if labels is None:
        return None
    return find_places(
        subject.mask & (labels == -100),
        "a token counts that has no label",
        "error",
        ("token counts and has no label", "tokens count and have no label"),
        "gather fails there, cross_entropy makes it a 0, and num_tokens counts it",
        "Count only where there is a label: response_mask &= labels != -100.",
    )


def beyond_vocabulary(subject: Subject) -> Finding | None:
    V, tokens, labels = subject.hints.vocab_size, subject.batch.tokens, subject.batch.labels
    if V is None:
        return None
    is_wrong = torch.zeros_like(subject.mask)
    if tokens is not None:
        is_wrong |= (tokens < 0) | (tokens >= V)
    if labels is not None:
        is_wrong |= (labels >= V) | ((labels < 0) & (labels != -100))
    return find_places(
        is_wrong,
        "an id is beyond the vocabulary",
        "error",
        (f"id is not from 0 to {V - 1}", f"ids are not from 0 to {V - 1}"),
        "the embedding or the loss fails on it, on a GPU the error appears later and elsewhere",
        "Use the model's own tokenizer, and after adding tokens call "
        "model.resize_token_embeddings(len(tokenizer)).",
    )


def loss_above_guessing(subject: Subject) -> Finding | None:
    """A model that knows nothing has a loss of ln V, and an untrained one a little more."""
    V, log_probs = subject.hints.vocab_size, subject.counted_log_probs
    if V is None or log_probs is None or not log_probs.isfinite().all() or not len(log_probs):
        return None
    mean = -log_probs.float().mean().item()
    # Logits that are standard normal lose another 0.5, and the mean of n tokens varies by 1/√n.
    if mean <= log(V) + 0.5 + 2 / sqrt(log_probs.numel()):
        return None
    return Finding(
        "the loss is above ln V",
        "warning",
        f"The mean loss is {mean:.4g} nats a token, and a model that knows nothing has "
        f"ln {V} = {log(V):.4g}: most likely log-probs, labels and mask are not of the same "
        "column.",
        "Check the shift: logits[:, c] predict the token in column c + 1, so the label of column "
        "c is input_ids[:, c + 1].",
        checklist=LOSS,
    )


CHECKS = (
    format_is_a_guess,
    wrong_shift,
    label_disagrees,
    label_missing,
    beyond_vocabulary,
    loss_above_guessing,
)
