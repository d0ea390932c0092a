"""`sftviz check`: a learner's file, or a folder of a class' files, judged in a terminal."""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, token_label
from sftviz.drawing.scene import Card, Column, Text
from sftviz.exercises.limits import SECONDS
from sftviz.exercises.process import Task, judge_files
from sftviz.exercises.subjects import ALL
from sftviz.exercises.verdict import WIDTH, Verdict
from sftviz.terminal import Parser, columns, file_path, one_line
from sftviz.views.parts import NARROWEST, table

_DESCRIPTION = """\
Judge a function that a learner has written: is it sft_microbatch_train_step, or another one that
--subject names, and if not, which mistake is it? Each file is run in a process of its own, within
limits of time and memory. They are against accidents: run the files of people that you do not know
where they can do no harm.
The exit status is 0 if all are correct, 1 if one is not, 2 if something can't be read."""

_EXAMPLES = """\
examples:
  %(prog)s my_step.py
      the function my_step or sft_microbatch_train_step, or the only one in the file; or
      my_log_probs, my_accumulation, and what else has the name of a subject
  %(prog)s homework.py:lookup --subject log-probs --json
      another function; for a program to read
  %(prog)s submissions/
      all .py files of a folder: a table of name, outcome and mistake"""

_NAME = 40  # cells, of the name of a file


def check(prog: str, words: list[str]) -> tuple[str, str, int]:
    """Judge files: what is to be printed, a remark, and the exit status."""
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXAMPLES)
    parser.add_argument(
        "files", type=file_path, nargs="+", metavar="FILE[:FUNCTION]", help="a .py, or a folder"
    )
    parser.add_argument(
        "--subject", choices=ALL, metavar="SUBJECT", help="what it should compute: %(choices)s"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--timeout", type=seconds, default=SECONDS, metavar="S", help="seconds for each file"
    )
    arguments = parser.parse_args(words)
    tasks: list[Task] = []
    for text in arguments.files:
        with one_line(parser, text):
            tasks += _tasks(text, arguments.subject)
    verdicts: list[Verdict] = [
        verdict for _, verdict in sorted(judge_files(tasks, arguments.timeout), key=lambda p: p[0])
    ]
    judged = list(zip(tasks, verdicts, strict=True))
    if arguments.json:
        said = json.dumps(
            [{"file": str(task.path)} | verdict.as_dict() for task, verdict in judged], indent=2
        )
    elif len(arguments.files) == 1 and not Path(arguments.files[0]).is_dir():
        said = str(verdicts[0].draw(columns(WIDTH, NARROWEST)))
    else:
        said = str(_table(judged))
    return said, "", int(any(verdict.outcome != "correct" for verdict in verdicts))


def seconds(text: str) -> float:
    """The type of an option that is a time."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"give seconds above 0, got {text}.")
    return value


def _tasks(text: str, subject: str | None) -> Iterator[Task]:
    """The files that a word of the command names."""
    path = Path(text)
    if path.is_dir():
        found = sorted(path.glob("*.py"))
        if not found:
            raise ValueError(f"{text} contains no .py file: give the folder that has them.")
        yield from (Task(file, None, subject) for file in found)
        return
    name, colon, function = text.rpartition(":")
    if colon and not path.exists() and function.isidentifier():
        path = Path(name)
    else:
        function = ""
    if path.suffix != ".py":
        raise ValueError(f"{text} is not a .py file: give one, or a folder of them.")
    with path.open("rb"):
        yield Task(path, function or None, subject)


def _table(judged: Sequence[tuple[Task, Verdict]]) -> Drawing:
    """A line for each file, and how many have each outcome."""
    rows = [[Text("file", "title"), Text("outcome", "title"), Text("mistake", "title")]]
    for task, verdict in judged:
        tone = "response" if verdict.outcome == "correct" else "scaled_loss"
        rows.append(
            [
                Text(token_label(task.path.name, _NAME)),
                Text(verdict.outcome, tone),
                Text(verdict.mistake or ""),
            ]
        )
    counts = Counter(verdict.outcome for _, verdict in judged)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    total = f"{count_of(len(judged), 'file')}: {summary}."
    return Drawing(Card(Column((table(rows, gap=3), Text(""), Text(total)))), total)
