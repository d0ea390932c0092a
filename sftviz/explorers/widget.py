"""What shows a live drawing has a still picture beside it, which a notebook keeps."""

import re

import ipywidgets

from sftviz.drawing.drawing import Drawing
from sftviz.live.widget import LiveDrawing
from sftviz.views.parts import NARROWEST

_ENTRY = re.compile(r"(\w+)\[([\d,]+)\]")  # the key of one entry of a tensor: `grad[1,3]`
_VIEW = "application/vnd.jupyter.widget-view+json"


class LiveWidget(ipywidgets.VBox):
    """A live drawing, and what stands around it."""

    def __init__(self, live: LiveDrawing, **traits: object) -> None:
        super().__init__(**traits)
        self.add_class("sftviz-explorer")
        self.live = live

    @property
    def drawing(self) -> Drawing:
        """What it shows, as a still picture."""
        raise NotImplementedError

    def fit(self, width: int) -> int:
        """The width of a picture on the page, in cells: at most this."""
        return max(NARROWEST, min(self.live.columns or width, width))

    def close(self) -> None:
        """Close this widget and every widget that belongs to it."""
        close_all(self)

    def __repr__(self) -> str:
        return self.drawing.text

    def _repr_html_(self) -> str:
        return self.drawing._repr_html_()

    _ipython_display_ = None  # where ipywidgets 7 has one, it would leave out the picture

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict[str, object], dict[str, object]]:
        # The picture beside the widget: what a notebook shows before it has run. The widget as
        # anywidget shows one of its own, which adds what Colab needs.
        data, metadata = self.live._repr_mimebundle_(**kwargs)
        view = data[_VIEW] | {"model_id": self.model_id}
        return {_VIEW: view, "text/plain": repr(self), "text/html": self._repr_html_()}, metadata


def parse_key(key: str) -> tuple[str, tuple[int, ...]]:
    """The name and the index in the key of one entry; for other keys the index is empty."""
    entry = _ENTRY.fullmatch(key)
    return (entry[1], tuple(map(int, entry[2].split(",")))) if entry else (key, ())


def close_all(widget: ipywidgets.Widget) -> None:
    """Close a widget and all widgets that it consists of."""
    for part in _parts_of(widget, []):
        ipywidgets.Widget.close(part)


def _parts_of(widget: ipywidgets.Widget, seen: list[ipywidgets.Widget]) -> list[ipywidgets.Widget]:
    """A widget and all widgets that it consists of: children, layouts, styles, links."""
    if widget not in seen:
        seen.append(widget)
        for value in (*widget._trait_values.values(), getattr(widget, "_links", ())):
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ipywidgets.Widget):
                    _parts_of(part, seen)
    return seen
