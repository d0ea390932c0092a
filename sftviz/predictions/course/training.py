"""Questions about a training. Those that need a trained model are made from what was measured."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial

import torch

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import percent
from sftviz.experiments.dates import (
    CONTEXT_LENGTH,
    PAD,
    VOCABULARY,
    conversation,
    date_pairs,
)
from sftviz.experiments.optimizers import Divergence
from sftviz.experiments.training import Window, prepare, visiting_order
from sftviz.experiments.transformer import TinyTransformer
from sftviz.log_probs import get_response_log_probs
from sftviz.predictions.course.pictures import outcome_list, value_table
from sftviz.predictions.question import Choice, Option, Question
from sftviz.step import StepTrace, sft_microbatch_train_step, trace_step
from sftviz.tokens import TokenBatch
from sftviz.views.parts import TONES

_B, _G, _FRIENDS_G = 16, 4, 8
_PROMPTS = 3 * 73_049  # three formats of each date from 1900 to 2099
_SAME = 0.01  # weights that differ by less, relative to the change, are the same


def _microbatch() -> TokenBatch:
    """The first one of the notebook's training."""
    train = date_pairs()[0]
    order = visiting_order(len(train), number=1, window_size=_B * _G, seed=0)[:_B]
    rows = [conversation(train[row]) for row in order.tolist()]
    return prepare(rows, PAD, CONTEXT_LENGTH, len(VOCABULARY)).tokens


