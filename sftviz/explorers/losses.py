"""Several losses on one small batch: drag a log-prob, and see whose weights follow."""

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Text
from sftviz.explorers.base import Explorer, Field, first_counted, is_index
from sftviz.explorers.controls import button, code_button, number_box, show_number
from sftviz.losses import DFT, SHORT_AND_LONG, LossInputs, LossTrace
from sftviz.views.weights import weights_view

_HIGHEST = -0.01  # a log-prob of 0 leaves nothing to the other entries of the vocabulary


class LossesExplorer(Explorer):
    """What each token weighs under several losses, live.

    Drag a log-prob: only the weight under DFT follows, and only at that token. The arguments are
    the fields of the state, `LossInputs`; by default `SHORT_AND_LONG`.

    Raises:
        TypeError, ValueError: what `LossInputs` refuses; a `TraitError` if a field is set later.

    Example:
        >>> explorer = LossesExplorer()
        >>> before = explorer.trace
        >>> explorer.edit({"policy_log_probs[0,1]": -4.0})
        >>> pairs = zip(before, explorer.trace)
        >>> [a.loss.name for a, b in pairs if not a.weights.equal(b.weights)]
        ['DFT']
    """

    policy_log_probs = Field()  # (B, S) tensor
    response_mask = Field()  # (B, S) tensor
    gradient_accumulation_steps = Field()
    other_rows = Field()
    advantages = Field()
    tokens = Field()
    vocab_size = Field()

    def __init__(self, **inputs: object) -> None:
        start = LossInputs(**inputs) if inputs else SHORT_AND_LONG
        limits = {"policy_log_probs": _HIGHEST}
        super().__init__(start, {"policy_log_probs": "move"}, limits)
        self.assemble(
            {
                "reset": button("reset"),
                "policy_log_probs": number_box("policy_log_probs"),
                "code": code_button(),
            }
        )

    def first(self, state: LossInputs) -> tuple[int, ...]:
        return first_counted(state.response_mask)

    def has_entry(self, state: LossInputs, index: tuple[int, ...]) -> bool:
        return is_index(index, state.policy_log_probs)

    def draw(
        self, state: LossInputs, trace: tuple[LossTrace, ...], width: int, lens: object
    ) -> Drawing:
        return weights_view(state, trace, width)

    def read(
        self, state: LossInputs, trace: tuple[LossTrace, ...], selected: tuple[int, ...]
    ) -> dict[str, Text]:
        (dft,) = (each.weights for each in trace if each.loss is DFT)
        return {
            "probability": Text(number(state.policy_log_probs[selected].exp().item()), "response"),
            "weight under DFT": Text(number(dft[selected].item()), "gradient"),
        }

    def show_controls(self) -> None:
        row, token = self.selected
        label = f"log-prob of row {row + 1}, token {token + 1}"
        log_prob = self.state.policy_log_probs[row, token].item()
        show_number(self.controls["policy_log_probs"], label, log_prob)

    def on_control(self, name: str, value: object) -> None:
        match name:
            case "policy_log_probs":
                row, token = self.selected
                self.edit({f"policy_log_probs[{row},{token}]": value})
            case _:
                super().on_control(name, value)
