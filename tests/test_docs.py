"""Every example in a docstring prints what it says; every public name is there and explained."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

import sftviz

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(page for folder in ("docs", "book") for page in (ROOT / folder).glob("*.md")),
]
MODULES = [
    "sftviz",
    *(
        module.name
        for module in pkgutil.walk_packages(sftviz.__path__, "sftviz.")
        if module.name != "sftviz.__main__"
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    tried = [
        len(doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)))
        for name in MODULES
    ]
    assert sum(tried) >= 10


def test_every_public_name_is_there_and_listed_once():
    assert sorted(sftviz.__all__) == sorted(set(sftviz.__all__))
    assert all(hasattr(sftviz, name) for name in sftviz.__all__)
    assert set(sftviz.__all__) <= set(dir(sftviz))


def test_every_function_and_class_that_the_package_imports_by_name_is_public():
    found = {
        name
        for name, value in vars(sftviz).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith("sftviz")
        and (inspect.isfunction(value) or inspect.isclass(value))
    }
    assert found <= set(sftviz.__all__)


@pytest.mark.parametrize("name", [name for name in sftviz.__all__ if name != "WORKED_EXAMPLE"])
def test_every_public_name_is_explained_and_annotated(name):
    value = getattr(sftviz, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())


@pytest.mark.parametrize("ending", ["svg", "txt"])
def test_the_picture_in_the_readme_is_what_the_package_draws(ending, tmp_path):
    drawing = sftviz.step_flow(sftviz.WORKED_EXAMPLE.trace(), sftviz.WORKED_EXAMPLE.tokens)
    drawn = drawing.save(tmp_path / f"step_flow.{ending}")
    assert (ROOT / "docs" / drawn.name).read_text("utf-8") == drawn.read_text("utf-8")


def test_the_readme_shows_a_small_film_and_a_still_where_no_motion_is_wanted():
    picture = re.search(r"<picture>(.*?)</picture>", README, re.DOTALL)[1]
    source, image = (re.search(rf"<{tag} [^>]*>", picture)[0] for tag in ("source", "img"))
    assert 'media="(prefers-reduced-motion: reduce)"' in source
    assert 'srcset="docs/step_flow.svg"' in source
    assert 'src="docs/explorer.webp"' in image and re.search('alt="[^"]{50,}"', image)
    film = ROOT / "docs" / "explorer.webp"
    assert film.stat().st_size < 500_000
    with Image.open(film) as frames:
        assert frames.n_frames > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\((?!\w+:)([^)#]+)|(?:src|srcset)=\"(?!\w+:)([^\"]+)", text)
    assert [link for link in map("".join, links) if not (page.parent / link).exists()] == []


def test_a_citation_names_this_version_and_its_license():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == sftviz.__version__
    assert (ROOT / "LICENSE").read_text("utf-8").startswith(f"{citation['license']} License\n")
    assert f"## [{sftviz.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_readmes_five_lines_print_what_it_says(capsys):
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    exec(code, {})
    assert capsys.readouterr().out == printed
