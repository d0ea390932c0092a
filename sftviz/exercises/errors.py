"""What went wrong in a learner's code, with the learner's lines alone."""

import dis
import linecache
import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

from sftviz.exercises.limits import TimeLimit

_LIBRARIES = tuple(
    folder + os.sep
    for folder in {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
    | {str(Path(__file__).parents[1])}
)
_MOST_LINES = 3  # of the learner's, of a traceback
LONGEST = 160  # characters of an error's message, or of a line


def describe_error(error: BaseException, name: str) -> str:
    """What was raised, and the lines that led to it."""
    what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SystemExit):
        what = "sys.exit(): a function returns, it does not end the program"
    said = f"{name} raised {what[:LONGEST]}{'…' if len(what) > LONGEST else ''}"
    return "\n".join((said, *_lines(error)))


def describe_timeout(error: TimeLimit, name: str) -> str:
    """That something takes too long, and the lines that were running."""
    said = f"{name} was not finished after {error.seconds:.3g} s. Is there a loop that never ends?"
    return "\n".join((said, *_lines(error)))


def _lines(error: BaseException) -> Iterator[str]:
    if isinstance(error, SyntaxError) and error.lineno is not None:
        own = [(error.filename or "", error.lineno, error.text or "")]
    else:
        frames = traceback.walk_tb(error.__traceback__)
        places = [(frame.f_code.co_filename, line) for frame, line in frames]
        own = [
            (file, line, linecache.getline(file, line))
            for file, line in places
            if not file.startswith((*_LIBRARIES, "<frozen"))
        ]
    for file, line, text in [*dict.fromkeys(own)][-_MOST_LINES:]:  # once each, if it calls itself
        # A cell of a notebook is compiled under the name of a file that says nothing to a learner.
        is_cell = file.startswith("<") or Path(file).parent.name.startswith("ipykernel_")
        place = "" if is_cell else f"{Path(file).name}, "
        yield f"{place}line {line}: {text.strip()[:LONGEST]}"


def outside_data(function: object) -> list[str]:
    """The global variables that a function uses and that are not functions, classes or modules."""
    code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    found = dict.fromkeys(_globals(code)) if code else {}
    return [
        name
        for name in found
        if name in names and not callable(names[name]) and not isinstance(names[name], ModuleType)
    ]


def _globals(code: CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "STORE_GLOBAL"):
            yield each.argval
    for inner in code.co_consts:  # functions within the function
        if isinstance(inner, CodeType):
            yield from _globals(inner)


def name_of(function: object) -> str:
    """The name of a learner's function."""
    return getattr(function, "__name__", "the function")
