"""A training loop around the step: checked data, a record of every window, and resuming."""

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from sftviz.log_probs import get_response_log_probs
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch, Turn, build_token_batch
from sftviz.validate import MOST_ROWS, check_constant, check_count, check_positive


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All rows to train on, and the tokens that count in the loss."""

    tokens: TokenBatch  # (rows, S)
    loss_mask: Tensor  # (rows, S) bool: the response mask, or every token that is not padding


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
        pad_id: fills up the rows to the length of the longest.
        context_length: the largest number of positions that the model reads.
        vocab_size: V; token ids are 0 to V − 1.
        mask_prompt: False: the model is trained to predict prompts as well.

    Raises:
        TypeError, ValueError: a number is not a count, or a row is empty, too long, or has an
            unknown token id. The message names the row and the position.

    Example:
        >>> data = prepare([[("prompt", [5, 6]), ("response", [7])]], 0, 8, vocab_size=10)
        >>> data.tokens.labels, data.loss_mask
        (tensor([[6, 7]]), tensor([[False,  True]]))
    """
    tokens = build_token_batch(conversations, pad_id, context_length, vocab_size=vocab_size)
    if mask_prompt:
        return TrainingData(tokens, tokens.response_mask)
    lengths = [sum(len(ids) for _, ids in turns) - 1 for turns in conversations]
    positions = torch.arange(tokens.labels.shape[1])  # (S,)
    return TrainingData(tokens, positions < torch.tensor(lengths)[:, None])


@dataclass(frozen=True)
class Window:
    """What was measured in one window, before its optimizer step."""

    number: int  # counted from 1
    scaled_loss: float  # the losses that the step returned, summed over the microbatches
    nll: float  # mean over the response tokens, in nats; NaN if the window has none
    num_tokens: int  # tokens that counted in the loss
    grad_norm: float  # length of the accumulated gradient, before clipping


