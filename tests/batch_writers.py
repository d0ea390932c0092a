"""Batches as different stacks make them, all from the same random conversations.

`WRITERS` has one function per stack, from conversations to what its loss is computed from. What a
conversation should become is independent of all of them: `counted` says which token follows which,
and how much that counts. `normal_form` is the same as rows that are padded on the right.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sftviz.inputs import StepInputs
from sftviz.tokens import build_token_batch

PAD, BOS, EOS, USER, ASSISTANT, NEWLINE = range(6)
VOCABULARY = 32_000


class Conversation(NamedTuple):
    """Token ids, and how much each counts: 0 in a prompt."""

    ids: list[int]
    weights: list[float]


Conversations = list[Conversation]


def conversation(rng: random.Random, turns: int = 2, longest: int = 6) -> Conversation:
    """A start token, then questions and answers, each answer with an end token."""
    ids = [BOS]
    weights = [0.0]
    for _ in range(rng.randint(1, turns)):
        prompt = [USER, NEWLINE, *_text(rng, longest), ASSISTANT, NEWLINE]
        answer = [*_text(rng, longest), EOS]
        ids += prompt + answer
        weights += [0.0] * len(prompt) + [1.0] * len(answer)
    return Conversation(ids, weights)


def conversations(
    rng: random.Random, fewest: int = 2, most: int = 4, turns: int = 2, longest: int = 6
) -> Conversations:
    """Random conversations for one batch."""
    return [conversation(rng, turns, longest) for _ in range(rng.randint(fewest, most))]


def _text(rng: random.Random, longest: int) -> list[int]:
    return [rng.randrange(6, VOCABULARY) for _ in range(rng.randint(1, longest))]


def counted(given: Conversations) -> Tensor:
    """(n, 3) float64: of each token that counts, in order, the token before it, it, its weight."""
    return torch.tensor(
        [
            (before, token, weight)
            for ids, weights in given
            for before, token, weight in zip(ids, ids[1:], weights[1:], strict=False)
            if weight
        ],
        dtype=torch.float64,
    )


def normal_form(given: Conversations) -> dict[str, Tensor]:
    """`tokens`, `labels`, `weights`, `is_padding` as (B, S), padded on the right."""
    ids = padded([each.ids for each in given], PAD)
    weights = padded([each.weights for each in given], 0.0)
    lengths = torch.tensor([[len(each.ids)] for each in given])
    is_padding = torch.arange(ids.shape[1]) >= lengths
    return {
        "tokens": ids[:, :-1],
        "labels": ids[:, 1:],
        "weights": weights[:, 1:],
        "is_padding": is_padding[:, 1:],
    }


def padded(rows: list[list], filler: Any, length: int = 0, left: bool = False) -> Tensor:
    """Rows of any lengths as a matrix."""
    length = max(length, *map(len, rows))
    filled = [[filler] * (length - len(row)) for row in rows]
    pairs = zip(filled, rows, strict=True)
    return torch.tensor([fill + row if left else row + fill for fill, row in pairs])


def _marked(given: Conversations, ignore: int = -100) -> list[list[int]]:
    """Labels, not shifted: the token where it counts, and the ignore index elsewhere."""
    return [
        [token if weight else ignore for token, weight in zip(*each, strict=True)] for each in given
    ]


def _halves(given: Conversations) -> list[Conversations]:
    """Conversations for two rows that are packed, or for one."""
    middle = (len(given) + 1) // 2
    return [given[:middle], given[middle:]] if len(given) > 1 else [given]


def _joined(rows: list[list]) -> list:
    return [entry for row in rows for entry in row]


def hugging_face(given: Conversations, left: bool = False) -> dict[str, Tensor]:
    return {
        "input_ids": padded([each.ids for each in given], PAD, left=left),
        "attention_mask": padded([[1] * len(each.ids) for each in given], 0, left=left),
        "labels": padded(_marked(given), -100, left=left),
    }


def hugging_face_left(given: Conversations) -> dict[str, Tensor]:
    return hugging_face(given, left=True)


def pad_id_ignored(given: Conversations) -> dict[str, Tensor]:
    return {
        "input_ids": padded([each.ids for each in given], PAD),
        "attention_mask": padded([[1] * len(each.ids) for each in given], 0),
        "labels": padded(_marked(given, PAD), PAD),
    }


def trl_before_collation(given: Conversations) -> list[dict[str, list[int]]]:
    return [
        {
            "input_ids": ids,
            "completion_mask": [int(c >= ids.index(ASSISTANT) + 2) for c in range(len(ids))],
            "assistant_masks": [int(weight > 0) for weight in weights],
        }
        for ids, weights in given
    ]


def trl_packed(given: Conversations) -> list[dict[str, list[int]]]:
    return [
        {
            "input_ids": _joined([each.ids for each in half]),
            "labels": _joined(_marked(half)),
            "seq_lengths": [len(each.ids) for each in half],
        }
        for half in _halves(given)
    ]


def trl_padding_free(given: Conversations) -> dict[str, Tensor]:
    positions = torch.tensor([_joined([list(range(len(each.ids))) for each in given])])
    labels = torch.tensor([_joined(_marked(given))])
    labels[positions == 0] = -100
    ids = torch.tensor([_joined([each.ids for each in given])])
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def axolotl_packed(given: Conversations) -> dict[str, Tensor]:
    rows = _halves(given)
    numbers = [[[d + 1] * len(each.ids) for d, each in enumerate(row)] for row in rows]
    positions = [[list(range(len(each.ids))) for each in row] for row in rows]
    return {
        "input_ids": padded([_joined([each.ids for each in row]) for row in rows], PAD),
        "labels": padded([_joined(_marked(row)) for row in rows], -100),
        "attention_mask": padded(list(map(_joined, numbers)), 0),
        "position_ids": padded(list(map(_joined, positions)), 0),
    }


def verl(given: Conversations) -> dict[str, Tensor]:
    length = max(len(each.ids) for each in given) + 3
    attention = padded([[1] * len(each.ids) for each in given], 0, length)
    return {
        "input_ids": padded([each.ids for each in given], PAD, length),
        "attention_mask": attention,
        "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
        "loss_mask": padded([[int(w > 0) for w in each.weights] for each in given], 0, length),
    }


def openrlhf(given: Conversations) -> dict[str, Tensor]:
    """One column earlier: where the token is predicted. Older versions of verl did the same."""
    shifted = [[*each.weights[1:], 0.0] for each in given]
    return {
        "input_ids": padded([each.ids for each in given], PAD),
        "attention_mask": padded([[1] * len(each.ids) for each in given], 0),
        "loss_mask": padded(shifted, 0.0),
    }


def prime_rl(given: Conversations) -> dict[str, Tensor]:
    """Each conversation is shifted by itself, then all are packed."""
    return {
        "input_ids": torch.tensor([_joined([each.ids[:-1] for each in given])]),
        "target_ids": torch.tensor([_joined([each.ids[1:] for each in given])]),
        "position_ids": torch.tensor([_joined([range(len(each.ids) - 1) for each in given])]),
        "loss_mask": torch.tensor([_joined([each.weights[1:] for each in given])]) > 0,
    }


def torchtitan(given: Conversations) -> tuple[dict[str, Tensor], Tensor]:
    labels = padded(_marked(given), -100)
    return {"input": padded([each.ids for each in given], EOS)[:, :-1]}, labels[:, 1:]


def nanochat(given: Conversations) -> tuple[Tensor, Tensor]:
    """Packed, filled up with start tokens, then shifted."""
    rows = _halves(given)
    length = max(sum(len(each.ids) for each in row) for row in rows) + 2
    ids = padded([_joined([each.ids for each in row]) for row in rows], BOS, length)
    labels = padded([_joined(_marked(row, -1)) for row in rows], -1, length)
    return ids[:, :-1].int(), labels[:, 1:]


def cs336(given: Conversations) -> dict[str, Tensor]:
    ids = padded([each.ids for each in given], PAD)
    mask = padded([[weight > 0 for weight in each.weights] for each in given], False)
    return {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "response_mask": mask[:, 1:]}


def megatron(given: Conversations) -> dict[str, Tensor]:
    """Packed, then shifted: the label of a last token is the first one of its neighbour."""
    ids = torch.tensor([_joined([each.ids for each in given])])
    mask = torch.tensor([_joined([each.weights for each in given])])
    ends = torch.tensor([0, *(len(each.ids) for each in given)]).cumsum(0)
    ends[-1] -= 1
    return {
        "tokens": ids[:, :-1],
        "labels": ids[:, 1:],
        "loss_mask": mask[:, 1:],
        "cu_seqlens": ends[None].int(),
        "max_seqlen": ends.diff().max(),
    }


def nemo(given: Conversations) -> dict[str, Tensor]:
    """Each conversation is shifted by itself, then packed; cu_seqlens is filled up with −1."""
    rows = _halves(given)
    ends = [[0, *torch.tensor([len(ids) - 1 for ids, _ in row]).cumsum(0).tolist()] for row in rows]
    return {
        "tokens": padded([_joined([each.ids[:-1] for each in row]) for row in rows], EOS),
        "labels": padded([_joined([each.ids[1:] for each in row]) for row in rows], EOS),
        "loss_mask": padded([_joined([each.weights[1:] for each in row]) for row in rows], 0.0),
        "cu_seqlens": padded(ends, -1).int(),
    }


@dataclass
class Ints:
    """What a client of a training service has instead of a list."""

    tokens: list[int]

    def to_ints(self) -> list[int]:
        return self.tokens


@dataclass
class Datum:
    """An example of such a client."""

    model_input: Ints
    loss_fn_inputs: dict[str, Tensor]


def tinker(given: Conversations) -> list[Datum]:
    """Weights are fractions: here each conversation weighs 1 in all."""
    found = []
    for ids, weights in fractions(given):
        inner = {"target_tokens": torch.tensor(ids[1:]), "weights": torch.tensor(weights[1:])}
        found.append(Datum(Ints(ids[:-1]), inner))
    return found


def fractions(given: Conversations) -> Conversations:
    """The same conversations, each with weights that sum to 1."""
    return [Conversation(ids, [w / sum(weights) for w in weights]) for ids, weights in given]


def torchtune(given: Conversations) -> list[dict[str, list]]:
    return [
        {"tokens": each.ids, "labels": labels, "mask": [weight == 0 for weight in each.weights]}
        for each, labels in zip(given, _marked(given), strict=True)
    ]


def ones_are_masked(given: Conversations) -> dict[str, Tensor]:
    return {
        "tokens": padded([each.ids for each in given], PAD),
        "attention_mask": padded([[1] * len(each.ids) for each in given], 0),
        "mask": padded([[int(w == 0) for w in each.weights] for each in given], 1),
    }


def step(given: Conversations) -> dict[str, Tensor]:
    mask = normal_form(given)["weights"] > 0
    return {"policy_log_probs": -1 - mask.double(), "response_mask": mask}


def step_inputs(given: Conversations) -> StepInputs:
    arguments = step(given)
    words = [["word"] * len(row) for row in arguments["response_mask"]]
    return StepInputs(**arguments, tokens=words)


def token_batch(given: Conversations) -> object:
    """Our own: one turn of a prompt, one of a response."""
    turns = []
    for ids, weights in given:
        row, start = [], 0
        for end in range(1, len(ids) + 1):
            if end == len(ids) or (weights[end] > 0) != (weights[start] > 0):
                row.append(("response" if weights[start] else "prompt", ids[start:end]))
                start = end
        turns.append(row)
    return build_token_batch(turns, PAD)


WRITERS: dict[str, Callable[[Conversations], Any]] = {
    each.__name__: each
    for each in (
        hugging_face,
        hugging_face_left,
        pad_id_ignored,
        trl_before_collation,
        trl_packed,
        trl_padding_free,
        axolotl_packed,
        verl,
        openrlhf,
        prime_rl,
        torchtitan,
        nanochat,
        cs336,
        megatron,
        nemo,
        tinker,
        torchtune,
        ones_are_masked,
        step,
        step_inputs,
        token_batch,
    )
}
