"""The rule of the house: each package names in its docstring what it may import."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import sftviz

PACKAGE = Path(sftviz.__file__).parent
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
FACES = {"__init__", "__main__"}  # what a user calls; they may import every room


def imports(path: Path) -> set[str]:
    """Everything a file imports, wherever it does so: `torch`, `sftviz.step`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module, names, 0):
                found |= {f"{module}.{alias.name}" for alias in names}
            case ast.ImportFrom():
                raise AssertionError(f"{path}: a relative import")
    return found


def room(name: str) -> str:
    """The room that an imported name belongs to: `sftviz.views.step` to `views`, `sftviz.step` to
    `sftviz`, `torch.nn` to `torch`."""
    top, _, rest = name.partition(".")
    inner = rest.partition(".")[0]
    return inner if top == "sftviz" and inner in ROOMS else top


def promised(name: str, verb: str) -> set[str]:
    """What a room's docstring says that it may import, or may be imported by."""
    doc = import_module("sftviz" if name == "sftviz" else f"sftviz.{name}").__doc__
    (names,) = re.findall(rf"May {verb}: ([^.]*)\.", " ".join(doc.split()))
    return set(re.findall(r"`(\w+)`", names))


def files(name: str) -> list[Path]:
    if name == "sftviz":
        return [path for path in PACKAGE.glob("*.py") if path.stem not in FACES]
    return sorted((PACKAGE / name).rglob("*.py"))


LIBRARIES = {"torch", "numpy", "matplotlib", "ipywidgets", "anywidget", "traitlets", "wcwidth"}
ALL = ["sftviz", *ROOMS]
USES = {
    name: {room(found) for path in files(name) for found in imports(path)}
    & {*ALL, *LIBRARIES} - {name}
    for name in ALL
}


@pytest.mark.parametrize("name", ALL)
def test_a_room_imports_what_its_docstring_says_and_nothing_else(name):
    assert USES[name] == promised(name, "import")


@pytest.mark.parametrize("name", ALL)
def test_a_room_is_imported_by_those_that_its_docstring_names(name):
    assert {user for user in ALL if name in USES[user]} == promised(name, "be imported by")


def test_no_import_points_back_up():
    below = {name: USES[name] & set(ALL) for name in ALL}
    while below:  # take away the rooms that stand on nothing that is left
        ground = {name for name, others in below.items() if not others & set(below)}
        assert ground, f"these import each other in a circle: {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in ground}
