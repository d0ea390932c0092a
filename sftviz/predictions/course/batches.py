"""Questions about batches as a collator makes them: what is wrong, and whose token weighs more."""

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.inspection.examples import HEALTHY, PUZZLES, TOKENS
from sftviz.inspection.inspection import Inspection, inspect_batch
from sftviz.predictions.course.pictures import value_table
from sftviz.predictions.question import Belief, Choice, Number, Option, Question
from sftviz.shares import gradient_shares
from sftviz.views.parts import TONES
from sftviz.views.shares import shares_table

# Five batches, each wrong in one way.


@dataclass(frozen=True)
class _Suspect:
    """What is wrong with one of the five batches."""

    finding: str  # its name in an inspection
    text: str
    why_not: str  # said of each of the other batches
    why: str


_SUSPECTS = {
    "A": _Suspect(
        "the end token never counts",
        "responses end, but their end token is masked",
        "Where a response ends, the label is 1, the end token. It counts.",
        "The model never learns to stop. Where the padding token is the end token, mask padding by "
        "the attention mask and not by its id.",
    ),
    "B": _Suspect(
        "padding counts",
        "padding counts",
        "Where a token of input_ids is padding, the label is −100.",
        "The model learns to write padding, and a loss averaged over tokens looks low, because "
        "padding after padding is easy to predict. Mask it by the attention mask.",
    ),
    "C": _Suspect(
        "labels are shifted twice",
        "labels are shifted already",
        "Each label that counts is the input id of the same column, so it is not shifted yet.",
        "The model shifts them once more, and learns to skip a token. Only a loop that does not "
        "shift, such as that of CS336, needs labels like these.",
    ),
    "D": _Suspect(
        "left padding without an attention mask",
        "padding is seen by the tokens after it",
        "Padding stands only on the right, or there is none, and a causal model does not look to "
        "the right.",
        "There is no attention_mask, so each real token reads the padding before it. Pass the "
        "mask, or pad on the right.",
    ),
    "E": _Suspect(
        "a document is predicted from its neighbour",
        "a conversation is predicted from another one",
        "Each row is one conversation, so there is no neighbour in it.",
        "Two of the labels that count are <user>, the first token of the next conversation. And "
        "the first token of each answer is masked: the mask is off by one.",
    ),
}
# Not one of the five: otherwise the last one would be found without looking.
_DECOY = _Suspect(
    "real tokens are not seen",
    "the attention mask hides a real token",
    "attention_mask is 1 at every token that is not padding, or there is none, and then all tokens "
    "are seen.",
    "",
)
_OPTIONS = sorted((*_SUSPECTS.values(), _DECOY), key=lambda suspect: suspect.text)


def _inspect(letter: str) -> Inspection:
    return inspect_batch(PUZZLES[letter], TOKENS, pad_token_id=0, eos_token_id=1)


def _found(letter: str) -> int:
    (finding,) = _inspect(letter).findings
    return [suspect.finding for suspect in _OPTIONS].index(finding.name)


def _puzzle(letter: str) -> Question:
    right = _SUSPECTS[letter]
    options = (Option(each.text, "" if each is right else each.why_not) for each in _OPTIONS)
    return Question(
        name=f"batch {letter}",
        text=f"Batch {letter} was made from the three conversations above. What is wrong with it?",
        asks=(Choice("what is wrong", tuple(options), lambda: _found(letter)),),
        why=right.why,
        after=lambda width: _inspect(letter).draw(width),
        minutes=2,
    )


# The loss of labels that are shifted twice.


def _good_logits() -> Tensor:
    """Those of a model that has learned the three conversations, (V, V): one row a token read."""
    ids, seen = HEALTHY["input_ids"], HEALTHY["attention_mask"][:, 1:] != 0
    pairs = Counter(zip(ids[:, :-1][seen].tolist(), ids[:, 1:][seen].tolist(), strict=True))
    counts = torch.full((len(TOKENS), len(TOKENS)), 0.01, dtype=torch.float64)
    for (read, next_one), count in pairs.items():
        counts[read, next_one] += count
    return counts.log()


def _loss(letter: str = "") -> float:
    """Nats a token of the good model: of the healthy batch, or of one of the five."""
    batch = PUZZLES[letter] if letter else HEALTHY
    logits = _good_logits()[batch["input_ids"][:, :-1]].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:].flatten()).item()


def _against_ln_v() -> int:
    loss, equal = _loss("C"), math.log(len(TOKENS))
    return 0 if loss < 0.5 * equal else 1 if loss < 1.1 * equal else 2


_TWICE = Question(
    name="a good model on batch C",
    text="A model that has learned these three conversations well is run on batch C, and shifts "
    "the labels as it always does. There are V = 22 tokens, and ln 22 = 3.1. What is its loss?",
    asks=(
        Choice(
            "nats a token",
            (
                Option(
                    "low, as on the right batch",
                    "The model is right about the next token. It is now asked for the one after "
                    "that.",
                ),
                Option(
                    "about 3.1, as by guessing",
                    "Guessing would be better: this model is sure of the next token, so it gives "
                    "the one after that hardly any probability.",
                ),
                Option(
                    "clearly above 3.1",
                    "It is sure of the next token, and is asked for another one.",
                ),
            ),
            _against_ln_v,
        ),
    ),
    why="A loss above ln V is worse than guessing. With a trained model that is a sign of a wrong "
    "shift, or of another tokenizer.",
    after=lambda width: value_table(
        {
            "the right batch": {"nats": _loss()},
            "equal probabilities": {"nats": math.log(len(TOKENS))},
            "batch C": {"nats": _loss("C")},
        },
        "loss a token",
        TONES["loss"],
    ),
)


# Whose token weighs more.

_WINDOW = (torch.ones(1, 3), torch.ones(1, 24))


def _weight() -> float:
    """Of a token of the short microbatch, in tokens of the long one."""
    short, long = gradient_shares(_WINDOW, "averaged averages").per_token
    return (short / long).item()


_WEIGHT = Question(
    name="a token's weight",
    text="A window has two microbatches, with 3 and 24 tokens that count. Each is averaged over "
    "its own tokens, and the two averages are averaged. How many times as much as a token of the "
    "long one does a token of the short one weigh?",
    asks=(
        Number(
            "times as much",
            _weight,
            (
                Belief(
                    lambda: 1,
                    "That would be so if both sums were divided by all 27 tokens. An average of "
                    "averages gives each microbatch the same weight, whatever its size.",
                ),
                Belief(
                    lambda: 1 / _weight(),
                    "The other way round: 3 tokens share the same weight as 24, so each has more.",
                ),
                Belief(
                    lambda: _weight() ** 2,
                    "The sizes count once: each average divides by its own number of tokens, and "
                    "the two averages have the same weight.",
                ),
            ),
        ),
    ),
    why="Each microbatch has half of the gradient, and its tokens share it. Divide both sums by "
    "the tokens of the window, and each token weighs the same.",
    after=lambda width: shares_table(_WINDOW, ("tokens", "averaged averages"), width),
)

BATCH_QUESTIONS = (*map(_puzzle, PUZZLES), _TWICE, _WEIGHT)
