"""What the commands of `sftviz` share: options, one-line errors, the width of the terminal."""

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: the usage is a --help away. Texts keep their lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(2, line(message))


@contextmanager
def one_line(parser: argparse.ArgumentParser, path: str | None) -> Iterator[None]:
    """End with one line on what can't be done. `path` is the file that is read or written."""
    try:
        yield
    except OSError as error:
        parser.error(f"{path}: {error.strerror or error}.")
    except (TypeError, ValueError, OverflowError) as error:
        parser.error(str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        parser.error("there is not enough memory for this batch: give fewer or shorter rows.")


def file_path(text: str) -> str:
    """The type of an option that is a path."""
    if not text:
        raise argparse.ArgumentTypeError("give a path, got an empty one: is a variable unset?")
    return text


def columns(widest: int, narrowest: int) -> int:
    """The width of the terminal in cells, or `widest` if the output goes elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return widest
    return max(narrowest, shutil.get_terminal_size().columns)


def has_colours() -> bool:
    """Whether the output goes to a terminal that shows colours. https://no-color.org"""
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return False
    # The old console of Windows shows the codes as letters.
    return "WT_SESSION" in os.environ if os.name == "nt" else os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Write to the standard output."""
    if sys.stdout is None:  # the shell has closed it: >&-
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    print(text, flush=True)


def remark(text: str) -> None:
    """Write a line to the standard error."""
    with suppress(OSError, AttributeError):  # it may be closed too
        sys.stderr.write(line(text))


def line(text: str) -> str:
    """A remark, with the name of the command."""
    return f"sftviz: {printable(text)}\n"


def printable(text: str) -> str:
    """Escape what a terminal would obey, such as a colour code in the name of a file."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def abandon_output() -> None:
    """Send to nowhere what could not be written: Python would try again at its exit."""
    with suppress(OSError, AttributeError):
        output = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
