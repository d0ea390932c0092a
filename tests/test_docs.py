"""Every example in a docstring prints what it says; every public name is there and explained."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from PIL import Image

import sftviz
from sftviz.exercises.course import EXERCISES

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


def classes(annotation: object) -> set[type]:
    """The classes of this package that a type consists of."""
    own = inspect.isclass(annotation) and annotation.__module__.startswith("sftviz")
    parts = [classes(part) for part in get_args(annotation) if not isinstance(part, str)]
    return {annotation} if own else set().union(*parts)


def test_what_a_public_function_takes_and_returns_is_public():
    for name in sftviz.__all__:
        value = getattr(sftviz, name)
        if inspect.isfunction(value):
            for annotation in get_type_hints(value).values():
                assert {kind.__name__ for kind in classes(annotation)} <= set(sftviz.__all__), name
    assert classes(dict[str, sftviz.Drawing | None]) == {sftviz.Drawing}


@pytest.mark.parametrize("name", [name for name in sftviz.__all__ if name != "WORKED_EXAMPLE"])
def test_every_public_name_is_explained_and_annotated(name):
    value = getattr(sftviz, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())


@pytest.mark.parametrize(("ending", "width"), [("svg", 112), ("txt", 100)])
def test_the_picture_in_the_readme_is_what_the_package_draws(ending, width, tmp_path):
    example = sftviz.WORKED_EXAMPLE
    drawing = sftviz.step_flow(example.trace(), example.tokens, width)
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


def test_every_file_that_the_architecture_names_is_there_and_every_module_is_named():
    root = Path(__file__).parent.parent
    text = (root / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|js|css|txt|md))`", text))
    files = {path.relative_to(root).as_posix() for path in root.glob("[a-z]*/**/*.*")}
    files |= {path.name for path in root.iterdir()}
    known = files | {Path(name).name for name in files}
    assert named - known == set()
    modules = {path.name for path in (root / "sftviz").rglob("*.*") if "__" not in path.as_posix()}
    modules.remove("py.typed")  # empty: it says that there are type hints
    modules -= {f"{name}.py" for name in EXERCISES}  # one file each
    assert modules - {Path(name).name for name in named} == set()
