"""The step seen from the logits: the gradient where the model can change something."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sftviz.label_log_probs import label_log_probs
from sftviz.step import StepTrace, trace_step
from sftviz.validate import brief, check_inputs, check_logits, check_vocabulary


@dataclass(frozen=True, eq=False)
class LogitsTrace:
    """One run of the step, from the logits on, with the gradients at both ends.

    The gradient at the log-probs is the same number at all response tokens. The gradient at the
    logits, (softmax − one-hot) times that number, fades as the label becomes more probable.
    """

    logits: Tensor  # (B, S, V)
    labels: Tensor  # (B, S) int64
    probs: Tensor  # (B, S, V)
    step: StepTrace  # of the log-probs of the labels
    logits_grad: Tensor  # (B, S, V)


@dataclass(frozen=True, eq=False, init=False)
class LogitsInputs:
    """The arguments of `trace_logits`, and the words that the vocabulary consists of.

    Everything is copied: no later change of what was given changes this value.

    Raises:
        TypeError, ValueError: the step can't be computed from these arguments, or there is not one
            string per entry of the vocabulary.
    """

    logits: Tensor  # (B, S, V)
    labels: Tensor  # (B, S) int64
    response_mask: Tensor  # (B, S)
    gradient_accumulation_steps: int
    normalize_constant: float
    vocabulary: Sequence[str] | None  # V strings

    def __init__(  # what is given; above is what is kept
        self,
        logits: Tensor,
        labels: Tensor,
        response_mask: Tensor | None = None,  # None: 1 everywhere
        gradient_accumulation_steps: int = 1,
        normalize_constant: float = 1.0,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        check_logits(logits, labels)
        if response_mask is None:
            response_mask = torch.ones_like(labels)
        scalars = gradient_accumulation_steps, normalize_constant
        check_inputs(logits[..., 0], response_mask, *scalars)
        check_vocabulary(vocabulary, logits.shape[2])
        object.__setattr__(self, "logits", logits.detach().clone())
        object.__setattr__(self, "labels", labels.detach().clone())
        object.__setattr__(self, "response_mask", response_mask.detach().clone())
        object.__setattr__(self, "gradient_accumulation_steps", gradient_accumulation_steps)
        object.__setattr__(self, "normalize_constant", normalize_constant)
        object.__setattr__(self, "vocabulary", None if vocabulary is None else tuple(vocabulary))

    def trace(self) -> LogitsTrace:
        """Run the step on these arguments."""
        scalars = self.gradient_accumulation_steps, self.normalize_constant
        return trace_logits(self.logits, self.labels, self.response_mask, *scalars)


def trace_logits(
    logits: Tensor,
    labels: Tensor,
    response_mask: Tensor,
    gradient_accumulation_steps: int,
    normalize_constant: float = 1.0,
) -> LogitsTrace:
    """Run softmax, the log-probs of the labels, and the step; keep every intermediate.

    Args:
        logits: (B, S, V) floating point, one score per entry of the vocabulary. Those at masked
            tokens are not used, and their gradient is 0.
        labels: (B, S) int64, the entry that came next.
        response_mask, gradient_accumulation_steps, normalize_constant: as for the step.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.

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
    check_logits(logits, labels)
    with torch.inference_mode(False), torch.enable_grad():
        leaf, labels = logits.detach().clone().requires_grad_(), labels.clone()
        log_probs = label_log_probs(leaf, labels)  # (B, S)
        step = trace_step(log_probs, response_mask, gradient_accumulation_steps, normalize_constant)
        log_probs.backward(step.grad)  # autograd goes on where the step's trace ended
    assert leaf.grad is not None  # backward() has been called
    return LogitsTrace(
        logits=leaf.detach(),
        labels=labels,
        probs=leaf.detach().softmax(-1),
        step=step,
        logits_grad=leaf.grad,
    )


def descend(inputs: LogitsInputs, trace: LogitsTrace, learning_rate: float) -> LogitsInputs:
    """The inputs after one step of SGD on the logits, as if these were the weights of a model.

    Args:
        inputs: what `trace` is a run of; they stay as they are.
        trace: it has the gradient that the optimizer uses.
        learning_rate: finite number > 0.

    Raises:
        ValueError: the learning rate is not such a number.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html

    Example:
        >>> inputs = LogitsInputs(torch.zeros(1, 1, 2), torch.tensor([[1]]))
        >>> descend(inputs, inputs.trace(), learning_rate=2.0).logits
        tensor([[[-1.,  1.]]])
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(
            f"learning_rate must be a finite number above 0, got {brief(learning_rate)}: "
            "SGD subtracts the gradient times this number."
        )
    with torch.inference_mode(False):
        logits = torch.nn.Parameter(inputs.logits.clone())
        logits.grad = trace.logits_grad.clone()
        torch.optim.SGD([logits], lr=learning_rate).step()
    return replace(inputs, logits=logits.detach())
