"""A test of the step that is designed in the page: which wrong steps survive it?"""

from collections.abc import Sequence
from dataclasses import replace

import ipywidgets
import torch
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text
from sftviz.explorers.base import Explorer, Field, Shown, first_counted, is_index
from sftviz.explorers.controls import (
    NARROW,
    STYLE,
    TOOLTIP,
    button,
    checkbox,
    count_slider,
    number_box,
    show_count,
    show_number,
    toggle,
)
from sftviz.mistakes import STEP_TESTS, StepTest, Survivors, write_test
from sftviz.mistakes.survivors import CHECKS
from sftviz.views.focus import lens_start
from sftviz.views.impostors import ALIVE, impostor_wall

CONTROLS = (
    *("preset", "reset", "B", "gradient_accumulation_steps", "normalize_constant"),
    *("policy_log_probs", "response_mask", *CHECKS, "advice", "code"),
)
PUZZLE = tuple(name for name in CONTROLS if name != "preset")  # the menu has a solution
_OWN = "as given"  # the preset that is the explorer's start
_ACTIONS = {"response_mask": "toggle", "policy_log_probs": "move"}


class ImpostorsExplorer(Explorer):
    """Design a test of the step, and see which of the known mistakes survive it.

    Click a mask cell, drag a log-prob, move B and G, set c, and choose what the test compares and
    tries besides. "as test" shows the test as a pytest file, which is also `code`. The state is a
    `StepTest`; its fields can be set from Python.

    Args:
        controls: which of `CONTROLS` are shown; all but "preset", because it has a solution.
        test: fields of `StepTest`. Those that are not given are as in CS336's tests with c = 1.

    Raises:
        TypeError, ValueError: the fields are not those of a `StepTest`; a `TraitError` if a field
            is set later.

    Example:
        >>> explorer = ImpostorsExplorer()
        >>> "÷B·G" in [mistake.name for mistake in explorer.trace.alive]
        True
        >>> explorer.gradient_accumulation_steps = 3
        >>> "÷B·G" in [mistake.name for mistake in explorer.trace.alive]
        False
    """

    policy_log_probs = Field()  # (B, S) tensor
    response_mask = Field()  # (B, S) tensor
    gradient_accumulation_steps = Field()
    normalize_constant = Field()
    grad = Field()
    metadata = Field()
    no_graph = Field()
    second_call = Field()
    nan = Field()
    bfloat16 = Field()
    precise = Field()
    rows = Shown()
    columns = Shown()

    def __init__(self, controls: Sequence[str] = PUZZLE, **test: object) -> None:
        if unknown := [name for name in controls if name not in CONTROLS]:
            raise ValueError(f"controls must be among {', '.join(CONTROLS)}, got {unknown[0]!r}.")
        start = replace(next(iter(STEP_TESTS.values())), **test)
        super().__init__(
            start,
            {name: action for name, action in _ACTIONS.items() if name in controls},
            limits={"policy_log_probs": 0.0},  # the log of a probability is never above 0
        )
        self._presets = {_OWN: start, **STEP_TESTS}
        self.assemble(self._make_controls(), controls)

    @property
    def code(self) -> str:
        """The test as a pytest file."""
        return write_test(self.trace)

    def first(self, state: StepTest) -> tuple[int, ...]:
        return first_counted(state.response_mask)

    def has_entry(self, state: StepTest, index: tuple[int, ...]) -> bool:
        return is_index(index, state.policy_log_probs)

    def shape(self, state: StepTest) -> tuple[int, int]:
        return tuple(state.policy_log_probs.shape)

    def begin(self, trace: Survivors) -> tuple[int, int]:
        return lens_start(trace.right)

    def draw(self, state: StepTest, trace: Survivors, width: int, lens: tuple[int, int]) -> Drawing:
        has_advice = "advice" in self.controls and self.controls["advice"].value
        return impostor_wall(trace, width, lens[1], lens[0], advice=has_advice)

    def read(self, state: StepTest, trace: Survivors, selected: tuple[int, ...]) -> dict[str, Text]:
        return {"impostors alive": Text(f"{len(trace.alive)} of {len(trace.killers)}", ALIVE)}

    def _make_controls(self) -> dict[str, ipywidgets.DOMWidget]:
        return {
            "preset": ipywidgets.Dropdown(
                options=list(self._presets), description="preset", style=STYLE, layout=NARROW
            ),
            "reset": button("reset"),
            "B": count_slider("B", "rows of the batch", most=8),
            "gradient_accumulation_steps": count_slider("G", "gradient_accumulation_steps"),
            "normalize_constant": ipywidgets.FloatText(
                description="c",
                style=STYLE,
                layout={"width": "8em"},
                **{TOOLTIP: "normalize_constant"},
            ),
            "policy_log_probs": number_box("policy_log_probs"),
            **{name: checkbox(text) for name, text in CHECKS.items()},
            "advice": toggle("hint", "what would kill the impostors that are alive"),
            "code": toggle("as test", "this test as a pytest file"),
        }

    def show_controls(self) -> None:
        for name, control in self.controls.items():
            match name:
                case "B":
                    show_count(control, len(self.state.policy_log_probs))
                case "gradient_accumulation_steps":
                    show_count(control, self.gradient_accumulation_steps)
                case "policy_log_probs":
                    row, token = self.selected
                    label = f"log-prob of row {row + 1}, token {token + 1}"
                    show_number(control, label, self.state.policy_log_probs[row, token].item())
                case _ if self.has_trait(name):  # c, and what is checked
                    control.value = getattr(self, name)

    def on_control(self, name: str, value: object) -> None:
        match name:
            case "preset":
                self.load(self._presets[value])
            case "reset":
                chosen = self.controls["preset"].value if "preset" in self.controls else _OWN
                self.load(self._presets[chosen])
            case "B":
                self.update(**_with_rows(self.state, value))
            case "policy_log_probs":
                row, column = self.selected
                self.edit({f"policy_log_probs[{row},{column}]": value})
            case "advice":
                self.redraw()
            case _:
                super().on_control(name, value)


def _with_rows(test: StepTest, B: int) -> dict[str, Tensor]:
    """The first rows of a test's batch, and new ones of other lengths if there are fewer than B."""
    S = test.policy_log_probs.shape[1]
    row, column = torch.arange(B)[:, None], torch.arange(S)
    log_probs = -(1 + (7 * row + 5 * column + row * column) % 19).double() / 10
    mask = column >= (1 + row % 3).clamp(max=S - 1)
    kept = min(B, len(test.policy_log_probs))
    log_probs[:kept], mask[:kept] = test.policy_log_probs[:kept], test.response_mask[:kept]
    return {"policy_log_probs": log_probs, "response_mask": mask}
