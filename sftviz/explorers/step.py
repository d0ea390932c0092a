"""The step as a diagram that is its own input."""

from collections.abc import Sequence

import ipywidgets
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text
from sftviz.examples import PRESETS, WORKED_EXAMPLE
from sftviz.explorers.base import Explorer, Field, Shown, first_counted, is_index
from sftviz.explorers.controls import (
    NARROW,
    STYLE,
    TOOLTIP,
    button,
    code_button,
    count_slider,
    number_box,
    show_count,
    show_number,
)
from sftviz.inputs import StepInputs
from sftviz.step import StepTrace
from sftviz.validate import Tokens
from sftviz.views.focus import lens_start
from sftviz.views.step import readings, step_flow

CONTROLS = (
    *("preset", "reset", "gradient_accumulation_steps", "normalize_constant"),
    *("policy_log_probs", "response_mask", "code"),
)
_ACTIONS = {"response_mask": "toggle", "policy_log_probs": "move"}
_OWN = "as given"  # the preset that is the explorer's start


class StepExplorer(Explorer):
    """The step flow, live: click a mask cell, drag a log-prob, move G, and see the result.

    The state is `StepInputs`; `trace` and `drawing` are computed from it. Setting a field from
    Python does the same as a click. `update` sets several fields at once, `load` all of them.
    `columns` and `rows` are the first ones that the grids show of a batch that has no room; they
    are not part of the state.

    Args:
        policy_log_probs: (B, S) tensor or rows of numbers; by default the worked example.
        response_mask: likewise, 1 = response token; by default 1 everywhere.
        gradient_accumulation_steps: int G >= 1.
        normalize_constant: finite number > 0.
        tokens: B rows of S strings, shown above the log-probs.
        controls: which of `CONTROLS` are shown; the others stay as they were given.

    Raises:
        TypeError, ValueError: the arguments are not those of `trace_step`; a `TraitError` if a
            field is set later.

    Example:
        >>> explorer = StepExplorer(gradient_accumulation_steps=4)
        >>> explorer.response_mask = [[0, 0, 0, 1], [0, 0, 1, 1]]
        >>> explorer.trace.num_tokens, explorer.trace.scaled_loss
        (3, tensor(0.0625))
    """

    policy_log_probs = Field()  # (B, S) tensor
    response_mask = Field()  # (B, S) tensor
    gradient_accumulation_steps = Field()
    normalize_constant = Field()
    tokens = Field()
    rows = Shown()
    columns = Shown()

    def __init__(
        self,
        policy_log_probs: Tensor | Sequence[Sequence[float]] | None = None,
        response_mask: Tensor | Sequence[Sequence[float]] | None = None,
        gradient_accumulation_steps: int = WORKED_EXAMPLE.gradient_accumulation_steps,
        normalize_constant: float = WORKED_EXAMPLE.normalize_constant,
        tokens: Tokens | None = None,
        controls: Sequence[str] = CONTROLS,
    ) -> None:
        if unknown := [name for name in controls if name not in CONTROLS]:
            raise ValueError(f"controls must be among {', '.join(CONTROLS)}, got {unknown[0]!r}.")
        if policy_log_probs is None:
            policy_log_probs = WORKED_EXAMPLE.policy_log_probs
            response_mask = WORKED_EXAMPLE.response_mask if response_mask is None else response_mask
            tokens = WORKED_EXAMPLE.tokens if tokens is None else tokens
        scalars = gradient_accumulation_steps, normalize_constant
        start = StepInputs(policy_log_probs, response_mask, *scalars, tokens)
        super().__init__(
            start,
            {name: action for name, action in _ACTIONS.items() if name in controls},
            limits={"policy_log_probs": 0.0},  # the log of a probability is never above 0
        )
        self._presets = {_OWN: start, **PRESETS}
        self.assemble(self._make_controls(), controls)

    def first(self, state: StepInputs) -> tuple[int, ...]:
        return first_counted(state.response_mask)

    def has_entry(self, state: StepInputs, index: tuple[int, ...]) -> bool:
        return is_index(index, state.policy_log_probs)

    def shape(self, state: StepInputs) -> tuple[int, int]:
        return tuple(state.policy_log_probs.shape)

    def begin(self, trace: StepTrace) -> tuple[int, int]:
        return lens_start(trace)

    def draw(
        self, state: StepInputs, trace: StepTrace, width: int, lens: tuple[int, int]
    ) -> Drawing:
        return step_flow(trace, state.tokens, width, columns=lens[1], rows=lens[0])

    def read(
        self, state: StepInputs, trace: StepTrace, selected: tuple[int, ...]
    ) -> dict[str, Text]:
        return readings(trace)

    def _make_controls(self) -> dict[str, ipywidgets.DOMWidget]:
        return {
            "preset": ipywidgets.Dropdown(
                options=list(self._presets), description="preset", style=STYLE, layout=NARROW
            ),
            "reset": button("reset"),
            "gradient_accumulation_steps": count_slider("G", "gradient_accumulation_steps"),
            "normalize_constant": ipywidgets.FloatText(
                description="c",
                style=STYLE,
                layout={"width": "8em"},
                **{TOOLTIP: "normalize_constant"},
            ),
            "policy_log_probs": number_box("policy_log_probs"),
            "code": code_button(),
        }

    def show_controls(self) -> None:
        for name, control in self.controls.items():
            match name:
                case "policy_log_probs":
                    row, token = self.selected
                    label = f"log-prob of row {row + 1}, token {token + 1}"
                    log_prob = self.state.policy_log_probs[row, token].item()
                    show_number(control, label, log_prob)
                case "gradient_accumulation_steps":
                    show_count(control, self.gradient_accumulation_steps)
                case "normalize_constant":
                    control.value = self.normalize_constant

    def on_control(self, name: str, value: object) -> None:
        match name:
            case "preset":
                self.load(self._presets[value])
            case "reset":
                chosen = self.controls["preset"].value if "preset" in self.controls else _OWN
                self.load(self._presets[chosen])
            case "policy_log_probs":
                row, column = self.selected
                self.edit({f"policy_log_probs[{row},{column}]": value})
            case _:
                super().on_control(name, value)
