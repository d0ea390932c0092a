"""Questions of `09_other_losses`: whose weight moves, where learning ends, and whose divisor."""

import math
from dataclasses import replace

import torch

from sftviz.losses import (
    DAPO,
    DFT,
    GRPO,
    LABEL_SMOOTHING,
    MEAN_OVER_TOKENS,
    PER_EXAMPLE,
    SHORT_AND_LONG,
    THE_STEP,
    Loss,
    LossInputs,
)
from sftviz.predictions.course.pictures import value_table
from sftviz.predictions.question import Belief, Choice, Number, Option, Question
from sftviz.views.weights import weights_view

_FOUR = (1, 2)  # row and column of "4" in SHORT_AND_LONG

# a rare token under DFT

_RARE_LOG_PROBS = SHORT_AND_LONG.policy_log_probs.clone()
_RARE_LOG_PROBS[_FOUR] = -4.0
_RARE = replace(SHORT_AND_LONG, policy_log_probs=_RARE_LOG_PROBS)


def _weight(loss: Loss, inputs: LossInputs, at: tuple[int, int] = _FOUR) -> float:
    (trace,) = inputs.trace([loss])
    return trace.weights[at].item()


def _change() -> int:
    """0: the gradient becomes larger; 1: it becomes smaller; 2: it stays."""
    before, after = _weight(DFT, SHORT_AND_LONG), _weight(DFT, _RARE)
    return 2 if math.isclose(before, after) else int(after < before)


A_RARE_TOKEN = Question(
    name="a rare token under DFT",
    text=(
        "DFT multiplies each term log p by the probability p of that token, as a number without a "
        "gradient of its own. The log-prob of a token falls from −1.6 to −4. "
        "What happens to the size of the gradient at this log-prob?"
    ),
    asks=(
        Choice(
            "the gradient at the log-prob",
            (
                Option(
                    "It becomes larger: the token has to be corrected more.",
                    "The larger −log p is in the loss, and not in the slope. In the slope is the "
                    "factor p, and p has become smaller.",
                ),
                Option(
                    "It becomes smaller: the token counts less.",
                    "The factor is p itself, which has fallen from 0.2 to 0.02.",
                ),
                Option(
                    "It stays the same: the loss is still a sum of log-probs.",
                    "Each log-prob now has a factor, and the slope of a term is its factor. This "
                    "one is p, which is computed from the log-prob.",
                ),
            ),
            _change,
        ),
    ),
    why=(
        "The gradient at a log-prob is −p divided by N, so under DFT it follows the log-prob. In "
        "the step it is a constant."
    ),
    after=lambda width: weights_view(_RARE, _RARE.trace([THE_STEP, DFT]), width),
)

# a short response in GRPO


def _short_to_long(loss: Loss) -> float:
    """The weight of a token of the short response, relative to one of the longer response."""
    return _weight(loss, SHORT_AND_LONG, (0, 1)) / _weight(loss, SHORT_AND_LONG)


A_SHORT_RESPONSE = Question(
    name="a short response in GRPO",
    text=(
        "GRPO takes the mean over the tokens of each response, and then the mean over the "
        "responses. One response has 1 token, another one has 2, and both have the same advantage. "
        "How many times as much as a token of the longer one does the token of the short one weigh?"
    ),
    asks=(
        Number(
            "short ÷ long",
            lambda: _short_to_long(GRPO),
            (
                Belief(
                    lambda: _short_to_long(DAPO),
                    "That would be so if the sum over all tokens were divided by their number, as "
                    "in DAPO. In a mean of means each response has the same weight in all.",
                ),
                Belief(
                    lambda: 1 / _short_to_long(GRPO),
                    "It is the other way round: the longer response shares the same weight among "
                    "more tokens.",
                ),
            ),
        ),
    ),
    why=(
        "Each response has the same weight, so each of its tokens has one divided by their number. "
        "It is the divisor of “one weight per example”, known from fine-tuning."
    ),
    after=lambda width: weights_view(
        SHORT_AND_LONG, SHORT_AND_LONG.trace([PER_EXAMPLE, GRPO, DAPO]), width
    ),
)