@cache
def _untrained(G: int) -> StepTrace:
    """The step on the first microbatch, with the notebook's model before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TinyTransformer()
    batch = _microbatch()
    log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
    return trace_step(log_probs.detach(), batch.response_mask, G)


def _nats(trace: StepTrace) -> float:
    """The loss a response token."""
    G = trace.gradient_accumulation_steps
    return trace.scaled_loss.item() * G**2 / trace.num_tokens


# The loss of random weights.


def _against_equal_probabilities() -> int:
    equal = math.log(len(VOCABULARY))
    nats = _nats(_untrained(_G))
    return 0 if nats < 0.98 * equal else 1 if nats < 1.02 * equal else 2 if nats < 2 * equal else 3


_BEFORE = Question(
    name="before the training",
    text="A model that gives each of the 44 tokens the same probability has a loss of ln 44 = 3.8 "
    "nats a response token. This model has random weights. What is its loss?",
    asks=(
        Choice(
            "nats a response token",
            (
                Option(
                    "clearly below 3.8",
                    "Then it would know something about dates already. "
                    "Random weights prefer some tokens, but not the right ones.",
                ),
                Option(
                    "3.8, to two digits",
                    "Random weights do not give equal probabilities: they "
                    "prefer some tokens, mostly wrong ones, and that costs a little more.",
                ),
                Option(
                    "a little above 3.8",
                    "Random weights prefer some tokens, mostly wrong ones. "
                    "A start far above ln V is a sign that something is wrong.",
                ),
                Option(
                    "about 44",
                    "44 is the number of tokens. The loss is the logarithm of a "
                    "probability, and that of 1/44 is −3.8.",
                ),
            ),
            _against_equal_probabilities,
        ),
    ),
    why="The first loss should be near ln V, with V the number of tokens. It is the cheapest check "
    "of a training, and needs one forward pass.",
    after=lambda width: value_table(
        {
            "this model": _units(_nats(_untrained(_G))),
            "equal probabilities": _units(math.log(len(VOCABULARY))),
        },
        "loss and probability of a token",
        TONES["loss"],
    ),
)


def _units(nats: float) -> dict[str, float]:
    return {"nats": nats, "probability": math.exp(-nats)}


# Two logs.


def _logs(width: int, with_nats: bool) -> Drawing:
    rows: dict[str, dict[str, float]] = {}
    for name, G in (("yours", _G), ("theirs", _FRIENDS_G)):
        trace = _untrained(G)
        log = {"G": G, "tokens": trace.num_tokens, "scaled_loss": trace.scaled_loss.item()}
        rows[name] = log | ({"nats": _nats(trace)} if with_nats else {})
    return value_table(rows, "the same microbatch", TONES["scaled_loss"])


def _better() -> int:
    yours, friends = _nats(_untrained(_G)), _nats(_untrained(_FRIENDS_G))
    return 2 if math.isclose(yours, friends, rel_tol=1e-4) else 0 if friends < yours else 1


_TWO_LOGS = Question(
    name="two logs",
    text="You and a friend print what the step returns for the same microbatch, before any "
    "training. Your friend has G = 8. Whose model has a lower loss a token?",
    asks=(
        Choice(
            "lower loss a token",
            (
                Option(
                    "your friend's",
                    "A smaller scaled_loss need not be a lower loss: it is "
                    "divided by G², here by 64 instead of 16. Compare nats a token.",
                ),
                Option("yours", "That would be so if G multiplied the loss. It divides it, twice."),
                Option(
                    "both have the same",
                    "scaled_loss · G² ÷ tokens is the same in both: only "
                    "the divisor is another one.",
                ),
            ),
            _better,
        ),
    ),
    why="scaled_loss is a sum over tokens divided by G². Two of them can be compared only after "
    "both are converted to nats a token.",
    before=partial(_logs, with_nats=False),
    after=partial(_logs, with_nats=True),
)


# Where the loss of the prompts ends.


@cache
def _lowest_scaled_loss() -> float:
    """Of one window, if prompts count, by a model that knows every row by heart.

    The probability that it gives to a token is how often this one follows in all rows, after the
    same tokens before it.
    """
    rows = [pair.prompt + pair.response for pair in date_pairs()[0]]
    counts = Counter(row[:end] for row in rows for end in range(len(row) + 1))
    log_probs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.float64)  # (B, S)
    for row, text in enumerate(rows):
        for place in range(len(text)):
            log_probs[row, place] = math.log(counts[text[: place + 1]] / counts[text[:place]])
    loss, _ = sft_microbatch_train_step(log_probs.requires_grad_(), torch.ones_like(log_probs), _G)
    return loss.item() * _B * _G / len(rows)


def _of_window(nats: float) -> float:
    """scaled_loss of a window whose prompts have a loss of so many nats a row."""
    return nats * _B * _G / _G**2


def _unlearned() -> float:
    """If each token of a prompt has the same probability."""
    lengths = [len(pair.prompt) for pair in date_pairs()[0]]
    return _of_window(math.log(len(VOCABULARY)) * sum(lengths) / len(lengths))


def _where_it_ends() -> int:
    lowest = _lowest_scaled_loss()
    return 0 if lowest < 0.1 else 1 if lowest < 0.5 * _unlearned() else 2


_LOSS_OF_PROMPTS = Question(
    name="the loss of prompts",
    text="Prompts count too, and the training goes on until the model knows all 2,610 rows by "
    "heart. Where does scaled_loss end?",
    asks=(
        Choice(
            "scaled_loss of a window",
            (
                Option(
                    "at 0: nothing is left to learn",
                    "Only a model that knows which row comes next would get to 0. All 2,610 rows "
                    "begin with <start>, so it can only guess.",
                ),
                Option(
                    "above 0: the prompt can't be known in advance",
                    "After <start> each of the 2,610 rows is equally probable. No model can do "
                    "better.",
                ),
                Option(
                    "near its first value: prompts are arbitrary",
                    "The date is arbitrary, and the rest of a prompt is not: its format, and the "
                    "names of months. By heart, even most dates follow from their first digits.",
                ),
            ),
            _where_it_ends,
        ),
    ),
    why="ln 2,610 = 7.9 nats a row remain. A model that knows the formats, and not by heart which "
    "dates occur, has 12.3 nats a row.",
    after=lambda width: value_table(
        {
            "nothing learned": {"scaled_loss": _unlearned()},
            "formats only": {"scaled_loss": _of_window(math.log(_PROMPTS))},
            "all rows by heart": {"scaled_loss": _lowest_scaled_loss()},
        },
        "of the prompts of a window",
        TONES["scaled_loss"],
    ),
)


# Made from what was measured.


def mask_question(
    masked: Sequence[Window], learned: Sequence[Window], right: tuple[float, float]
) -> Question:
    """Which of two trainings teaches more: with the prompt masked, or with the prompt learned?

    Args:
        masked, learned: the history of each training.
        right: the share of held-out prompts that each answers right in the end.
    """

    def which() -> int:
        lead = right[0] - right[1]
        return 2 if abs(lead) < 0.05 else 0 if lead > 0 else 1

    def curves(width: int) -> Drawing:
        rows: dict[str, dict[str, float | str]] = {
            f"window {one.number}": {"masked": one.nll, "learned": other.nll}
            for one, other in zip(masked, learned, strict=True)
            if one.number % 25 == 0
        }
        rows["right answers"] = dict(zip(("masked", "learned"), map(percent, right), strict=True))
        return value_table(rows, "nats a response token, by prompt", TONES["loss"])

    return Question(
        name="with and without the mask",
        text="Two trainings, with the same model, rows and number of windows. In the first one "
        "only response tokens count; in the second one also those of the prompt, more than twice "
        "as many tokens. Which model answers more held-out prompts right?",
        asks=(
            Choice(
                "more right answers",
                (
                    Option(
                        "the first: prompt masked", "Everything that it learns is about responses."
                    ),
                    Option(
                        "the second: prompt learned",
                        "More tokens are not more about the task: "
                        "much of what is new can't be predicted, because the date in a prompt "
                        "is arbitrary.",
                    ),
                    Option(
                        "both about the same",
                        "The response tokens count in both. In the "
                        "second training they share every step with the prompt's tokens.",
                    ),
                ),
                which,
            ),
        ),
        why="The second model also learns to write prompts, and gets to the responses later. The "
        "table has the loss a response token, in nats, which can be compared.",
        after=curves,
    )


def empty_prompt_question(masked: str, learned: str) -> Question:
    """What a model writes without a prompt: what two models have written, by how they were trained.

    Args:
        masked, learned: the text that each model wrote after <start>.
    """
    return Question(
        name="without a prompt",
        text="The second model, which has learned prompts too, gets no prompt: only <start>. What "
        "does it write?",
        asks=(
            Choice(
                "after <start>",
                (
                    Option(
                        "a prompt, and then a response",
                        "It has learned what comes after <start>: a prompt.",
                    ),
                    Option(
                        "a response without a prompt",
                        "In its training a response never came "
                        "after <start>, and the prompt's tokens counted too.",
                    ),
                    Option(
                        "nothing: it ends at once",
                        "In its training <end> only came after a response.",
                    ),
                ),
                lambda: 0 if "→" in learned else 1 if learned else 2,
            ),
        ),
        why="It has learned to write prompts: a chat model that was trained without the mask "
        "writes the user's next message, if nothing stops it. What the first model writes here is "
        "arbitrary.",
        after=lambda width: outcome_list(
            {"prompt masked": masked or "(nothing)", "prompt learned": learned or "(nothing)"},
            "after <start>",
            width,
        ),
    )


_REASONS = {
    "AdamW": "It divides the gradient of each parameter by its own recent size, so a constant "
    "factor cancels, up to eps.",
    "AdamW, clipped at 1": "Clipping compares the length of the gradient with a fixed number. An "
    "eighth of a gradient is often not clipped where the whole one is.",
    "AdamW, eps 1e-2": "Adam divides by the recent size of the gradient plus eps. The smaller the "
    "gradient, the more eps counts in this sum.",
    "Adam with L2 decay": "The decay is added to the gradient before Adam divides. Beside an "
    "eighth of the gradient it is eight times as large.",
    "SGD": "Its steps are an eighth as long. Only a learning rate eight times as large would undo "
    "that.",
}


def optimizer_question(records: Sequence[Divergence]) -> Question:
    """Which optimizers react to a constant factor of the gradient?

    Args:
        records: from `optimizer_divergence`, with the optimizers of `RECIPES`. Asked is about those
            with a factor other than 1.
    """
    asked = {record.optimizer: record for record in records if record.factor != 1}
    rows: dict[str, dict[str, float | str]] = {name: {} for name in asked}
    for record in records:
        rows[record.optimizer][f"× {record.factor:g}"] = percent(record.difference)

    def ends(record: Divergence) -> Choice:
        texts = "the same weights, up to 1 %", "other weights"
        reason = _REASONS[record.optimizer]
        options = tuple(Option(text, reason) for text in texts)
        return Choice(record.optimizer, options, lambda: int(record.difference > _SAME))

    return Question(
        name="which optimizers react",
        text="Every gradient is an eighth as long as that of the mean. With which of these "
        "optimizers does the training end with other weights?",
        asks=tuple(map(ends, asked.values())),
        why='Only plain AdamW hardly reacts, so "it trains fine" is no evidence that the divisor '
        "is right. The table has the distance of the final weights, relative to how far the "
        "training has changed them.",
        after=lambda width: value_table(rows, "distance of the weights, gradient × factor"),
    )


TRAINING_QUESTIONS = (_BEFORE, _TWO_LOGS, _LOSS_OF_PROMPTS)
