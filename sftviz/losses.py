"""What else is called the loss of fine-tuning: what each response token adds, and the divisor.

A loss of this family is the negative sum of a term per response token, divided. So a `Loss` is a
value with two parts: a term, and a `Scaling`, which the divisors of `rules.py` already are. The
gradients are what autograd computed. Needs torch alone.

Left out of the last three: the clipping of the ratio, which is 1 at the weights that wrote the
responses, so that nothing is clipped; and the penalty for the distance from a reference model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.inputs import StepInputs
from sftviz.rows import Rows
from sftviz.rules import EXAMPLE_MEAN, STEP, TOKEN_MEAN, Counts, Scaling
from sftviz.validate import check_count, check_finite

EPSILON = 0.1  # of label smoothing
LONGEST = 8  # tokens, the constant of Dr. GRPO: the most that a response may have


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a term is computed from."""

    label: Tensor  # (B, S), log-prob of the label: policy_log_probs
    every: Tensor  # (B, S, V), log-prob of every entry of the vocabulary
    advantages: Tensor  # (B, 1), how much better a response was than the others of its group


@dataclass(frozen=True)
class Loss:
    """A loss: the term of each response token is added up, divided, and its sign is changed."""

    name: str
    formula: str
    source: str
    term: Callable[[Tokens], Tensor]  # to (B, S)
    scaling: Scaling

    def __call__(
        self, log_probs: Tensor, labels: Tensor, response_mask: Tensor, counts: Counts,
        advantages: Sequence[float] | None = None,
    ) -> Tensor:  # fmt: skip
        """Compute the loss of a microbatch; `backward()` can be called on it.

        Args:
            log_probs: (B, S, V), of every entry of the vocabulary.
            labels: (B, S) int64. What is at a masked token is not used.
            response_mask: (B, S) bool.
            counts: of the microbatch and its window, by `count_window`.
            advantages: one per row; None: 1 for every row.

        Example:
            >>> from sftviz.rules import count_window
            >>> logits = torch.zeros(1, 2, 4)
            >>> labels, mask = torch.tensor([[3, 1]]), torch.tensor([[True, True]])
            >>> (counts,) = count_window([mask], G=1)
            >>> DFT(logits.log_softmax(-1), labels, mask, counts)  # a quarter of log 4
            tensor(0.3466)
        """
        at = labels.where(response_mask, 0)[..., None]
        each = log_probs.new_ones(len(labels)) if advantages is None else torch.tensor(advantages)
        tokens = Tokens(log_probs.gather(-1, at)[..., 0], log_probs, each.to(log_probs)[:, None])
        rows = torch.where(response_mask, self.term(tokens), 0).sum(1)  # (B,)
        return -(rows / torch.as_tensor(self.scaling.divisor(counts)).to(rows)).sum()


def _log_prob(tokens: Tokens) -> Tensor:
    return tokens.label


def _weighted_by_probability(tokens: Tokens) -> Tensor:
    return tokens.label.exp().detach() * tokens.label


def _smoothed(tokens: Tokens) -> Tensor:
    return (1 - EPSILON) * tokens.label + EPSILON * tokens.every.mean(-1)


def _advantage(tokens: Tokens) -> Tensor:
    ratio = (tokens.label - tokens.label.detach()).exp()  # 1, but it has a gradient
    return tokens.advantages * ratio


_CONSTANT = Scaling(
    "a constant",
    f"divided by the rows of the window, and by {LONGEST}, the most tokens of a response",
    lambda n: n.window_rows * LONGEST,
)

THE_STEP = Loss(
    "the step", "−Σ log p ÷ G²", "https://github.com/stanford-cs336/assignment5-alignment",
    _log_prob, STEP,
)  # fmt: skip
MEAN_OVER_TOKENS = Loss(
    "token mean", "−Σ log p ÷ N", "https://github.com/huggingface/transformers/issues/34191",
    _log_prob, TOKEN_MEAN,
)  # fmt: skip
PER_EXAMPLE = Loss(
    "one weight per example", "−Σ log p ÷ (R·T)",
    "https://github.com/thinking-machines-lab/tinker-cookbook/pull/334",
    _log_prob, EXAMPLE_MEAN,
)  # fmt: skip
DFT = Loss(
    "DFT", "−Σ stop(p)·log p ÷ N", "https://arxiv.org/abs/2508.05629",
    _weighted_by_probability, TOKEN_MEAN,
)  # fmt: skip
LABEL_SMOOTHING = Loss(
    "label smoothing", "−Σ ((1−ε) log p + ε m) ÷ N",
    "https://arxiv.org/abs/1512.00567", _smoothed, TOKEN_MEAN,
)  # fmt: skip
GRPO = Loss(
    "GRPO", "−Σ A·ratio ÷ (R·T)", "https://arxiv.org/abs/2402.03300", _advantage, EXAMPLE_MEAN
)
DAPO = Loss("DAPO", "−Σ A·ratio ÷ N", "https://arxiv.org/abs/2503.14476", _advantage, TOKEN_MEAN)
DR_GRPO = Loss(
    "Dr. GRPO", "−Σ A·ratio ÷ (R·L)", "https://arxiv.org/abs/2503.20783", _advantage, _CONSTANT
)

