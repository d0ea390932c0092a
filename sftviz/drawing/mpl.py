"""A scene drawn by matplotlib: for print and slides. Too slow for live pictures."""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from unicodedata import category

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Outlines

from sftviz.drawing.bars import place_bars
from sftviz.drawing.scene import Arrow, Cell, Frame, Node, Outline, Shape, Strip, Text, Trail
from sftviz.drawing.svg import CELL_HEIGHT, CELL_WIDTH, MARGIN
from sftviz.drawing.theme import SENTENCES, paint

_PIXELS_PER_INCH = 96  # as in an SVG, so that both have the same size
_POINTS = 72 / _PIXELS_PER_INCH
_FONT, _TITLE_FONT = "DejaVu Sans Mono", "DejaVu Sans"  # part of matplotlib
_SIZE = CELL_WIDTH / 0.602  # px: a letter of that font then fills a cell
# In these fonts letters are symbols or boxes.
_SYMBOLIC = ("cm", "STIXNonUnicode", "STIXSize", "Last Resort", ".Last")
# No time and no version: the same drawing gives the same bytes.
_METADATA = {
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    ".png": {"Software": None},
}


def save(scene: Node, path: Path) -> None:
    """Write a scene to a file, `.png` or `.pdf`."""
    ending = path.suffix.lower()
    data = BytesIO()  # and then the file at once: matplotlib's PDF can't handle a full disk
    draw(scene).savefig(
        data, format=ending[1:], dpi=2 * _PIXELS_PER_INCH, metadata=_METADATA[ending]
    )
    path.write_bytes(data.getvalue())


def draw(scene: Node) -> Figure:
    """Draw a scene on a new figure, in light colours."""
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
    with rc_context({"font.family": _fonts(scene)}):
        for x, y, shape in scene.marks():
            _add(ax, x * CELL_WIDTH, y * CELL_HEIGHT, shape)
    return figure


def _fonts(scene: Node) -> list[str]:
    """Fonts that together have every character of a scene that any installed font has."""
    shapes = [shape for _, _, shape in scene.marks()]
    chars = {char for shape in shapes if isinstance(shape, Text | Cell) for char in shape.text}
    missing = {char for char in chars if category(char) != "Cf"}  # Cf is invisible
    fonts = []
    for name, path in _installed().items():
        try:
            font = get_font(path)
        except (OSError, RuntimeError):  # matplotlib also lists fonts that were removed
            continue
        if found := {char for char in missing if font.get_char_index(ord(char))}:
            fonts.append(name)
            missing -= found
        if not missing:
            break
    return fonts or [_FONT]


@cache
def _installed() -> dict[str, str]:
    """The upright fonts of this machine and their files; the two that are used here come first."""
    upright = {
        font.name: font.fname
        for font in fontManager.ttflist
        if font.style == "normal" and font.weight in (400, "normal")
    }
    names = sorted(name for name in upright if not name.startswith(_SYMBOLIC))
    return {name: upright[name] for name in (_FONT, _TITLE_FONT, *names)}


def _add(ax: Axes, left: float, top: float, shape: Shape) -> None:
    match shape:
        case Text(text, tone):
            is_sentence = tone in SENTENCES
            ax.text(
                left,
                top + 15,
                text,
                color=paint(tone, "light").ink,
                family=_TITLE_FONT if is_sentence else None,
                weight="bold" if tone in ("title", "reply") else "normal",
                size=(14 if is_sentence else _SIZE) * _POINTS,
                parse_math=False,  # a token may contain a $
            )
        case Cell(text, _, tone):
            _add_box(ax, left, top, shape, inset=(0.5, 1.5), radius=9 if tone == "badge" else 4)
            _add(ax, left + shape.indent * CELL_WIDTH, top, Text(text, tone))
        case Strip():
            _add_strip(ax, left, top, shape)
        case Outline():
            x0, y0, x1, y1 = shape.box
            corner = (left + x0 * CELL_WIDTH - 2, top + y0 * CELL_HEIGHT - 1)
            size = ((x1 - x0) * CELL_WIDTH + 4, (y1 - y0) * CELL_HEIGHT + 2)
            edge = paint(shape.tone, "light").edge
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=edge, lw=2 * _POINTS))
        case Trail(_, _, points, tone, is_dashed, has_heads):
            at = [(left + x * CELL_WIDTH, top + y * CELL_HEIGHT) for x, y in points]
            look = {"color": paint(tone, "light").edge, "linewidth": 2 * _POINTS}
            look |= {"linestyle": (0, (3, 2)) if is_dashed else "-"}
            if not has_heads:
                ax.plot(*zip(*at, strict=True), **look)
                return
            look |= {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0}
            for tail, tip in pairwise(at):
                ax.annotate("", tip, tail, arrowprops=look)
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


def _add_strip(ax: Axes, left: float, top: float, strip: Strip) -> None:
    parts = place_bars(strip, left, top, (CELL_WIDTH, CELL_HEIGHT))
    x, y, width, height = parts.ground
    look = {"facecolor": paint("masked", "light").fill, "edgecolor": paint("hatch", "light").edge}
    ax.add_patch(Rectangle((x, y), width, height, hatch="////", linewidth=0, **look))
    for outlines, tone in ((parts.areas, "response"), (parts.bars, "bar")):
        paths = [Outlines(list(_corners(*outline)), closed=True) for outline in outlines]
        if paths:
            fill = paint(tone, "light").fill
            path = Outlines.make_compound_path(*paths)
            ax.add_patch(PathPatch(path, facecolor=fill, linewidth=0))
    colour = paint("sign", "light").edge
    for at, high, low in parts.signs:
        for ends in ((high, low - 4), (low - 2, low)):
            ax.plot((at, at), ends, color=colour, linewidth=3 * _POINTS, solid_capstyle="butt")


def _corners(x: float, y: float, *turns: float) -> Iterator[tuple[float, float]]:
    """The corners of an outline that turns by 90° at each, and the first one again."""
    yield x, y
    for i, to in enumerate(turns):
        x, y = (to, y) if i % 2 else (x, to)
        yield x, y
    yield x, y  # a closed path ignores this point


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
