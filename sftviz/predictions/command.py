"""`sftviz practice`: questions about fresh small batches, in a terminal."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase
from textwrap import wrap

from sftviz.mistakes import recognise
from sftviz.predictions.picture import headline
from sftviz.predictions.practice import LEVELS, Session
from sftviz.predictions.question import Ask, Choice, Number, Question
from sftviz.predictions.reply import Reply, reply
from sftviz.terminal import Parser, columns, one_line, printable, say
from sftviz.views.parts import NARROWEST

_DESCRIPTION = f"""\
Answer questions about the step, on a fresh small batch each time. With every right answer they
become harder, up to level {len(LEVELS)}. A wrong answer is met by the mistake that gives it.

Type a number, or the letter of an answer; ? if you can't say; q to end.
The exit status is 0, or 130 after Ctrl-C."""

_EXAMPLES = """\
examples:
  %(prog)s
      the same questions each time; another --seed has others
  %(prog)s --seed 7 --level 4 --rounds 5
      five questions, the first about the gradient"""

_WIDTH = 80  # cells
_LONGEST = 40  # characters of an answer that are shown


@dataclass
class _Score:
    """What was answered so far."""

    asked: int = 0
    right: int = 0
    mistakes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        if not self.asked:
            return "No question was answered."
        said = f"Right: {self.right} of {self.asked}."
        if self.mistakes:
            names = ", ".join(
                f'"{name}"' + (f" ({count} times)" if count > 1 else "")
                for name, count in self.mistakes.most_common()
            )
            said += f" Mistakes that came up: {names}."
        return said


def practice(prog: str, words: list[str]) -> tuple[str, str, int]:
    """Ask until there is nothing more to read: what is to be printed at the end, no remark, and the
    exit status."""
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXAMPLES)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="0 or more; which questions"
    )
    parser.add_argument("--level", type=int, default=1, metavar="L", help=f"1 to {len(LEVELS)}")
    parser.add_argument("--rounds", type=count, metavar="N", help="end after that many questions")
    arguments = parser.parse_args(words)
    with one_line(parser, None):
        session = Session(arguments.seed, level=arguments.level)
    score, status = _Score(), 0
    if hasattr(sys.stdin, "reconfigure"):  # a notebook's has not
        sys.stdin.reconfigure(errors="replace")
    try:
        while arguments.rounds is None or session.number <= arguments.rounds:
            was_right = _ask(session, score)
            if was_right is None:
                break
            session = session.next(was_right)
    except KeyboardInterrupt:
        status = 130  # 128 + SIGINT, as shells count
        say("")
    return _fill(str(score)), "", status


def count(text: str) -> int:
    """The type of an option that is a number of questions."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"give 1 or more, got {text}.")
    return value


def _ask(session: Session, score: _Score) -> bool | None:
    """Ask a question until it is answered: whether that is right. None: there is no answer."""
    question = session.question()
    (ask,) = question.asks
    say("\n".join(_lines(session, question)))
    while True:
        answer = _read(f"{ask.label} = " if isinstance(ask, Number) else "letter: ")
        if answer is None or answer.lower() in ("q", "quit", "exit"):
            return None
        if not answer:
            continue
        try:
            said = _reply(ask, answer)
            break
        except ValueError as error:
            say(_fill(f"{str(error)[:1].upper()}{str(error)[1:]}"))
    # That mistakes give a right number too is of no use here.
    is_said = not said.is_right or isinstance(ask, Choice)
    say(_fill(f"{headline(ask, said)} {said.message if is_said else ''}"))
    say(_fill(question.why))
    if not said.is_right and question.after:
        say(question.after(_columns()).text)
    say("")
    score.asked += 1
    score.right += said.is_right
    score.mistakes.update(_mistakes(ask, answer, said))
    return said.is_right


def _lines(session: Session, question: Question) -> Iterator[str]:
    yield f"Question {session.number}, level {session.level} of {len(LEVELS)}"
    yield _fill(question.text)
    if question.before:
        yield question.before(_columns()).text
    for ask in question.asks:
        if isinstance(ask, Choice):
            yield from (
                _fill(f"{letter}  {option.text}", indent=3)
                for letter, option in zip(ascii_lowercase, ask.options, strict=False)
            )


def _reply(ask: Ask, answer: str) -> Reply:
    """The reply to what was typed.

    Raises:
        ValueError: it is not an answer.
    """
    if answer == "?":
        return reply(ask, None)
    if isinstance(ask, Number):
        return reply(ask, answer)
    letters = ascii_lowercase[: len(ask.options)]
    if len(answer) != 1 or answer.lower() not in letters:
        raise ValueError(f"type one of the letters {', '.join(letters)}, or ? or q.")
    return reply(ask, letters.index(answer.lower()))


def _mistakes(ask: Ask, answer: str, said: Reply) -> list[str]:
    """The names of the mistakes that a wrong answer is recognised by, if they are few."""
    if said.is_right or answer == "?" or not isinstance(ask, Number) or ask.inputs is None:
        return []
    found = recognise(answer, ask.quantity, ask.inputs).mistakes
    return [mistake.name for mistake in found[:1]]


def _read(prompt: str) -> str | None:
    """A line of the standard input without its blanks; None at its end."""
    if sys.stdin is None:
        return None
    print(prompt, end="", flush=True)
    line = sys.stdin.readline()
    answer = line.strip()
    if not line or not sys.stdin.isatty():
        say(printable(answer[:_LONGEST]))  # a terminal shows what is typed, a pipe does not
    return answer if line else None


def _columns() -> int:
    return min(_WIDTH, columns(_WIDTH, NARROWEST))


def _fill(text: str, indent: int = 0) -> str:
    return "\n".join(wrap(text, _columns(), subsequent_indent=" " * indent))
