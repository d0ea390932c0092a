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
from sftviz.exercises.source import SUFFIXES
from sftviz.exercises.subjects import JUDGES
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
      the functions my_step or sft_microbatch_train_step, my_log_probs or get_response_log_probs,
      my_accumulation or accumulate_windows; or the only function in the file
  %(prog)s homework.py:lookup --subject log-probs --json
      a function with another name; for a program to read
  %(prog)s 01_masks_and_log_probs.ipynb
      in a notebook, all exercises too, by their names
  %(prog)s submissions/
      all .py and .ipynb in a folder and below: a table of file, function, outcome and mistake"""

_NAME = 40  # cells, of the name of a file


def check(prog: str, words: list[str]) -> tuple[str, str, int]:
    """Judge files: what is to be printed, a remark, and the exit status."""
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXAMPLES)
    parser.add_argument(
        "files",
        type=file_path,
        nargs="+",
        metavar="FILE[:FUNCTION]",
        help="a .py, a .ipynb, or a folder",
    )
    parser.add_argument(
        "--subject", choices=JUDGES, metavar="NAME", help="what it should compute: %(choices)s"
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
    judged = dict(judge_files(tasks, arguments.timeout))
    rows = [(task, name, verdict) for at, task in enumerate(tasks) for name, verdict in judged[at]]
    if arguments.json:
        answers = (
            {"file": str(task.path), "function": name, **verdict.as_dict()}
            for task, name, verdict in rows
        )
        said = json.dumps([*answers], indent=2)
    elif len(arguments.files) == 1 and not Path(arguments.files[0]).is_dir():
        width = columns(WIDTH, NARROWEST)
        said = "\n".join(
            f"{name}\n{verdict.draw(width)}" if len(rows) > 1 else str(verdict.draw(width))
            for _, name, verdict in rows
        )
    else:
        said = str(_table(rows))
    return said, "", int(any(verdict.outcome != "correct" for _, _, verdict in rows))


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
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        inner = [file.relative_to(path) for file in files]
        found = [name for name in inner if not any(part.startswith(".") for part in name.parts)]
        if not found:
            raise ValueError(f"{text} contains no .py or .ipynb: give the folder that has them.")
        yield from (Task(path / name, None, subject, str(name)) for name in found)
        return
    name, colon, function = text.rpartition(":")
    if colon and not path.exists() and function.isidentifier():
        path = Path(name)
    else:
        function = ""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{text} is not a .py or .ipynb: give one, or a folder of them.")
    with path.open("rb"):
        yield Task(path, function or None, subject, path.name)


def _table(judged: Sequence[tuple[Task, str, Verdict]]) -> Drawing:
    """A line for each function, and how many have each outcome."""
    rows = [[Text(head, "title") for head in ("file", "function", "outcome", "mistake")]]
    for task, name, verdict in judged:
        tone = "response" if verdict.outcome == "correct" else "scaled_loss"
        rows.append(
            [
                Text(token_label(task.label, _NAME)),
                Text(token_label(name, _NAME)),
                Text(verdict.outcome, tone),
                Text(verdict.mistake or ""),
            ]
        )
    counts = Counter(verdict.outcome for *_, verdict in judged)
    files = count_of(len({task.path for task, *_ in judged}), "file")
    total = f"{files}: {', '.join(f'{count} {each}' for each, count in counts.most_common())}."
    return Drawing(Card(Column((table(rows, gap=3), Text(""), Text(total)))), total)
