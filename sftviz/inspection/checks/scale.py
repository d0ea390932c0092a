"""What the gradient is divided by: as it came out of autograd, and against the means."""

from math import isclose

from torch import Tensor

from sftviz.inspection.checks.finding import GRADIENTS, Finding, find_places
from sftviz.inspection.checks.subject import Subject
from sftviz.rules import MISTAKEN_SCALINGS, Counts
from sftviz.step import trace_step

TOLERANCE = 0.01  # of a gradient's size; bfloat16 rounds by 0.004


def wrong_gradient(subject: Subject) -> Finding | None:
    """Compare the gradient at the log-probs, if the caller has one, or else that of the step."""
    G, c, log_probs = (
        subject.gradient_accumulation_steps,
        subject.normalize_constant,
        subject.log_probs,
    )
    if G is None or log_probs is None or not log_probs.requires_grad or subject.has_fractions:
        return None
    grad = _own_grad(log_probs)
    is_own = grad is not None
    if grad is None:
        grad = trace_step(log_probs, subject.mask, G, c).grad
    expected = -1 / (G * G * c)
    difference = grad.double() - subject.mask * expected
    wrong = ~(difference.abs() <= TOLERANCE * -expected)  # NaN too
    if not wrong.any():
        return None
    came = grad[wrong][0].item() + 0.0  # not -0
    return find_places(
        wrong,
        "the gradient is not −1/(G²·c)",
        "error",
        (
            "gradient is not −1/(G²·c) where a token counts and 0 elsewhere",
            "gradients are not −1/(G²·c) where a token counts and 0 elsewhere",
        ),
        f"with G = {G} and c = {c:g} that is {_number(expected)}, and the first one is "
        f"{_number(came)}",
        "Call optimizer.zero_grad() after each window, run the model again for each microbatch, "
        "and divide nowhere else."
        if is_own
        else f"Compute the log-probs in float32: {log_probs.dtype} has no number for it.",
        checklist=GRADIENTS,
    )


def _own_grad(log_probs: Tensor) -> Tensor | None:
    """The gradient that the caller's backward() left there; none if it was set to 0."""
    if not (log_probs.is_leaf or log_probs.retains_grad) or log_probs.grad is None:
        return None
    return log_probs.grad if log_probs.grad.any() else None


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def not_the_mean(subject: Subject) -> Finding | None:
    G, c, B = subject.gradient_accumulation_steps, subject.normalize_constant, len(subject.mask)
    if G is None or isclose(G * c, B):
        return None
    return Finding(
        "÷G² is not the mean",
        "note",
        f"With B = {B} rows, G = {G} and c = {c:g} the gradient is B/(G·c) = {B / (G * c):.4g} "
        "times that of the mean over the rows of the window. AdamW hides such a factor; SGD, "
        "clipping and a logged loss do not.",
        f"If you want the mean, pass normalize_constant=B/G, here {B / G:.4g}.",
        checklist=GRADIENTS,
    )


def uneven_window(subject: Subject) -> Finding | None:
    counts = subject.window
    if len(set(counts)) < 2:
        return None
    G, N = len(counts), sum(counts)
    (averages,) = (rule for rule in MISTAKEN_SCALINGS if rule.name == "averaged averages")
    weights = [
        N / averages.divisor(Counts(B=0, G=G, num_tokens=n, window_tokens=N)) for n in counts if n
    ]
    nothing = "; a microbatch where nothing counts would be 0/0" if 0 in counts else ""
    return Finding(
        "uneven windows",
        "note",
        f"The {G} microbatches of the window have from {min(counts)} to {max(counts)} tokens that "
        f"count. If each were averaged over its own tokens, and then the averages, a token would "
        f"weigh from {min(weights):.4g} to {max(weights):.4g} times what it weighs in the mean "
        f"over all {N} tokens{nothing}.",
        f"For that mean divide the sum of each microbatch by the tokens of the window, here {N}.",
        checklist=GRADIENTS,
    )


CHECKS = (wrong_gradient, not_the_mean, uneven_window)
