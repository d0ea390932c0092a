"""A scene with a description: what a view returns. It can be shown and saved."""

from dataclasses import dataclass
from pathlib import Path

from sftviz.drawing import svg, text
from sftviz.drawing.scene import Node, Page, lower
from sftviz.drawing.still import image


@dataclass(frozen=True, repr=False)
class Drawing:
    """A picture, and a sentence that describes it.

    A notebook shows it as an image with that sentence as alternative text, light or dark as the
    page is; a terminal shows it as text.
    """

    scene: Node
    alt: str

    @property
    def text(self) -> str:
        """The drawing in Unicode text, for terminals and screen readers."""
        return text.draw(self.scene)

    @property
    def coloured_text(self) -> str:
        """The same text with ANSI colours, for a terminal that has them."""
        return text.draw(self.scene, colours=True)

    @property
    def svg(self) -> str:
        """The drawing as a complete SVG document, in light colours."""
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

        The same drawing gives the same bytes, in light colours.

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
                said = repr(ending) if ending else "a file without ending"
                raise ValueError(
                    f"a drawing can't be saved as {said}: "
                    "give a path that ends in .svg, .png, .pdf or .txt."
                )
        return path

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return image(self.alt, svg.draw(self.scene, "page"), svg.size(self.page)[0])

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return {"text/plain": self.text, "text/html": self._repr_html_()}
