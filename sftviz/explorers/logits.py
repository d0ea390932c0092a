"""The step from the logits on, live: one gradient is constant, the other one moves."""

from collections.abc import Sequence
from typing import NamedTuple

import ipywidgets
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import token_label
from sftviz.drawing.scene import Text
from sftviz.examples import FIVE_WORDS
from sftviz.explorers.base import Explorer, Field, Shown, first_counted, is_index
from sftviz.explorers.controls import (
    STYLE,
    TOOLTIP,
    button,
    count_slider,
    number_box,
    show_count,
    show_number,
)
from sftviz.logits import LogitsInputs, LogitsTrace, descend
from sftviz.views.descent import with_losses
from sftviz.views.focus import lens_start
from sftviz.views.logits import logits_flow, readings

_LEARNING_RATE = 4.0  # the gradient at a logit is at most 1/(G²·c): a quarter, at first


class _Way(NamedTuple):
    """How steps of the optimizer have led to a state."""

    before: LogitsInputs
    losses: tuple[float, ...]  # before each of the steps


class LogitsExplorer(Explorer):
    """Logits, softmax, log-prob of the label, loss, and the gradients at both ends.

    Drag a logit and watch: the gradient at the log-probs stays the same, the gradient at the logits
    changes. Let the optimizer take steps: the labels become more probable, and the gradient at the
    logits fades. The arguments are the fields of the state, `LogitsInputs`; by default a small
    example.

    Raises:
        TypeError, ValueError: the arguments are not those of `trace_logits`; a `TraitError` if a
            field is set later.

    Example:
        >>> explorer = LogitsExplorer()
        >>> before = explorer.trace
        >>> explorer.edit({"logits[0,1,2]": 6.0})  # the label is now almost certain
        >>> bool(explorer.trace.step.grad.equal(before.step.grad))
        True
        >>> before.logits_grad[0, 1, 2], explorer.trace.logits_grad[0, 1, 2]
        (tensor(-0.0639), tensor(-0.0026))
    """

    logits = Field()  # (1, S, V) tensor
    labels = Field()  # (1, S) int64 tensor
    response_mask = Field()  # (1, S) tensor
    gradient_accumulation_steps = Field()
    normalize_constant = Field()
    vocabulary = Field()
    columns = Shown()

    widest = 124  # so that on a page with room the logits and their gradients share a screen

    def __init__(
        self,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        response_mask: Tensor | None = None,
        gradient_accumulation_steps: int = FIVE_WORDS.gradient_accumulation_steps,
        normalize_constant: float = FIVE_WORDS.normalize_constant,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        if logits is None:
            logits = FIVE_WORDS.logits
            labels = FIVE_WORDS.labels if labels is None else labels
            response_mask = FIVE_WORDS.response_mask if response_mask is None else response_mask
            vocabulary = FIVE_WORDS.vocabulary if vocabulary is None else vocabulary
        scalars = gradient_accumulation_steps, normalize_constant
        start = LogitsInputs(logits, labels, response_mask, *scalars, vocabulary)
        # Of states that the optimizer has led to. Any other change makes a state without one.
        self._ways: dict[LogitsInputs, _Way] = {}
        super().__init__(start, {"logits": "move", "response_mask": "toggle"})
        self.assemble(
            {
                "reset": button("reset"),
                "1 step": button("optimizer step"),
                "10 steps": button("10 steps"),
                "undo": button("undo"),
                "learning_rate": ipywidgets.BoundedFloatText(
                    value=_LEARNING_RATE,
                    min=0,
                    max=1000,
                    description="learning rate",
                    style=STYLE,
                    layout={"width": "11em"},
                    **{TOOLTIP: "of SGD, torch's plain gradient descent"},
                ),
                "gradient_accumulation_steps": count_slider("G", "gradient_accumulation_steps"),
                "logits": number_box("logits"),
            }
        )

    def has_entry(self, state: LogitsInputs, index: tuple[int, ...]) -> bool:
        return is_index(index, state.logits) or is_index(index, state.labels)

    def shape(self, state: LogitsInputs) -> tuple[int, int]:
        return 1, state.labels.shape[1]

    def begin(self, trace: LogitsTrace) -> tuple[int, int]:
        return lens_start(trace.step)

    def draw(
        self, state: LogitsInputs, trace: LogitsTrace, width: int, lens: tuple[int, int]
    ) -> Drawing:
        drawing = logits_flow(trace, state.vocabulary, width, lens[1])
        way = self._ways.get(state)
        losses = (*way.losses, trace.step.scaled_loss.item()) if way else ()
        return with_losses(drawing, losses, width) if losses else drawing

    def first(self, state: LogitsInputs) -> tuple[int, ...]:
        return first_counted(state.response_mask[:1])

    def read(
        self, state: LogitsInputs, trace: LogitsTrace, selected: tuple[int, ...]
    ) -> dict[str, Text]:
        token, entry = _token_and_entry(trace, selected)
        word = token_label(state.vocabulary[entry], 16) if state.vocabulary else str(entry)
        key = f"logits[0,{token},{entry}]"
        return {f"token {token + 1}, entry": Text(word, key=key), **readings(trace, token, entry)}

    def descend(self, steps: int = 1) -> None:
        """Let SGD take steps on the logits, with the learning rate of the box.

        Raises:
            TypeError, ValueError: the step can't be computed any more; nothing has changed.
        """
        state, trace = self.state, self.trace
        losses = self._ways[state].losses if state in self._ways else ()
        ways = {}
        for _ in range(steps):
            losses = (*losses, trace.step.scaled_loss.item())
            after = descend(state, trace, self.controls["learning_rate"].value)
            ways[after] = _Way(state, losses)
            state, trace = after, after.trace()
        self._ways |= ways
        self._become(state, trace, self.selected, ["logits"], self._lens)

    def undo(self) -> None:
        """Take the last step of the optimizer back, if there is one since the last other change."""
        if way := self._ways.get(self.state):
            before = way.before
            self._become(before, before.trace(), self.selected, ["logits"], self._lens)

    def show_controls(self) -> None:
        self.controls["undo"].disabled = self.state not in self._ways
        show_count(self.controls["gradient_accumulation_steps"], self.gradient_accumulation_steps)
        token, entry = _token_and_entry(self.trace, self.selected)
        logit = self.state.logits[0, token, entry].item()
        # The word is in the picture: a widget's label is markup or mathematics, to some front ends.
        name = f"logit of token {token + 1}, entry {entry}"
        show_number(self.controls["logits"], name, logit)

    def on_control(self, name: str, value: object) -> None:
        match name:
            case "1 step":
                self.descend()
            case "10 steps":
                self.descend(10)
            case "undo":
                self.undo()
            case "learning_rate":
                pass  # it is read when a step is taken
            case "logits":
                token, entry = _token_and_entry(self.trace, self.selected)
                self.edit({f"logits[0,{token},{entry}]": value})
            case _:
                super().on_control(name, value)


def _token_and_entry(trace: LogitsTrace, selected: tuple[int, ...]) -> tuple[int, int]:
    """The selected token and entry of the vocabulary; of a token alone, its label."""
    _, token, *entry = selected
    return token, entry[0] if entry else int(trace.labels[0, token])
