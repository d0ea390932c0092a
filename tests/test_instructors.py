"""What docs/instructors.md says about the notebooks and the exercises is so."""

import re
from pathlib import Path

import pytest
from make_exercises import SHEETS

from sftviz.exercises.course import EXERCISES

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "instructors.md").read_text("utf-8")
MINUTES = {name: int(minutes) for name, minutes in re.findall(r"^\| `(\S+)` \| (\d+) ", TEXT, re.M)}
NOTEBOOKS = ROOT / "notebooks"


def test_every_notebook_has_its_minutes():
    found = NOTEBOOKS.rglob("*.ipynb")
    assert sorted(MINUTES) == sorted(
        path.relative_to(NOTEBOOKS).with_suffix("").as_posix()
        for path in found
        if ".ipynb_checkpoints" not in path.parts
    )


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_the_minutes_of_exercises_are_those_of_the_page(sheet):
    minutes = sum(EXERCISES[name].minutes for name in sheet.names)
    assert MINUTES[f"exercises/{sheet.file}"] == minutes


def test_a_lesson_of_90_minutes_has_90():
    spans = [tuple(map(int, span)) for span in re.findall(r"^\| (\d+)–(\d+) \|", TEXT, re.M)]
    assert (spans[0][0], spans[-1][1]) == (0, 90)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]


def test_what_nbgrader_adds_up_to_is_said():
    """Its points are the minutes."""
    points = sum(EXERCISES[name].minutes for name in SHEETS[1].names)
    assert SHEETS[1].file == "02_the_step" and f"{points} of {points} points" in TEXT
