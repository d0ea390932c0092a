"""Questions of `00_start_here` and `01_the_step`: what the step computes, and what it leaves."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.examples import FIVE_WORDS, NAN, PRESETS, WORKED_EXAMPLE
from sftviz.inputs import StepInputs
from sftviz.logits import LogitsTrace, trace_logits
from sftviz.mistakes.recognise import STEP_MISTAKES
from sftviz.predictions.course.pictures import outcome_list, value_table
from sftviz.predictions.question import Belief, Choice, Number, Option, Question
from sftviz.step import sft_microbatch_train_step
from sftviz.views.logits import logits_flow
from sftviz.views.step import gradient_table, step_flow

THREE_ROWS = PRESETS["B = 3, G = 4"]


def _flow(inputs: StepInputs, width: int) -> Drawing:
    return step_flow(inputs.trace(), inputs.tokens, width)


def _with(
    log_probs: Tensor | None = None, mask: Tensor | None = None, G: int | None = None
) -> StepInputs:
    """The batch of `00_start_here` with one thing changed."""
    of = WORKED_EXAMPLE
    return StepInputs(
        of.policy_log_probs if log_probs is None else log_probs,
        of.response_mask if mask is None else mask,
        of.gradient_accumulation_steps if G is None else G,
        tokens=of.tokens,
    )


# 00: one more token

_UNMASKED = _with(mask=torch.ones(2, 4))


def _growth() -> int:
    """0: scaled_loss grows; 1: it shrinks; 2: it is about the same."""
    growth = (_UNMASKED.trace().scaled_loss / WORKED_EXAMPLE.trace().scaled_loss).item()
    return 1 if growth < 0.85 else 2 if growth < 1.15 else 0


ONE_MORE_TOKEN = Question(
    name="one more token",
    text=(
        "In the picture above, the third token of the first row (its log-prob is −0.8) is masked. "
        "Now let it count: its mask bit becomes 1, and nothing else changes. "
        "What happens to scaled_loss?"
    ),
    asks=(
        Choice(
            "scaled_loss",
            (
                Option(
                    "It becomes larger: one more token is added up.",
                    "The sum has one more term below 0, and its sign is changed.",
                ),
                Option(
                    "It becomes smaller: the model gets credit for one more token.",
                    "No token can make the loss smaller. A log-prob is never above 0, so each "
                    "token adds −log-prob, which is 0 or more: look at stage 2 and stage 3.",
                ),
                Option(
                    "It stays about the same: the loss is a mean over the tokens.",
                    "A mean would be divided by the number of tokens. Here the tokens are counted "
                    "in stage 1, but no later stage divides by that count.",
                ),
            ),
            _growth,
        ),
    ),
    why=(
        "scaled_loss is a sum over the response tokens, so it grows with their number although "
        "the model has not become worse. Two batches can't be compared by it."
    ),
    after=lambda width: _flow(_UNMASKED, width),
)

# 00: one worse token

_WORSE_LOG_PROBS = WORKED_EXAMPLE.policy_log_probs.clone()
_WORSE_LOG_PROBS[0, 3] = -3.0
_WORSE = _with(log_probs=_WORSE_LOG_PROBS)


def _changed() -> int:
    """0: only the gradient of that token changes; 1: others do too; 2: none does."""
    changed = _WORSE.trace().grad != WORKED_EXAMPLE.trace().grad  # (B, S)
    if not changed.any():
        return 2
    return 0 if changed[0, 3] and changed.sum() == 1 else 1


ONE_WORSE_TOKEN = Question(
    name="one worse token",
    text=(
        "The log-prob of “Because” falls from −0.2 to −3: the model has become much worse at this "
        "token, and scaled_loss is larger. The gradients are those of stage 5. "
        "Which of them change?"
    ),
    asks=(
        Choice(
            "what changes",
            (
                Option(
                    "Only the one at “Because”: it has to be corrected more.",
                    "The gradient at a log-prob is a slope: by how much scaled_loss changes when "
                    "that log-prob moves a little. In a sum each term has the same slope, "
                    "whether it is large or small.",
                ),
                Option(
                    "All of them: they come from the same loss.",
                    "One loss has a slope for each log-prob. To change one term of a sum changes "
                    "the sum, but not its slopes.",
                ),
                Option(
                    "None of them.",
                    "scaled_loss has changed, its slopes have not.",
                ),
            ),
            _changed,
        ),
    ),
    why=(
        "The log-probs are only added up, so the gradient at each response token is the same "
        "constant, whatever the log-prob is. How a model can then ever stop learning, the next "
        "notebook shows."
    ),
    after=lambda width: _flow(_WORSE, width),
)

# 00: another G

_FOUR = _with(G=4)


def _at_response(inputs: StepInputs) -> float:
    """The gradient at the first response token."""
    return inputs.trace().grad[inputs.response_mask != 0][0].item()


ANOTHER_G = Question(
    name="another G",
    text=(
        "At G = 2 the gradient at a response token is −0.25. "
        "What is it if G is 4, and nothing else changes?"
    ),
    asks=(
        Number(
            "the gradient at a response token",
            lambda: _at_response(_FOUR),
            (
                Belief(
                    lambda: _at_response(WORKED_EXAMPLE) / 2,
                    "That is half: G doubled, and you divided by it once more. Count in the "
                    "picture how many stages divide by G.",
                ),
                Belief(
                    lambda: _at_response(WORKED_EXAMPLE),
                    "The gradient does not depend on the log-probs, but it does depend on what "
                    "the sum is divided by: see stages 3 and 4.",
                ),
                Belief(
                    lambda: -_at_response(_FOUR),
                    "The size is right. But a log-prob that rises makes scaled_loss fall, so the "
                    "gradient is below 0, whatever G is.",
                ),
                Belief(
                    lambda: _at_response(WORKED_EXAMPLE) * 4,
                    "That is 4 times as much. G is a divisor: a larger G makes it smaller.",
                ),
            ),
        ),
    ),
    why="Stage 3 divides by G, and stage 4 divides by G again: twice the G is a quarter.",
    after=lambda width: gradient_table(WORKED_EXAMPLE.trace(), steps=(1, 2, 4)),
)

# 01: NaN under the mask

_PADDED = StepInputs([[-0.5, NAN]], [[1, 0]])


def _product() -> float:
    return (_PADDED.policy_log_probs * _PADDED.response_mask).sum().item()


def _selection() -> float:
    return _PADDED.trace().masked_sum.item()


def _kind(total: float) -> int:
    """0: it is −0.5; 1: it is NaN; 2: it is 0."""
    return 1 if math.isnan(total) else 2 if total == 0 else 0


NAN_UNDER_THE_MASK = Question(
    name="NaN under the mask",
    text=(
        "The log-probs are [−0.5, NaN] and the mask is [1, 0]: there is NaN (“not a number”) at a "
        "position of padding. One could multiply by the mask and add up, but the step selects: "
        "torch.where(mask, log_probs, 0). What are the two sums?"
    ),
    asks=(
        Choice(
            "(log_probs * mask).sum()",
            (
                Option(
                    "−0.5", "That would be so if NaN times 0 were 0. A product with NaN is NaN."
                ),
                Option("NaN", "A product with NaN is NaN, also if the other factor is 0."),
                Option(
                    "0",
                    "The first token counts, so its −0.5 is in the sum. Ask what NaN times 0 is.",
                ),
            ),
            lambda: _kind(_product()),
        ),
        Choice(
            "torch.where(mask, log_probs, 0).sum()",
            (
                Option(
                    "−0.5",
                    "What is not selected is not used. A NaN that the model itself computed can "
                    "still do harm there, where backward() multiplies it by a gradient of 0.",
                ),
                Option(
                    "NaN",
                    "torch.where does not compute with what it does not select: at the second "
                    "position it takes the 0.",
                ),
                Option(
                    "0",
                    "Where the mask is 1, the log-prob is selected: the −0.5 is in the sum.",
                ),
            ),
            lambda: _kind(_selection()),
        ),
    ),
    why=(
        "A product lets one bad number at a position that does not count destroy the whole sum; "
        "a selection does not. So: select, do not multiply."
    ),
    after=lambda width: value_table(
        {"log_probs * mask": {"sum": _product()}, "torch.where": {"sum": _selection()}},
        "the log-probs −0.5 and NaN, the mask 1 and 0",
        "masked_sum",
    ),
)

# 01: without the minus

_SIGN_KEPT = next(each for each in STEP_MISTAKES if each.name == "sign kept")


def _descended(step: Callable[..., object]) -> Tensor:
    """The log-probs after one step of gradient descent on them."""
    leaf = THREE_ROWS.policy_log_probs.clone().requires_grad_()
    step(leaf, THREE_ROWS.response_mask != 0, THREE_ROWS.gradient_accumulation_steps, 1.0)
    assert leaf.grad is not None
    return leaf.detach() - leaf.grad


def _response_sum(log_probs: Tensor) -> float:
    return log_probs[THREE_ROWS.response_mask != 0].sum().item()


def _without_minus() -> int:
    """0: training does the same; 1: the response becomes less likely; 2: the prompt changes."""
    moved = _descended(_SIGN_KEPT.run) - THREE_ROWS.policy_log_probs  # (B, S)
    if (moved[THREE_ROWS.response_mask == 0] != 0).any():
        return 2
    return 0 if _response_sum(moved) > 0 else 1


WITHOUT_THE_MINUS = Question(
    name="without the minus",
    text=(
        "Somebody forgets the minus sign of stage 3 and leaves everything else as it is. There is "
        "no error, and the gradients are as large as before. What does training do now?"
    ),
    asks=(
        Choice(
            "training",
            (
                Option(
                    "The same as before: what counts is the size of the gradient.",
                    "Its sign decides in which direction the log-probs are moved: gradient descent "
                    "subtracts the gradient.",
                ),
                Option(
                    "It makes the response less likely.",
                    "An optimizer makes smaller what it is given, and without the minus that is "
                    "the sum of the log-probs itself.",
                ),
                Option(
                    "It makes the prompt more likely instead of the response.",
                    "The masked tokens are not in the sum, with or without the minus: their "
                    "gradient is 0.",
                ),
            ),
            _without_minus,
        ),
    ),
    why=(
        "Gradient descent subtracts the gradient, which is negative in the right step, and so "
        "raises the log-probs of the response. With the other sign it lowers them."
    ),
    after=lambda width: value_table(
        {
            "before": {"masked_sum": _response_sum(THREE_ROWS.policy_log_probs)},
            "after a step": {"masked_sum": _response_sum(_descended(sft_microbatch_train_step))},
            "without the minus": {"masked_sum": _response_sum(_descended(_SIGN_KEPT.run))},
        },
        "the log-probs of the response, added up",
        "masked_sum",
    ),
)

# 01: a fourth row

_FOUR_ROWS = StepInputs(
    torch.cat([THREE_ROWS.policy_log_probs, torch.tensor([[-0.9, -0.4, -0.6, -0.2]])]),
    torch.cat([THREE_ROWS.response_mask, torch.tensor([[0, 1, 1, 1]])]),
    THREE_ROWS.gradient_accumulation_steps,
    tokens=(*THREE_ROWS.tokens, ("Why?", "Because", "I", "can")),
)


def _divided_by() -> int:
    """The change of the gradient fits best: 0: no division, 1: by the rows, 2: by the tokens."""
    before, after = THREE_ROWS.trace(), _FOUR_ROWS.trace()
    change = _at_response(_FOUR_ROWS) / _at_response(THREE_ROWS)
    expected = torch.tensor([1.0, 3 / 4, before.num_tokens / after.num_tokens])
    return int((expected - change).abs().argmin())


A_FOURTH_ROW = Question(
    name="a fourth row",
    text=(
        "The batch has 3 rows with 7 response tokens. A fourth row with 3 more response tokens is "
        "added to it, and G stays 4. "
        "What happens to the gradient at the tokens that were there before?"
    ),
    asks=(
        Choice(
            "that gradient",
            (
                Option(
                    "It stays the same.",
                    "The new row adds terms to the sum, and leaves the slopes of the others alone.",
                ),
                Option(
                    "It shrinks to 3/4: the loss is a mean over the rows.",
                    "Nothing in the six stages counts the rows. A mean over the rows is what "
                    "many write here, but not what this function does.",
                ),
                Option(
                    "It shrinks to 7/10: the loss is a mean over the tokens.",
                    "The tokens are counted, and the count is returned. But neither loss nor "
                    "scaled_loss is divided by it.",
                ),
            ),
            _divided_by,
        ),
    ),
    why=(
        "The gradient at a response token is −1/(G²·c): neither the rows nor the tokens of the "
        "batch are in it. So a batch with more tokens pulls harder on the model."
    ),
    after=lambda width: value_table(
        {
            f"{len(of.policy_log_probs)} rows": {
                "num_tokens": of.trace().num_tokens,
                "scaled_loss": of.trace().scaled_loss.item(),
                "grad": _at_response(of),
            }
            for of in (THREE_ROWS, _FOUR_ROWS)
        },
        "G = 4",
    ),
)

# 01: almost certain

_SAT = (0, 1, 2)  # the logit of the word that came next, in the second column


def _logits() -> Drawing:
    """What the model computes at each position, below the word that really comes next."""
    logits = FIVE_WORDS.logits[0].T.tolist()  # (V, S)
    following = [FIVE_WORDS.vocabulary[label] for label in FIVE_WORDS.labels[0].tolist()]
    return value_table(
        {
            word: dict(zip(following, row, strict=True))
            for word, row in zip(FIVE_WORDS.vocabulary, logits, strict=True)
        },
        "the logits of each word; above them the word that came next",
        "entry",
    )


def _raised() -> LogitsTrace:
    logits = FIVE_WORDS.logits.clone()
    logits[_SAT] = 6.0
    of = FIVE_WORDS
    return trace_logits(logits, of.labels, of.response_mask, of.gradient_accumulation_steps)


def _vanishing() -> int:
    """0: neither gradient goes to 0; 1: that of the log-prob; 2: that of the logit; 3: both."""
    before, after = FIVE_WORDS.trace(), _raised()
    at_log_prob = after.step.grad[_SAT[:2]] / before.step.grad[_SAT[:2]]
    at_logit = after.logits_grad[_SAT] / before.logits_grad[_SAT]
    return int(at_log_prob < 0.2) + 2 * int(at_logit < 0.2)


ALMOST_CERTAIN = Question(
    name="almost certain",
    text=(
        "In the second column the word that came next is “sat”. Its logit is raised from 2.5 to "
        "6, so that the model is almost certain of it. There are two gradients: grad, at the "
        "log-prob of “sat”, and logits_grad, at its logit. Which of them goes towards 0?"
    ),
    asks=(
        Choice(
            "what goes towards 0",
            (
                Option(
                    "Neither: the slope of a sum is a constant.",
                    "That is so at the log-prob, which is a term of the sum. But the log-prob "
                    "itself is computed from the logit, by a softmax, and that curve becomes flat.",
                ),
                Option(
                    "Only grad, at the log-prob.",
                    "scaled_loss is a sum of log-probs, so this slope is the same constant for "
                    "every log-prob. Look one step further back, at the logit.",
                ),
                Option(
                    "Only logits_grad, at the logit.",
                    "The log-prob can't rise above 0, so raising the logit changes it less and "
                    "less.",
                ),
                Option(
                    "Both.",
                    "The gradient at the logit is the one at the log-prob, times the slope of the "
                    "log-prob. Only that last factor becomes small.",
                ),
            ),
            _vanishing,
        ),
    ),
    why=(
        "The gradient at the logits is (softmax − one-hot) · 1/(G²·c), where one-hot is 1 at the "
        "word that came next and 0 at all others. Once the model gives that word a probability of "
        "almost 1 it is almost 0, and so is what the weights get from it."
    ),
    before=lambda width: _logits(),
    after=lambda width: logits_flow(_raised(), FIVE_WORDS.vocabulary, width),
)

# 01: a second call


def _after_calls(count: int) -> float:
    """What is in `.grad` at a response token after some calls with the same arguments."""
    leaf = THREE_ROWS.policy_log_probs.clone().requires_grad_()
    for _ in range(count):
        sft_microbatch_train_step(leaf, THREE_ROWS.response_mask, 4)
    return leaf.grad[THREE_ROWS.response_mask != 0][0].item()


A_SECOND_CALL = Question(
    name="a second call",
    text=(
        "After one call, leaf.grad is −0.0625 at each response token. The function is called once "
        "more, with the same arguments. What is in leaf.grad at a response token now?"
    ),
    asks=(
        Number(
            "leaf.grad at a response token",
            lambda: _after_calls(2),
            (
                Belief(
                    lambda: _after_calls(1),
                    "That would be so if each backward() replaced what is in .grad. It adds to it.",
                ),
                Belief(
                    lambda: _after_calls(1) / 2,
                    "That would be so if .grad were a mean over the calls. Nothing in torch "
                    "counts them: backward() adds.",
                ),
                Belief(
                    lambda: 0.0,
                    "Nothing has cleared it: only zero_grad() does that, and nobody has called it.",
                ),
            ),
        ),
    ),
    why=(
        "backward() adds to .grad. Gradient accumulation relies on this, and it is the reason why "
        "a forgotten zero_grad() is a bug."
    ),
    after=lambda width: value_table(
        {f"calls: {n}": {"leaf.grad": _after_calls(n)} for n in (1, 2, 3)},
        "at a response token",
    ),
)

# 01: computed by a model


def _one_weight() -> dict[str, Tensor | None]:
    """What is in `.grad` of a weight, and of log-probs that are computed from it."""
    weight = torch.tensor(2.0, requires_grad=True)
    log_probs = weight * torch.tensor([[-0.5, -0.3]])
    sft_microbatch_train_step(log_probs, torch.tensor([[1, 1]]), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the question itself
        return {"log_probs.grad": log_probs.grad, "weight.grad": weight.grad}


def _place_of_gradient() -> int:
    """0: nowhere; 1: at the log-probs; 2: at the weight; 3: at both."""
    at_log_probs, at_weight = (grad is not None for grad in _one_weight().values())
    return int(at_log_probs) + 2 * int(at_weight)


COMPUTED_BY_A_MODEL = Question(
    name="computed by a model",
    text=(
        "Now the log-probs are computed: log_probs = weight * [−0.5, −0.3], where weight is a "
        "parameter. The step is called on log_probs. In which .grad is something afterwards?"
    ),
    asks=(
        Choice(
            "where the gradient is",
            (
                Option(
                    "In neither: the step can't train what it does not know.",
                    "The step does not have to know the weight: log_probs knows what it was "
                    "computed from, and backward() follows that.",
                ),
                Option(
                    "log_probs.grad",
                    "That was so for a leaf. At a tensor that was computed from others, autograd "
                    "uses the gradient to go on to what it was computed from, and drops it.",
                ),
                Option(
                    "weight.grad",
                    "autograd goes back to the leaves, and leaves the gradient there.",
                ),
                Option(
                    "In both.",
                    "Both gradients are computed, but only that of a leaf is kept. To see the "
                    "other one, call log_probs.retain_grad() before the step.",
                ),
            ),
            _place_of_gradient,
        ),
    ),
    why=(
        "The gradient is kept at the leaves: in a real loop these are the model's parameters, "
        "where the optimizer reads it. log_probs.grad stays None."
    ),
    after=lambda width: outcome_list(
        {name: str(grad) for name, grad in _one_weight().items()}, "after the step", width
    ),
)

# 01: one bit a row

_ONE_BIT = (THREE_ROWS.response_mask != 0)[:, 1:2]  # (B, 1)
_WHOLE_ROWS = StepInputs(
    THREE_ROWS.policy_log_probs,
    _ONE_BIT.expand(3, 4),
    THREE_ROWS.gradient_accumulation_steps,
    tokens=THREE_ROWS.tokens,
)


def _one_bit() -> int:
    """0: an error; 1: the sum of the second column; 2: the sum of whole rows."""
    log_probs = THREE_ROWS.policy_log_probs
    try:
        total = torch.where(_ONE_BIT, log_probs, 0).sum()
    except RuntimeError:
        return 0
    sums = log_probs[:, 1:2][_ONE_BIT].sum(), log_probs[_ONE_BIT[:, 0]].sum()
    return 1 + [torch.allclose(total, each) for each in sums].index(True)


ONE_BIT_A_ROW = Question(
    name="one bit a row",
    text=(
        "The log-probs have the shape (3, 4). By mistake the mask is only the second column of "
        "the right one, with the shape (3, 1) and the bits 1, 0, 1. "
        "What does plain torch make of torch.where(mask, log_probs, 0).sum()?"
    ),
    asks=(
        Choice(
            "torch.where(mask, log_probs, 0).sum()",
            (
                Option(
                    "An error: the shapes differ.",
                    "torch repeats a dimension of size 1 as often as needed (this is called "
                    "broadcasting), so there is no error.",
                ),
                Option(
                    "A sum over the second column, where there are bits.",
                    "torch does not know that the bits came from the second column: one bit stands "
                    "for its whole row.",
                ),
                Option(
                    "A sum over whole rows, prompt and padding too.",
                    "The one bit of a row is repeated for all its tokens (broadcasting).",
                ),
            ),
            _one_bit,
        ),
    ),
    why=(
        "Broadcasting makes a wrong mask a wrong sum, and nobody notices. The step compares the "
        "two shapes before it computes anything, and raises an error."
    ),
    after=lambda width: _flow(_WHOLE_ROWS, width),
)

STEP_QUESTIONS = (
    ONE_MORE_TOKEN,
    ONE_WORSE_TOKEN,
    ANOTHER_G,
    NAN_UNDER_THE_MASK,
    WITHOUT_THE_MINUS,
    A_FOURTH_ROW,
    ALMOST_CERTAIN,
    A_SECOND_CALL,
    COMPUTED_BY_A_MODEL,
    ONE_BIT_A_ROW,
)
