"""A window of microbatches as a timeline to scrub: what is in `.grad` at every moment."""

from dataclasses import dataclass, fields

import ipywidgets
import torch
import traitlets

from sftviz.accumulation import AccumulationTrace, accumulate
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.explorers.base import Explorer, Required, show_count
from sftviz.rules import MISTAKEN_SCALINGS, SCALINGS
from sftviz.views.accumulation import accumulation_flow, readings

_VOCABULARY = 4  # its gradient is a table small enough to be seen whole
_STYLE = {"description_width": "initial"}
_NARROW = {"width": "max-content", "margin": "2px 12px 2px 2px"}
_NAMES = [rule.name for rule in (*SCALINGS, *MISTAKEN_SCALINGS)]


@dataclass(frozen=True)
class WindowSetting:
    """What a window is made of, and the slips that are made with it.

    B rows a microbatch and G microbatches, whose rows are the more unequal in length the larger
    `unevenness`. `ran_out` leaves the last microbatch out, as at the end of the data.
    `forgot_zero_grad` begins with what the same window left behind the time before.
    """

    scaling: str = "G²"
    B: int = 4
    G: int = 2
    unevenness: float = 1.0
    ran_out: bool = False
    forgot_zero_grad: bool = False

    def trace(self) -> AccumulationTrace:
        """Run the window through a small model, in float64."""
        model = BigramModel(_VOCABULARY, dtype=torch.float64)
        window = make_window(self.B, self.G, unevenness=self.unevenness, vocab_size=_VOCABULARY)
        if self.ran_out:
            window = window[:-1]
        leftover = None
        if self.forgot_zero_grad:
            leftover = accumulate(
                model, window, self.scaling, gradient_accumulation_steps=self.G
            ).grad
        return accumulate(
            model, window, self.scaling, gradient_accumulation_steps=self.G, leftover=leftover
        )


class AccumulationExplorer(Explorer):
    """Microbatch after microbatch, `.grad` grows; then the optimizer steps, then it is cleared.

    Play it, or drag the slider of moments. At each of them the numbers are torch's own `.grad`. The
    rule that the loss is divided by, B, G and the unevenness of the rows can be changed, and the
    classic slips be made. Its state is the fields of `WindowSetting` and the moment reached.

    Raises:
        TypeError, ValueError: what `accumulate` and `make_window` refuse; a `TraitError` where a
            trait is set.

    Example:
        >>> explorer = AccumulationExplorer(B=4, G=2)
        >>> round(explorer.trace.ratio, 6)
        2.0
        >>> explorer.scaling = "B·G"
        >>> round(explorer.trace.ratio, 6)
        1.0
    """

    scaling = Required()
    B = Required()
    G = Required()
    unevenness = Required()
    ran_out = Required()
    forgot_zero_grad = Required()
    reached = traitlets.Int(0, min=0)  # moments of the window that are over

    def __init__(self, **setting: object) -> None:
        start = WindowSetting(**setting)
        super().__init__(start, actions={})
        self.reached = len(self.trace.microbatches) + 2
        self.observe(self.redraw, "reached")
        self._play = ipywidgets.Play(interval=900, show_repeat=False)
        moments = ipywidgets.IntSlider(description="moment", style=_STYLE)
        ipywidgets.jslink((self._play, "value"), (moments, "value"))
        self.assemble(
            {
                "play": self._play,
                "reached": moments,
                "scaling": ipywidgets.Dropdown(
                    options=_NAMES, description="divided by", style=_STYLE, layout=_NARROW
                ),
                "B": ipywidgets.IntSlider(min=1, max=8, description="B", style=_STYLE),
                "G": ipywidgets.IntSlider(min=2, max=8, description="G", style=_STYLE),
                "unevenness": ipywidgets.FloatSlider(
                    max=1.0, step=0.25, description="unevenness", style=_STYLE
                ),
                "ran_out": ipywidgets.Checkbox(
                    description="the data ran out", indent=False, layout=_NARROW
                ),
                "forgot_zero_grad": ipywidgets.Checkbox(
                    description="forgot zero_grad()", indent=False, layout=_NARROW
                ),
            }
        )

    def draw(self, trace: AccumulationTrace, width: int) -> Drawing:
        return accumulation_flow(trace, self.reached, width)

    def read(self, trace: AccumulationTrace) -> dict[str, Text]:
        return readings(trace, self.reached)

    def show_controls(self) -> None:
        moments = len(self.trace.microbatches) + 2
        for name, control in self.controls.items():
            if name in ("play", "reached"):
                control.max = moments
            if name in ("B", "G"):
                show_count(control, getattr(self, name))
            elif name != "play":
                control.value = getattr(self, name)

    def take(self, name: str, value: object) -> None:
        if name != "play":  # which moves the slider of moments
            super().take(name, value)

    @traitlets.validate(*(field.name for field in fields(WindowSetting)))
    def _check(self, proposal: dict) -> object:
        return self.checked(proposal)
