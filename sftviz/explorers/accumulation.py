"""A window of microbatches as a timeline: what is in `.grad` at every moment."""

from dataclasses import dataclass
from functools import partial

import ipywidgets
import torch

from sftviz.accumulation import AccumulationTrace, accumulate
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.explorers.base import Field
from sftviz.explorers.controls import (
    SPACED,
    STYLE,
    button,
    checkbox,
    code_button,
    count_slider,
    show_count,
)
from sftviz.explorers.timeline import Timeline
from sftviz.rules import ALL_SCALINGS, find_scaling
from sftviz.validate import check_count
from sftviz.views.accumulation import accumulation_flow, readings

_VOCABULARY = 4  # the gradient of the model is then a small table
_AXES = ("the token that is read", "the token that comes next")


@dataclass(frozen=True)
class WindowSetting:
    """The window of an `AccumulationExplorer`, and the mistakes that are made with it."""

    scaling: str = "G²"
    B: int = 8
    G: int = 4
    unevenness: float = 1.0  # how much the lengths of the rows differ, from 0 to 1
    ran_out: bool = False  # the last microbatch is missing, as at the end of the data
    forgot_zero_grad: bool = False  # .grad begins with the gradient of the window before
    reached: int | None = None  # moments that are over; None: all, also when G changes

    def __post_init__(self) -> None:
        rule = find_scaling(self.scaling)
        if rule not in ALL_SCALINGS:
            names = ", ".join(rule.name for rule in ALL_SCALINGS)
            raise ValueError(f"scaling must be one of {names} here, got a rule {rule.name!r}.")
        object.__setattr__(self, "scaling", rule.name)
        for name in ("ran_out", "forgot_zero_grad"):
            if not isinstance(getattr(self, name), bool):
                came = getattr(self, name)
                raise TypeError(
                    f"{name} must be True or False, got {type(came).__name__} {came!r}."
                )
        if self.reached is not None:
            check_count("reached", self.reached, "it is a number of moments", least=0)

    @property
    def moments(self) -> int:
        """One per microbatch, then the optimizer's step, then zero_grad()."""
        return self.G - self.ran_out + 2

    @property
    def over(self) -> int:
        """How many of the moments are over."""
        return self.moments if self.reached is None else min(self.reached, self.moments)

    def trace(self) -> AccumulationTrace:
        """Run the window through a small model, in float64."""
        model = BigramModel(_VOCABULARY, dtype=torch.float64)
        window = make_window(self.B, self.G, unevenness=self.unevenness, vocab_size=_VOCABULARY)
        if self.ran_out:
            window = window[:-1]
        run = partial(accumulate, model, window, self.scaling, gradient_accumulation_steps=self.G)
        return run(leftover=run().grad if self.forgot_zero_grad else None)


class AccumulationExplorer(Timeline):
    """Microbatch after microbatch, `.grad` grows; then the optimizer steps, then it is cleared.

    Play it, or drag the slider of moments. All numbers are read from torch's `.grad`. The scaling
    rule, B, G and the unevenness of the rows can be changed, and common mistakes can be made. The
    state is a `WindowSetting`; in it, `reached` is the moment that is shown.

    Raises:
        TypeError, ValueError: what `accumulate` and `make_window` refuse; a `TraitError` if a field
            is set later.

    Example:
        >>> explorer = AccumulationExplorer(B=4, G=2)
        >>> round(explorer.trace.ratio, 6)
        2.0
        >>> explorer.scaling = "B·G"
        >>> round(explorer.trace.ratio, 6)
        1.0
    """

    scaling = Field()
    B = Field()
    G = Field()
    unevenness = Field()
    ran_out = Field()
    forgot_zero_grad = Field()

    def __init__(self, **setting: object) -> None:
        super().__init__(WindowSetting(**setting))
        self.assemble(
            {
                **self.moment_controls(),
                "reset": button("reset"),
                "scaling": ipywidgets.Dropdown(
                    options=[rule.name for rule in ALL_SCALINGS],
                    description="divided by",
                    style=STYLE,
                    layout=SPACED,
                ),
                "B": count_slider("B", "rows of a microbatch", most=8),
                "G": count_slider("G", "gradient_accumulation_steps", least=2, most=8),
                "unevenness": ipywidgets.FloatSlider(
                    max=1.0, step=0.01, description="unevenness", style=STYLE
                ),
                "ran_out": checkbox("the data ran out"),
                "forgot_zero_grad": checkbox("forgot zero_grad()"),
                "code": code_button(),
            }
        )

    def draw(
        self, state: WindowSetting, trace: AccumulationTrace, width: int, lens: object
    ) -> Drawing:
        return accumulation_flow(trace, state.over, width, _AXES)

    def read(
        self, state: WindowSetting, trace: AccumulationTrace, selected: tuple[int, ...]
    ) -> dict[str, Text]:
        return readings(trace, state.over)

    def show_controls(self) -> None:
        super().show_controls()
        for name, control in self.controls.items():
            match name:
                case "B" | "G":
                    show_count(control, getattr(self, name))
                case "scaling" | "unevenness" | "ran_out" | "forgot_zero_grad":
                    control.value = getattr(self, name)