LOSSES = (THE_STEP, MEAN_OVER_TOKENS, PER_EXAMPLE, DFT, LABEL_SMOOTHING, GRPO, DAPO, DR_GRPO)


@dataclass(frozen=True, eq=False)
class LossTrace:
    """One run of a loss, with the gradients at the log-probs and at the logits."""

    loss: Loss
    value: float
    weights: Tensor  # (B, S), the negative gradient at the log-prob of the label
    logits_grad: Tensor  # (B, S), the gradient at the logit of the label


@dataclass(frozen=True, eq=False)
class LossInputs:
    """A microbatch, and what the losses have to know of the rest of its window.

    A log-prob that is not the label's is needed for the logits and for label smoothing. All other
    entries of the vocabulary share what the label leaves, in equal parts.

    Raises:
        TypeError, ValueError: the step can't be computed from these arguments, a response token's
            log-prob is not finite and below 0, a number is not a count, or there is not one finite
            advantage per row.

    Example:
        >>> inputs = LossInputs([[-1.0, -0.5], [-2.0, -0.1]], [[0, 1], [1, 1]], other_rows=(2,))
        >>> [trace] = inputs.trace([MEAN_OVER_TOKENS])
        >>> trace.weights  # N is 3 + 2
        tensor([[0.0000, 0.2000],
                [0.2000, 0.2000]], dtype=torch.float64)
    """

    policy_log_probs: Rows  # (B, S); kept as a tensor
    response_mask: Rows  # (B, S); kept as a tensor
    gradient_accumulation_steps: int = 1
    other_rows: Sequence[int] = ()  # response tokens of each row in the other microbatches
    advantages: Sequence[float] | None = None  # one per row; None: 1 for every row
    tokens: Sequence[Sequence[str]] | None = None  # B rows of S strings
    vocab_size: int = 5

    def __post_init__(self) -> None:
        G = self.gradient_accumulation_steps
        checked = StepInputs(self.policy_log_probs, self.response_mask, G, tokens=self.tokens)
        for name in ("policy_log_probs", "response_mask", "tokens"):
            object.__setattr__(self, name, getattr(checked, name))
        check_count("vocab_size", self.vocab_size, "it is a number of tokens", least=2)
        counted = self.policy_log_probs[self.is_response]
        if not ((counted < 0) & counted.isfinite()).all():
            raise ValueError(
                "policy_log_probs must be finite and below 0 at response tokens: the other entries "
                "of the vocabulary share the probability that the label leaves."
            )
        object.__setattr__(self, "other_rows", tuple(self.other_rows))
        for count in self.other_rows:
            reason = "it is the number of response tokens of a row"
            check_count("every entry of other_rows", count, reason, least=0)
        B = len(self.response_mask)
        if self.advantages is None:
            return
        object.__setattr__(self, "advantages", tuple(self.advantages))
        for each in self.advantages:
            check_finite("every entry of advantages", each, "it is a factor of the term")
        if len(self.advantages) != B:
            raise ValueError(
                f"advantages must have one number per row, which is {B}, "
                f"got {len(self.advantages)}."
            )

    @property
    def is_response(self) -> Tensor:
        """(B, S) bool."""
        return self.response_mask != 0

    @property
    def counts(self) -> Counts:
        """The numbers that the divisors are made of."""
        rows = tuple(self.is_response.sum(1).tolist())
        window, G = (*rows, *self.other_rows), self.gradient_accumulation_steps
        return Counts(len(rows), G, sum(rows), sum(window), sum(window), 1, len(window), rows)

    def logits(self) -> Tensor:
        """(B, S, V) in float64; the label is entry 0. Those at masked tokens are arbitrary."""
        label = self.policy_log_probs.double().where(self.is_response, -1)[..., None]
        other = torch.log(-torch.expm1(label)) - math.log(self.vocab_size - 1)
        return torch.cat([label, *[other] * (self.vocab_size - 1)], -1)

    def trace(self, losses: Sequence[Loss] = LOSSES) -> tuple[LossTrace, ...]:
        """Run losses and `backward()` on this microbatch, in float64."""
        with torch.inference_mode(False), torch.enable_grad():
            return tuple(self._trace(loss) for loss in losses)

    def _trace(self, loss: Loss) -> LossTrace:
        logits = self.logits().requires_grad_()
        log_probs = logits.log_softmax(-1)  # (B, S, V)
        log_probs.retain_grad()
        labels = torch.zeros_like(self.is_response, dtype=torch.int64)
        value = loss(log_probs, labels, self.is_response, self.counts, self.advantages)
        value.backward()
        assert log_probs.grad is not None and logits.grad is not None  # backward() was called
        weights = 0 - log_probs.grad[..., 0]  # 0, not -0
        return LossTrace(loss, value.item(), weights, logits.grad[..., 0])


# A short response, a longer one, and a window with two more microbatches: G = 3, N = 10, R = 6.
SHORT_AND_LONG = LossInputs(
    policy_log_probs=[[-2.0, -0.1, -9.0], [-3.0, -0.7, -1.6]],
    response_mask=[[0, 1, 0], [0, 1, 1]],
    gradient_accumulation_steps=3,
    other_rows=(2, 1, 1, 3),
    tokens=(("Sky?", "Blue", "<pad>"), ("2+2?", "Is", "4")),
)
