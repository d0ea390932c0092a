"""What every stored notebook must keep to.

That its cells still print what is stored, pytest checks cell by cell (nbval, see pyproject.toml).
Here stands what such a run lets pass; each guard is first shown a notebook that it must refuse.
"""

import ast
import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from execute_notebooks import NOTEBOOKS, WIDGET_VIEW, execute, tidy
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode, v4
from nbval.plugin import metadata_tags

from sftviz import AccumulationExplorer

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PATHS = sorted(NOTEBOOKS.rglob("*.ipynb"))
LONGEST_CELL = 12  # lines: a cell is read at a glance, and its output stays on the same screen

# What makes a page fetch something from another host as soon as it is shown (a link does not).
FETCH = re.compile(
    r"""( \bsrc\s*=\s*["']? | <(?:link|image|use)\b[^>]*\bhref\s*=\s*["']? | \burl\(\s*["']?
        | \bimport\b[^;\n]*["'] | !\[[^\]]*\]\(\s* ) (https?:)?//""",
    re.VERBOSE | re.IGNORECASE,
)
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,([\w+/]+=*)")
MARKER = re.compile(r"(?i:nbval)|^#\W*[A-Z]+_[A-Z_]+$")  # what looks like one of nbval's
# For a cell that only checks: exports and the web site leave its code out.
HIDING = {"remove-input", "hide-input"}


# The guards: what is wrong with a notebook, one sentence each.


def runs_once_from_top_to_bottom(notebook: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):  # nbval compares nothing where it is None
        yield f"the execution counts are {counts}"


def stores_no_widget_state(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "the metadata hold widget state"


def stores_no_widget_view(notebook: NotebookNode) -> Iterator[str]:
    for output in outputs(notebook):
        if WIDGET_VIEW in output.get("data", {}):
            yield "an output is a view of a widget that no longer lives"


def stores_no_error(notebook: NotebookNode) -> Iterator[str]:
    for output in outputs(notebook):
        if output.output_type == "error":
            yield f"an error is stored: {output.ename}: {output.evalue}"
        elif output.get("name") == "stderr":
            yield f"something complained: {output.text}"


def defines_no_helper(notebook: NotebookNode) -> Iterator[str]:
    plain_python = TransformerManager().transform_cell  # magics become calls
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(plain_python(cell.source))):
            match node:
                case ast.FunctionDef() if is_stub(node):
                    pass
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    yield f"`def {name}` belongs in the package"
                case ast.ClassDef(name=name):
                    yield f"`class {name}` belongs in the package"
                case ast.Assign(value=ast.Lambda()) | ast.AnnAssign(value=ast.Lambda()):
                    yield f"`{ast.unparse(node)}` belongs in the package"


def is_stub(node: ast.FunctionDef) -> bool:
    """Whether nothing is defined yet: an exercise is a function that the learner writes."""
    match node.body:
        case [ast.Expr(ast.Constant(str())), ast.Raise(ast.Name("NotImplementedError"), None)]:
            return not node.decorator_list
    return False


