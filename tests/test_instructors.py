"""What docs/instructors.md says of notebooks, exercises, files and commands is so."""

import re
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
from make_exercises import SHEETS
from nbformat import v4

import sftviz
from sftviz.__main__ import _SUBCOMMANDS, main
from sftviz.exercises.course import EXERCISES
from sftviz.mistakes import MISTAKES

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
TEXT = (ROOT / "docs" / "instructors.md").read_text("utf-8")
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
FOLDERS = ("benchmarks", "binder", "docs", "notebooks", "sftviz", "tests", "tools")
STORED = {  # the cells of each notebook
    path.relative_to(NOTEBOOKS).with_suffix("").as_posix(): v4.reads(path.read_text("utf-8")).cells
    for folder in (NOTEBOOKS, NOTEBOOKS / "exercises")
    for path in folder.glob("*.ipynb")
}


def section(heading: str) -> str:
    return TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def minutes() -> dict[str, int]:
    """The minutes of each notebook, as the tables have them."""
    found = [row for row in rows(section("The notebooks")) if row[1].isdigit()]
    assert len(found) == len({row[0] for row in found})
    return {row[0].strip("`"): int(row[1]) for row in found}


def test_every_notebook_has_minutes_and_a_paragraph():
    assert minutes().keys() == STORED.keys()
    headings = re.findall(r"^### `(.+)`$", section("The notebooks"), re.MULTILINE)
    assert sorted(headings) == sorted(STORED)


def test_the_estimates_are_what_the_rule_gives():
    """Within ten minutes: a notebook may change a little without a change here."""
    for name in NAMES:
        text = "".join(cell.source + " " for cell in STORED[name] if cell.cell_type == "markdown")
        code = [cell.source for cell in STORED[name] if cell.cell_type == "code"]
        questions = sum(source.count("Prediction(") for source in code)
        explorers = sum("Explorer" in source for source in code)
        rule = len(text.split()) / 130 + 1.5 * questions + 0.5 * len(code) + 3 * explorers
        assert abs(minutes()[name] - rule) <= 10, (name, rule)


def test_the_whole_course_takes_as_long_as_its_notebooks():
    hours = sum(minutes()[name] for name in NAMES) / 60
    assert 5 <= hours <= 6 and "between five and six hours" in " ".join(TEXT.split())
    assert abs(sum(exercise.minutes for exercise in EXERCISES.values()) / 60 - 1.5) <= 0.1


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_the_minutes_of_exercises_are_theirs(sheet):
    name = f"exercises/{sheet.file}"
    (row,) = [row for row in rows(section("The notebooks")) if row[0] == f"`{name}`"]
    listed = {each: int(number) for each, number in re.findall(r"`(\w+)` (\d+)", row[2])}
    assert listed == {each: EXERCISES[each].minutes for each in sheet.names}
    assert minutes()[name] == sum(listed.values())


def test_the_lesson_has_90_minutes_without_a_gap():
    times = [re.fullmatch(r"(\d+)–(\d+)", row[0]) for row in rows(section("Plan a class"))]
    ends = [(int(time[1]), int(time[2])) for time in times if time]
    assert ends[0][0] == 0 and ends[-1][1] == 90
    assert all(end == start for (_, end), (start, _) in pairwise(ends))


def test_a_session_has_the_minutes_of_its_notebooks():
    sessions = [row for row in rows(section("Plan a class")) if len(row) == 4 and row[2].isdigit()]
    assert len(sessions) == 5
    for _, in_class, stated, _ in sessions:
        assert int(stated) == sum(minutes()[name] for name in re.findall(r"`([\w/]+)`", in_class))


def test_the_questions_that_it_names_are_in_the_notebook_of_the_row_or_paragraph():
    named = [(row[1], row[2]) for row in rows(section("Plan a class")) if len(row) == 4]
    for part in section("The notebooks").split("\n### ")[1:]:
        heading, _, text = part.partition("\n")
        named.append((text, heading))
    questions = [
        (re.findall(r"`([\w/]+)`", where)[0], " ".join(question.split()))
        for text, where in named
        for question in re.findall(r"\*([^*]+)\*", text)
    ]
    assert len(questions) > 25
    for name, question in questions:
        asked = (f'Prediction("{question}")', f'Prediction(questions["{question}"])')
        assert any(each in cell.source for cell in STORED[name] for each in asked), question


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_the_mistakes_that_it_names_are_those_of_the_exercises(sheet):
    text = section("The notebooks").split(f"### `exercises/{sheet.file}`\n")[1].split("\n### ")[0]
    named = {" ".join(name.split()) for name in re.findall("“(.+?)”", text, re.DOTALL)}
    known = {mistake.name for name in sheet.names for mistake in EXERCISES[name].mistakes}
    assert len(named) == 4 and named <= known


def test_nbgraders_points_are_all_minutes():
    """And one exercise less, where its row says so."""
    full = [sum(EXERCISES[name].minutes for name in sheet.names) for sheet in SHEETS]
    table = {row[0]: row[1:] for row in rows(section("Marking")) if len(row) == 5}
    assert table["all right"] == [f"{points} of {points}" for points in full]
    cells = [re.fullmatch(r"(\d+), `(\w+)`", cell) for cell in table["one mistake, in"]]
    assert [int(cell[1]) + EXERCISES[cell[2]].minutes for cell in cells] == full


def test_files_folders_and_names_in_it_exist():
    quoted = re.findall(r"`([^`\n]+)`", TEXT)
    paths = [each for each in quoted if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./]*", each)]
    assert len(paths) >= 6
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for dotted in (each for each in quoted if re.fullmatch(r"sftviz(\.\w+)+", each)):
        module, _, name = dotted.rpartition(".")
        assert hasattr(import_module(module), name)
    called = {each for text in quoted for each in re.findall(r"\b([a-z_]{6,}|[A-Z]\w+)\(", text)}
    explorers = {each for each in quoted if re.fullmatch(r"\w+Explorer", each)}
    assert len(called | explorers) >= 8
    known = {*sftviz.__all__, *EXERCISES, "get_config", "zero_grad", "backward", "no_sync"}
    assert (called | explorers) - known == set()
    names = {each for each in quoted if re.match(r"(exercises/)?\d\d_\w+$", each)}
    inner = {name.removeprefix("exercises/") for name in STORED}
    assert names <= STORED.keys() | inner


def test_the_commands_in_it_exist(capsys):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)(?=`| ARGS|\n)", TEXT)) <= set(targets)
    commands = set(re.findall(r"\bsftviz (\w+)", re.sub(r"[^`$]sftviz ", "", TEXT)))
    assert commands == {"check", "practice"} <= _SUBCOMMANDS.keys()
    with suppress(SystemExit):
        main(["check", "--help"])
    assert {"--json", "--timeout"} <= set(re.findall(r"--\w+", capsys.readouterr().out))


def test_the_mistakes_in_its_table_of_files_have_these_names():
    lines = re.findall(r"^│ \S+ +\S+ +wrong +(.+?) +│$", TEXT, re.MULTILINE)
    assert len(lines) == 2
    assert set(lines) <= {mistake.name for mistake in MISTAKES}
