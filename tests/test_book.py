"""The pages of the web site are those that there are. `make book` builds it; the tests do not."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text("utf-8"))
CONFIG = yaml.safe_load((ROOT / "book" / "_config.yml").read_text("utf-8"))
FILES = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]


def pages(pattern: str) -> list[str]:
    found = (path.relative_to(ROOT) for path in ROOT.glob(pattern))
    return sorted(
        str(path.with_suffix("")) for path in found if ".ipynb_checkpoints" not in path.parts
    )


def test_every_notebook_is_a_page_and_they_stand_in_the_order_they_are_read():
    assert [file for file in FILES if Path(file).parent == Path("notebooks")] == pages(
        "notebooks/*.ipynb"
    )
    assert sorted(file for file in FILES if file.startswith("notebooks/")) == pages(
        "notebooks/**/*.ipynb"
    )


@pytest.mark.parametrize("folder", ["docs", "benchmarks"])
def test_every_text_is_a_page(folder):
    assert sorted(file for file in FILES if file.startswith(f"{folder}/")) == pages(
        f"{folder}/*.md"
    )


def test_nothing_is_executed_and_nothing_comes_from_another_host():
    assert CONFIG["execute"]["execute_notebooks"] == "off"
    sphinx = CONFIG["sphinx"]["config"]
    assert "sphinx_thebe" not in sphinx["extensions"]
    assert "//" not in sphinx["mathjax_path"] and sphinx["nb_ipywidgets_js"] == {}
