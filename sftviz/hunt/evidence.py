"""What convicts a bug: the changed code, the gradient test, and the inspection of a batch."""

from collections.abc import Iterator
from textwrap import dedent, wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Align, Card, Column, Node, Text
from sftviz.hunt.bugs import find_bug
from sftviz.hunt.cases import case_equivalence, run_case
from sftviz.views.parts import FRAME, WIDTH, check_width


def draw_evidence(case: str, width: int = WIDTH) -> Drawing:
    """The changed lines of a case beside the right ones, and what two tests say of it.

    Args:
        case: the letter of a case.
        width: in cells, 48 or more.

    Raises:
        ValueError: there is no such case, or the width is too small.
    """
    check_width(width)
    bug, room = find_bug(case), width - FRAME
    tested = case_equivalence(case).message
    findings = run_case(case).inspection.findings
    found = [f"{each.severity}: {each.name}" for each in findings] or ["Nothing wrong was found."]
    parts = {
        "The healthy run": ("response", _code(bug.right, room)),
        "This run": ("scaled_loss", _code(bug.wrong, room)),
        "gradient_equivalence": ("ink", wrap(tested, room)),
        "inspect_batch": ("ink", found),
    }
    lines: list[Node] = []
    for title, (tone, texts) in parts.items():
        lines += [Text(title, "title"), *(Text(text, tone) for text in texts), Text("")]
    alt = f"{bug.name}. gradient_equivalence: {tested} inspect_batch: {'; '.join(found)}"
    return Drawing(Card(Align(Column(tuple(lines[:-1])), room)), alt)


def _code(lines: str, room: int) -> list[str]:
    """Lines of code without their common indent, broken where they are too long."""
    if not lines:
        return ["(this line is missing)"]
    return [part for line in dedent(lines).splitlines() for part in _break(line, room)]


def _break(line: str, room: int) -> Iterator[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    yield from wrap(line, room, subsequent_indent=indent, drop_whitespace=False) or [""]
