"""The assignments for nbgrader: what it needs to hand them out and to mark them. It is not run."""

import re
import sys

import make_exercises
import pytest
from make_exercises import SHEETS, for_nbgrader
from nbformat import v4

from sftviz.exercises.course import EXERCISES

by_file = pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)


def code(sheet):
    return {cell.id: cell for cell in for_nbgrader(sheet).cells if cell.cell_type == "code"}


def without(region, replacement, source):
    """What nbgrader leaves of a cell when a region is taken out."""
    lines = rf"^ *### BEGIN {region}\n.*?^ *### END {region}\n?"
    return re.sub(lines, replacement, source, flags=re.DOTALL | re.MULTILINE)


@by_file
def test_each_exercise_is_a_solution_and_a_check_with_its_minutes_as_points(sheet):
    roles = {name: cell.metadata.nbgrader for name, cell in code(sheet).items() if cell.metadata}
    checks = {f"{name}-check" for name in sheet.names}
    assert roles.keys() == {"imports", *sheet.names, *checks}
    for name, role in roles.items():
        assert role["schema_version"] == 3
        assert role["grade_id"] == name  # the cells' ids differ, so these do too
        assert role["solution"] is (name in sheet.names)
        assert role["grade"] is (name in checks)
        assert role["locked"] is (name not in sheet.names)
        assert role["task"] is False
        assert ("points" in role) is role["grade"]
    points = {name: roles[f"{name}-check"]["points"] for name in sheet.names}
    assert points == {name: EXERCISES[name].minutes for name in sheet.names}


@by_file
def test_without_the_solution_a_cell_is_the_stub(sheet):
    for name in sheet.names:
        source = code(sheet)[name].source
        assert without("SOLUTION", "    raise NotImplementedError", source) == EXERCISES[name].stub


@by_file
def test_the_hidden_assertion_fails_unless_the_function_is_correct(sheet):
    name = sheet.names[0]
    cells = code(sheet)
    check = cells[f"{name}-check"].source
    assert without("HIDDEN TESTS", "", check) == f"check_exercise({name})\n"
    space = {}
    exec(cells["imports"].source, space)
    exec(cells[name].source, space)
    exec(check, space)  # the solution
    exec(EXERCISES[name].stub, space)
    with pytest.raises(AssertionError, match="not attempted"):
        exec(check, space)


def test_the_command_writes_a_folder_for_each_and_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make_exercises.py", "--nbgrader", str(tmp_path)])
    make_exercises.main()
    for sheet in SHEETS:
        written = tmp_path / "source" / sheet.file / f"{sheet.file}.ipynb"
        assert v4.reads(written.read_text("utf-8")) == for_nbgrader(sheet)
    monkeypatch.setattr(sys, "argv", ["make_exercises.py", "--nbgrader", "a", "--solved", "b"])
    with pytest.raises(SystemExit):
        make_exercises.main()
    assert "not allowed with argument" in capsys.readouterr().err
