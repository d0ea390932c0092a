"""Execute notebooks (all of notebooks/, or those named) in place, the same bytes on every run."""

import argparse
import difflib
import sys
from itertools import count, islice
from pathlib import Path

from nbclient import NotebookClient
from nbformat import NotebookNode, from_dict, v4

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # blank without its kernel
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    # No version: it is the reader's, not ours. The last two are for `nbconvert --to script`.
    "language_info": {"name": "python", "file_extension": ".py", "nbconvert_exporter": "python"},
}


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Drop what needs a kernel or differs from run to run; give every cell an id of its own."""
    ids = [cell.get("id") for cell in notebook.cells]
    unused = (name for n in count(1) if (name := f"cell-{n:02d}") not in ids)
    for i, cell in enumerate(notebook.cells):
        if ids[i] is None or ids[i] in ids[:i]:
            cell.id = next(unused)
        cell.metadata.pop("execution", None)  # time stamps
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return from_dict({**notebook, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def execute(source: str, folder: Path) -> str:
    """The text of a notebook, executed in `folder` by this Python's kernel."""
    notebook = tidy(v4.reads(source))  # nbformat.read would fill in random ids first
    stable = {"store_widget_state": False, "record_timing": False, "coalesce_streams": True}
    quiet = {"kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
    NotebookClient(notebook, **stable, **quiet).execute(cwd=str(folder))
    return v4.writes(tidy(notebook)) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    args = parser.parse_args()
    stale = False
    for path in args.notebooks or sorted(NOTEBOOKS.rglob("*.ipynb")):
        print(path, flush=True)  # first: should a cell fail, its traceback does not say where
        stored = path.read_text("utf-8")
        fresh = execute(stored, path.parent)
        if not args.check:
            path.write_text(fresh, "utf-8")
        elif fresh != stored:
            stale = True
            diff = difflib.unified_diff(stored.splitlines(), fresh.splitlines(), n=0, lineterm="")
            print("  is stale; `make notebooks` would change it:")
            print(*(f"  {line[:100]}" for line in islice(diff, 2, 20)), sep="\n")
    sys.exit(stale)
