"""Gradients of one window after another: how they should be, and what goes wrong."""

from collections.abc import Iterator, Sequence

from torch import nn

from sftviz.accumulation import backward
from sftviz.log_probs import get_response_log_probs
from sftviz.mistakes.mistake import Mistake
from sftviz.rules import MISTAKEN_SCALINGS, TOKEN_MEAN, Counts, Gradient, Scaling, count_window
from sftviz.tokens import TokenBatch

_MEAN_OF_MEANS = next(rule for rule in MISTAKEN_SCALINGS if rule.name == "averaged averages")


def accumulate_windows(
    model: nn.Module, microbatches: Sequence[TokenBatch], gradient_accumulation_steps: int
) -> list[Gradient]:
    """The gradients that the optimizer is given: of each window, the mean over its tokens.

    A window has G microbatches; at the end of the data, the last one may have fewer. The `.grad` of
    the model is changed, and its parameters are not.

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> microbatches = make_window(B=2, G=3)
        >>> len(accumulate_windows(BigramModel(vocab_size=8), microbatches, 2))
        2
    """
    return _Loop().run(model, microbatches, gradient_accumulation_steps)


class _Loop:
    """The loop, with some parts replaced."""

    def __init__(
        self,
        scaling: Scaling = TOKEN_MEAN,
        zero_every: str = "window",  # or "microbatch", or "never"
        drop_short: bool = False,
        step_every: str = "window",  # or "microbatch"
    ) -> None:
        self.scaling, self.zero_every = scaling, zero_every
        self.drop_short, self.step_every = drop_short, step_every

    def run(
        self,
        model: nn.Module,
        microbatches: Sequence[TokenBatch],
        gradient_accumulation_steps: int,
    ) -> list[Gradient]:
        G = gradient_accumulation_steps
        model.zero_grad()
        steps = []
        for window in _windows(microbatches, G):
            if self.drop_short and len(window) < G:
                break
            counted = count_window([batch.response_mask for batch in window], G)
            for index, (batch, counts) in enumerate(zip(window, counted, strict=True), start=1):
                self._add(model, batch, counts)
                if index == len(window) or self.step_every == "microbatch":
                    steps.append(_record(model))
                    if self.zero_every != "never":
                        model.zero_grad()
                elif self.zero_every == "microbatch":
                    model.zero_grad()
        return steps

    def _add(self, model: nn.Module, batch: TokenBatch, counts: Counts) -> None:
        log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
        backward(log_probs, batch.response_mask, self.scaling, counts)


def _windows(microbatches: Sequence[TokenBatch], G: int) -> Iterator[Sequence[TokenBatch]]:
    for start in range(0, len(microbatches), G):
        yield microbatches[start : start + G]


def _record(model: nn.Module) -> Gradient:
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {name: grad.clone() for name, grad in found.items()}


_DIVIDE = "Divide each sum by the response tokens of the whole window."


def _wrong(name: str, cause: str, remedy: str, loop: _Loop, seen: str = "") -> Mistake:
    return Mistake(name, cause, remedy, "accumulation", loop.run, seen)


ACCUMULATION = (
    _wrong(
        "zero_grad forgotten",
        "The gradients of all windows before are still in .grad.",
        "Call zero_grad() after each step of the optimizer.",
        _Loop(zero_every="never"),
    ),
    _wrong(
        "zero_grad after each microbatch",
        "The gradient is cleared in the middle of a window, so only its last microbatch counts.",
        "Call zero_grad() only after the optimizer's step.",
        _Loop(zero_every="microbatch"),
    ),
    _wrong(
        "step after each microbatch",
        "The optimizer steps after each microbatch, with a part of the window's gradient.",
        "Step once for each window, after its last microbatch.",
        _Loop(step_every="microbatch"),
    ),
    _wrong(
        "leftover window dropped",
        "The microbatches after the last full window never reach the optimizer.",
        "Step at the end of the data too.",
        _Loop(drop_short=True),
    ),
    _wrong(
        "mean of means",
        f"The loss is {_MEAN_OF_MEANS.description}.",
        _DIVIDE,
        _Loop(_MEAN_OF_MEANS),
        "transformers #24725 and #34191, trl #2175",
    ),
    _wrong(
        "÷G twice",
        "The mean over the microbatch's tokens is divided by G two times.",
        _DIVIDE,
        _Loop(Scaling("÷G twice", "", lambda n: n.num_tokens * n.G**2, per="token")),
        "ms-swift #10117",
    ),
    _wrong(
        "÷G forgotten",
        "The means over the tokens of the microbatches are added up and not divided by G.",
        _DIVIDE,
        _Loop(Scaling("÷G forgotten", "", lambda n: n.num_tokens, per="token")),
    ),
    _wrong(
        "window mean ÷G",
        "The sum is divided by the window's tokens, and then by G besides.",
        "Divide by the window's tokens alone: they contain the G microbatches already.",
        _Loop(Scaling("÷G besides", "", lambda n: n.window_tokens * n.G, per="token")),
    ),
    _wrong(
        "G times too large",
        "The sum is divided by the window's tokens, and then multiplied by G.",
        "Divide by the window's tokens alone: they contain the G microbatches already.",
        _Loop(Scaling("G times", "", lambda n: n.window_tokens / n.G, per="token")),
        "axolotl #2262, transformers #35207 and #35438",
    ),
    _wrong(
        "mean over tokens forgotten",
        "The sums of the microbatches are added up and divided by nothing.",
        _DIVIDE,
        _Loop(Scaling("sum", "", lambda n: 1, per="token")),
        "as a default in tinker-cookbook (#271)",
    ),
)
