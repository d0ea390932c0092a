"""What a learner hands in, a Python file or a notebook, as a module."""

import ast
import json
import linecache
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

SUFFIXES = (".py", ".ipynb")


def load(file: Path) -> tuple[ModuleType, dict[str, Exception]]:
    """Run a file; and the errors in cells of a notebook, by the name of the cell.

    In a notebook, an error ends its cell alone. What only shows something is not run.
    """
    sys.path.insert(0, str(file.parent))  # as if the file were run
    module = ModuleType("my_file")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    if file.suffix == ".ipynb":
        return module, _run_cells(file, module)
    SourceFileLoader(module.__name__, str(file)).exec_module(module)
    return module, {}


def is_defined_in(module: ModuleType, value: object) -> bool:
    """Whether it is a function, or something else to call, that the file itself defines."""
    function = getattr(value, "func", value)  # of a functools.partial
    return callable(value) and getattr(function, "__module__", None) == module.__name__


def _run_cells(file: Path, module: ModuleType) -> dict[str, Exception]:
    errors: dict[str, Exception] = {}
    cells = json.loads(file.read_text("utf-8"))["cells"]
    for number, cell in enumerate(cells, start=1):
        text = "".join(cell["source"])
        if cell["cell_type"] != "code" or text.startswith("%%"):
            continue
        lines = ["pass" if line[:1] in ("%", "!") else line for line in text.splitlines()]
        name = f"cell {number}"
        linecache.cache[name] = len(text), None, [f"{line}\n" for line in lines], name
        is_definition = True
        try:
            tree = ast.parse("\n".join(lines), name)
            is_definition = any(isinstance(node, ast.FunctionDef) for node in tree.body)
            tree.body = [node for node in tree.body if not isinstance(node, ast.Expr)]
            exec(compile(tree, name, "exec"), vars(module))
        except Exception as error:
            if is_definition:
                errors[name] = error
    return errors
