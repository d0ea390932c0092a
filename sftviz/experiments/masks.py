"""What a model learns if its masks are made in a way that goes wrong, on the task of `dates.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch

from sftviz.experiments.dates import END, PAD, START, VOCABULARY, Pair, complete, date_pairs
from sftviz.experiments.training import visiting_order
from sftviz.experiments.transformer import TinyTransformer
from sftviz.label_log_probs import label_log_probs
from sftviz.masking import Position, Text, find_way
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch

_ROWS, _STEPS, _SEED = 32, 80, 0
_CONTEXT = 64  # two conversations fit into a row
MOST_TOKENS = 14  # of an answer: a right one has 11 with <end>
_IDS = {token: place for place, token in enumerate(VOCABULARY)}


@dataclass(frozen=True)
class Learned:
    """What a model answers that was trained on rows which were built in one way."""

    way: str
    pairs: tuple[Pair, ...]  # held out
    answers: tuple[str, ...]  # to their prompts, before <end>
    ends: tuple[bool, ...]  # whether there was an <end>, among the first 14 tokens

    @property
    def right(self) -> float:
        """The share of answers that are right, and end."""
        found = zip(self.pairs, self.answers, self.ends, strict=True)
        return sum(pair.response == text and end for pair, text, end in found) / len(self.pairs)


@cache
def learn(way: str) -> Learned:
    """Train a small model on dates, each row built as a way builds it, and ask it for new dates.

    It takes a second or two; the second time it is remembered.

    Raises:
        ValueError: there is no such way.
    """
    found = find_way(way)
    train, held_out = (
        tuple(pair for pair in pairs if pair.prompt.count(".") == 2) for pairs in date_pairs()
    )
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(_SEED)
        model = TinyTransformer(width=48, layers=1, context_length=_CONTEXT)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for number in range(1, _STEPS + 1):
            rows = visiting_order(len(train), number, _ROWS + 1, _SEED).tolist()
            texts = [to_text(train[row]) for row in rows]
            built = [found.build(found.whole(text, after)) for text, after in pairwise(texts)]
            batch = to_batch(built)
            log_probs = label_log_probs(model(batch.input_ids), batch.labels)  # (B, S)
            sft_microbatch_train_step(log_probs, batch.response_mask, 1, batch.num_tokens)
            optimizer.step()
            optimizer.zero_grad()
        texts = complete(model, [pair.prompt for pair in held_out], MOST_TOKENS)
    answers = [_one_sign_a_token(text) for text in texts]
    ends = tuple(len(text) < MOST_TOKENS for text in answers)
    return Learned(way, held_out, tuple(answers), ends)


def _one_sign_a_token(text: str) -> str:
    return text.replace(VOCABULARY[PAD], "·").replace(VOCABULARY[START], "▷")


def to_text(pair: Pair) -> Text:
    """A pair as tokens, one for each character."""
    tokens = (VOCABULARY[START], *pair.prompt, *pair.response, VOCABULARY[END])
    begin = 1 + len(pair.prompt)
    return Text(tokens, tuple(at >= begin for at in range(len(tokens))))


def to_batch(rows: Sequence[Sequence[Position]]) -> TokenBatch:
    """Positions as tensors, (B, S), with more padding on the right."""
    length = max(map(len, rows))
    ids, labels = torch.full((2, len(rows), length), PAD)  # (B, S) each
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, found in enumerate(rows):
        for column, at in enumerate(found):
            ids[row, column], labels[row, column] = _IDS[at.read], _IDS[at.label]
            mask[row, column] = at.counts
    return TokenBatch(input_ids=ids, labels=labels, response_mask=mask)
