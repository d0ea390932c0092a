"""A scene as lines of Unicode text: for terminals, for screen readers, and for tests.

In a terminal the text can have colours too. Whether its ground is light or dark is not known: so
they are the colours of the frames in the light theme, which can be seen on white and on black.
"""

from functools import cache
from itertools import groupby, pairwise
from math import ceil

from wcwidth import width as cells

from sftviz.drawing.formatting import graphemes
from sftviz.drawing.scene import Arrow, Cell, Frame, Node, Outline, Strip, Text, Trail
from sftviz.drawing.theme import TONES

_CUBE = (0, 95, 135, 175, 215, 255)  # how much red, green or blue: 6³ colours
_NO_DOT = 0x2800  # the first character of braille; the eight dots are bits added to it
_DOTS = ((1, 8), (2, 16), (4, 32), (64, 128))
BARS = "░▁▂▃▄▅▆▇█!"  # the levels of a strip


def draw(scene: Node, *, colours: bool = False) -> str:
    """Draw a scene as text, one line per row of cells, without trailing blanks.

    With `colours` there are ANSI codes between the same characters, one colour for each tone.

    >>> from sftviz.drawing.scene import Card, Cell, Row, Text
    >>> print(draw(Card(Row((Text("loss ="), Cell("1.4", 7, "loss")), gap=1))))
    ╭────────────────╮
    │ loss = [  1.4] │
    ╰────────────────╯
    """
    canvas = [[" "] * scene.width for _ in range(scene.height)]
    tones = [["ink"] * scene.width for _ in range(scene.height)]
    for x, y, shape in scene.marks():
        if isinstance(shape, Text | Cell | Strip):
            tone = "bar" if isinstance(shape, Strip) else shape.tone
            tones[y][x : x + shape.width] = [tone] * shape.width
        match shape:
            case Text(text):
                _write(canvas[y], x, text)
            case Cell(text, width, tone):
                _write(canvas[y], x + shape.indent, text)
                canvas[y][x], canvas[y][x + width - 1] = TONES[tone].flanks
            case Strip():
                _write(canvas[y], x, "".join([BARS[level] for level in shape.cells]))
            case Outline(_, height):
                _write(canvas[y + height], *_bracket(x, shape))
            case Trail():
                _draw_trail(canvas, tones, x, y, shape)
            case Frame(width, height):
                edge = "─" * (width - 2)
                _write(canvas[y], x, f"╭{edge}╮")
                _write(canvas[y + height - 1], x, f"╰{edge}╯")
                for line in canvas[y + 1 : y + height - 1]:
                    line[x] = line[x + width - 1] = "│"
            case Arrow(length):
                canvas[y][x], canvas[y + length][x] = "┬", "▼"
                for line in canvas[y + 1 : y + length]:
                    line[x] = "│"
    if colours:
        canvas = list(map(_coloured, canvas, tones))
    return "\n".join("".join(line).rstrip() for line in canvas)


def _coloured(line: list[str], tones: list[str]) -> list[str]:
    """The parts of a line that have one tone, each between two codes."""
    parts = []
    for tone, cells_of in groupby(zip(line, tones, strict=True), key=lambda pair: pair[1]):
        text, code = "".join([piece for piece, _ in cells_of]), _code(tone)
        parts.append(f"\x1b[{code}m{text}\x1b[0m" if code and text.strip() else text)
    return parts


@cache
def _code(tone: str) -> str:
    """The ANSI code of a tone: its nearest colour among the 216 that terminals have."""
    if tone == "title":
        return "1"  # bold
    paint = TONES[tone].light
    colour = paint.edge if paint.edge != "none" else paint.fill
    if tone in ("ink", "entry", "card", "badge") or colour == "none":
        return ""
    red, green, blue = (
        min(range(6), key=lambda side: abs(_CUBE[side] - part))
        for part in bytes.fromhex(colour[1:])
    )
    return f"38;5;{16 + 36 * red + 6 * green + blue}"


def _bracket(x: int, outline: Outline) -> tuple[int, str]:
    """Where a bracket below an outline begins, and the bracket."""
    left, _, right, _ = outline.box
    start = min(int(left), outline.width - 1)
    inside = max(0, ceil(right) - start - 2)
    return x + start, f"└{'─' * inside}┘" if right > start + 1 else "▲"


def _draw_trail(
    canvas: list[list[str]], tones: list[list[str]], x: int, y: int, trail: Trail
) -> None:
    """A line of dots: a cell has eight, in two columns and four rows."""
    before_it = 0  # dots of a curve, whose dashes do not begin anew at each point
    for (x0, y0), (x1, y1) in pairwise(trail.points):
        count = max(1, round(max(abs(x1 - x0) * 2, abs(y1 - y0) * 4)))
        first, before_it = before_it, 0 if trail.has_heads else before_it + count
        for i in range(count + 1):
            if trail.is_dashed and (first + i) % 4 == 3:
                continue
            at, line = x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count
            column, row = min(int(at), trail.width - 1), min(int(line), trail.height - 1)
            dot = _DOTS[min(3, int((line - row) * 4))][min(1, int((at - column) * 2))]
            before = canvas[y + row][x + column]
            dots = ord(before) - _NO_DOT if _NO_DOT <= ord(before or " ") < _NO_DOT + 256 else 0
            canvas[y + row][x + column] = chr(_NO_DOT + (dots | dot))
            tones[y + row][x + column] = trail.tone


def _write(line: list[str], x: int, text: str) -> None:
    if text.isascii():
        line[x : x + len(text)] = text
        return
    for piece in graphemes(text):
        if width := cells(piece):
            line[x : x + width] = [piece, *[""] * (width - 1)]
            x += width
