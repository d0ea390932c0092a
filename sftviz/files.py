"""A batch, read from a file: the arguments of a step, or whatever a training loop has."""

import warnings
from collections.abc import Mapping
from dataclasses import fields
from io import BytesIO
from pathlib import Path

from sftviz.formats import FORMATS, Names, UnreadableError, check_names, check_size
from sftviz.inputs import StepInputs

NAMES = tuple(field.name for field in fields(StepInputs))


def load_inputs(path: str | Path) -> StepInputs:
    """Read the arguments of a step from a `.json`, `.pt` or `.npz` file. No code in it is executed.

    The file contains the fields of `StepInputs` by name: a JSON object, a dictionary saved by
    `torch.save`, or the arrays of `numpy.savez`. Tensors and arrays keep their dtype; the numbers
    of a JSON file become float32. At most 256 MiB of tensors or arrays are read, or 64 MiB of JSON.
    (Of a tensor that is a view, `torch.save` writes the whole storage: save a clone.)

    Raises:
        OSError: the file can't be read.
        TypeError, ValueError: it is of another kind or too large, does not contain the arguments of
            a step, or code would have to be executed to read it.
        MemoryError: there is not enough memory for it.
    """
    content = read_file(path, NAMES)
    name = Path(path).name
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ValueError(f"{name} contains a {kind}: give {', '.join(NAMES)} by name.")
    if missing := [need for need in NAMES[:2] if content.get(need) is None]:
        raise ValueError(f"{name} lacks {missing[0]}: give {' and '.join(NAMES[:2])}.")
    return StepInputs(**content)


def read_file(path: str | Path, names: Names = None) -> object:
    """Read plain data from a `.json`, `.pt` or `.npz` file. No code in it is executed.

    Args:
        path: its ending says which kind of file it is.
        names: the names that a dictionary in the file may have; None: any.

    Raises:
        OSError, ValueError, MemoryError: as `load_inputs`.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        said = repr(ending) if ending else "a file without ending"
        raise ValueError(
            f"a batch can't be read from {said}: give a path that ends in .json, .pt or .npz."
        )
    form = FORMATS[ending]
    data = _read(path, form.most_bytes)
    try:
        check_size(len(data), form.most_bytes)
        with warnings.catch_warnings(action="ignore"):  # an unusual file is read or refused
            content = form.read(data, names)
        if isinstance(content, Mapping):
            check_names(content, names)
    except UnreadableError as error:
        raise ValueError(f"{path.name} {error}.") from error
    except MemoryError as error:
        raise MemoryError(f"{path.name} does not fit into memory: give fewer rows.") from error
    except Exception as error:  # of a library, about a file of another kind
        raise ValueError(
            f"{path.name} is not a {ending} file of plain data ({type(error).__name__}): "
            f"write it with {form.writer}."
        ) from error
    return content


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file, or the first of them if there are more than that."""
    data = BytesIO()
    with path.open("rb") as file:  # once: a pipe has nothing for a second reader
        while data.tell() <= most and (chunk := file.read(2**20)):
            data.write(chunk)
    return data.getvalue()
