"""Small pictures of what a question is about, where no view of the package shows just that."""

from collections.abc import Mapping

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Text
from sftviz.views.parts import CELL, table


def value_table(
    rows: Mapping[str, Mapping[str, float]], title: str, tone: str = "gradient"
) -> Drawing:
    """Named rows of numbers below the names of their columns.

    >>> print(value_table({"÷ G²": {"2, 8": 0.25, "2, 2": 1.0}}, "ratio at B, G"))
    ╭─────────────────────────────────╮
    │ ratio at B, G                   │
    │              2, 8         2, 2  │
    │ ÷ G²  [     0.25]  [        1]  │
    ╰─────────────────────────────────╯
    """
    names = list(next(iter(rows.values())))
    widths = {name: max(CELL, len(name) + 2) for name in names}
    lines: list[tuple[Node, ...]] = [
        (Text(""), *(Align(Text(f"{name} ", "muted"), widths[name], "right") for name in names))
    ]
    for row, values in rows.items():
        cells = (Cell(number(values[name]), widths[name], tone) for name in names)
        lines.append((Text(row), *cells))
    said = "; ".join(
        f"{row}: {', '.join(f'{number(values[name])} ({name})' for name in names)}"
        for row, values in rows.items()
    )
    body = Column((Text(title, "muted"), table(lines, gap=2)))
    return Drawing(Card(body), f"{title}. {said}.")


def outcome_list(outcomes: Mapping[str, str], title: str) -> Drawing:
    """What was tried, and below each what came of it.

    >>> print(outcome_list({"a token of 9": "refused"}, "what happens"))
    ╭────────────────╮
    │ what happens   │
    │ · a token of 9 │
    │     refused    │
    ╰────────────────╯
    """
    lines: list[Node] = [Text(title, "muted")]
    for tried, came in outcomes.items():
        lines += [Text(f"· {tried}"), Text(f"    {came}", "muted")]
    said = "; ".join(f"{tried}: {came}" for tried, came in outcomes.items())
    return Drawing(Card(Column(tuple(lines))), f"{title}. {said}.")
