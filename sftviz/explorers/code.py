"""A state as the lines of Python that make an explorer with it."""

import math
from dataclasses import fields
from struct import pack

import torch
from torch import Tensor


def written(explorer: str, state: object) -> str:
    """The call of an explorer with the fields of a state as its arguments."""
    arguments = {field.name: getattr(state, field.name) for field in fields(state)}
    given = {name: value for name, value in arguments.items() if value is not None}
    lines = [f"    {name}={_written(value)}," for name, value in given.items()]
    imports = ["import torch", ""] if any("=torch.tensor(" in line for line in lines) else []
    imports += [f"from sftviz import {explorer}", ""]
    return "\n".join([*imports, f"{explorer}(", *lines, ")"])


def _written(argument: object) -> str:
    """An argument as Python source that gives exactly the same value."""
    match argument:
        case Tensor():
            return _written_tensor(argument)
        case float():
            return repr(float(argument))  # NumPy's repr differs
        case bool() | str():
            return repr(argument)
        case int():
            return repr(int(argument))
        case [int() | float(), *_]:
            return repr(list(argument))
        case _:  # tokens
            return repr([list(map(str, row)) for row in argument])


def _written_tensor(tensor: Tensor) -> str:
    """A tensor as rows of numbers."""
    is_plain = tensor.dtype == torch.float32 or not tensor.is_floating_point()
    if is_plain and ((tensor == 0) | (tensor == 1)).all():  # a mask
        return repr([[int(entry) for entry in row] for row in tensor.tolist()])
    lines = [[_shortest(entry, tensor.dtype) for entry in row] for row in tensor.tolist()]
    rows = ", ".join([f"[{', '.join(line)}]" for line in lines])
    return f"[{rows}]" if is_plain else f"torch.tensor([{rows}], dtype={tensor.dtype})"


def _shortest(entry: float, dtype: torch.dtype) -> str:
    """The shortest number that gives this entry of a tensor."""
    if not math.isfinite(entry):
        return f'float("{entry}")'
    code = {torch.float64: "d", torch.float16: "e"}.get(dtype, "f")
    texts = (f"{entry:.{digits}g}" for digits in range(6, 18))
    return next(repr(float(text)) for text in texts if pack(code, float(text)) == pack(code, entry))
