"""A case is run: the training with its bug, and what is seen of it."""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import nn

from sftviz.equivalence import Equivalence, gradient_equivalence
from sftviz.experiments.dates import END, PAD, START, VOCABULARY, Pair, complete
from sftviz.experiments.training import Window
from sftviz.experiments.transformer import TinyTransformer
from sftviz.hunt import loop
from sftviz.hunt.bugs import CASES, HEALTHY, Bug, find_bug
from sftviz.hunt.rows import LONG_ROWS, long_pairs, short_pairs, window_pairs
from sftviz.inspection.inspection import Inspection, inspect_batch
from sftviz.log_probs import get_response_log_probs
from sftviz.tokens import TokenBatch

RUNS = {HEALTHY.name: HEALTHY, **CASES}
WINDOWS = 80
MOST_TOKENS = 14  # of an answer: a right one has 11 with <end>
SIGNS = {PAD: "·", START: "▷", END: "■"}  # of tokens that are not a character
_MIXED = next(at for at, longs in enumerate(LONG_ROWS) if longs)  # the microbatch with padding


@dataclass(frozen=True)
class Answer:
    """What a trained model answers to a prompt that it has never seen."""

    pair: Pair
    text: str  # one sign for each token
    ends: bool  # with <end>


@dataclass(frozen=True, eq=False)
class Run:
    """What is seen of a training.

    In its history `scaled_loss` is what the run itself logs. `nll` is measured by code without the
    bug, on the rows that the window should have, before they are trained on.
    """

    name: str
    history: tuple[Window, ...]
    answers: tuple[Answer, ...]
    batch: TokenBatch  # a microbatch with rows of both kinds, as the run prepares it

    @cached_property
    def inspection(self) -> Inspection:
        """What `inspect_batch` says of that microbatch."""
        tensors = {
            "inputs": self.batch.input_ids,
            "targets": self.batch.labels,
            "mask": self.batch.response_mask,
        }
        known = {"pad_token_id": PAD, "eos_token_id": END, "mask_marks": "counted"}
        return inspect_batch(tensors, VOCABULARY, **known)


def run_case(case: str) -> Run:
    """Train with the bug of a case, in about a second; the second time it is remembered.

    Args:
        case: a letter, or "healthy".

    Raises:
        ValueError: there is no such case.

    Example:
        >>> run = run_case("A")
        >>> len(run.history), run.answers[0].pair.prompt
        (80, '26.4.1901→')
    """
    return run_bug(find_bug(case, RUNS))


@cache
def run_bug(bug: Bug) -> Run:
    """Train with a bug."""
    code = bug.loop
    history = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        model, optimizer = code.start()
        for number in range(1, WINDOWS + 1):
            num_tokens, nll = _measure(model, number)
            logged, grad_norm = code.train_window(
                model, optimizer, code.load_window(number), max_grad_norm=1.0
            )
            history.append(Window(number, logged, nll, num_tokens, grad_norm))
    batch = code.load_window(1)[_MIXED]
    return Run(bug.name, tuple(history), _ask(model), batch)


@cache
def case_equivalence(case: str) -> Equivalence:
    """The gradient test on the code of a case; the full batch is prepared by the right code.

    Args:
        case: a letter, or "healthy".

    Raises:
        ValueError: there is no such case.
    """
    code = find_bug(case, RUNS).loop
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TinyTransformer(width=16, heads=2, layers=1).double()
    return gradient_equivalence(
        code.train_window, model, code.load_window(1), full_batch=loop.load_window(1)
    )


@torch.no_grad()
def _measure(model: nn.Module, number: int) -> tuple[int, float]:
    """The number of response tokens of a window, and their mean loss."""
    batch = loop.prepare([pair for pairs in window_pairs(number) for pair in pairs])
    log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
    return batch.num_tokens, -log_probs[batch.response_mask].mean().item()


def _ask(model: nn.Module) -> tuple[Answer, ...]:
    pairs = [*long_pairs(held_out=True)[:3], *short_pairs(held_out=True)[:3]]
    texts = complete(model, [pair.prompt for pair in pairs], max_tokens=MOST_TOKENS)
    for token, sign in SIGNS.items():
        texts = [text.replace(VOCABULARY[token], sign) for text in texts]
    return tuple(
        Answer(pair, text, ends=len(text) < MOST_TOKENS)
        for pair, text in zip(pairs, texts, strict=True)
    )