@dataclass(eq=False, repr=False)
class Trainer:
    """Train a model window by window, and record every window in `history`.

    It holds all the state: after an interrupt, call `run` again to train the windows that are
    missing. Without dropout, the final weights are then those of a training without an interrupt.

    Raises:
        TypeError, ValueError: a number is of the wrong type or out of range.

    Example:
        >>> model = nn.Embedding(10, 10)  # a bigram model
        >>> data = prepare([[("prompt", [5]), ("response", [6, 7])]], 0, 8, vocab_size=10)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> sizes = {"microbatch_size": 2, "gradient_accumulation_steps": 3}
        >>> trainer = Trainer(model, optimizer, data, **sizes)
        >>> [window.number for window in (*trainer.run(until=2), *trainer.run(until=3))]
        [1, 2, 3]
    """

    model: nn.Module  # causal, from (B, S) token ids to (B, S, V) logits
    optimizer: Optimizer  # of the model's parameters
    data: TrainingData
    _: KW_ONLY
    microbatch_size: int  # B, the rows of a microbatch
    gradient_accumulation_steps: int  # G, the microbatches of a window
    normalize_constant: float = 1.0  # divides as G² does; B / G: mean over sequences
    max_grad_norm: float = math.inf  # a longer gradient is scaled to this length
    seed: int = 0  # of the order in which the rows are visited, at least 0
    history: list[Window] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        for name, reason, least in (
            ("microbatch_size", "it is the number of rows of a microbatch", 1),
            ("gradient_accumulation_steps", "it counts the microbatches of one optimizer step", 1),
            ("seed", "it seeds a random number generator", 0),
        ):
            check_count(name, getattr(self, name), reason, least)
        check_constant(self.normalize_constant)
        reason = "a longer gradient is scaled to this length"
        check_positive("max_grad_norm", self.max_grad_norm, reason)

    def run(self, until: int) -> Iterator[Window]:
        """Train until the history has `until` windows, and yield each new one when asked for it.

        Args:
            until: the number of windows in all, those of earlier calls included.

        Raises:
            TypeError, ValueError: `until` is not an int of at least 0.
            ValueError: a window has no token that counts in the loss; it changes no weight.
            FloatingPointError: the gradient of a window is NaN or infinite; likewise.
        """
        check_count("until", until, "it is the number of windows in all", least=0)
        return self._run(until)

    def _run(self, until: int) -> Iterator[Window]:
        self.model.train()
        while len(self.history) < until:
            # Also before the window: the gradient may be one that the caller has left.
            self.optimizer.zero_grad()
            try:
                window = self._accumulate(len(self.history) + 1)
                with _delay_interrupts():  # so that a step is in the history if in the weights
                    self.optimizer.step()
                    self.history.append(window)
            finally:
                self.optimizer.zero_grad()
            yield window

    def _accumulate(self, number: int) -> Window:
        """Accumulate and clip the gradient of one window; return what was measured."""
        B, G, c = self.microbatch_size, self.gradient_accumulation_steps, self.normalize_constant
        tokens, loss_mask = self.data.tokens, self.data.loss_mask
        window_rows = visiting_order(len(loss_mask), number, B * G, self.seed)
        num_tokens = int(loss_mask[window_rows].sum())
        if num_tokens == 0:
            raise ValueError(
                f"window {number} has no token that counts in the loss, in {B * G} rows, so the "
                "optimizer was not stepped: check the loss mask of the data."
            )
        scaled_loss = nll_sum = 0.0
        for rows in window_rows.split(B):
            input_ids, labels = tokens.input_ids[rows], tokens.labels[rows]
            log_probs = get_response_log_probs(self.model, input_ids, labels)["log_probs"]  # (B, S)
            loss, _ = sft_microbatch_train_step(log_probs, loss_mask[rows], G, c)
            scaled_loss += loss.item()
            nll_sum -= log_probs.detach()[tokens.response_mask[rows]].sum().item()
        grad_norm = clip_grad_norm_(self.model.parameters(), self.max_grad_norm).item()
        if not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"the gradient of window {number} is {grad_norm}, so the optimizer was not "
                "stepped: look for NaN in the data, or lower the learning rate."
            )
        num_response_tokens = int(tokens.response_mask[window_rows].sum())
        nll = nll_sum / num_response_tokens if num_response_tokens else math.nan
        return Window(number, scaled_loss, nll, num_tokens, grad_norm)


def visiting_order(num_rows: int, number: int, window_size: int, seed: int) -> Tensor:
    """The rows of one window, (window_size,) int64: every row once before any is visited again.

    It depends on the arguments alone, so training can be resumed at any window.

    Args:
        num_rows: of the data, which is shuffled once an epoch.
        number: of the window, counted from 1.
        window_size: B·G, the rows of a window; at most 2²⁰.
        seed: at least 0.

    Raises:
        TypeError, ValueError: an argument is not a count.

    Example:
        >>> torch.cat([visiting_order(6, number, 4, seed=0) for number in (1, 2, 3)]).bincount()
        tensor([2, 2, 2, 2, 2, 2])
    """
    check_count("num_rows", num_rows, "it is the number of rows of the data")
    check_count("number", number, "windows are counted from 1")
    reason = "it is the number of rows of a window"
    check_count("window_size", window_size, reason, most=MOST_ROWS)
    check_count("seed", seed, "it seeds a random number generator", least=0)
    first = (number - 1) * window_size  # the window's first row, counted over all epochs
    shuffled = []
    for epoch in range(first // num_rows, (first + window_size - 1) // num_rows + 1):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        shuffled.append(torch.randperm(num_rows, generator=generator))
    return torch.cat(shuffled)[first % num_rows :][:window_size]


@contextmanager
def _delay_interrupts() -> Iterator[None]:
    """Delay an interrupt (SIGINT) until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    delayed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: delayed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if delayed:
        signal.raise_signal(signal.SIGINT)
