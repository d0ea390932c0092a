"""Small pictures of what a question is about, where no view of the package shows just that."""

from collections.abc import Mapping
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Text
from sftviz.views.parts import FRAME, NARROWEST, table


def value_table(
    rows: Mapping[str, Mapping[str, float | str]], title: str, tone: str = "gradient"
) -> Drawing:
    """Named rows of numbers below the names of their columns.

    >>> print(value_table({"÷ G²": {"2, 8": 0.25, "2, 2": 1.0}}, "ratio at B, G"))
    ╭────────────────────╮
    │ ratio at B, G      │
    │       2, 8   2, 2  │
    │ ÷ G² [0.25] [   1] │
    ╰────────────────────╯
    """
    texts = {
        row: [each if isinstance(each, str) else number(each) for each in values.values()]
        for row, values in rows.items()
    }
    names = list(next(iter(rows.values())))
    widths = [2 + max(map(len, column)) for column in zip(names, *texts.values(), strict=True)]
    header = (
        Align(Text(f"{name} ", "muted"), width, "right")
        for name, width in zip(names, widths, strict=True)
    )
    lines: list[tuple[Node, ...]] = [(Text(""), *header)]
    for row, line in texts.items():
        cells = (Cell(text, width, tone) for text, width in zip(line, widths, strict=True))
        lines.append((Text(row), *cells))
    said = "; ".join(
        f"{row}: {', '.join(f'{text} ({name})' for text, name in zip(line, names, strict=True))}"
        for row, line in texts.items()
    )
    body = table(lines, gap=1)
    heading = (Text(line, "muted") for line in wrap(title, max(body.width, NARROWEST - FRAME)))
    return Drawing(Card(Column((*heading, body))), f"{title}. {said}.")


def outcome_list(outcomes: Mapping[str, str], title: str, width: int) -> Drawing:
    """What was tried, and below each what came of it.

    >>> print(outcome_list({"a token of 9": "refused"}, "what happens", width=48))
    ╭──────────────╮
    │ what happens │
    │ a token of 9 │
    │     refused  │
    ╰──────────────╯
    """
    lines: list[Node] = [Text(title, "muted")]
    for tried, came in outcomes.items():
        lines += map(Text, wrap(tried, width - FRAME))
        lines += (Text(f"    {part}", "muted") for part in wrap(came, width - FRAME - 4))
    said = " ".join(f"{tried} {came}" for tried, came in outcomes.items())
    return Drawing(Card(Column(tuple(lines))), f"{title}: {said}")
