"""An inspected batch, with a lens that can be moved to every token and to every finding."""

from dataclasses import dataclass

import ipywidgets

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text
from sftviz.explorers.base import Explorer, Field, Shown, is_index
from sftviz.explorers.controls import NARROW, STYLE, button
from sftviz.inspection.inspection import Inspection

_NONE = "none"


@dataclass(frozen=True)
class _Inspected:
    """The state: an inspection, which is its own result."""

    inspection: Inspection

    def trace(self) -> Inspection:
        return self.inspection


class InspectionExplorer(Explorer):
    """The picture of an inspection, live: move its lens by click, drag and keys, or choose a
    finding to see its first place, and the next ones.

    Args:
        inspection: what `inspect_batch` returned.

    Raises:
        TypeError: it is not an `Inspection`.

    Example:
        >>> from sftviz import inspect_batch
        >>> batch = {"input_ids": [[5, 6, 7, 2]], "labels": [[-100, -100, 7, 2]]}
        >>> InspectionExplorer(inspect_batch(batch)).inspection.num_tokens
        2
    """

    inspection = Field()
    rows = Shown()
    columns = Shown()

    def __init__(self, inspection: Inspection) -> None:
        if not isinstance(inspection, Inspection):
            raise TypeError(
                f"inspection must be an Inspection, got {type(inspection).__name__}: "
                "pass what inspect_batch(...) returned."
            )
        super().__init__(_Inspected(inspection))
        self._place = 0  # of the chosen finding
        names = [
            f"{at} {finding.severity}: {finding.name}"
            for at, finding in enumerate(inspection.findings, start=1)
            if finding.places
        ]
        self._found = [finding for finding in inspection.findings if finding.places]
        menu = ipywidgets.Dropdown(
            options=[_NONE, *names], description="finding", style=STYLE, layout=NARROW
        )
        buttons = {name: button(name) for name in ("next place", "reset")}
        self.assemble({"finding": menu, **buttons})

    def first(self, state: _Inspected) -> tuple[int, ...]:
        return state.inspection.begin

    def has_entry(self, state: _Inspected, index: tuple[int, ...]) -> bool:
        return is_index(index, state.inspection.batch.weights)

    def shape(self, state: _Inspected) -> tuple[int, int]:
        return tuple(state.inspection.batch.weights.shape)

    def begin(self, trace: Inspection) -> tuple[int, int]:
        row, column = trace.begin
        return row, max(0, column - 1)  # with its neighbour

    def draw(
        self, state: _Inspected, trace: Inspection, width: int, lens: tuple[int, int]
    ) -> Drawing:
        return trace.draw(width, columns=lens[1], rows=lens[0])

    def read(
        self, state: _Inspected, trace: Inspection, selected: tuple[int, ...]
    ) -> dict[str, Text]:
        row, _ = selected
        return {
            "num_tokens": Text(str(trace.num_tokens), "response", "num_tokens"),
            f"in row {row + 1}": Text(str(int(trace.response_mask[row].sum())), "response"),
            "findings": Text(str(len(trace.findings)), "loss" if trace.findings else "response"),
        }

    def show_controls(self) -> None:
        """Nothing to show: the menu moves the lens, and the lens can be anywhere."""

    def on_control(self, name: str, value: object) -> None:
        if name == "reset":
            self.controls["finding"].value = _NONE
            super().on_control(name, value)
            return
        chosen = self.controls["finding"].index - 1
        if chosen < 0:
            return
        places = self._found[chosen].places
        self._place = 0 if name == "finding" else (self._place + 1) % len(places)
        self.selected = places[self._place]
