"""A scene on matplotlib: for print, and for slides. Too slow for a picture that moves."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from sftviz.backends.svg import CELL_HEIGHT, CELL_WIDTH, MARGIN
from sftviz.scene import Arrow, Frame, Glyphs, Node
from sftviz.theme import paint

_PIXELS_PER_INCH = 96  # of an SVG, so that both come out the same size
_POINTS = 72 / _PIXELS_PER_INCH
_MONO = CELL_WIDTH / 0.602  # px: the size at which a letter of DejaVu Sans Mono fills a cell
# Neither the hour nor the program's version: the same drawing gives the same bytes.
_METADATA = {
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    ".png": {"Software": None},
}


def save(scene: Node, path: Path) -> None:
    """Write a scene as a file of the kind that its path's ending names."""
    draw(scene).savefig(path, dpi=2 * _PIXELS_PER_INCH, metadata=_METADATA[path.suffix.lower()])


def draw(scene: Node) -> Figure:
    """Draw a scene on a figure of its own, in light colours."""
    width = scene.width * CELL_WIDTH + 2 * MARGIN
    height = scene.height * CELL_HEIGHT + 2 * MARGIN
    figure = Figure(
        (width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH),
        facecolor=paint("ground", "light").fill,
    )
    ax = figure.add_axes(
        (0, 0, 1, 1), xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN)
    )
    ax.set_axis_off()
    for mark in scene.marks():
        _add(mark, ax)
    return figure


def _add(mark: Glyphs | Frame | Arrow, ax: Axes) -> None:
    colour = paint(mark.tone, "light")
    match mark:
        case Glyphs(x, y, text, tone):
            is_title = tone == "title"
            ax.text(
                x * CELL_WIDTH,
                y * CELL_HEIGHT + 15,
                text,
                color=colour.ink,
                family="DejaVu Sans" if is_title else "DejaVu Sans Mono",
                weight="bold" if is_title else "normal",
                size=(14 if is_title else _MONO) * _POINTS,
                parse_math=False,  # a token may hold a $
            )
        case Frame(x, y, width, height, tone):
            is_value = height == 1
            inset_x, inset_y = (0.5, 1.5) if is_value else (CELL_WIDTH / 2, CELL_HEIGHT / 2)
            radius = (9 if tone == "badge" else 4) if is_value else 9
            box = dict(
                xy=(x * CELL_WIDTH + inset_x, y * CELL_HEIGHT + inset_y),
                width=width * CELL_WIDTH - 2 * inset_x,
                height=height * CELL_HEIGHT - 2 * inset_y,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                linewidth=_POINTS,
                facecolor=colour.fill,
            )
            if tone == "masked":
                ax.add_patch(
                    FancyBboxPatch(**box, edgecolor=paint("hatch", "light").edge, hatch="////")
                )
                box["facecolor"] = "none"
            ax.add_patch(FancyBboxPatch(**box, edgecolor=colour.edge))
        case Arrow(x, y, length):
            middle = (x + 0.5) * CELL_WIDTH
            ax.annotate(
                "",
                (middle, (y + length + 0.5) * CELL_HEIGHT),
                (middle, (y + 0.5) * CELL_HEIGHT),
                arrowprops={"arrowstyle": "->", "color": colour.edge, "shrinkA": 0, "shrinkB": 0},
            )
