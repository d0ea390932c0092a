"""The drawing as an input: one widget that shows an SVG and reports what was done to it."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import anywidget
import traitlets

from sftviz.drawing import svg
from sftviz.drawing.drawing import Drawing

NO_ERROR = {"message": "", "traceback": ""}

_HERE = Path(__file__).parent


class LiveDrawing(anywidget.AnyWidget):
    """Shows a drawing, and lets some of the values in it be changed.

    `actions` maps a quantity to what can be done to it: `toggle` (click, Space; painting across) or
    `move` (drag, + and -). `values` holds what those quantities are, by key, and `limits` says how
    large one may become. What hands have set arrives in `edits`, likewise by key and with a number,
    which goes back in `answered`. `loads` counts how often all values were replaced. Edits name the
    count that they were made under, since what is gone can't be edited. `selected` is the key of
    the value last touched, `columns` the width in cells that the page has room for.
    """

    _esm = _HERE / "live_drawing.js"
    _css = svg.stylesheet("live") + (_HERE / "live_drawing.css").read_text("utf-8")

    svg = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    actions = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    # Not echoed: what other pages need to hear is the picture, and this one waits for nothing else.
    edits = traitlets.Dict({"at": 0, "loads": 0, "values": {}}).tag(sync=True, echo_update=False)
    answered = traitlets.Float(0).tag(sync=True)
    loads = traitlets.Int(0).tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)
    selected = traitlets.Unicode().tag(sync=True)
    columns = traitlets.Int(0).tag(sync=True)
    error = traitlets.Dict(NO_ERROR).tag(sync=True)

    raises: ClassVar[bool] = False
    """Whether `guard` lets exceptions through: tests want them, a reader wants a sentence."""

    def show(self, drawing: Drawing, values: dict[str, float | None], answered: float) -> None:
        """Show a drawing in place of the one before, in one message.

        `values` are those that can be changed in it, `answered` the number of the last edits that
        it has in it.
        """
        with self.hold_sync():
            self.svg = svg.markup(drawing.page)
            self.alt = drawing.alt
            self.values = values
            self.answered = answered

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Show an exception above the drawing, where its cause was; clear it when all goes well.

        A front end keeps what a callback raises in a log that nobody opens.
        """
        try:
            yield
        except Exception as error:
            if self.raises:
                raise
            self.error = {"message": str(error), "traceback": traceback.format_exc()}
        else:
            self.error = NO_ERROR
