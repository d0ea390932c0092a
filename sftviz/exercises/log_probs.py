"""Log-probs of the labels as a subject: what a function is run on."""

import torch

from sftviz.exercises.check import check
from sftviz.exercises.runs import Function
from sftviz.exercises.subject import Subject, Trial
from sftviz.exercises.verdict import Verdict
from sftviz.log_probs import get_response_log_probs
from sftviz.mistakes import LOG_PROBS as MISTAKES
from sftviz.mistakes import TELLING_TOKENS, tiny_model


def check_log_probs(my_log_probs: Function) -> Verdict:
    """Run a function on tokens that tell mistakes apart, and say what is wrong and what is right.

    It has the arguments `(model, input_ids, labels)` of `get_response_log_probs`, and returns
    log-probs of shape (B, S) in nats, or a dictionary with these as `log_probs`: 0 where the label
    is −100. What the model returns can be used as logits, and has `.logits` too. See `check` in
    `sftviz.exercises.check` for what is returned and raised.

    Example:
        >>> def my_log_probs(model, input_ids, labels):
        ...     probs = model(input_ids).softmax(-1)
        ...     return probs.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        >>> check_log_probs(my_log_probs).outcome
        'wrong'
    """
    return check(LOG_PROBS, my_log_probs)


def _trials() -> tuple[Trial, ...]:
    input_ids, labels = TELLING_TOKENS
    large = tiny_model()
    with torch.no_grad():
        large.weight *= 2000  # the softmax of other tokens is 0: its logarithm is no number
    return (
        Trial((tiny_model(), input_ids[:, :5], labels[:, :5])),
        Trial((tiny_model(), input_ids[:1], labels[:1])),
        Trial((tiny_model(), input_ids, labels), "a label is −100"),
        Trial((large, input_ids[:, :5], labels[:, :5]), "logits are far apart, such as 0 and 1000"),
    )


LOG_PROBS = Subject(
    "get_response_log_probs",
    ("model", "input_ids", "labels"),
    get_response_log_probs,
    MISTAKES,
    _trials(),
    returns=("log_probs",),
    gradient="of the result",
    also_called=("my_log_probs",),
)
