"""Every example in a docstring prints what it says; every public name is there and explained."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import sftviz

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


def test_the_picture_in_the_readme_is_what_the_package_draws():
    picture = Path(__file__).parent.parent / "docs" / "step_flow.svg"
    drawing = sftviz.step_flow(sftviz.WORKED_EXAMPLE.trace(), sftviz.WORKED_EXAMPLE.tokens)
    assert picture.read_text("utf-8") == drawing.svg


def test_the_readmes_five_lines_print_what_it_says(capsys):
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", readme, re.DOTALL).groups()
    exec(code, {})
    assert capsys.readouterr().out == printed
