"""A scene with a description: what a view returns. It can be shown and saved."""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sftviz.drawing import svg, text
from sftviz.drawing.scene import Node, Page, lower


@dataclass(frozen=True, repr=False)
class Drawing:
    """A picture, and a sentence that describes it.

    A notebook shows it as an image with that sentence as alternative text, a terminal as text.
    """

    scene: Node
    alt: str

    @property
    def text(self) -> str:
        """The drawing in Unicode text, for terminals and screen readers."""
        return text.draw(self.scene)

    @property
    def svg(self) -> str:
        """The drawing as a complete SVG document."""
        return svg.draw(self.scene)

    @property
    def page(self) -> Page:
        """The drawing as marks on a page."""
        return lower(self.scene)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the values in frames, one per frame: `grad[1,3]`, `loss`."""
        return self.page.keys

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
        # The one form that is shown, with its alternative text, in an untrusted notebook that was
        # not run, and in an exported page without a network.
        data = base64.b64encode(self.svg.encode()).decode()
        image = f'<img alt="{escape(self.alt)}" src="data:image/svg+xml;base64,{data}">'
        return {"text/plain": self.text, "text/html": image}
