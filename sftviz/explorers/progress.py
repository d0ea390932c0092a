"""How far a long run is: a bar and a line, which can also be read before it has run."""

from html import escape

import ipywidgets


class Progress(ipywidgets.HBox):
    """A bar with a line of text beside it. Both are set by `show`.

    In a notebook that was not run, and in a terminal, it is the line alone.

    Example:
        >>> progress = Progress(150, "windows")
        >>> progress.show(40, "loss 1.25")
        >>> progress
        40 of 150 windows: loss 1.25
    """

    def __init__(self, most: int, units: str) -> None:
        # HTML, because a label's text is typeset as mathematics.
        self._bar, self._text = ipywidgets.IntProgress(max=most), ipywidgets.HTML()
        self._units = units
        super().__init__((self._bar, self._text))
        self.show(0)

    def show(self, done: int, note: str = "") -> None:
        """Move the bar to `done`, and write it with a note beside the bar."""
        self._bar.value = done
        self._line = f"{done} of {self._bar.max} {self._units}" + (f": {note}" if note else "")
        self._text.value = escape(self._line)

    def __repr__(self) -> str:
        return self._line
