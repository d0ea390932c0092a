"""Which wrong steps pass a test of the step: the impostors that survive it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Align, Cell, Column, Node, Row, Text
from sftviz.mistakes import Survivors
from sftviz.mistakes.recognise import KINDS
from sftviz.mistakes.survivors import CHECKS
from sftviz.views.parts import FRAME, WIDTH, check_width, sections
from sftviz.views.step import inputs

ALIVE = "loss"  # the tone
_KIND = max(map(len, KINDS)) + 1  # cells


def impostor_wall(
    survivors: Survivors,
    width: int = WIDTH,
    columns: int | range | slice | None = None,
    rows: int | range | slice | None = None,
    *,
    advice: bool = True,
) -> Drawing:
    """The batch of a test, and every mistake of the step: alive if it passes, or killed.

    A killed one is hatched, `░` in text. Its place does not depend on the test.

    Args:
        survivors: what became of the mistakes.
        width: in cells, 48 or more.
        columns, rows: where the lens is, as in `step_flow`.
        advice: whether to say what would kill the survivors.

    Raises:
        TypeError, ValueError: the width is too small, or the batch does not have these columns or
            rows.

    >>> from sftviz.mistakes import STEP_TESTS
    >>> impostor_wall(STEP_TESTS["(3, 2, 42)"].trace()).alt.rpartition(" survive: ")[2]
    '÷2G, ÷(G+2), ÷G^G, ÷2^G. Change G (now G = 2): ÷2G, ÷(G+2), ÷G^G, ÷2^G.'
    """
    check_width(width)
    body = width - FRAME
    batch = inputs(survivors.right, body, columns, rows)
    bodies = {
        "The test": Column((batch, *_texts(checks(survivors), body))),
        count(survivors): Column((*_wall(survivors, body), *_texts(_killed_by(survivors), body))),
    }
    if advice and survivors.alive:
        lines = [line for text in _advice(survivors) for line in _texts(text, body, "ink")]
        bodies["What would kill them"] = Column(tuple(lines))
    return Drawing(sections(bodies, first=0, beside=False), _describe(survivors, advice))


def count(survivors: Survivors) -> str:
    """`20 of 46 impostors survive`."""
    alive = len(survivors.alive)
    return f"{alive} of {len(survivors.killers)} impostors survive{'s' if alive == 1 else ''}"


def checks(survivors: Survivors) -> str:
    """What the test does, in a sentence."""
    done = [text for name, text in CHECKS.items() if getattr(survivors.test, name)]
    return f"What it does: {'; '.join(['compare the loss', *done])}."


def _wall(survivors: Survivors, width: int) -> Iterator[Node]:
    """The mistakes of each kind, in lines."""
    for kind, mistakes in KINDS.items():
        cells = [
            Cell(
                mistake.name,
                len(mistake.name) + 2,
                "masked" if survivors.killers[mistake] else ALIVE,
            )
            for mistake in mistakes
        ]
        lines = Column(tuple(_lines(cells, width - _KIND)))
        yield Row((Align(Text(kind, "muted"), _KIND), lines))


def _lines(cells: Iterable[Cell], width: int) -> Iterator[Node]:
    line: list[Cell] = []
    for cell in cells:
        if line and sum(each.width + 1 for each in line) + cell.width > width:
            yield Row(tuple(line), gap=1)
            line = []
        line.append(cell)
    yield Row(tuple(line), gap=1)


def _killed_by(survivors: Survivors) -> str:
    counts = Counter(killer for killer in survivors.killers.values() if killer)
    said = ", ".join(f"{many} by {name}" for name, many in counts.most_common())
    return f"Killed (░): {said}." if said else ""


def _advice(survivors: Survivors) -> Iterator[str]:
    for advice in survivors.advice:
        names = ", ".join(mistake.name for mistake in advice.kills)
        now = f" (now {advice.now})" if advice.now else ""
        yield f"{advice.change[0].upper()}{advice.change[1:]}{now}: {names}."


def _describe(survivors: Survivors, advice: bool) -> str:
    x = survivors.test.inputs
    B, S = x.policy_log_probs.shape
    sizes = (
        f"B = {B}, S = {S}, G = {x.gradient_accumulation_steps}, c = {number(x.normalize_constant)}"
    )
    names = ", ".join(mistake.name for mistake in survivors.alive)
    found = f"{count(survivors)}: {names}." if names else f"{count(survivors)}."
    advised = _advice(survivors) if advice else ()
    return " ".join((f"A test with {sizes}.", checks(survivors), found, *advised))


def _texts(text: str, width: int, tone: str = "muted") -> list[Node]:
    return [Text(line, tone) for line in wrap(text, width, subsequent_indent="  ")]
