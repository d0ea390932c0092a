"""A scene as lines of Unicode text: for terminals, for screen readers, and for tests."""

from math import ceil

from wcwidth import width as cells

from sftviz.drawing.formatting import graphemes
from sftviz.drawing.scene import Arrow, Cell, Frame, Node, Outline, Strip, Text
from sftviz.drawing.theme import TONES

BARS = "░▁▂▃▄▅▆▇█!"  # the levels of a strip


def draw(scene: Node) -> str:
    """Draw a scene as text, one line per row of cells, without trailing blanks.

    >>> from sftviz.drawing.scene import Card, Cell, Row, Text
    >>> print(draw(Card(Row((Text("loss ="), Cell("1.4", 7, "loss")), gap=1))))
    ╭────────────────╮
    │ loss = [  1.4] │
    ╰────────────────╯
    """
    canvas = [[" "] * scene.width for _ in range(scene.height)]
    for x, y, shape in scene.marks():
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
    return "\n".join("".join(line).rstrip() for line in canvas)


def _bracket(x: int, outline: Outline) -> tuple[int, str]:
    """Where a bracket below an outline begins, and the bracket."""
    left, _, right, _ = outline.box
    start = min(int(left), outline.width - 1)
    inside = max(0, ceil(right) - start - 2)
    return x + start, f"└{'─' * inside}┘" if right > start + 1 else "▲"


def _write(line: list[str], x: int, text: str) -> None:
    if text.isascii():
        line[x : x + len(text)] = text
        return
    for piece in graphemes(text):
        if width := cells(piece):
            line[x : x + width] = [piece, *[""] * (width - 1)]
            x += width
