"""What all explorers have in common: one state, a picture of it, and controls that change it."""

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import wraps
from html import escape
from types import MappingProxyType

import ipywidgets
import torch
import traitlets
from torch import Tensor

from sftviz.drawing import svg
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Column, Outline, Row, Text, lower
from sftviz.explorers.code import written
from sftviz.explorers.widget import LiveWidget, close_all, parse_key
from sftviz.live.widget import NO_ERROR, LiveDrawing
from sftviz.views.focus import starts
from sftviz.views.overview import asked
from sftviz.views.parts import FRAME, WIDTH, readout

_SCROLLS = '<pre tabindex="0" style="max-height: 24em; overflow: auto">'  # long code; by key too


def _one_at_a_time(method: Callable) -> Callable:
    """Let a change wait until the one before it is made: a front end may use several threads."""

    @wraps(method)
    def waiting(self: "Explorer", *args: object, **named: object) -> object:
        with self._lock:
            return method(self, *args, **named)

    return waiting


class Field(traitlets.TraitType):
    """A field of an explorer's state, which can be read, set, observed and linked like a trait.

    Reading gives a copy of a tensor, setting replaces the whole state.
    """

    def get(self, explorer: "Explorer", cls: type | None = None) -> object:
        value = getattr(explorer.state, self.name)
        return value.clone() if isinstance(value, Tensor) else value

    def set(self, explorer: "Explorer", value: object) -> None:
        explorer.update(**{self.name: value})


class _Selected(traitlets.TraitType):
    def get(self, explorer: "Explorer", cls: type | None = None) -> tuple[int, ...]:
        return explorer._selected

    def set(self, explorer: "Explorer", index: tuple[int, ...]) -> None:
        if not explorer.has_entry(explorer.state, index):
            raise traitlets.TraitError(f"selected must be the index of an entry, got {index}.")
        explorer._look(index)


class Shown(traitlets.TraitType):
    """The first of the rows or columns that the grids of an explorer show, from 0.

    Setting it moves the lens, as a click in the overview does.
    """

    def get(self, explorer: "Explorer", cls: type | None = None) -> int:
        return explorer._first_shown[("rows", "columns").index(self.name)]

    def set(self, explorer: "Explorer", wish: int | range | slice) -> None:
        explorer.move_lens(**{self.name: wish})


