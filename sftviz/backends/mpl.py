"""A scene on matplotlib: for print, and for slides. Too slow for a picture that moves."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from sftviz.backends.svg import CELL_HEIGHT, CELL_WIDTH, MARGIN
from sftviz.scene import Arrow, Cell, Frame, Node, Shape, Text
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
    for x, y, shape in scene.marks():
        _add(ax, x * CELL_WIDTH, y * CELL_HEIGHT, shape)
    return figure


def _add(ax: Axes, left: float, top: float, shape: Shape) -> None:
    match shape:
        case Text(text, tone):
            is_title = tone == "title"
            ax.text(
                left,
                top + 15,
                text,
                color=paint(tone, "light").ink,
                family="DejaVu Sans" if is_title else "DejaVu Sans Mono",
                weight="bold" if is_title else "normal",
                size=(14 if is_title else _MONO) * _POINTS,
                parse_math=False,  # a token may hold a $
            )
        case Cell(text, _, tone):
            _add_box(ax, left, top, shape, inset=(0.5, 1.5), radius=9 if tone == "badge" else 4)
            _add(ax, left + shape.indent * CELL_WIDTH, top, Text(text, tone))
        case Frame():
            _add_box(ax, left, top, shape, inset=(CELL_WIDTH / 2, CELL_HEIGHT / 2), radius=9)
        case Arrow(length):
            x, y = left + CELL_WIDTH / 2, top + CELL_HEIGHT / 2
            look = {"arrowstyle": "->", "color": paint(shape.tone, "light").edge}
            ax.annotate(
                "",
                (x, y + length * CELL_HEIGHT),
                (x, y),
                arrowprops=look | {"shrinkA": 0, "shrinkB": 0},
            )


def _add_box(
    ax: Axes, left: float, top: float, shape: Cell | Frame, inset: tuple[float, float], radius: int
) -> None:
    colour = paint(shape.tone, "light")
    box = dict(
        xy=(left + inset[0], top + inset[1]),
        width=shape.width * CELL_WIDTH - 2 * inset[0],
        height=shape.height * CELL_HEIGHT - 2 * inset[1],
        boxstyle=f"round,pad=0,rounding_size={radius}",
        linewidth=_POINTS,
        facecolor=colour.fill,
    )
    if shape.tone == "masked":
        edge = paint("hatch", "light").edge
        ax.add_patch(FancyBboxPatch(**box, edgecolor=edge, hatch="////"))
        box["facecolor"] = "none"
    ax.add_patch(FancyBboxPatch(**box, edgecolor=colour.edge))
