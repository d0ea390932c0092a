"""Make the notebooks of notebooks/exercises/ from the exercises of the package, and execute them.

With --solved FOLDER, the same notebooks with the solutions are written there. With --nbgrader
FOLDER, they are written into the `source/` of an nbgrader course, not executed: with solutions that
nbgrader removes, and a hidden assertion for each exercise.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from execute_notebooks import NOTEBOOKS, execute, tidy
from nbformat import NotebookNode, v4

from sftviz.exercises.course import EXERCISES

FOLDER = NOTEBOOKS / "exercises"
_NUMBERS = {name: number for number, name in enumerate(EXERCISES, start=1)}

_WIDTH = 104  # characters of a line of text
_HOW = (
    "Fill in each function and run its cell, then the cell below it. The answer says what is "
    "right; if something is wrong, it names the mistake and shows your number beside the right "
    "one, where they first part. A function may be written in any way that computes the right "
    "thing. Each hint says more than the one before."
)
_ORDER = """\
from sftviz import PutInOrder

PutInOrder("loop")"""
# What stands in front of an exercise: a text, and a cell of code.
_BEFORE = {
    "train": (
        "A loop is mostly a matter of order. So first put the lines of an easier one in order, "
        "where the windows are given; some lines do not belong there. Then write the whole loop.",
        _ORDER,
    )
}


@dataclass(frozen=True)
class Sheet:
    """One notebook."""

    file: str  # without .ipynb
    title: str
    text: str  # after the title
    names: tuple[str, ...]  # of its exercises
    imports: str
    end: str  # where to go next


_TORCH = "import torch\n\nfrom sftviz import check_exercise"
_LOOPS = """\
import torch

from sftviz import check_exercise, get_response_log_probs, sft_microbatch_train_step"""

SHEETS = (
    Sheet(
        "01_masks_and_log_probs",
        "Exercises: masks and log-probs",
        "What the step is given, and the first thing that it does. They belong to "
        "[the notebook about masks and log-probs](../02_masks_and_log_probs.ipynb).",
        ("masked_sum", "response_mask", "shift", "label_log_probs"),
        _TORCH,
        "**Next:** [the step](02_the_step.ipynb).",
    ),
    Sheet(
        "02_the_step",
        "Exercises: the step",
        "From the sum to the loss, and the gradient that it leaves. They belong to "
        "[the notebook about the step](../01_the_step.ipynb).",
        ("negate_and_divide", "my_step", "gradient_by_hand"),
        _TORCH,
        "**Next:** [windows, training, ranks](03_windows_and_ranks.ipynb).",
    ),
    Sheet(
        "03_windows_and_ranks",
        "Exercises: windows, training, ranks",
        "Gradients that add up to that of the full batch, the loop around it, and two ranks. They "
        "belong to the notebooks about [the divisor](../03_scaling.ipynb), "
        "[accumulation](../04_accumulation.ipynb), [training](../05_training.ipynb) and "
        "[several devices](../06_several_devices.ipynb).",
        ("accumulate_gradient", "window_losses", "train", "ranks_gradient"),
        _LOOPS,
        "**Next:** [the test](04_the_test.ipynb).",
    ),
    Sheet(
        "04_the_test",
        "Exercise: the test",
        "In [the notebook about the divisor](../03_scaling.ipynb), some batches could not show a "
        "mistake. Now find a test that shows all of them.",
        ("my_test",),
        _TORCH,
        "These were all exercises. **Back to** [the beginning of the course]"
        "(../00_start_here.ipynb).",
    ),
)


def notebook(sheet: Sheet, *, solved: bool = False) -> NotebookNode:
    """A notebook that has not been run. The ids of its cells are made of the functions' names."""
    start = f"# {sheet.title}\n\n{_wrapped(sheet.text)}\n\n{_wrapped(_HOW)}"
    cells = [
        v4.new_markdown_cell(start, id="start"),
        v4.new_code_cell(sheet.imports, id="imports"),
    ]
    for name in sheet.names:
        exercise = EXERCISES[name]
        heading = f"## {_NUMBERS[name]:02d} · {exercise.title}"
        hints = "\n".join(
            _wrapped(
                f"<details><summary>Hint {at} of {len(exercise.hints)}</summary>{hint}</details>"
            )
            for at, hint in enumerate(exercise.hints, start=1)
        )
        cells += [
            v4.new_markdown_cell(
                f"{heading}\n\n{_wrapped(exercise.goal)}\n\n*About {exercise.minutes} minutes.*",
                id=f"{name}-goal",
            ),
            *_before(name),
            v4.new_code_cell(exercise.solved if solved else exercise.stub, id=name),
            v4.new_code_cell(f"check_exercise({name})", id=f"{name}-check"),
            v4.new_markdown_cell(hints, id=f"{name}-hints"),
        ]
    cells.append(v4.new_markdown_cell(sheet.end, id="end"))
    return tidy(v4.new_notebook(cells=cells))


_GRADE = {"schema_version": 3, "task": False}


def for_nbgrader(sheet: Sheet) -> NotebookNode:
    """A notebook as an instructor gives it to nbgrader. An exercise has its minutes as points."""
    page = notebook(sheet)
    cells = {cell.id: cell for cell in page.cells}
    for name in sheet.names:
        exercise = EXERCISES[name]
        head = exercise.stub.removesuffix("    raise NotImplementedError")
        body = exercise.solved.removeprefix(head)
        cells[name].source = f"{head}    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
        cells[name].metadata["nbgrader"] = _GRADE | {
            "grade_id": name,
            "solution": True,
            "grade": False,
            "locked": False,
        }
        check = cells[f"{name}-check"]
        check.source += (
            "\n### BEGIN HIDDEN TESTS\n"
            f'assert (found := check_exercise({name})).outcome == "correct", f"\\n{{found}}"\n'
            "### END HIDDEN TESTS"
        )
        check.metadata["nbgrader"] = _GRADE | {
            "grade_id": f"{name}-check",
            "solution": False,
            "grade": True,
            "locked": True,
            "points": exercise.minutes,
        }
    return page


def _before(name: str) -> list[NotebookNode]:
    if name not in _BEFORE:
        return []
    text, code = _BEFORE[name]
    return [
        v4.new_markdown_cell(_wrapped(text), id=f"{name}-before"),
        v4.new_code_cell(code, id=f"{name}-order"),
    ]


def _wrapped(text: str) -> str:
    return fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--solved", type=Path, metavar="FOLDER", help="write solved notebooks")
    ways.add_argument("--nbgrader", type=Path, metavar="FOLDER", help="write a course's source")
    options = parser.parse_args()
    for sheet in SHEETS:
        if options.nbgrader:
            folder = options.nbgrader / "source" / sheet.file
            text = v4.writes(for_nbgrader(sheet))
        else:
            folder = options.solved or FOLDER
            text = execute(v4.writes(notebook(sheet, solved=bool(options.solved))), FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{sheet.file}.ipynb"
        print(path, flush=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
