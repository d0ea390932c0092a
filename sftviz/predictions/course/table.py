"""A small table of results: what is so, after a question was answered."""

from collections.abc import Mapping, Sequence

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number, text_width
from sftviz.drawing.scene import Align, Card, Cell, Column, Text
from sftviz.views.parts import CELL, FRAME, TONES, WIDTH, table


def result_table(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float | str]],
    width: int = WIDTH,
    tone: str = TONES["grad"],
) -> Drawing:
    """Results with a name above each column and before each row.

    Args:
        columns: their names.
        rows: by its name, the results of each, one for each column.
        width: in cells; columns that have no room follow below.
        tone: of the results.

    >>> print(result_table(["ratio"], {"window 1": [0.5], "window 2": [1]}))
    ╭────────────────────────╮
    │                ratio   │
    │ window 1 [        0.5] │
    │ window 2 [          1] │
    ╰────────────────────────╯
    """
    texts = {
        name: [each if isinstance(each, str) else number(each) for each in values]
        for name, values in rows.items()
    }
    entries = [*columns, *(text for values in texts.values() for text in values)]
    cell = max(CELL, *(text_width(entry) + 2 for entry in entries))
    names = max(map(text_width, rows))
    count = max(1, (width - FRAME - names) // (cell + 1))  # columns side by side
    blocks = []
    for start in range(0, len(columns), count):
        beside = slice(start, start + count)
        heading = [Align(Text(f"{name} ", "muted"), cell, "right") for name in columns[beside]]
        lines = [(Text(""), *heading)]
        lines += [
            (Text(name), *(Cell(text, cell, tone) for text in values[beside]))
            for name, values in texts.items()
        ]
        blocks.append(table(lines, gap=1))
    alt = "; ".join(f"{name}: {', '.join(values)}" for name, values in texts.items())
    return Drawing(Card(Column(tuple(blocks))), f"{', '.join(columns)}. {alt}.")
