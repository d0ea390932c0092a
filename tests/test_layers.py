"""Imports point down only, and the two columns meet in the sheet and nowhere below it."""

import ast
from pathlib import Path

import sftviz

PACKAGE = Path(sftviz.__file__).parent
LAYERS = [line.split() for line in """
    formatting validate scene theme
    step backends
    stages batch logits log_probs drawing
    accumulation examples parts toy
    training distributed
    sheet
    views
    logits_view token_view accumulation_view charts
    explorers
    __init__ __main__
""".strip().splitlines()]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
DRAWING = {"formatting", "scene", "theme", "backends", "drawing"}
COMPUTING = {
    *("formatting", "validate", "step", "stages", "batch", "examples"),
    *("logits", "log_probs", "accumulation", "toy", "training", "distributed"),
}


def imports(path):
    """Everything a file imports, wherever it does so: `torch`, `sftviz.step`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, 0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                raise AssertionError(f"{path}: a relative import")


def part(name):
    """The part of the package that a name belongs to: `sftviz.backends.svg` to `backends`."""
    return name.split(".")[1]


FILES = {
    path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")
}
USES = {(FILES[path], name) for path in FILES for name in imports(path)}
INNER = {(user, part(name)) for user, name in USES if name.startswith("sftviz.")}
OUTER = {(user, name.partition(".")[0]) for user, name in USES if not name.startswith("sftviz.")}


def test_every_file_has_its_layer():
    assert set(FILES.values()) - set(LEVEL) == set()


def test_imports_point_down():
    assert {(a, b) for a, b in INNER if a != b and LEVEL[a] <= LEVEL[b]} == set()


def test_the_drawing_column_knows_no_tensors():
    assert {(a, b) for a, b in INNER if a in DRAWING and b not in DRAWING} == set()
    assert {(a, b) for a, b in OUTER if a in DRAWING and b in ("torch", "numpy")} == set()


def test_the_computing_column_knows_no_pictures():
    assert {(a, b) for a, b in INNER if a in COMPUTING and b not in COMPUTING} == set()


def test_heavy_libraries_are_named_where_they_are_needed_alone():
    homes = {
        "matplotlib": {"backends", "charts"},
        "ipywidgets": {"explorers"},
        "anywidget": {"explorers"},
    }
    for library, home in homes.items():
        assert {user for user, name in OUTER if name == library} == home


def test_what_is_read_here_is_not_nothing():
    assert {("views", "sheet"), ("step", "validate"), ("drawing", "backends")} < INNER