# the strongest push

_PROBS = (0.01, 0.5, 0.99)


def _at_logit(loss: Loss, p: float) -> float:
    """The gradient at the logit of the label, in a batch of one token with probability p."""
    log_probs = torch.tensor([[p]], dtype=torch.float64).log()
    (trace,) = LossInputs(log_probs, [[1]]).trace([loss])
    return round(trace.logits_grad.item(), 9)


def _strongest() -> int:
    pushes = [abs(_at_logit(DFT, p)) for p in _PROBS]
    return pushes.index(max(pushes))


THE_STRONGEST_PUSH = Question(
    name="the strongest push",
    text=(
        "In notebook 01 the gradient at the label's logit was p − 1, up to the divisor: the "
        "rarer the label, the larger. Three labels have the probabilities 0.01, 0.5 and 0.99. "
        "Under DFT, which of them has the largest gradient at its logit?"
    ),
    asks=(
        Choice(
            "the label with the probability",
            (
                Option(
                    "0.01",
                    "There p − 1 is almost −1, but DFT multiplies it by p, which is almost 0.",
                ),
                Option("0.5", "The product is −p·(1 − p), and no other p makes it larger."),
                Option(
                    "0.99",
                    "There the factor p is largest, but p − 1 is almost 0: the label is learned.",
                ),
            ),
            _strongest,
        ),
    ),
    why=(
        "Under DFT the gradient at the logit is −p·(1 − p): almost 0 for what the model knows, and "
        "for what it thinks impossible, too."
    ),
    after=lambda width: value_table(
        {
            loss.name: {str(p): _at_logit(loss, p) for p in _PROBS}
            for loss in (MEAN_OVER_TOKENS, DFT)
        },
        "the gradient at the label's logit, by the probability of the label",
    ),
)

# where smoothing ends


def _where_it_ends(loss: Loss) -> float:
    """The probability at which the gradient at the label's logit is 0, by bisection."""
    low, high = 0.5, 1 - 1e-9
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_logit(loss, middle) < 0 else (low, middle)
    return round(low, 6)


WHERE_SMOOTHING_ENDS = Question(
    name="where smoothing ends",
    text=(
        "Label smoothing with ε = 0.1 gives 0.1 of the target to the vocabulary, in equal parts, "
        "and the rest to the label. The vocabulary has 5 words, and the label is one of them. At "
        "which probability of the label is the gradient at its logit 0?"
    ),
    asks=(
        Number(
            "the probability",
            lambda: _where_it_ends(LABEL_SMOOTHING),
            (
                Belief(
                    lambda: _where_it_ends(MEAN_OVER_TOKENS),
                    "That is so without smoothing. Here a model that is certain is pushed back, "
                    "because the other words are part of the target.",
                ),
                Belief(
                    lambda: 0.9,
                    "Almost: the label is one of the 5 words, so it gets its part of the 0.1, too.",
                ),
                Belief(
                    lambda: 0.1 / 5,
                    "That is the part of each other word.",
                ),
            ),
        ),
    ),
    why=(
        "The gradient at the logits is the probabilities minus the target, so learning ends where "
        "they are equal: at 1 − ε + ε/V for the label. At the log-prob the gradient is a constant."
    ),
    after=lambda width: value_table(
        {
            loss.name: {str(p): _at_logit(loss, p) for p in (0.9, 0.92, 0.99)}
            for loss in (MEAN_OVER_TOKENS, LABEL_SMOOTHING)
        },
        "the gradient at the label's logit, by the probability of the label",
    ),
)

LOSS_QUESTIONS = (A_RARE_TOKEN, A_SHORT_RESPONSE, THE_STRONGEST_PUSH, WHERE_SMOOTHING_ENDS)
