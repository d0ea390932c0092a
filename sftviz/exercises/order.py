"""Lines of code that are to be put in order, among them lines that do not belong there.

An order is judged by running it, so every order that computes the right thing is right. Only the
lines of the problem are ever run. None of them loops over anything endless.
"""

import ast
import linecache
import random
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import dedent, wrap
from types import CodeType

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Card, Column, Text
from sftviz.exercises.verdict import WIDTH, Verdict
from sftviz.validate import brief, check_count
from sftviz.views.parts import FRAME, check_width

FILE = "<your order>"  # the name of the file, in a traceback
DEEPEST = 3  # levels of indentation
TAB = "    "


@dataclass(frozen=True, eq=False)
class Order:
    """A problem: the lines of `solution` and of `distractors`, shuffled, are to be put in order.

    Example:
        >>> from sftviz.exercises.orders import ORDERS
        >>> ORDERS["loop"].check(["optimizer.step()"]).outcome
        'wrong'
    """

    name: str
    text: str  # what the lines should do, and what is there already
    solution: str  # one of the orders that are right
    distractors: tuple[str, ...]
    judge: Callable[[str], Verdict]  # of an order that compiles
    minutes: int = 5

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """All lines without indentation, shuffled, the same each time."""
        lines = sorted([*map(str.strip, source_lines(self.solution)), *self.distractors])
        random.Random(self.name).shuffle(lines)
        return tuple(lines)

    def arrange(self, placed: Sequence[Sequence[int]]) -> str:
        """The source of some of the lines: each the place in `lines`, and its levels of
        indentation.

        Raises:
            TypeError, ValueError: there is no such line, or it is placed twice or too deep.
        """
        for place, level in placed:
            check_count("line", place, "it is a place in lines", 0, len(self.lines) - 1)
            check_count("level", level, "it is the indentation of a line", 0, DEEPEST)
        if len({place for place, _ in placed}) < len(placed):
            raise ValueError("a line is placed twice: place each of them once at most.")
        return "\n".join(TAB * level + self.lines[place] for place, level in placed)

    def check(self, order: str | Sequence[str]) -> Verdict:
        """Run an order, and say what is wrong with it.

        Args:
            order: a source text, or its lines with their indentation.

        Returns:
            The verdict: `outcome` is "correct", "wrong", "error" (it is not Python, or it raises)
            or "not attempted" (there is no line).

        Raises:
            ValueError: a line is not one of `lines`, or is used more often than it is there.
        """
        lines = source_lines(order if isinstance(order, str) else "\n".join(order))
        foreign = Counter(map(str.strip, lines)) - Counter(self.lines)
        if foreign:
            raise ValueError(
                f"{brief(next(iter(foreign)))} is not among the lines that are left: "
                "use each of the lines of the problem once at most, as it is written."
            )
        if not lines:
            return Verdict("not attempted", None, "No line has been placed yet.")
        source = "\n".join(lines)
        try:
            read(source)
        except SyntaxError as error:
            return Verdict("error", None, describe(error, source))
        return self.judge(source)

    def draw(self, width: int = WIDTH) -> Drawing:
        """The text and the shuffled lines, to fit a width in cells, 48 or more."""
        check_width(width)
        room = width - FRAME
        parts = [Text(line) for line in wrap(self.text, room)]
        for line in self.lines:
            first, *rest = wrap(line, room - 2, subsequent_indent=TAB)
            parts += [Text(f"· {first}", "code"), *(Text(f"  {each}", "code") for each in rest)]
        return Drawing(
            Card(Column(tuple(parts))), f"{self.text} The lines: {'; '.join(self.lines)}"
        )


def source_lines(source: str) -> list[str]:
    """The lines of a source that are not empty, without the indentation that all of them have."""
    return [line.rstrip() for line in dedent(source).splitlines() if line.strip()]


def read(source: str) -> CodeType:
    """Compile an order, and let tracebacks find its lines.

    Raises:
        SyntaxError: it is not Python.
    """
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
    return compile(ast.parse(source, FILE), FILE, "exec")


def fault(error: Exception, source: str) -> tuple[int, str]:
    """The line of an order that an error is about: its number, from 1, and its text."""
    lines = source.splitlines()
    if isinstance(error, SyntaxError):
        number = error.lineno or 1
    else:
        frames = traceback.extract_tb(error.__traceback__)
        number = next(frame.lineno for frame in frames if frame.filename == FILE) or 1
    number = min(number, len(lines))  # the end of the file is after its last line
    return number, lines[number - 1].strip()


def describe(error: Exception, source: str) -> str:
    """What was raised at which line of an order, and for the usual errors what it means."""
    number, line = fault(error, source)
    message = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
    where = f"Line {number}: {line}"
    if isinstance(error, IndentationError):
        return f"{where}\nThe indentation is wrong: {message}."
    if isinstance(error, NameError):
        return f"{where}\n{error.name} is used before a line has given it a value."
    return f"{where}\n{type(error).__name__}: {message}"
