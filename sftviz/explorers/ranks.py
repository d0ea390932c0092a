"""A window on several ranks as a timeline: what is in each rank's `.grad`, and the all-reduce."""

import time
from dataclasses import dataclass

import ipywidgets
import torch

from sftviz.averaging import RanksTrace, average_over_ranks, find_rank_scaling
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Text
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.ranks import VOCABULARY, RankedWindow, check_ranks, run_window
from sftviz.explorers.base import Field
from sftviz.explorers.controls import SPACED, STYLE, button, code_button, count_slider, show_count
from sftviz.explorers.timeline import Timeline
from sftviz.rules import RANK_SCALINGS
from sftviz.validate import check_count
from sftviz.views.ranks import ranks_flow, readings

_AXES = ("the token that is read", "the token that comes next")
_ONE_PROCESS = "Computed in one process, rank after rank."


@dataclass(frozen=True)
class RanksSetting:
    """The window of a `RanksExplorer`."""

    ranks: int = 2  # W
    B: int = 3
    G: int = 4
    scaling: str = "B·G"
    unevenness: float = 1.0  # how much the lengths of the rows differ, from 0 to 1
    reached: int | None = None  # moments that are over; None: all, also when G changes

    def __post_init__(self) -> None:
        check_ranks(self.ranks)
        rule = find_rank_scaling(self.scaling)
        if rule not in RANK_SCALINGS:
            names = ", ".join(rule.name for rule in RANK_SCALINGS)
            raise ValueError(f"scaling must be one of {names} here, got a rule {rule.name!r}.")
        object.__setattr__(self, "scaling", rule.name)
        if self.reached is not None:
            check_count("reached", self.reached, "it is a number of moments", least=0)

    @property
    def moments(self) -> int:
        """One per microbatch, then the all-reduce, then the optimizer's step."""
        return self.G + 2

    @property
    def over(self) -> int:
        """How many of the moments are over."""
        return self.moments if self.reached is None else min(self.reached, self.moments)

    @property
    def window(self) -> tuple[int, int, int, str, float]:
        """The arguments of `run_window`."""
        return self.ranks, self.B, self.G, self.scaling, self.unevenness

    def trace(self) -> RanksTrace:
        """Run the window through a small model, in float64, rank after rank."""
        G = self.G
        check_count("G", G, "it is the number of microbatches of a rank")
        model = BigramModel(VOCABULARY, dtype=torch.float64)
        window = make_window(
            self.B, self.ranks * G, unevenness=self.unevenness, vocab_size=VOCABULARY
        )
        shares = [window[rank * G : (rank + 1) * G] for rank in range(self.ranks)]
        return average_over_ranks(model, shares, self.scaling)


class RanksExplorer(Timeline):
    """W ranks add to their own `.grad`; then the gradients are averaged; then the optimizer steps.

    Play it, or drag the slider of moments. W, B, G, the rule and the unevenness of the rows can be
    changed. The numbers are torch's `.grad`, of one rank after another in this process, because
    processes need seconds to start: on two cores about 5 s for two of them, and 13 s for eight. The
    button "real processes" starts W of them, with DistributedDataParallel and gloo, and writes
    below the picture how far their numbers are from those shown. The state is a `RanksSetting`.

    Raises:
        TypeError, ValueError: what `average_over_ranks` and `make_window` refuse; a `TraitError` if
            a field is set later.

    Example:
        >>> explorer = RanksExplorer(ranks=3, B=2, G=4, scaling="tokens")
        >>> round(explorer.trace.ratio, 6)
        0.333333
        >>> explorer.scaling = "tokens/W"
        >>> round(explorer.trace.ratio, 6)
        1.0
    """

    ranks = Field()
    B = Field()
    G = Field()
    scaling = Field()
    unevenness = Field()

    def __init__(self, **setting: object) -> None:
        self._notes: dict[tuple, str] = {}  # what the processes of a window have measured
        super().__init__(RanksSetting(**setting))
        self.assemble(
            {
                **self.moment_controls(),
                "reset": button("reset"),
                "ranks": count_slider("W", "ranks", least=2, most=4),
                "B": count_slider("B", "rows of a microbatch", most=8),
                "G": count_slider("G", "microbatches of a rank", most=8),
                "scaling": ipywidgets.Dropdown(
                    options=[rule.name for rule in RANK_SCALINGS],
                    description="divided by",
                    style=STYLE,
                    layout=SPACED,
                ),
                "unevenness": ipywidgets.FloatSlider(
                    max=1.0, step=0.01, description="unevenness", style=STYLE
                ),
                "processes": button("real processes"),
                "code": code_button(),
            }
        )

    def draw(self, state: RanksSetting, trace: RanksTrace, width: int, lens: object) -> Drawing:
        note = self._notes.get(state.window, _ONE_PROCESS)
        return ranks_flow(trace, state.over, width, _AXES, note)

    def read(
        self, state: RanksSetting, trace: RanksTrace, selected: tuple[int, ...]
    ) -> dict[str, Text]:
        return readings(trace, state.over)

    def show_controls(self) -> None:
        super().show_controls()
        for name, control in self.controls.items():
            match name:
                case "ranks" | "B" | "G":
                    show_count(control, getattr(self, name))
                case "scaling" | "unevenness":
                    control.value = getattr(self, name)

    def on_control(self, name: str, value: object = None) -> None:
        if name == "processes":
            self.run_processes()
        else:
            super().on_control(name, value)

    def run_processes(self) -> None:
        """Run the window on W real processes, once, and say below the picture what came.

        Raises:
            TimeoutError, RuntimeError: what `run_window` raises.
        """
        window, ranks = self.state.window, self.ranks
        if window in self._notes:
            return
        self._notes[window] = f"{ranks} processes are starting: this takes some seconds …"
        self.redraw()
        began = time.monotonic()
        try:
            found = run_window(*window)
        except BaseException:
            del self._notes[window]
            self.redraw()
            raise
        self._notes[window] = (
            f"Run on {ranks} real processes too, in {time.monotonic() - began:.0f} s: the largest "
            f"difference from the numbers shown is {number(difference(self.trace, found))}."
        )
        self.redraw()


def difference(trace: RanksTrace, found: RankedWindow) -> float:
    """The largest between what is computed and what processes left, after every microbatch."""
    pairs = [
        (record.grad, own)
        for rank, owns in zip(trace.ranks, found.own, strict=True)
        for record, own in zip(rank.microbatches, owns, strict=True)
    ]
    pairs += [(trace.grad, average) for average in found.average]
    return max(
        (grad["table"].flatten() - torch.tensor(there, dtype=torch.float64)).abs().max().item()
        for grad, there in pairs
    )
