"""A training loop around the step, and what an optimizer makes of the step's divisor.

The loop is the usual one: for each window zero the gradients, run G microbatches, step the
optimizer. What is added is what a notebook needs: the data are checked before anything is trained,
every window leaves a record, and a cell that was interrupted can be run again and goes on as if it
had not been.
"""

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from sftviz.log_probs import get_response_log_probs
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch, Turn, build_token_batch


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All rows to learn from, and which of their tokens the loss is made of."""

    tokens: TokenBatch  # (N, S)
    loss_mask: Tensor  # (N, S) bool: the response mask, or every token that is no padding


def prepare(
    conversations: Sequence[Sequence[Turn]],
    pad_id: int,
    context_length: int,
    vocab_size: int,
    mask_prompt: bool = True,
) -> TrainingData:
    """Check every row, and make one batch of all of them.

    Args:
        conversations: rows of turns, each ("prompt" or "response", token ids).
        pad_id: what fills up the rows to the length of the longest.
        context_length: the most positions that the model reads.
        vocab_size: V; token ids are 0 … V − 1.
        mask_prompt: False lets the model learn to say the prompts as well. That is what the mask
            prevents, and how to see what it is good for.

    Raises:
        TypeError, ValueError: a row that can't be learned from, with row and position: it is empty,
            goes on beyond the context, or holds a token that the model does not know.

    Example:
        >>> data = prepare([[("prompt", [5, 6]), ("response", [7])]], 0, 8, vocab_size=10)
        >>> data.tokens.labels, data.loss_mask
        (tensor([[6, 7]]), tensor([[False,  True]]))
        >>> prepare([[("prompt", [5, 60]), ("response", [7])]], 0, 8, vocab_size=10)
        Traceback (most recent call last):
        ValueError: row 0, position 1: a token id must be from 0 to 9, got 60: use the model's own \
tokenizer.
    """
    build = partial(
        build_token_batch, pad_id=pad_id, context_length=context_length, vocab_size=vocab_size
    )
    tokens = build(conversations)
    if mask_prompt:
        return TrainingData(tokens, tokens.response_mask)
    rows = [[token_id for _, ids in turns for token_id in ids] for turns in conversations]
    everything = build([[("prompt", ids[:1]), ("response", ids[1:])] for ids in rows])
    return TrainingData(tokens, everything.response_mask)


@dataclass(frozen=True)
class Window:
    """What one window, which is one optimizer step, did. All of it before the step was taken."""

    number: int  # 1 is the first
    scaled_loss: float  # what the step returned, added up over the window's microbatches
    nll: float  # nats, the mean over the window's response tokens: comparable between runs
    num_tokens: int  # that the loss was made of
    grad_norm: float  # of the accumulated gradient, before it is clipped


class Trainer:
    """Trains a model window by window, and remembers what each window did.

    All that training needs to go on is in here: run the cell again that was interrupted, and the
    windows that are still missing are trained. For a model without dropout the weights are then
    those of a training without interruption, to the last bit.

    Args:
        model: a causal model, from (B, S) token ids to logits.
        optimizer: of the model's parameters.
        data: from `prepare`.
        microbatch_size: B, rows that are computed at once.
        gradient_accumulation_steps: G, microbatches of one window.
        normalize_constant: divides the masked sum. The default leaves the step's own ÷G²; B / G
            makes the gradient that of the mean over the window's sequences.
        max_grad_norm: a longer gradient is cut to this length.
        seed: of the order in which the rows are visited.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        data: TrainingData,
        *,
        microbatch_size: int,
        gradient_accumulation_steps: int,
        normalize_constant: float = 1.0,
        max_grad_norm: float = math.inf,
        seed: int = 0,
    ) -> None:
        for name, count in (
            ("microbatch_size", microbatch_size),
            ("gradient_accumulation_steps", gradient_accumulation_steps),
        ):
            if type(count) is not int or count < 1:
                raise ValueError(
                    f"{name} must be an int of at least 1, got {count!r}: "
                    "so many rows make a microbatch, and so many microbatches a window."
                )
        self.model = model
        self.optimizer = optimizer
        self.data = data
        self.microbatch_size = microbatch_size
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.normalize_constant = normalize_constant
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.history: list[Window] = []

    def run(self, until: int) -> Iterator[Window]:
        """Train until there have been so many windows in all, and yield each as it is done.

        Raises:
            FloatingPointError: a gradient is NaN or infinite. The model is as it was before.

        Example:
            >>> from torch import nn
            >>> model = nn.Sequential(nn.Embedding(10, 10))  # a bigram model
            >>> data = prepare([[("prompt", [5]), ("response", [6, 7])]], 0, 8, vocab_size=10)
            >>> trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), data,
            ...                   microbatch_size=2, gradient_accumulation_steps=3)
            >>> [window.number for window in trainer.run(until=2)]
            [1, 2]
            >>> [window.number for window in trainer.run(until=3)]
            [3]
        """
        self.model.train()
        while len(self.history) < until:
            yield self._window(len(self.history) + 1)

    def _window(self, number: int) -> Window:
        B, G = self.microbatch_size, self.gradient_accumulation_steps
        order = visiting_order(len(self.data.loss_mask), number, B * G, self.seed)
        # First, not last: an interrupted window has left half of its gradient behind.
        self.optimizer.zero_grad(set_to_none=True)
        scaled_loss = negative_log_likelihood = 0.0
        num_tokens = num_response_tokens = 0
        for rows in order.split(B):
            tokens = self.data.tokens
            log_probs = get_response_log_probs(
                self.model, tokens.input_ids[rows], tokens.labels[rows]
            )["log_probs"]  # (B, S)
            loss, metadata = sft_microbatch_train_step(
                log_probs, self.data.loss_mask[rows], G, self.normalize_constant
            )
            responses = log_probs.detach()[tokens.response_mask[rows]]
            scaled_loss += loss.item()
            num_tokens += metadata["num_tokens"]
            negative_log_likelihood -= responses.sum().item()
            num_response_tokens += responses.numel()
        grad_norm = clip_grad_norm_(self.model.parameters(), self.max_grad_norm).item()
        if not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"the gradient of window {number} is {grad_norm}, so the optimizer was not "
                "stepped: look for NaN in the data, or lower the learning rate."
            )
        window = Window(
            number,
            scaled_loss,
            negative_log_likelihood / num_response_tokens,
            num_tokens,
            grad_norm,
        )
        with _undisturbed():  # both or neither: a window that was stepped is in the history
            self.optimizer.step()
            self.history.append(window)
        self.optimizer.zero_grad(set_to_none=True)
        return window


def visiting_order(num_rows: int, number: int, window_size: int, seed: int) -> Tensor:
    """Which rows the window of this number consists of, (window_size,).

    It depends on nothing but the arguments, so that a resumed training finds its place. Every row
    is visited once before any is visited again.

    >>> torch.cat([visiting_order(6, number, 4, seed=0) for number in (1, 2, 3)]).bincount()
    tensor([2, 2, 2, 2, 2, 2])
    """
    places = range((number - 1) * window_size, number * window_size)
    epochs = range(places[0] // num_rows, places[-1] // num_rows + 1)
    shuffled = [
        torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        for epoch in epochs
    ]
    first = places[0] - epochs[0] * num_rows
    return torch.cat(shuffled)[first : first + window_size]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep an interrupt waiting until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # interrupts reach the main thread alone
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        signal.raise_signal(signal.SIGINT)


# ------------------------------------------------------- what an optimizer makes of the divisor
