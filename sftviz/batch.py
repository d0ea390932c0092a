"""The arguments of one step as a value, written by hand or read from a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from sftviz.step import StepTrace, trace_step
from sftviz.validate import check_step


@dataclass(frozen=True, eq=False)
class Batch:
    """The arguments of one step, with the tokens that they stand for.

    Rows of numbers are made tensors. Whether the arguments fit together is for the step to say.
    """

    policy_log_probs: Tensor  # (B, S)
    response_mask: Tensor  # (B, S)
    gradient_accumulation_steps: int = 1
    normalize_constant: float = 1.0
    tokens: Sequence[Sequence[str]] | None = None  # B rows of S

    def __post_init__(self) -> None:
        for name in ("policy_log_probs", "response_mask"):
            object.__setattr__(self, name, matrix(name, getattr(self, name)))

    def check(self) -> None:
        """Raise a TypeError or ValueError for what the step can't be computed from."""
        check_step(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )

    def trace(self) -> StepTrace:
        """Run the step on this batch, on a fresh leaf."""
        return trace_step(
            self.policy_log_probs,
            self.response_mask,
            self.gradient_accumulation_steps,
            self.normalize_constant,
        )


def load_batch(path: str | Path) -> Batch:
    """Read a batch from `.json`, `.pt` or `.npz`, without executing anything that is in it.

    The file holds the fields of `Batch` by name: a JSON object, a dictionary saved by `torch.save`,
    or the arrays of `numpy.savez`.

    Raises:
        OSError: the file can't be read.
        ValueError: it is of another kind, does not hold a batch, or would have to run code to.
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
    with path.open("rb"):  # what can't be opened is an OSError, whoever reads it
        pass
    try:
        content = read(path)
    except Exception as error:
        raise ValueError(
            f"{path.name} is no {path.suffix} file of plain data ({type(error).__name__}): "
            "write it with json.dump, torch.save or numpy.savez."
        ) from error
    return _batch(path.name, content)


def _read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_pt(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_npz(path: Path) -> object:
    import numpy  # which torch does not need, and neither does the rest of this package

    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files}


def _batch(name: str, content: object) -> Batch:
    known = [field.name for field in fields(Batch)]
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{name} holds a {type(content).__name__}: give {', '.join(known)} by name."
        )
    if strange := [key for key in content if key not in known]:
        raise ValueError(f"{name} holds {strange[0]!r}, which is none of {', '.join(known)}.")
    if missing := [key for key in known[:2] if key not in content]:
        raise ValueError(f"{name} lacks {missing[0]}: give policy_log_probs and response_mask.")
    return Batch(**content)


def matrix(name: str, rows: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Make a tensor of rows of numbers, (B, S); a tensor is left as it is.

    Raises:
        ValueError: the rows differ in length or hold something else than numbers.
    """
    if isinstance(rows, Tensor):
        return rows
    try:
        floats = [[float(entry) for entry in row] for row in rows]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be rows of numbers, such as [[-0.5, -0.3], [-0.4, -0.6]]."
        ) from None
    lengths = [len(row) for row in floats]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{name} has rows of {', '.join(map(str, lengths))} entries: "
            "make them equally long, and mask the padding."
        )
    return torch.tensor(floats)
