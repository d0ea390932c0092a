"""The log-probs as numbers: above 0, NaN, infinite, of a dtype that is too coarse, no gradient."""

import torch

from sftviz.inspection.checks.finding import (
    FINITE,
    LOG_PROBS,
    REQUIRES_GRAD,
    Finding,
    find_places,
    places_of,
)
from sftviz.inspection.checks.subject import Subject
from sftviz.validate import above_zero


def log_probs_above_zero(subject: Subject) -> Finding | None:
    if subject.log_probs is None or not (message := above_zero(subject.log_probs)):
        return None
    return Finding(
        "log-probs above 0",
        "error",
        message,
        "Compute them from logits: "
        "log_softmax(logits, dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0].",
        places_of(subject.log_probs.detach() > 0),
        checklist=LOG_PROBS,
    )


def nan_counts(subject: Subject) -> Finding | None:
    if (log_probs := subject.log_probs_not_finite) is None:
        return None
    return find_places(
        log_probs.isnan() & subject.mask,
        "a NaN counts",
        "error",
        ("log-prob that counts is NaN", "log-probs that count are NaN"),
        "the loss is NaN, and after backward() every weight that it depends on is NaN too",
        "Look for its cause in the forward pass (a row that sees no token, an overflow in "
        "float16), and check log_probs[response_mask.bool()].isfinite().all() before backward().",
        checklist=FINITE,
    )


def infinity_counts(subject: Subject) -> Finding | None:
    if (log_probs := subject.log_probs_not_finite) is None:
        return None
    return find_places(
        log_probs.isinf() & subject.mask,
        "an infinite log-prob counts",
        "error",
        ("log-prob that counts is infinite", "log-probs that count are infinite"),
        "the loss is infinite: −inf is a token with probability 0, as of a logit set to −inf or of "
        "log(softmax(x)) that underflows",
        "Use log_softmax(logits), not log(softmax(logits)), and set no logit of a label to −inf.",
        checklist=FINITE,
    )


def nan_is_masked(subject: Subject) -> Finding | None:
    if (log_probs := subject.log_probs_not_finite) is None:
        return None
    return find_places(
        log_probs.isnan() & ~subject.mask,
        "a NaN under the mask",
        "warning",
        ("masked log-prob is NaN", "masked log-probs are NaN"),
        "the step selects and ignores it, but log_probs * mask is NaN, and backward() may bring "
        "NaN into the weights through it",
        "Select instead of multiplying: torch.where(response_mask.bool(), log_probs, 0); and look "
        "for the cause in the forward pass.",
        checklist=FINITE,
    )


def infinity_is_masked(subject: Subject) -> Finding | None:
    if (log_probs := subject.log_probs_not_finite) is None:
        return None
    return find_places(
        log_probs.isinf() & ~subject.mask,
        "an infinite log-prob under the mask",
        "note",
        ("masked log-prob is infinite", "masked log-probs are infinite"),
        "the step selects and ignores it, but log_probs * mask is NaN there",
        "Select instead of multiplying: torch.where(response_mask.bool(), log_probs, 0).",
        checklist=FINITE,
    )


def weight_not_finite(subject: Subject) -> Finding | None:
    weights = subject.batch.weights
    if bool(weights.isfinite().all()):
        return None
    return find_places(
        ~weights.isfinite(),
        "a weight is not finite",
        "error",
        ("weight is NaN or infinite", "weights are NaN or infinite"),
        "the loss is NaN or infinite",
        "Divide weights by their sum only where it is not 0.",
        checklist=FINITE,
    )


def coarse_dtype(subject: Subject) -> Finding | None:
    if subject.log_probs is None or subject.log_probs.dtype not in _COARSE:
        return None
    name, what = _COARSE[subject.log_probs.dtype]
    return Finding(
        "a dtype that loses the sum",
        "warning",
        f"The log-probs are {name}: {what}. The step adds them up in float32, but each one is "
        "rounded already.",
        "Convert the logits first: log_softmax(logits.float(), dim=-1).",
    )


_COARSE = {
    torch.bfloat16: ("bfloat16", "a running sum of −1s stalls at −256, a count of 1001 is 1000"),
    torch.float16: ("float16", "a sum below −65504 is −inf, a running sum of −1s stalls at −2048"),
}


def no_gradient(subject: Subject) -> Finding | None:
    if subject.log_probs is None or subject.log_probs.requires_grad or not subject.is_trained:
        return None
    return Finding(
        "requires_grad is missing",
        "error",
        "The log-probs do not require grad: backward() cannot reach the model.",
        "Compute them outside torch.no_grad() and without detach(), from parameters that are not "
        "frozen.",
        checklist=REQUIRES_GRAD,
    )


CHECKS = (
    log_probs_above_zero,
    nan_counts,
    infinity_counts,
    nan_is_masked,
    infinity_is_masked,
    weight_not_finite,
    coarse_dtype,
    no_gradient,
)
