"""All rules side by side as arrows: which divisor gives the gradient of the full batch?"""

from dataclasses import dataclass

import ipywidgets
import torch

from sftviz.accumulation import accumulate
from sftviz.directions import Direction, directions
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Text
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.explorers.base import Explorer, Field
from sftviz.explorers.controls import (
    STYLE,
    button,
    checkbox,
    code_button,
    count_slider,
    show_count,
)
from sftviz.views.directions import directions_view

RULES = ("none", "G", "G²", "B·G", "tokens", "averaged averages")


@dataclass(frozen=True)
class DirectionsSetting:
    """The window of a `DivisorExplorer`."""

    B: int = 3
    G: int = 4
    unevenness: float = 1.0  # how much the lengths of the rows differ, from 0 to 1
    ran_out: bool = False  # the last microbatch is missing, as at the end of the data

    def trace(self) -> tuple[Direction, ...]:
        """Run the window through a small model under every rule, in float64."""
        model = BigramModel(dtype=torch.float64)
        window = make_window(self.B, self.G, unevenness=self.unevenness)
        if self.ran_out:
            window = window[:-1]
        G = self.G
        return directions(
            [accumulate(model, window, rule, gradient_accumulation_steps=G) for rule in RULES]
        )


class DivisorExplorer(Explorer):
    """The microbatches of a window head to tail, and where each rule arrives.

    Move B, G and the unevenness of the rows: all rules follow. Every arrow is the real `.grad` of a
    small model after `backward()`, and the full batch is one backward pass over all rows. The state
    is a `DirectionsSetting`.

    Raises:
        TypeError, ValueError: what `accumulate` and `make_window` refuse; a `TraitError` if a field
            is set later.

    Example:
        >>> explorer = DivisorExplorer(B=3, G=4)
        >>> {at.rule: round(at.length, 6) for at in explorer.trace}["G²"]
        0.75
    """

    B = Field()
    G = Field()
    unevenness = Field()
    ran_out = Field()

    def __init__(self, **setting: object) -> None:
        super().__init__(DirectionsSetting(**setting))
        self.assemble(
            {
                "reset": button("reset"),
                "B": count_slider("B", "rows of a microbatch", most=8),
                "G": count_slider("G", "gradient_accumulation_steps", least=2, most=8),
                "unevenness": ipywidgets.FloatSlider(
                    max=1.0, step=0.01, description="unevenness", style=STYLE
                ),
                "ran_out": checkbox("the data ran out"),
                "code": code_button(),
            }
        )

    def draw(
        self, state: DirectionsSetting, trace: tuple[Direction, ...], width: int, lens: object
    ) -> Drawing:
        return directions_view(trace, width)

    def read(
        self, state: DirectionsSetting, trace: tuple[Direction, ...], selected: tuple[int, ...]
    ) -> dict[str, Text]:
        by_rule = {at.rule: at for at in trace}
        return {
            "length under ÷ G²": Text(number(by_rule["G²"].length), "masked_sum"),
            "angle of averaged averages": Text(
                f"{round(by_rule['averaged averages'].degrees)}°", "scaled_loss"
            ),
        }

    def show_controls(self) -> None:
        for name, control in self.controls.items():
            match name:
                case "B" | "G":
                    show_count(control, getattr(self, name))
                case "unevenness" | "ran_out":
                    control.value = getattr(self, name)
