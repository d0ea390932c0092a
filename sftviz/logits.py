"""The step seen from the logits: what autograd leaves where the model can learn from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.step import StepTrace, trace_step
from sftviz.validate import check_tensor


@dataclass(frozen=True, eq=False)
class LogitsTrace:
    """One run of the step from logits on, with the gradients at both of its ends.

    `step.grad` is the gradient at the log-probs, a constant at response tokens. `logits_grad` is
    the one at the logits, (softmax - one-hot) times that constant: it shrinks as the model gets
    surer of the label. Both are what autograd left.
    """

    logits: Tensor  # (B, S, V)
    labels: Tensor  # (B, S) int64
    probs: Tensor  # (B, S, V)
    step: StepTrace  # of the log-probs of the labels
    logits_grad: Tensor  # (B, S, V)


@dataclass(frozen=True, eq=False)
class LogitsInputs:
    """The arguments of `trace_logits`, with the words that the vocabulary stands for."""

    logits: Tensor  # (B, S, V)
    labels: Tensor  # (B, S) int64
    response_mask: Tensor  # (B, S)
    gradient_accumulation_steps: int = 1
    normalize_constant: float = 1.0
    vocabulary: Sequence[str] | None = None  # V

    def trace(self) -> LogitsTrace:
        """Run the step on this batch, on fresh logits."""
        return trace_logits(
            self.logits,
            self.labels,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )


def trace_logits(
    logits: Tensor,
    labels: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float = 1.0,
) -> LogitsTrace:
    """Run softmax, the log-probs of the labels, and the step; keep every intermediate.

    Args:
        logits: (B, S, V) floating point, one score for each entry of the vocabulary.
        labels: (B, S) int64, which entry came next.
        response_mask, gradient_accumulation_steps, normalize_constant: as for the step.

    Raises:
        TypeError, ValueError: an argument is of the wrong type, shape or value.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
        >>> labels = torch.tensor([[0, 1]])
        >>> trace = trace_logits(logits, labels, torch.ones(1, 2), 1)
        >>> trace.step.grad
        tensor([[-1., -1.]])
        >>> trace.logits_grad
        tensor([[[-0.1192,  0.1192],
                 [ 0.5000, -0.5000]]])
    """
    check_labels(logits, labels)
    with torch.inference_mode(False), torch.enable_grad():
        leaf, labels = logits.detach().clone().requires_grad_(), labels.clone()
        log_probs = leaf.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (B, S)
        step = trace_step(log_probs, response_mask, gradient_accumulation_steps, normalize_constant)
        log_probs.backward(step.grad)  # autograd goes on where the step's trace ended
    return LogitsTrace(
        logits=leaf.detach(),
        labels=labels,
        probs=leaf.detach().softmax(-1),
        step=step,
        logits_grad=leaf.grad,
    )


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse logits and labels that do not belong together."""
    check_tensor("logits", logits)
    check_tensor("labels", labels)
    if logits.ndim != 3 or not logits.is_floating_point() or not logits.numel():
        raise ValueError(
            f"logits must be floating point of shape (B, S, V), got {logits.dtype} "
            f"{tuple(logits.shape)}: one score for each entry of the vocabulary at each token."
        )
    if labels.shape != logits.shape[:2] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels must be int64 of shape {tuple(logits.shape[:2])}, got {labels.dtype} "
            f"{tuple(labels.shape)}: one entry of the vocabulary for each token."
        )
    vocabulary = logits.shape[2]
    if strangers := labels[(labels < 0) | (labels >= vocabulary)].tolist():
        raise ValueError(
            f"labels must be 0 to {vocabulary - 1}, got {strangers[0]}: "
            "each is the place of an entry in the vocabulary."
        )
