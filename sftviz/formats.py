"""The kinds of file that a batch is read from: bytes become plain data.

No code in a file is executed. Names and sizes are checked before anything is unpacked, because a
small file may claim to contain gigabytes.
"""

import json
import pickletools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pickle import UnpicklingError
from zipfile import ZipFile

import torch
from torch import Tensor

from sftviz.validate import brief

Names = Collection[str] | None  # that a file may contain; None: any


class UnreadableError(ValueError):
    """What is wrong with a file. The message continues a sentence that begins with its name."""


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    read: Callable[[bytes, Names], object]
    writer: str  # a function that writes such a file
    most_bytes: int  # that are read


def check_names(found: Iterable[object], names: Names) -> None:
    """Check that a file contains only what it may contain, each once.

    Raises:
        UnreadableError: it does not.
    """
    found = list(found)
    if names is not None and (unknown := [name for name in found if name not in names]):
        raise UnreadableError(f"contains {brief(unknown[0])}, which is none of {', '.join(names)}")
    _check_unique(found)


def check_size(size: int, most: int) -> None:
    """Check that a number of bytes is not above a limit.

    Raises:
        UnreadableError: it is.
    """
    if size > most:
        raise UnreadableError(
            f"contains more than {most:,} bytes of data, which are the most that is read: "
            "give fewer or shorter rows"
        )


def parse_json(text: str) -> object:
    """Parse JSON. NaN, Infinity and -Infinity are numbers, as `json.dump` writes them.

    Raises:
        UnreadableError: it is not JSON, or an object has the same key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UnreadableError(f"is not JSON: {error.msg} at {place}") from error
    except RecursionError as error:
        raise UnreadableError("is nested too deeply: give rows of numbers") from error
    except UnreadableError:
        raise
    except ValueError as error:  # Python's limit to the digits of an integer
        raise UnreadableError("contains an integer of too many digits to read") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _check_unique([key for key, _ in pairs])
    return dict(pairs)


def _check_unique(names: list[object]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise UnreadableError(f"contains {brief(name)} twice: give each argument once")
        seen.add(name)


def _read_json(data: bytes, names: Names) -> object:
    encoding = json.detect_encoding(data)  # UTF-8, UTF-16 or UTF-32
    try:
        return parse_json(data.decode(encoding))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"is not {encoding.upper()} in line {line}: save it as UTF-8"
        ) from error


def _read_npz(data: bytes, names: Names) -> dict[str, object]:
    from numpy.lib import format as npy  # torch does not need numpy, nor does `import sftviz`

    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with ZipFile(BytesIO(data)) as archive:
        members = {member: member.filename.removesuffix(".npy") for member in archive.infolist()}
        check_names(members.values(), names)
        size = 0
        for member, name in members.items():
            with archive.open(member) as stream:
                shape, _, dtype = header[npy.read_magic(stream)](stream)
            if dtype.hasobject:
                raise UnreadableError(
                    f"contains {name} as an array of objects, which only code could read: "
                    "give all rows the same length, and numbers or strings alone"
                )
            size += abs(prod(shape)) * dtype.itemsize
        check_size(size, FORMATS[".npz"].most_bytes)
        content = {}
        for member, name in members.items():
            with archive.open(member) as stream:
                array = npy.read_array(stream, allow_pickle=False)
            is_plain = array.ndim == 0 or array.dtype.kind in "SU"  # a number; tokens
            content[name] = array.tolist() if is_plain else array
    return content


def _read_pt(data: bytes, names: Names) -> object:
    most, pickled = FORMATS[".pt"].most_bytes, data
    if data.startswith(b"PK"):
        with ZipFile(BytesIO(data)) as archive:
            check_size(sum(member.file_size for member in archive.infolist()), most)
            paths = [path for path in archive.namelist() if path.endswith("/data.pkl")]
            pickled = archive.read(paths[0]) if paths else b""
    try:
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if reason := _foreign(pickled, names or ()):
            raise UnreadableError(reason) from error
        raise
    check_size(_size(content), most)
    if not isinstance(content, Mapping):
        return content
    return {name: _number(value) for name, value in content.items()}


def _foreign(pickled: bytes, names: Collection[str]) -> str:
    """Say for which name a pickle would run code, without running it; empty if for none."""
    name = "its content"
    for opcode, argument, _ in pickletools.genops(pickled):
        value = str(argument)
        if value in names:  # a key comes before its value
            name = value
        elif opcode.name == "GLOBAL" and not value.startswith(_PLAIN):
            made = f"made by {brief(value.replace(' ', '.'))}, which is not read: save plain data"
            return f"contains {name} {_INSTEAD.get(value.split()[-1], made)}"
    return ""


_PLAIN = ("torch ", "torch.", "collections OrderedDict")
# By the function that a pickle of numpy's calls.
_INSTEAD = {
    "scalar": "as a NumPy number, which is not read: save int(...) or float(...)",
    "_reconstruct": "as a NumPy array, which is not read: save torch.tensor(...)",
}


def _size(value: object, known: dict[int, int] | None = None) -> int:
    """The bytes that tensors and lists take when they are copied, whatever they take in the file.

    An expanded tensor or a list of the same row again and again claims more than it has. `known`
    are sizes by identity: such a row is measured once.
    """
    known = {} if known is None else known
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list | tuple):
        return 0
    if id(value) not in known:
        known[id(value)] = 8 * len(value) + sum([_size(part, known) for part in parts])
    return known[id(value)]


def _number(value: object) -> object:
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value


FORMATS = {
    # Text takes up to 20 times its size when it is parsed.
    ".json": Format(_read_json, "json.dump", 2**26),
    ".pt": Format(_read_pt, "torch.save", 2**28),
    ".npz": Format(_read_npz, "numpy.savez", 2**28),
}