class Explorer(LiveWidget):
    """Controls above a live drawing. Both show one state: a frozen dataclass that can be run.

    The state is replaced as a whole: a new one is run and drawn first, and only then it counts. So
    what can't be run, drawn or shown in the controls leaves everything unchanged. A subclass
    declares each field of its state as a `Field`.

    Args:
        state: the state to begin with.
        actions: which tensors can be changed in the drawing, and how: see `LiveDrawing`.
        limits: the largest value that such a tensor can be changed to in the drawing.
        traits: start values of other traits.
    """

    selected = _Selected()  # the index of the entry that was selected last

    widest = WIDTH  # cells, of the picture on a page

    _lens = (0, 0)  # the row and the column that the grids begin with, if not all have room
    _outline: Outline | None = None  # what is shown on the page; None: all
    _draft: dict[str, object] | None = None  # fields set inside hold_trait_notifications

    def __init__(
        self,
        state: object,
        actions: Mapping[str, str] = MappingProxyType({}),
        limits: Mapping[str, float] = MappingProxyType({}),
        **traits: object,
    ) -> None:
        self._lock = threading.RLock()
        super().__init__(LiveDrawing(actions=dict(actions), limits=dict(limits)), **traits)
        self.controls: dict[str, ipywidgets.DOMWidget] = {}
        self._links: list[ipywidgets.Widget] = []
        self._is_showing_controls = False
        self._edits_id = 0.0  # of the last edits that are part of the state
        self._start = state
        self._become(state, state.trace(), self.first(state))
        self.live.observe(self._on_edits, "edits")
        self.live.observe(self._on_selected, "selected")
        self.live.observe(self._fit_width, "columns")

    @property
    def state(self) -> object:
        """The state, as one value."""
        return self._state

    @property
    def trace(self) -> object:
        """The run of the state."""
        return self._trace

    @property
    def drawing(self) -> Drawing:
        """The state as a still picture."""
        return self.draw(self.state, self.trace, WIDTH, self._lens)

    @property
    def code(self) -> str:
        """The lines of Python that make an explorer with this state."""
        return written(type(self).__name__, self.state)

    def first(self, state: object) -> tuple[int, ...]:
        """The entry that is selected at first."""
        return (0, 0)

    def shape(self, state: object) -> tuple[int, int]:
        """The number of rows and of columns that a lens can be moved over."""
        return 1, 1

    def begin(self, trace: object) -> tuple[int, int]:
        """Where the lens is at first. It stays there while the batch is edited."""
        return 0, 0

    def has_entry(self, state: object, index: tuple[int, ...]) -> bool:
        """Whether a state has an entry at an index, so that it can be selected."""
        return True

    def draw(self, state: object, trace: object, width: int, lens: tuple[int, int]) -> Drawing:
        """Draw a run of a state, to fit a width in cells, with the lens at a row and a column."""
        raise NotImplementedError

    def read(self, state: object, trace: object, selected: tuple[int, ...]) -> dict[str, Text]:
        """The results of a run by name. They are always visible, right below the controls."""
        raise NotImplementedError

    def show_controls(self) -> None:
        """Set the controls to the state."""
        raise NotImplementedError

    def on_control(self, name: str, value: object) -> None:
        """React to a control: reset, show the code, or set the field of its name."""
        match name:
            case "reset":
                self.load(self._start)
            case "code":
                self.redraw()
            case _:
                setattr(self, name, value)

    @_one_at_a_time
    def load(self, state: object) -> None:
        """Replace the state, and select its first entry.

        Raises:
            TypeError, ValueError, RuntimeError: it can't be run or drawn; nothing has changed.
        """
        names = [field.name for field in fields(state)]
        changed = [*names, *self._view_traits]
        self._become(state, state.trace(), self.first(state), changed, is_new_generation=True)

    def update(self, **changes: object) -> None:
        """Replace several fields of the state at once.

        Raises:
            TraitError: the state can't be run or drawn with them; nothing has changed.
        """
        self._update(changes)

    @_one_at_a_time
    def _update(self, changes: Mapping[str, object], *, is_edit: bool = False) -> None:
        if self._draft is not None:
            self._draft |= changes
            return
        changed = [name for name in changes if _differs(changes[name], getattr(self.state, name))]
        if not changed:
            return
        try:
            state = replace(self.state, **changes)
            is_there = self.has_entry(state, self.selected)
            selected = self.selected if is_there else self.first(state)
            is_same_batch = is_edit or not any(
                isinstance(getattr(state, name), Tensor) for name in changed
            )
            lens = self._lens if is_same_batch else None
            self._become(state, state.trace(), selected, [*changed, *self._view_traits], lens)
        except Exception as error:  # torch raises many kinds
            raise traitlets.TraitError(str(error)) from error

    @_one_at_a_time
    def move_lens(
        self, rows: int | range | slice | None = None, columns: int | range | slice | None = None
    ) -> None:
        """Show other rows and columns of a batch that has no room: those from given ones on.

        Raises:
            TraitError: the batch does not have them.
        """
        (B, S), (row, column) = self.shape(self.state), self._first_shown
        try:
            lens = asked("rows", rows, B, row)[0], asked("columns", columns, S, column)[0]
        except (TypeError, ValueError) as error:
            raise traitlets.TraitError(str(error)) from error
        self._become(self.state, self.trace, self.selected, self._view_traits, lens)

    @_one_at_a_time
    def edit(self, entries: Mapping[str, float]) -> None:
        """Set entries of the state's tensors by key, such as `response_mask[0,2]`.

        Raises:
            ValueError: a key does not name an entry that can be changed in this drawing.
        """
        tensors: dict[str, Tensor] = {}
        for key, value in entries.items():
            name, index = parse_key(key)
            if not index or name not in self.live.actions:
                can = ", ".join(self.live.actions) or "nothing"
                raise ValueError(f"{key} can't be changed here: change {can}.")
            tensor = tensors.setdefault(name, getattr(self, name))
            if not is_index(index, tensor):
                raise ValueError(f"{key} does not exist: {name} has shape {tuple(tensor.shape)}.")
            if tensor.is_floating_point() and math.isfinite(value):
                largest = torch.finfo(tensor.dtype).max
                if abs(value) > largest:
                    limit = f"the largest {tensor.dtype} is {largest:.3g}"
                    raise ValueError(f"{name} can't be {value:g}: {limit}.")
            tensor[index] = value
            if not tensor.is_floating_point() and tensor[index] != value:  # 0.5 would become 0 or 1
                raise ValueError(f"{key} can't be {value:g}: {name} has dtype {tensor.dtype}.")
        self._update(tensors, is_edit=True)

    @contextmanager
    def hold_trait_notifications(self) -> Iterator[None]:
        """Inside it, fields can be set one after another; they are checked and drawn together."""
        if self._draft is not None:
            yield
            return
        changes = self._draft = {}
        try:
            with super().hold_trait_notifications():
                yield
        finally:
            self._draft = None
        if changes:
            self.update(**changes)

    def _become(
        self,
        state: object,
        trace: object,
        selected: tuple[int, ...],
        changed: Sequence[str] = (),
        lens: tuple[int, int] | None = None,
        *,
        is_new_generation: bool = False,
    ) -> None:
        """Draw a state and a selection. If that succeeds, they are those of this explorer."""
        lens = self.begin(trace) if lens is None else lens
        outline, *picture = self._picture(state, trace, selected, lens)
        if outline:
            lens = outline.rows.first, outline.columns.first
            if (inside := _inside(selected, outline)) != selected:
                selected = inside
                outline, *picture = self._picture(state, trace, selected, lens)
        before = {name: getattr(self, name) for name in changed}
        last = (self._state, self._trace, self._selected) if self.controls else ()
        was_at, self._lens = self._lens, lens
        self._state, self._trace, self._selected = state, trace, selected
        self._outline = outline
        with self.live.hold_sync():  # one message
            if is_new_generation:  # changes that were made in the old picture are void
                self.live.generation += 1
            if parse_key(self.live.selected)[1] not in ((), selected):
                self.live.selected = ""  # so that selecting the same again is a change
            self.live.error = NO_ERROR
            self.live.show(*picture, self._edits_id)
        if self.controls:
            try:
                self._show_controls()
            except Exception:  # one of them does not take this value
                self._become(*last, lens=was_at)
                raise
        for name, old in before.items():
            new = getattr(self, name)
            if _differs(new, old):
                self._notify_trait(name, old, new)

    def assemble(
        self, controls: Mapping[str, ipywidgets.DOMWidget], shown: Collection[str] | None = None
    ) -> None:
        """Put controls above the drawing, and call `on_control` when one is used.

        Those that are not among `shown` are closed: a widget stays in memory otherwise.
        """
        self.controls = {
            name: control for name, control in controls.items() if shown is None or name in shown
        }
        for name in controls.keys() - self.controls.keys():
            close_all(controls[name])
        for name, control in self.controls.items():
            if isinstance(control, ipywidgets.Button):
                control.on_click(lambda _, name=name: self._on_control(name))
            else:
                control.observe(
                    lambda change, name=name: self._on_control(name, change["new"]), "value"
                )
        layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        box = ipywidgets.Box(tuple(self.controls.values()), layout=layout)
        self._code = ipywidgets.HTML(layout={"display": "none"})
        self.children = (box, self._code, self.live)
        self._show_controls()

    @_one_at_a_time
    def redraw(self, change: object = None) -> None:
        """Draw the state again, and set the controls to it."""
        self._become(self.state, self.trace, self.selected, lens=self._lens)

    @property
    def _view_traits(self) -> list[str]:
        """The traits that say what is looked at."""
        return [name for name in ("selected", "rows", "columns") if self.has_trait(name)]

    @_one_at_a_time
    def _look(self, index: tuple[int, ...]) -> None:
        """Select an entry, and move the lens if its token is not shown."""
        lens = self._lens
        if self._outline:
            (first_row, first_column), inside = self._first_shown, _inside(index, self._outline)
            lens = first_row + index[0] - inside[0], first_column + index[1] - inside[1]
        self._become(self.state, self.trace, index, self._view_traits, lens)

    @property
    def _first_shown(self) -> tuple[int, int]:
        """The first row and the first column that are shown on the page."""
        outline = self._outline
        return (outline.rows.first, outline.columns.first) if outline else (0, 0)

    def _picture(
        self,
        state: object,
        trace: object,
        selected: tuple[int, ...],
        lens: tuple[int, int],
    ) -> tuple:
        """The part of a state that is shown (None: all of it), and all that the page shows of it,
        complete: its markup, description and values."""
        width = self.fit(self.widest)
        drawing = self.draw(state, trace, width, lens)
        line = Row((Text("  "), readout(self.read(state, trace, selected), width - FRAME)))
        page = lower(Column((line, drawing.scene)))
        values = self._values(state, page.keys)
        outline = page.outline
        if outline is None:
            return None, svg.markup(page), drawing.alt, values
        for name, span in (("row", outline.rows), ("column", outline.columns)):
            values[f"lens[{name}]"] = span.first
            values |= {f"lens[{name}s]": span.count, f"lens[all {name}s]": span.total}
        return outline, svg.markup(page), drawing.alt, values

    def _show_controls(self) -> None:
        self._is_showing_controls = True
        try:
            self.show_controls()
            is_code_shown = "code" in self.controls and self.controls["code"].value
            self._code.value = f"{_SCROLLS}{escape(self.code)}</pre>" if is_code_shown else ""
            self._code.layout.display = None if is_code_shown else "none"
        finally:
            self._is_showing_controls = False

    def _values(self, state: object, keys: Sequence[str]) -> dict[str, float | None]:
        """The values that can be changed in a drawing, by key; None for NaN and infinity."""
        indices: dict[str, dict[str, tuple[int, ...]]] = {name: {} for name in self.live.actions}
        for key in keys:
            name, index = parse_key(key)
            if index and name in indices:
                indices[name][key] = index
        values = {}
        for name, index_of in indices.items():
            if index_of:
                entries = getattr(state, name)[tuple(zip(*index_of.values(), strict=True))]
                values |= zip(index_of, map(_rounded, entries.tolist()), strict=True)
        return values

    @_one_at_a_time
    def _fit_width(self, change: dict) -> None:
        # Only the picture: a message about a wrong value, and that value in its control, stay.
        self._outline, *picture = self._picture(self.state, self.trace, self.selected, self._lens)
        self.live.show(*picture, self._edits_id)

    @_one_at_a_time
    def _on_edits(self, change: dict) -> None:
        edits = change["new"]
        self._edits_id = edits["id"]
        is_current = edits["generation"] == self.live.generation  # else of a picture that is gone
        if edits["values"] and is_current:
            entries = dict(edits["values"])
            rows, columns = (entries.pop(f"lens[{name}]", None) for name in ("row", "column"))
            with self.live.guard():
                if (rows, columns) != (None, None):
                    self.move_lens(rows, columns)
                if entries:
                    self.edit(entries)
        self.live.acknowledged = self._edits_id  # also what was refused, and what was empty

    @_one_at_a_time
    def _on_selected(self, change: dict) -> None:
        index = parse_key(change["new"])[1]
        is_there = index and self.has_entry(self.state, index)
        if is_there and _inside(index, self._outline) == index:  # else from a picture that is gone
            self.selected = index

    @_one_at_a_time
    def _on_control(self, name: str, value: object = None) -> None:
        if self._is_showing_controls:  # a control may round what it shows; the state must not
            return
        with self.live.guard():
            self.on_control(name, value)


def is_index(index: tuple[int, ...], tensor: Tensor) -> bool:
    """Whether a tensor has one entry at an index."""
    return len(index) == tensor.ndim and all(
        0 <= at < size for at, size in zip(index, tensor.shape, strict=True)
    )


def _inside(index: tuple[int, ...], outline: Outline | None) -> tuple[int, ...]:
    """The index of an entry of a token; if that token is not shown, of the next one that is."""
    if outline is None:
        return index
    spans = outline.rows, outline.columns
    place = [
        min(max(at, span.first), span.first + span.count - 1)
        for at, span in zip(index, spans, strict=False)
    ]
    return (*place, *index[2:])


def first_counted(mask: Tensor) -> tuple[int, ...]:
    """The index of the first response token of a mask, (B, S); without one, of the first token."""
    return next(iter(starts(mask)), (0, 0))


def _differs(new: object, old: object) -> bool:
    return isinstance(old, Tensor) or type(new) is not type(old) or new != old


def _rounded(value: float) -> float | None:
    # A float32 has six reliable digits: −0.3, not −0.30000001192092896.
    return float(f"{value:.6g}") if math.isfinite(value) else None
