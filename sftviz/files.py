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
    match path.suffix.lower():
        case ".json":
            read = _read_json
        case ".pt":
            read = _read_pt
        case ".npz":
            read = _read_npz
        case ending:
            raise ValueError(
                f"a batch can't be read from {ending or 'a file without ending'!r}: "
                "give a path that ends in .json, .pt or .npz."
            )
    with path.open("rb"):  # a file that can't be opened is an OSError, whatever reads it
        pass
    try:
        content = read(path)
    except Exception as error:
        raise ValueError(
            f"{path.name} is not a {path.suffix} file of plain data ({type(error).__name__}): "
            "write it with json.dump, torch.save or numpy.savez."
        ) from error
    return _inputs(path.name, content)


def _read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_pt(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_npz(path: Path) -> object:
    import numpy  # which torch does not need, and neither does the rest of this package

    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files}


def _inputs(name: str, content: object) -> StepInputs:
    known = [field.name for field in fields(StepInputs)]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{name} contains a {type(content).__name__}: give {', '.join(known)} by name."
        )
    if unknown := [key for key in content if key not in known]:
        raise ValueError(f"{name} contains {unknown[0]!r}, which is none of {', '.join(known)}.")
    if missing := [key for key in known[:2] if key not in content]:
        raise ValueError(f"{name} lacks {missing[0]}: give policy_log_probs and response_mask.")
    return StepInputs(**content)
