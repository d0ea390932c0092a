"""A widget that shows a drawing as SVG, and in which some of its values can be changed."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anywidget
import traitlets

from sftviz.drawing import svg

NO_ERROR = {"message": "", "traceback": ""}

_HERE = Path(__file__).parent


class LiveDrawing(anywidget.AnyWidget):
    """Shows a drawing in which some values can be changed.

    `actions` maps a quantity to `toggle` (click, Space, or paint across several), `move` (drag,
    + and -), `type` (a number as text, and Enter) or `choose` (one of several). `values` are those
    that can be changed, by key, and where the lens of a large batch is; `limits` has the largest
    value of a quantity, `names` what a value is called, where its key does not say it. A person's
    changes arrive in `edits`.
    `selected` is the key of the cell that last had focus, `columns` the width of the page in
    character cells. The protocol, with `edits`, `acknowledged` and `generation`, is explained at
    the top of live_drawing.js.
    """

    # Text, not a path: a path is watched for changes, and its watcher keeps every widget alive.
    _esm = (_HERE / "live_drawing.js").read_text("utf-8")
    _css = svg.stylesheet("live") + (_HERE / "live_drawing.css").read_text("utf-8")

    svg = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    actions = traitlets.Dict().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    # No echo: the page would receive it before the picture, and other pages need only the picture.
    edits = traitlets.Dict({"id": 0, "generation": 0, "values": {}}).tag(
        sync=True, echo_update=False
    )
    acknowledged = traitlets.Float(0).tag(sync=True)
    generation = traitlets.Int(0).tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)
    names = traitlets.Dict().tag(sync=True)
    selected = traitlets.Unicode().tag(sync=True)
    columns = traitlets.Int(0).tag(sync=True)
    error = traitlets.Dict(NO_ERROR).tag(sync=True)

    def show(self, markup: str, alt: str, values: dict, acknowledged: float) -> None:
        """Show another drawing, in one message.

        `values` are those that can be changed in it, `acknowledged` is the id of the last edits
        that it includes.
        """
        with self.hold_sync():
            self.svg = markup
            self.alt = alt
            self.values = values
            self.acknowledged = acknowledged

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Show an exception above the drawing; without one, clear the last.

        The front end would write an exception of a callback only to its log.
        """
        try:
            yield
        except Exception as error:
            self.error = {"message": str(error), "traceback": traceback.format_exc()}
        else:
            self.error = NO_ERROR
