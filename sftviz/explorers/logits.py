"""The step from the logits on, live: one gradient is constant, the other one moves."""

from collections.abc import Sequence

from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import token_label
from sftviz.drawing.scene import Text
from sftviz.examples import FIVE_WORDS
from sftviz.explorers.base import Explorer, Field, Shown, first_counted, is_index
from sftviz.explorers.controls import button, count_slider, number_box, show_count, show_number
from sftviz.logits import LogitsInputs, LogitsTrace
from sftviz.views.focus import lens_start
from sftviz.views.logits import logits_flow, readings


class LogitsExplorer(Explorer):
    """Logits, softmax, log-prob of the label, loss, and the gradients at both ends.

    Drag a logit and watch: the gradient at the log-probs stays the same, the gradient at the logits
    changes. The arguments are the fields of the state, `LogitsInputs`; by default a small example.

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
        super().__init__(start, {"logits": "move", "response_mask": "toggle"})
        self.assemble(
            {
                "reset": button("reset"),
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
        return logits_flow(trace, state.vocabulary, width, lens[1])

    def first(self, state: LogitsInputs) -> tuple[int, ...]:
        return first_counted(state.response_mask[:1])

    def read(
        self, state: LogitsInputs, trace: LogitsTrace, selected: tuple[int, ...]
    ) -> dict[str, Text]:
        token, entry = _token_and_entry(trace, selected)
        word = token_label(state.vocabulary[entry], 16) if state.vocabulary else str(entry)
        key = f"logits[0,{token},{entry}]"
        return {f"token {token + 1}, entry": Text(word, key=key), **readings(trace, token, entry)}

    def show_controls(self) -> None:
        show_count(self.controls["gradient_accumulation_steps"], self.gradient_accumulation_steps)
        token, entry = _token_and_entry(self.trace, self.selected)
        logit = self.state.logits[0, token, entry].item()
        # The word is in the picture: a widget's label is markup or mathematics, to some front ends.
        name = f"logit of token {token + 1}, entry {entry}"
        show_number(self.controls["logits"], name, logit)

    def on_control(self, name: str, value: object) -> None:
        match name:
            case "logits":
                token, entry = _token_and_entry(self.trace, self.selected)
                self.edit({f"logits[0,{token},{entry}]": value})
            case _:
                super().on_control(name, value)


def _token_and_entry(trace: LogitsTrace, selected: tuple[int, ...]) -> tuple[int, int]:
    """The selected token and entry of the vocabulary; of a token alone, its label."""
    _, token, *entry = selected
    return token, entry[0] if entry else int(trace.labels[0, token])
