"""Exercise: the log-prob of each label, from a model's logits."""

import torch
from torch import Tensor

from sftviz.exercises.exercise import exercise, known, wrong
from sftviz.exercises.subject import Trial
from sftviz.mistakes import Mistake

_LOGITS = (torch.arange(2 * 5 * 4, dtype=torch.float64) * 2.3).sin().reshape(2, 5, 4)
_LABELS = torch.tensor([[1, 3, 2, 0, 3], [2, 2, 0, 3, 1]])
_SOME = torch.tensor([[1, 3, 2, -100, 3], [-100, 2, 0, 3, 1]])


def label_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Look up the log-probability of each label.

    logits: (B, S, V) float; they may be large, such as 1000.
    labels: (B, S) int, from 0 to V − 1, or −100 where there is no label.
    Returns (B, S): the natural logarithm of the label's probability, and 0 at −100.
    """
    log_p = logits.log_softmax(-1)  # (B, S, V)
    found = log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(labels == -100, 0, found)


def _of_logits(name: str) -> Mistake:
    """A known mistake, in a function that is given logits instead of a model."""
    run = known(name).run
    return wrong(name, lambda logits, labels: run(lambda _: logits, None, labels)["log_probs"])


def _log_of_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits.softmax(-1).log()
    found = log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(labels == -100, 0, found)


EXERCISE = exercise(
    label_log_probs,
    title="Log-probs from logits",
    minutes=6,
    goal="At each position a model returns one logit for each token of the vocabulary. Compute "
    "the log-probability of the token that really comes next.",
    hints=(
        "<code>logits.log_softmax(-1)</code> has the log-probs of the whole vocabulary, "
        "(B, S, V). The last dimension is the vocabulary.",
        "<code>gather(-1, index)</code> looks up one entry at each position. The index needs as "
        "many dimensions as the tensor: <code>labels.unsqueeze(-1)</code> is (B, S, 1).",
        "−100 is not an index. Look up any token there, as with <code>labels.clamp(min=0)</code>, "
        "and replace the result by 0 with <code>torch.where</code>.",
    ),
    gradient="of the result",
    trials=(
        Trial((_LOGITS.clone().requires_grad_(), _LABELS)),
        Trial((_LOGITS[:1].clone().requires_grad_(), _LABELS[:1])),
        Trial((_LOGITS.clone().requires_grad_(), _SOME), "some labels are −100"),
        Trial(((_LOGITS * 1000).requires_grad_(), _LABELS), "logits are as large as 1000"),
    ),
    mistakes=(
        *map(
            _of_logits,
            (
                "shifted twice",
                "probabilities",
                "logits",
                "normalized over positions",
                "wrong gather axis",
                "most likely token",
                "negative log-probs",
                "log-probs detached",
                "ignored label looked up",
            ),
        ),
        wrong(
            "−100 as an index",
            lambda logits, labels: logits.log_softmax(-1).gather(-1, labels[:, :, None])[:, :, 0],
            "Where there is no label, −100 is used as an index.",
            "Look up any token there, and replace the result by 0.",
        ),
        wrong(
            "logarithm of softmax",
            _log_of_softmax,
            "Where logits are large, softmax rounds a probability to 0, and its logarithm is −∞.",
            "log_softmax computes both at once and stays finite.",
        ),
    ),
)
