"""A training, and what is measured on pairs that it does not see, every few windows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sftviz.experiments.dates import (
    CONTEXT_LENGTH,
    END,
    PAD,
    VOCABULARY,
    Pair,
    Written,
    conversation,
    write,
)
from sftviz.experiments.training import Trainer, TrainingData, Window, prepare, visiting_order
from sftviz.log_probs import get_response_log_probs
from sftviz.validate import check_count

_MOST = 64  # held-out pairs whose loss is measured: more would cost more than the training
_ANSWERS = 3


@dataclass(frozen=True)
class Answer:
    """What a model answered to a held-out prompt."""

    pair: Pair
    written: Written

    @property
    def is_right(self) -> bool:
        """Whether it is the whole response, and then <end>."""
        return self.written.tokens == (*self.pair.response, VOCABULARY[END])


@dataclass(frozen=True)
class Measurement:
    """What was measured on held-out pairs after some windows."""

    windows: int
    nll: float  # mean over the response tokens, in nats
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class TrainingSnapshot:
    """A training at one moment."""

    history: tuple[Window, ...]
    num_tokens: int  # response tokens in all windows so far
    held_out: tuple[Measurement, ...]  # at least one


class WatchedTraining:
    """A training whose model is also measured on held-out pairs of the task in `dates`.

    They are measured at the start, after every few windows and after the last one. This changes no
    weight: they are those of `trainer.run` alone, bit for bit.

    Args:
        trainer: of a model of the task's vocabulary; it may have been trained already.
        held_out: pairs that are not in its data. The first three are answered; the loss is that of
            all, or of 64 at most that are evenly spaced.
        every: windows between two measurements.

    Raises:
        TypeError, ValueError: `every` is not an int of at least 1, there is no pair, or one that
            `prepare` refuses.

    Example:
        >>> model = nn.Embedding(len(VOCABULARY), len(VOCABULARY))  # a bigram model
        >>> pairs = [Pair("1→", "2"), Pair("3→", "4")]
        >>> data = prepare([conversation(pairs[0])], PAD, CONTEXT_LENGTH, len(VOCABULARY))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sizes = {"microbatch_size": 1, "gradient_accumulation_steps": 2}
        >>> training = WatchedTraining(Trainer(model, optimizer, data, **sizes), pairs[1:])
        >>> windows = list(training.run(until=7))
        >>> [measured.windows for measured in training.snapshot().held_out]
        [0, 5, 7]
    """

    def __init__(self, trainer: Trainer, held_out: Sequence[Pair], every: int = 5) -> None:
        check_count("every", every, "it is the number of windows between two measurements")
        if not held_out:
            raise ValueError("held_out is empty, so nothing can be measured: give at least a pair.")
        self.trainer = trainer
        self.every = every
        self._asked = tuple(held_out[:_ANSWERS])
        spaced = held_out[:: -(-len(held_out) // _MOST)]
        rows = [conversation(pair) for pair in spaced]
        self._data = prepare(rows, PAD, CONTEXT_LENGTH, len(VOCABULARY))
        self._held_out: list[Measurement] = []
        self._num_tokens = [0]  # response tokens in the first windows: in none, in one, …
        self._measure()

    def run(self, until: int) -> Iterator[Window]:
        """Train as `Trainer.run` does, and measure."""
        for window in self.trainer.run(until):
            if window.number % self.every == 0 or window.number == until:
                self._measure()
            yield window

    def snapshot(self, until: int | None = None) -> TrainingSnapshot:
        """The training as it is now, or as it was after so many windows, if it was watched then."""
        tokens, trainer = self.trainer.data.tokens, self.trainer
        size = trainer.microbatch_size * trainer.gradient_accumulation_steps
        for window in trainer.history[len(self._num_tokens) - 1 :]:
            rows = visiting_order(len(tokens.labels), window.number, size, trainer.seed)
            self._num_tokens.append(self._num_tokens[-1] + int(tokens.response_mask[rows].sum()))
        history = tuple(trainer.history)
        if until is not None:
            history = history[: max(until, self._held_out[0].windows)]
        held_out = tuple(at for at in self._held_out if at.windows <= len(history))
        return TrainingSnapshot(history, self._num_tokens[len(history)], held_out)

    def _measure(self) -> None:
        model, windows = self.trainer.model, len(self.trainer.history)
        was_training = model.training
        model.eval()
        try:
            longest = max(len(pair.response) for pair in self._asked) + 1  # and <end>
            written = write(model, [pair.prompt for pair in self._asked], longest)
            answers = tuple(map(Answer, self._asked, written))
            measured = Measurement(windows, held_out_loss(model, self._data), answers)
        finally:
            model.train(was_training)
        self._held_out.append(measured)


@torch.no_grad()
def held_out_loss(model: nn.Module, data: TrainingData) -> float:
    """The loss of a response token in nats: the mean over all response tokens of the data.

    Example:
        >>> model = nn.Embedding(len(VOCABULARY), len(VOCABULARY))
        >>> with torch.no_grad():
        ...     _ = model.weight.zero_()  # all tokens are equally probable
        >>> row = conversation(Pair("1→", "2"))
        >>> data = prepare([row], PAD, CONTEXT_LENGTH, len(VOCABULARY))
        >>> round(held_out_loss(model, data), 4)  # ln 44
        3.7842
    """
    tokens = data.tokens
    log_probs = get_response_log_probs(model, tokens.input_ids, tokens.labels)["log_probs"]
    return -log_probs[tokens.response_mask].mean().item()
