"""A scene that can show and save itself."""

import base64
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from sftviz.drawing import svg, text
from sftviz.drawing.scene import Cell, Node, Page, lower


@dataclass(frozen=True, repr=False)
class Drawing:
    """A picture with a sentence that says what is in it.

    In a notebook it shows as an image with that sentence as its alternative text, in a terminal as
    text. It never displays itself: it is a value, returned by a view and shown by whoever asks.
    """

    scene: Node
    alt: str

    @cached_property
    def text(self) -> str:
        """The drawing in Unicode text, for terminals and screen readers."""
        return text.draw(self.scene)

    @cached_property
    def svg(self) -> str:
        """The drawing as an SVG document that needs nothing else."""
        return svg.draw(self.scene)

    @cached_property
    def page(self) -> Page:
        """The drawing as marks on a page."""
        return lower(self.scene)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What values the drawing frames: `grad[1,3]`, `loss`, each once a frame."""
        shapes = [shape for _, _, shape in self.page.marks]
        return tuple([shape.key for shape in shapes if isinstance(shape, Cell) and shape.key])

    def save(self, path: str | Path) -> Path:
        """Write the drawing as `.svg`, `.png`, `.pdf` or `.txt`, by the ending of the path.

        The same drawing gives the same bytes.

        Raises:
            ValueError: the ending is none of these.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".txt":
                path.write_text(self.text + "\n", encoding="utf-8")
            case ".svg":
                path.write_text(self.svg, encoding="utf-8")
            case ".png" | ".pdf":
                from sftviz.drawing import mpl

                mpl.save(self.scene, path)
            case ending:
                raise ValueError(
                    f"a drawing can't be saved as {ending or 'a file without ending'!r}: "
                    "give a path that ends in .svg, .png, .pdf or .txt."
                )
        return path

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        # The one form that shows, alternative text and all, in a notebook that nobody has run or
        # trusts, and in an exported page without a network.
        data = base64.b64encode(self.svg.encode()).decode()
        image = f'<img alt="{escape(self.alt)}" src="data:image/svg+xml;base64,{data}">'
        return {"text/plain": self.text, "text/html": image}
