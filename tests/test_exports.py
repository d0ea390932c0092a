"""What is left of a notebook's pictures in the files that Jupyter's own commands make of it."""

import re
from pathlib import Path

import pytest
from execute_notebooks import METADATA
from nbclient import NotebookClient
from nbconvert.nbconvertapp import NbConvertApp
from nbformat import read, v4, write

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "tools" / "jupyter_nbconvert_config.py"
SOURCES = (
    "from sftviz import WORKED_EXAMPLE, StepExplorer, step_flow\nStepExplorer()",
    "step_flow(WORKED_EXAMPLE.trace())",
    "from sftviz.views.charts import ratio_chart\n"
    "ratio_chart({'÷ G²': {(2, 2): 1.0, (2, 8): 0.25}})",
)
ALTS = ("SFT step, G = 2", "SFT step, G = 2", "Gradient relative to the full batch’s")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)  # set in a terminal of `make lab`


def export(file: Path, *options: object) -> Path:
    """What `jupyter nbconvert` writes for a notebook."""
    app = NbConvertApp()
    app.initialize([*map(str, options), "--output", f"{file.stem}-exported", str(file)])
    app.start()
    (written,) = file.parent.glob(f"{file.stem}-exported.*")
    return written.rename(written.with_stem("page"))


def pictures(page: str) -> list[str]:
    """The beginning of the alternative text of each image."""
    alts = re.findall(r'<img alt="([^"]*)"[^>]*src="data:image/svg\+xml;base64,', page)
    return [next((start for start in ALTS if alt.startswith(start)), alt) for alt in alts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`new.ipynb` was never run. `run.ipynb` was, and has the state of its widgets."""
    folder = tmp_path_factory.mktemp("exports")
    slide = {"slideshow": {"slide_type": "slide"}}
    cells = [v4.new_code_cell(source, metadata=slide) for source in SOURCES]
    notebook = v4.new_notebook(cells=cells, metadata=METADATA)
    write(notebook, folder / "new.ipynb")
    NotebookClient(notebook).execute()  # as `jupyter execute` does
    assert "widgets" in notebook.metadata
    write(notebook, folder / "run.ipynb")
    return folder


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("run", ["--to", "html"]),
        ("new", ["--to", "html", "--execute"]),
        ("run", ["--to", "slides"]),
    ],
    ids=str,
)
def test_an_export_shows_every_picture(folder, name, options):
    file = export(folder / f"{name}.ipynb", "--config", CONFIG, *options)
    page = file.read_text("utf-8")
    assert pictures(page) == list(ALTS)
    assert "jupyter.widget" not in page and "html-manager" not in page
    if "slides" in options:
        assert len(re.findall(r"<section>\s*<section>", page)) == len(SOURCES)


def test_without_the_settings_an_executed_explorer_is_missing(folder):
    """If this fails, the settings are no longer needed."""
    page = export(folder / "run.ipynb", "--to", "html").read_text("utf-8")
    assert pictures(page) == list(ALTS[1:]) and "html-manager" in page


@pytest.mark.parametrize("settings", [[], ["--config", CONFIG]], ids=["without", "with"])
def test_code_is_exported_as_a_python_file(folder, settings):
    file = export(folder / "run.ipynb", *settings, "--to", "script")
    assert file.suffix == ".py" and SOURCES[1] in file.read_text("utf-8")


@pytest.mark.parametrize("tag", ["remove-input", "hide-input"])
def test_the_code_of_a_check_is_not_exported(tmp_path, tag):
    cell = v4.new_code_cell("assert 1 + 1 == 2", metadata={"tags": [tag]})
    write(v4.new_notebook(cells=[cell], metadata=METADATA), tmp_path / "check.ipynb")
    page = export(tmp_path / "check.ipynb", "--config", CONFIG, "--to", "html")
    assert "assert" not in page.read_text("utf-8")


def test_of_the_metadata_an_export_leaves_out_only_the_state_of_widgets(folder):
    page = export(folder / "run.ipynb", "--config", CONFIG, "--to", "notebook")
    before, after = read(folder / "run.ipynb", 4).metadata, read(page, 4).metadata
    assert after == {name: value for name, value in before.items() if name != "widgets"}
