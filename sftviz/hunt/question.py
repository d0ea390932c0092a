"""A case as a question: who was it?"""

from functools import partial
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Align, Card, Column, Node, Row, Text
from sftviz.hunt.bugs import CASES, NOTHING, Bug, find_bug
from sftviz.hunt.cases import run_bug, run_case
from sftviz.hunt.clues import draw_likeness
from sftviz.hunt.evidence import draw_evidence
from sftviz.predictions.question import Choice, Option, Question
from sftviz.views.parts import FRAME, WIDTH, check_width

# By name, so that the order says nothing about the cases.
SUSPECTS: tuple[Bug, ...] = (
    *sorted((bug for bug in CASES.values() if bug is not NOTHING), key=lambda bug: bug.name),
    NOTHING,
)


def line_up(width: int = WIDTH) -> Drawing:
    """All suspects, and what each would have done.

    Args:
        width: in cells, 48 or more.
    """
    check_width(width)
    room = width - FRAME - 2
    lines: list[Node] = []
    for suspect in SUSPECTS:
        lines.append(Text(suspect.name, "title"))
        lines += [Row((Text("  "), Text(line, "prose"))) for line in wrap(suspect.cause, room)]
    alt = " ".join(f"{suspect.name}: {suspect.cause}" for suspect in SUSPECTS)
    return Drawing(Card(Align(Column(tuple(lines)), width - FRAME)), alt)


def hunt_question(case: str) -> Question:
    """The question which bug is in the run of a case.

    Raises:
        ValueError: there is no such case.

    Example:
        >>> hunt_question("A").text
        'What is wrong with run A?'
    """
    bug = find_bug(case)
    options = tuple(_option(case, suspect) for suspect in SUSPECTS)
    seen = f" Seen: {bug.seen}." if bug.seen else ""
    return Question(
        name=f"run {case}",
        text=f"What is wrong with run {case}?",
        asks=(Choice("The suspect", options, lambda: SUSPECTS.index(bug)),),
        why=f"{bug.symptom} {bug.cause} {bug.remedy}{seen}",
        after=partial(draw_evidence, case),
        minutes=2.0,
    )


def _option(case: str, suspect: Bug) -> Option:
    if suspect is find_bug(case):
        return Option(suspect.name, "")  # the question says why
    return Option(
        suspect.name,
        f"That would look like this: {suspect.symptom}",
        after=lambda width: draw_likeness(run_case(case), run_bug(suspect), width),
    )
