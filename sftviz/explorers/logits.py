"""The step from the logits on, live: the one gradient that stays, and the one that moves."""

from collections.abc import Sequence
from dataclasses import fields

import ipywidgets
import torch
import traitlets
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import token_label
from sftviz.drawing.scene import Text
from sftviz.examples import FIVE_WORDS
from sftviz.explorers.base import Explorer, Required, is_index, number_box, show_count, show_number
from sftviz.logits import LogitsInputs, LogitsTrace, check_labels
from sftviz.views.logits import check_vocabulary, logits_flow, readings

_STATE = tuple(field.name for field in fields(LogitsInputs))


class LogitsExplorer(Explorer):
    """Logits, softmax, log-prob of the label, loss, and the gradient at both ends, linked.

    Drag a logit and watch: the gradient at the log-probs stays where it is, the one at the logits
    follows. Its state is the arguments of `trace_logits`; `trace` and `drawing` are computed.

    Args:
        logits: (1, S, V) tensor; those of a small example if left out.
        labels: (1, S) int64 tensor.
        response_mask: (1, S) tensor, 1 = response token; every token is one if left out.
        gradient_accumulation_steps: int G >= 1.
        normalize_constant: finite number > 0.
        vocabulary: V strings; without them the entries are numbered.

    Raises:
        TypeError, ValueError: what `trace_logits` refuses; a `TraitError` where a trait is set.

    Example:
        >>> explorer = LogitsExplorer()
        >>> before = explorer.trace
        >>> explorer.edit({"logits[0,1,2]": 6.0})  # much surer of the label
        >>> bool(explorer.trace.step.grad.equal(before.step.grad))
        True
        >>> before.logits_grad[0, 1, 2], explorer.trace.logits_grad[0, 1, 2]
        (tensor(-0.0639), tensor(-0.0026))
    """

    logits = Required()  # (1, S, V) tensor
    labels = Required()  # (1, S) tensor
    response_mask = Required()  # (1, S) tensor
    gradient_accumulation_steps = Required()
    normalize_constant = Required()
    vocabulary = traitlets.Any()

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
        check_labels(logits, labels)
        if response_mask is None:
            response_mask = torch.ones_like(labels)
        start = LogitsInputs(
            logits,
            labels,
            response_mask,
            gradient_accumulation_steps,
            normalize_constant,
            vocabulary,
        )
        super().__init__(start, {"logits": "move", "response_mask": "toggle"})
        self._start = start
        self.assemble(
            {
                "reset": ipywidgets.Button(description="reset", layout={"width": "max-content"}),
                "gradient_accumulation_steps": ipywidgets.IntSlider(
                    min=1,
                    max=16,
                    description="G",
                    tooltip="gradient_accumulation_steps",
                    style={"description_width": "initial"},
                ),
                "logits": number_box("logits"),
            }
        )

    @property
    def entry(self) -> tuple[int, int]:
        """The token last touched, and the entry of the vocabulary: by default the label."""
        _, token, *entry = self.selected
        return token, entry[0] if entry else int(self.labels[0, token])

    def holds(self, index: tuple[int, ...]) -> bool:
        return is_index(index, self.logits) or is_index(index, self.labels)

    def draw(self, trace: LogitsTrace, width: int) -> Drawing:
        return logits_flow(trace, self.vocabulary, width)

    def read(self, trace: LogitsTrace) -> dict[str, Text]:
        return readings(trace, *self.entry)

    def show_controls(self) -> None:
        slider, logit = (self.controls[name] for name in ("gradient_accumulation_steps", "logits"))
        show_count(slider, self.gradient_accumulation_steps)
        token, entry = self.entry
        name = token_label(self.vocabulary[entry], 16) if self.vocabulary else entry
        value = self.logits[0, token, entry].item()
        show_number(logit, f"logit of {name}, token {token + 1}", value)

    def take(self, name: str, value: object) -> None:
        match name:
            case "reset":
                self.load(self._start)
            case "logits":
                token, entry = self.entry
                self.edit({f"logits[0,{token},{entry}]": value})
            case _:
                super().take(name, value)

    def refuse(self, batch: LogitsInputs) -> None:
        check_vocabulary(batch.trace(), batch.vocabulary)

    @traitlets.validate(*_STATE)
    def _check(self, proposal: dict) -> object:
        return self.checked(proposal)
