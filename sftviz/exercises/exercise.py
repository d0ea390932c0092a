"""An exercise as a value: what is to be written, and how it is answered.

The solution is the source of the stub: the signature and the docstring are the same, and only the
body is left out. So a docstring says what is to be computed, and not how.
"""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sftviz.exercises.check import check
from sftviz.exercises.runs import Function
from sftviz.exercises.subject import Reading, Subject
from sftviz.exercises.verdict import Verdict
from sftviz.mistakes import MISTAKES, Mistake


@dataclass(frozen=True, eq=False)
class Exercise:
    """A function to write."""

    title: str
    minutes: int
    goal: str  # two sentences
    solution: Function
    mistakes: tuple[Mistake, ...]  # wrong versions
    judge: Callable[[Function], Verdict]
    hints: tuple[str, ...]  # each says more than the one before; HTML

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def stub(self) -> str:
        """The function without its body."""
        return f"{_parts(self.solution)[0]}\n    raise NotImplementedError"

    @property
    def solved(self) -> str:
        """The function as the solution has it."""
        return "\n".join(_parts(self.solution))


def exercise(
    solution: Function,
    *,
    title: str,
    minutes: int,
    goal: str,
    hints: tuple[str, ...],
    mistakes: tuple[Mistake, ...],
    **judged: Any,  # the other fields of the subject
) -> Exercise:
    """An exercise that is judged as a subject."""
    name, arguments = solution.__name__, tuple(inspect.signature(solution).parameters)
    mistakes = tuple(replace(mistake, about=name) for mistake in mistakes)
    subject = Subject(name, arguments, solution, mistakes, **judged)
    return Exercise(title, minutes, goal, solution, mistakes, partial(check, subject), hints)


def nothing(result: object) -> Reading:
    """How the result of a function is read that returns nothing: what it leaves is the answer."""
    return {}, ""


def known(name: str) -> Mistake:
    """A mistake of the package, by its name."""
    (found,) = [mistake for mistake in MISTAKES if mistake.name == name]
    return found


def wrong(name: str, run: Function, cause: str = "", remedy: str = "") -> Mistake:
    """A wrong version. Without a cause, it is explained as the known mistake of that name is."""
    if not cause:
        cause, remedy = known(name).cause, known(name).remedy
    return Mistake(name, cause, remedy, "", run)


def _parts(function: Function) -> tuple[str, str]:
    """The source of a function up to the end of its docstring, and its body.

    The signature is without types, which a learner would have to import.
    """
    source = inspect.getsource(function)
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    docstring = tree.body[0]
    lines = source.splitlines()
    for argument in tree.args.args:
        argument.annotation = None
    head = [f"def {tree.name}({ast.unparse(tree.args)}):"]
    head += lines[docstring.lineno - 1 : docstring.end_lineno]
    return "\n".join(head), "\n".join(lines[docstring.end_lineno :])