def says_in_tags_what_is_for_the_tests(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:  # nbval passes over a tag that it does not know
        tags = set(cell.metadata.get("tags", []))
        for tag in tags - set(metadata_tags) - HIDING:
            yield f"no such tag: {tag}"
        if tags & HIDING and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield f"JupyterLab shows the code, it does not know the tag: {cell.source[:40]}"
    for cell in code_cells(notebook):
        for line in map(str.strip, cell.source.splitlines()):
            if MARKER.search(line):
                yield f"a reader sees this, make it a tag: {line}"


def hides_what_checks_it(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        is_hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
        if not is_hidden and re.search(r"^\s*assert\b", cell.source, re.MULTILINE):
            yield f"a reader sees this check, which may give an answer away: {cell.source[:40]}"


def can_be_read_before_it_has_run(notebook: NotebookNode) -> Iterator[str]:
    for output in outputs(notebook):
        text = output.get("data", {}).get("text/plain", "")
        if re.match(r"\w+\(.*\bchildren=|<\S+ object at 0x|\w+\(value=", text):
            yield f"an output says nothing without its widget: {text[:40]}"


def fetches_nothing(notebook: NotebookNode) -> Iterator[str]:
    for text in shown(notebook):
        embedded = [base64.b64decode(encoded) for encoded in DATA_URI.findall(text)]
        for part in (text, *(page.decode("utf-8", "ignore") for page in embedded)):
            if found := FETCH.search(part):
                yield f"something is fetched: {part[found.start() : found.end() + 30]}"


def keeps_its_cells_short(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        if (lines := len(cell.source.splitlines())) > LONGEST_CELL:
            yield f"a cell has {lines} lines, and {LONGEST_CELL} is the most: {cell.source[:40]}"


def is_tidy(notebook: NotebookNode) -> Iterator[str]:
    if tidy(deepcopy(notebook)) != notebook:
        yield "not as `make notebooks` leaves it"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def shown(notebook: NotebookNode) -> Iterator[str]:
    yield from (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for output in outputs(notebook):
        yield from (text for text in output.get("data", {}).values() if isinstance(text, str))


# One fault at a time. A guard is in force by standing here, beside what it must refuse.


def cell(source: str = "1 + 1", count: int | None = 1, **parts: object) -> NotebookNode:
    return v4.new_code_cell(source, execution_count=count, **parts)


def showing(**output: object) -> NotebookNode:
    """A cell with one output: a stream, an error, or a bundle of types."""
    kind = output.pop("kind", "display_data")
    return cell(outputs=[v4.new_output(kind, **output)])


def html(text: str) -> NotebookNode:
    return showing(data={"text/html": text})


def book(*cells: NotebookNode, **metadata: object) -> NotebookNode:
    notebook = tidy(v4.new_notebook())
    notebook.metadata.update(metadata)
    return NotebookNode(notebook, cells=list(cells))


PICTURE = base64.b64encode(b"<svg><image href='https://example.org/a.png'/></svg>").decode()

GUARDS = {
    runs_once_from_top_to_bottom: [
        book(cell(count=None)),
        book(cell(count=2)),
        book(cell(count=2), cell(count=1)),
    ],
    stores_no_widget_state: [book(widgets={})],
    stores_no_widget_view: [book(showing(data={WIDGET_VIEW: {}, "text/html": "<img>"}))],
    stores_no_error: [
        book(showing(kind="error", ename="ValueError", evalue="G must be at least 1")),
        book(showing(kind="stream", name="stderr", text="UserWarning")),
    ],
    defines_no_helper: [
        book(cell("def plot(): pass")),
        book(cell("if True:\n    async def plot(): pass")),
        book(cell("class Plot: pass")),
        book(cell("def step(x):\n    'Add.'\n    return x + 1")),
        book(cell("def step(x):\n    'Add.'\n    print(x)\n    raise NotImplementedError")),
        book(cell("%matplotlib inline\nplot = lambda: None")),
    ],
    says_in_tags_what_is_for_the_tests: [
        book(cell("# NBVAL_IGNORE_OUTPUT\n1 + 1")),
        book(cell("# NBVL_IGNORE_OUTPUT\n1 + 1")),
        book(cell("1 + 1  # nbval-ignore-output")),
        book(cell(metadata={"tags": ["nbval_ignore_output"]})),
        book(cell(metadata={"tags": ["remove-input"]})),
    ],
    hides_what_checks_it: [
        book(cell("assert accuracy > 0.8")),
        book(cell("for x in (1, 2):\n    assert x")),
    ],
    can_be_read_before_it_has_run: [
        book(showing(data={"text/plain": "HBox(children=(IntProgress(value=0),))"})),
        book(showing(data={"text/plain": "IntProgress(value=0, max=150)"})),
        book(showing(data={"text/plain": "<sftviz.Thing object at 0x7f>"})),
    ],
    fetches_nothing: [
        book(html('<script src="https://cdn.example.org/d3.js"></script>')),
        book(html("<link rel=stylesheet href=//example.org/a.css>")),
        book(html("<style>@import 'https://example.org/a.css'</style>")),
        book(html("<i style='background: url(http://example.org/a.png)'></i>")),
        book(html(f'<img src="data:image/svg+xml;base64,{PICTURE}">')),
        book(v4.new_markdown_cell("![a badge](https://example.org/badge.svg)")),
    ],
    keeps_its_cells_short: [book(cell("x = 1\n" * (LONGEST_CELL + 1)))],
    is_tidy: [book(language_info={"name": "python", "version": "3.11.7"}), book(*[cell()] * 2)],
}


@pytest.mark.parametrize(
    ("guard", "bad"), [(guard, bad) for guard, refused in GUARDS.items() for bad in refused]
)
def test_a_guard_refuses_a_bad_notebook(guard, bad):
    assert list(guard(bad))


def test_all_guards_let_a_good_notebook_pass():
    link = '<svg xmlns="http://www.w3.org/2000/svg"><a href="https://example.org">more</a></svg>'
    picture = base64.b64encode(link.encode()).decode()
    good = book(
        v4.new_markdown_cell("# [Accumulation](https://example.org)"),
        cell("min([], key=lambda n: n)", metadata={"tags": ["nbval-skip"]}),
        NotebookNode(html(f'<img src="data:image/svg+xml;base64,{picture}">'), execution_count=2),
        cell("", count=None),
        cell(count=3, metadata={"tags": ["remove-input"], "jupyter": {"source_hidden": True}}),
        cell("def step(x):\n    'Add.'\n    raise NotImplementedError", count=4),
    )
    assert [complaint for guard in GUARDS for complaint in guard(good)] == []


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebook(path, guard):
    assert list(guard(v4.reads(path.read_text("utf-8")))) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_only_exercises_have_something_to_write(path):
    notebook = v4.reads(path.read_text("utf-8"))
    has_stub = any("NotImplementedError" in each.source for each in code_cells(notebook))
    assert has_stub == (path.parent.name == "exercises")


def test_the_loop_of_the_accumulation_notebook_prints_the_numbers_of_its_picture():
    notebook = v4.reads((NOTEBOOKS / "04_accumulation.ipynb").read_text("utf-8"))
    explorer = AccumulationExplorer(B=2, G=4, reached=1)
    picture, loop = outputs(notebook), [o for o in outputs(notebook) if o.get("name") == "stdout"]
    assert next(picture).data["text/plain"] == explorer.drawing.text
    printed = re.findall(r"loss (\S+)  tokens +(\S+)  \|\.grad\| (\S+)", loop[0].text)
    assert printed == [
        (f"{of.scaled_loss:.4f}", str(of.num_tokens), f"{of.grad['table'].norm():.4f}")
        for of in explorer.trace.microbatches
    ]


# The two tools that the notebooks are in the hands of.


def test_executing_again_leaves_the_same_bytes(tmp_path):
    draft = book(
        cell("print(1)\nprint(2, flush=True)\nprint(3)", count=None),
        cell("from sftviz import StepExplorer\nStepExplorer()", count=None),
    )
    for unnamed in draft.cells:
        del unnamed["id"]
    once = execute(v4.writes(draft), tmp_path)
    assert execute(once, tmp_path) == once
    assert [complaint for guard in GUARDS for complaint in guard(v4.reads(once))] == []
    assert [c.id for c in v4.reads(once).cells] == ["cell-01", "cell-02"]


def test_every_run_of_the_tests_includes_the_notebooks(pytestconfig):
    assert "notebooks" in pytestconfig.getini("testpaths")
    assert pytestconfig.option.nbval and not pytestconfig.option.nbval_lax


def test_an_output_that_no_longer_holds_is_a_failure(tmp_path):
    stale = book(cell("print(1)", outputs=[v4.new_output("stream", text="2\n")]), cell(count=2))
    (tmp_path / "stale.ipynb").write_text(v4.writes(stale), "utf-8")
    options = ["-c", PYPROJECT, "--rootdir", tmp_path, "--output", tmp_path / "screenshots"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path / "stale.ipynb"],
        cwd=PYPROJECT.parent,
        capture_output=True,
        text=True,
    )
    assert "2 failed" in run.stdout, run.stdout + run.stderr
