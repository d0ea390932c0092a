"""The arguments of a step, read from a file."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch

from sftviz.inputs import StepInputs


def load_inputs(path: str | Path) -> StepInputs:
    """Read the arguments of a step from a `.json`, `.pt` or `.npz` file. No code in it is executed.

    The file contains the fields of `StepInputs` by name: a JSON object, a dictionary saved by
    `torch.save`, or the arrays of `numpy.savez`.

    Raises:
        OSError: the file can't be read.
        TypeError, ValueError: it is of another kind, does not contain the arguments of a step, or
            code would have to be executed to read it.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise ValueError(
            f"a batch can't be read from {ending or 'a file without ending'!r}: "
            "give a path that ends in .json, .pt or .npz."
        )
    with path.open("rb"):  # a file that can't be opened is an OSError, whatever reads it
        pass
    try:
        content = _READERS[ending](path)
    except Exception as error:
        raise ValueError(
            f"{path.name} is not a {path.suffix} file of plain data ({type(error).__name__}): "
            "write it with json.dump, torch.save or numpy.savez."
        ) from error
    known = [field.name for field in fields(StepInputs)]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path.name} contains a {type(content).__name__}: give {', '.join(known)} by name."
        )
    if unknown := [key for key in content if key not in known]:
        raise ValueError(
            f"{path.name} contains {unknown[0]!r}, which is none of {', '.join(known)}."
        )
    if missing := [key for key in known[:2] if key not in content]:
        given = "give policy_log_probs and response_mask"
        raise ValueError(f"{path.name} lacks {missing[0]}: {given}.")
    return StepInputs(**content)


def _read_npz(path: Path) -> dict[str, object]:
    import numpy  # which torch does not need, and neither does the rest of this package

    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files}


_READERS = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
    ".npz": _read_npz,
}
