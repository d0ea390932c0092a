"""What all explorers share: a state of a few traits, and a drawing of it that hands can change."""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from operator import is_
from types import MappingProxyType

import ipywidgets
import torch
import traitlets
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Column, Row, Text
from sftviz.inputs import StepInputs
from sftviz.live.widget import NO_ERROR, LiveDrawing
from sftviz.logits import LogitsInputs, LogitsTrace
from sftviz.step import StepTrace
from sftviz.views.parts import readout
from sftviz.views.step import FRAME, NARROWEST, WIDTH

_LARGEST = sys.float_info.max
_ENTRY = re.compile(r"(\w+)\[([\d,]+)\]")  # the key of one entry of a tensor: `grad[1,3]`


class Explorer(ipywidgets.VBox):
    """Controls above a live drawing, both following a state.

    The state is the fields of a batch, each a trait that the subclass declares and has `checked`.
    The subclass draws it in `draw`. What is done to the drawing comes back as new values of those
    traits that hold tensors, what is done to a control through `take`.

    Args:
        start: the state to begin with.
        actions: which tensor traits can be changed in the drawing, and how: see `LiveDrawing`.
        limits: how large entries of these may become by hand.
    """

    selected = traitlets.Tuple((0, 0))  # the index of the entry last touched

    def __init__(
        self,
        start: StepInputs | LogitsInputs,
        actions: Mapping[str, str],
        limits: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.refuse(start)
        super().__init__()
        self._make_batch = type(start)
        self._state = [field.name for field in fields(start)]
        self.add_class("sftviz-explorer")
        self.live = LiveDrawing(actions=dict(actions), limits=dict(limits))
        self.controls: dict[str, ipywidgets.DOMWidget] = {}
        self._is_showing = False  # the state in the controls
        self._run: tuple | None = None  # a state, and its trace
        self._drawn: tuple[object, ...] = ()  # the state that was last drawn
        self._taken = 0.0  # the number of the last edits that the state has in it
        self.live.observe(self._take_edits, "edits")
        self.live.observe(self._take_selected, "selected")
        self.live.observe(self._show_drawing, "columns")
        self.load(start)
        self.observe(self._follow, [*self._state, "selected"])

    @property
    def batch(self) -> StepInputs | LogitsInputs:
        """The state, as one value."""
        return self._make_batch(**{name: getattr(self, name) for name in self._state})

    @property
    def trace(self) -> StepTrace | LogitsTrace:
        """The step, run on the state, once."""
        state = tuple(getattr(self, name) for name in self._state)
        if self._run is None or not all(map(is_, state, self._run[0])):
            self._run = state, self.batch.trace()
        return self._run[1]

    @property
    def drawing(self) -> Drawing:
        """The state as a picture that stands still."""
        return self.draw(self.trace, WIDTH)

    def load(self, batch: StepInputs | LogitsInputs) -> None:
        """Take over all fields of a batch at once."""
        with self.live.hold_sync():  # one message
            with self.hold_trait_notifications():
                for name in self._state:
                    setattr(self, name, getattr(batch, name))
                self.selected = (0, 0)
            self.live.generation += 1

    def checked(self, proposal: dict) -> object:
        """What a trait is to become, refused where the whole state could not be drawn with it."""
        name = proposal["trait"].name
        try:
            batch = replace(self.batch, **{name: proposal["value"]})
            self.refuse(batch)
        except (TypeError, ValueError, RuntimeError) as error:  # the last is torch's own
            raise traitlets.TraitError(str(error)) from error
        value = getattr(batch, name)
        # Of its own: nobody else can change it behind the picture's back.
        return value.detach().clone() if isinstance(value, Tensor) else value

    def refuse(self, batch: StepInputs | LogitsInputs) -> None:
        """Raise a TypeError or ValueError for what can't be the state."""
        batch.trace()

    def holds(self, index: tuple[int, ...]) -> bool:
        """Whether the state has an entry at an index."""
        return True

    def draw(self, trace: StepTrace | LogitsTrace, width: int) -> Drawing:
        """Draw a run of the state to fit a width in cells."""
        raise NotImplementedError

    def read(self, trace: StepTrace | LogitsTrace) -> dict[str, Text]:
        """What the run came to, by name. It stands right below the controls, always in sight."""
        raise NotImplementedError

    def show_controls(self) -> None:
        """Let the controls follow the state."""
        raise NotImplementedError

    def assemble(self, controls: Mapping[str, ipywidgets.DOMWidget], panels: Sequence = ()) -> None:
        """Put controls and panels above the drawing; what changes in controls goes to `take`."""
        self.controls = dict(controls)
        for name, control in controls.items():
            if isinstance(control, ipywidgets.Button):
                control.on_click(lambda _, name=name: self._take_control(name))
            else:
                control.observe(
                    lambda change, name=name: self._take_control(name, change["new"]), "value"
                )
        layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        box = ipywidgets.Box(tuple(controls.values()), layout=layout)
        self.children = (box, *panels, self.live)
        self.redraw()

    def take(self, name: str, value: object) -> None:
        """Take over what a control was set to: by default, the trait of its name."""
        setattr(self, name, value)

    def redraw(self, change: object = None) -> None:
        """Show the state, in the drawing and in the controls. Called when it changes."""
        self._drawn = self._look()
        self._show_drawing()
        self.live.error = NO_ERROR
        self._is_showing = True
        try:
            self.show_controls()
        finally:
            self._is_showing = False

    def edit(self, entries: Mapping[str, float]) -> None:
        """Set entries of the state's tensors by key.

        Raises:
            ValueError: a key names nothing that can be changed in this drawing.
        """
        tensors: dict[str, Tensor] = {}
        for key, value in entries.items():
            name, index = _parse(key)
            if not index or name not in self.live.actions:
                can = ", ".join(self.live.actions) or "nothing"
                raise ValueError(f"{key} can't be changed here: change {can}.")
            tensor = tensors.setdefault(name, getattr(self, name).clone())
            if not is_index(index, tensor):
                raise ValueError(f"{key} is not there: {name} has shape {tuple(tensor.shape)}.")
            if tensor.is_floating_point() and math.isfinite(value):
                largest = torch.finfo(tensor.dtype).max
                if abs(value) > largest:
                    ends = f"{tensor.dtype} ends at {largest:.3g}"
                    raise ValueError(f"{name} can't be {value:g}: {ends}.")
            tensor[index] = value
        with self.hold_trait_notifications():
            for name, tensor in tensors.items():
                setattr(self, name, tensor)

    def _follow(self, change: dict) -> None:
        # Traits that change together are each told of, when all of them hold their new values.
        if not all(map(is_, self._look(), self._drawn)):
            self.redraw()

    def _look(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in (*self._state, "selected"))

    def _show_drawing(self, change: object = None) -> None:
        trace = self.trace
        width = max(NARROWEST, min(self.live.columns or WIDTH, WIDTH))
        drawing = self.draw(trace, width)
        line = Row((Text("  "), readout(self.read(trace), width - FRAME)))
        live = Drawing(Column((line, drawing.scene)), drawing.alt)
        self.live.show(live, self._values(live), self._taken)

    def _values(self, drawing: Drawing) -> dict[str, float | None]:
        """What can be changed in a drawing, by key; None for what JSON has no number for."""
        places: dict[str, dict[str, tuple[int, ...]]] = {name: {} for name in self.live.actions}
        for key in drawing.keys:
            name, index = _parse(key)
            if index and name in places:
                places[name][key] = index
        values = {}
        for name, of in places.items():
            if of:
                entries = getattr(self, name)[tuple(zip(*of.values(), strict=True))]
                values |= zip(of, map(_sent, entries.tolist()), strict=True)
        return values

    def _take_edits(self, change: dict) -> None:
        edits = change["new"]
        if not edits["values"]:  # the page has dropped what was acknowledged
            return
        self._taken = edits["id"]
        if edits["generation"] == self.live.generation:  # else made in a picture that is gone
            with self.live.guard():
                self.edit(edits["values"])
        self.live.acknowledged = self._taken  # also what was refused

    def _take_selected(self, change: dict) -> None:
        index = _parse(change["new"])[1]
        if index and self.holds(index):  # or else the picture that it was in is gone
            self.selected = index

    @traitlets.validate("selected")
    def _check_selected(self, proposal: dict) -> tuple[int, ...]:
        index = proposal["value"]
        if not self.holds(index):
            raise traitlets.TraitError(f"selected must be the index of an entry, got {index}.")
        return index

    @traitlets.observe("selected")
    def _forget_selected(self, change: dict) -> None:
        index = _parse(self.live.selected)[1]
        if index and index != self.selected:
            self.live.selected = ""  # so that going there again is news

    def _take_control(self, name: str, value: object = None) -> None:
        if self._is_showing:  # a control that clips what it is given must not clip the state
            return
        with self.live.guard():
            self.take(name, value)

    def __repr__(self) -> str:
        return self.drawing.text

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        # The picture beside the widget: what a notebook that nobody has run yet can show.
        return super()._repr_mimebundle_(**kwargs) | self.drawing._repr_mimebundle_()


class Required(traitlets.Any):
    """A trait that can't be None, which `Any` would take without a check."""

    allow_none = False


def is_index(index: tuple[int, ...], tensor: Tensor) -> bool:
    """Whether there is one entry of a tensor at an index."""
    return len(index) == tensor.ndim and all(
        0 <= at < size for at, size in zip(index, tensor.shape, strict=True)
    )


def number_box(quantity: str) -> ipywidgets.BoundedFloatText:
    """A box for the entry last touched of a quantity, which `show_number` keeps up to date."""
    # No slider: the front end's rounds what it is shown, and sends that back as if moved.
    layout = {"width": "min(100% - 4px, 21em)"}
    return ipywidgets.BoundedFloatText(
        min=-_LARGEST,
        max=_LARGEST,
        tooltip=quantity,
        style={"description_width": "initial"},
        layout=layout,
    )


def show_number(
    box: ipywidgets.BoundedFloatText, name: str, value: float, limit: float = _LARGEST
) -> None:
    """Let a box hold a number and tell its name. What is no number can't be shown there."""
    box.description = name
    box.layout.visibility = "visible" if math.isfinite(value) else "hidden"
    if math.isfinite(value):
        shown = float(f"{value:.6g}")
        box.max = max(limit, shown)  # what was given may be beyond what a hand may set
        box.value = shown


def show_count(slider: ipywidgets.IntSlider, count: int) -> None:
    """Let a slider stand at a count, however large."""
    slider.max = max(slider.max, count)
    slider.value = count


@lru_cache(maxsize=4096)
def _parse(key: str) -> tuple[str, tuple[int, ...]]:
    """What a key names, and the index of the entry; an empty one where it is no single entry."""
    entry = _ENTRY.fullmatch(key)
    return (entry[1], tuple(map(int, entry[2].split(",")))) if entry else (key, ())


@lru_cache(maxsize=4096)
def _sent(value: float) -> float | None:
    # Six digits are what a float32 is sure of: −0.3, not −0.30000001192092896.
    return float(f"{value:.6g}") if math.isfinite(value) else None
