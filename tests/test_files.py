"""Batches from files: the three kinds give the same one. What is wrong with a file is said before
its content is unpacked, and no code in it is run."""

import io
import json
import os
import pickle
import threading
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from sftviz import load_inputs

CONTENT = {
    "policy_log_probs": [[-0.5, -0.25, -1.5], [-0.125, -2.0, -3.0]],
    "response_mask": [[0, 1, 1], [0, 0, 1]],
    "gradient_accumulation_steps": 4,
    "normalize_constant": 7.0,
    "tokens": [["a", "b", "c"], ["d", "e", "f"]],
}


def write(path, content=CONTENT):
    match path.suffix.lower():
        case ".json":
            path.write_text(json.dumps(content), encoding="utf-8")
        case ".pt":
            torch.save(content, path)
        case ".npz":
            np.savez(path, **content)
    return path


class Trap:
    """Unpickling it makes a file: what a hostile checkpoint does, in harmless."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("ending", [".json", ".pt", ".npz", ".JSON"])
def test_a_batch_is_read_whole_from(ending, tmp_path):
    batch = load_inputs(str(write(tmp_path / f"batch{ending}")))
    assert batch.policy_log_probs.tolist() == CONTENT["policy_log_probs"]
    assert batch.response_mask.tolist() == CONTENT["response_mask"]
    assert (batch.gradient_accumulation_steps, batch.normalize_constant) == (4, 7.0)
    assert batch.tokens == tuple(map(tuple, CONTENT["tokens"]))
    assert batch.trace().scaled_loss.item() == pytest.approx(4.75 / (16 * 7))


def test_two_fields_are_enough(tmp_path):
    few = {key: CONTENT[key] for key in ("policy_log_probs", "response_mask")}
    batch = load_inputs(write(tmp_path / "batch.json", few))
    assert (batch.gradient_accumulation_steps, batch.normalize_constant) == (1, 1.0)
    assert batch.tokens is None


def test_tensors_of_a_pt_keep_their_dtype(tmp_path):
    tensors = {
        "policy_log_probs": torch.tensor([[-0.5]], dtype=torch.bfloat16, requires_grad=True),
        "response_mask": torch.tensor([[True]]),
    }
    batch = load_inputs(write(tmp_path / "batch.pt", tensors))
    assert batch.policy_log_probs.dtype == torch.bfloat16
    assert batch.response_mask.dtype == torch.bool


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_arrays_of_an_npz_keep_their_dtype(dtype, tmp_path):
    log_probs = np.array([[-1e-7, -0.1]], dtype=dtype)
    arrays = {"policy_log_probs": log_probs, "response_mask": np.ones((1, 2), "uint8")}
    batch = load_inputs(write(tmp_path / "batch.npz", arrays))
    assert batch.policy_log_probs.numpy().dtype == log_probs.dtype.newbyteorder("=")
    assert batch.policy_log_probs.tolist() == log_probs.tolist()
    assert batch.response_mask.dtype == torch.uint8


def test_numbers_may_be_tensors_or_arrays_without_dimensions(tmp_path):
    tensors = CONTENT | {
        "gradient_accumulation_steps": torch.tensor(4),
        "normalize_constant": torch.tensor(7.0),
    }
    batch = load_inputs(write(tmp_path / "batch.pt", tensors))
    assert (batch.gradient_accumulation_steps, batch.normalize_constant) == (4, 7.0)


def test_rows_may_be_tensors_and_the_dictionary_ordered(tmp_path):
    rows = {
        "policy_log_probs": list(torch.tensor([[-0.1, -0.2], [-0.3, -0.4]], dtype=torch.float64)),
        "response_mask": list(torch.tensor([[0, 1], [1, 1]])),
    }
    batch = load_inputs(write(tmp_path / "batch.pt", OrderedDict(rows)))
    assert batch.policy_log_probs.tolist() == [[-0.1, -0.2], [-0.3, -0.4]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_encoding_that_it_may_have(encoding, tmp_path):
    content = CONTENT | {"tokens": [["日", "é", "c"], ["d", "e", "f"]]}
    path = tmp_path / "batch.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert load_inputs(path).tokens[0] == ("日", "é", "c")


def test_json_may_contain_what_json_dump_writes_for_nan_and_infinity(tmp_path):
    rows = [[float("nan"), float("-inf"), -1.0]] * 2
    path = write(tmp_path / "batch.json", CONTENT | {"policy_log_probs": rows})
    assert "NaN" in path.read_text() and "-Infinity" in path.read_text()
    assert str(load_inputs(path).policy_log_probs[0].tolist()) == "[nan, -inf, -1.0]"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("ending", [".json", ".pt", ".npz"])
def test_a_pipe_is_read_once(ending, tmp_path):
    data = write(tmp_path / f"batch{ending}").read_bytes()
    pipe = tmp_path / f"pipe{ending}"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True)
    writer.start()
    assert load_inputs(pipe).gradient_accumulation_steps == 4
    writer.join(timeout=10)
    assert not writer.is_alive()


# ---------------------------------------------------------------- code is not run


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "batch.pt"
    torch.save({"policy_log_probs": Trap(sprung)}, path)
    with pytest.raises(ValueError) as refusal:
        load_inputs(path)
    assert str(refusal.value) == (
        f"batch.pt contains policy_log_probs made by '{open.__module__}.open', which is not read: "
        "save plain data."
    )
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # the trap works


def test_an_array_of_objects_is_refused_and_not_unpickled(tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "batch.npz"
    array = np.array([[Trap(sprung)]], dtype=object)
    np.savez(path, policy_log_probs=array, response_mask=np.ones((1, 1)))
    with pytest.raises(ValueError) as refusal:
        load_inputs(path)
    assert str(refusal.value) == (
        "batch.npz contains policy_log_probs as an array of objects, which only code could read: "
        "give all rows the same length, and numbers or strings alone."
    )
    assert not sprung.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_is_refused_and_not_run(protocol, tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "batch.pt"
    path.write_bytes(pickle.dumps({"policy_log_probs": Trap(sprung)}, protocol=protocol))
    with pytest.raises(
        ValueError, match=r"^batch\.pt (contains policy_log_probs made by|is not a)"
    ):
        load_inputs(path)
    assert not sprung.exists()


# ---------------------------------------------------------------- sizes

MIB = 2**20


def peak(path):
    """What refusing a file says, and the most memory that Python and NumPy took for it, in MiB."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as refusal:
            load_inputs(path)
        return str(refusal.value), tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def too_large(name, most=256):
    return (
        f"{name} contains more than {most * MIB:,} bytes of data, which are the most that is "
        "read: give fewer or shorter rows."
    )


def deflated(path, members, size):
    """A zip file of members that each unpack to `size` zeros, after what is given of them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, start in members.items():
            with archive.open(name, "w") as stream:
                stream.write(start)
                for _ in range(size // MIB):
                    stream.write(bytes(MIB))


def header(shape):
    stream = io.BytesIO()
    content = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, content)
    return stream.getvalue()


def test_a_small_npz_that_unpacks_to_much_is_refused_unread(tmp_path):
    path = tmp_path / "batch.npz"
    names = ("policy_log_probs.npy", "response_mask.npy")
    deflated(path, {name: header((1, 17 * MIB)) for name in names}, 136 * MIB)
    assert path.stat().st_size < MIB
    said, memory = peak(path)
    assert said == too_large("batch.npz") and memory < 5


@pytest.mark.parametrize("shape", [(2**40, 1), (-(2**40), 1), (2**40, 2**40)])
def test_an_npz_with_an_impossible_shape_is_refused(shape, tmp_path):
    path = tmp_path / "batch.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy_log_probs.npy", header(shape))
        archive.writestr("response_mask.npy", header((-shape[0], shape[1])))
    said, memory = peak(path)
    assert said == too_large("batch.npz") and memory < 5


def test_other_members_of_an_npz_are_refused_unread(tmp_path):
    path = tmp_path / "batch.npz"
    deflated(path, {"junk.npy": header((1, 4 * MIB))}, 32 * MIB)
    said, memory = peak(path)
    assert said.startswith("batch.npz contains 'junk', which is none of policy_log_probs, ")
    assert memory < 5


def test_an_npz_is_read_no_further_than_its_headers_say(tmp_path):
    path = tmp_path / "batch.npz"
    names = ("policy_log_probs.npy", "response_mask.npy")
    deflated(path, {name: header((1, 3)) for name in names}, 32 * MIB)
    tracemalloc.start()
    assert load_inputs(path).policy_log_probs.tolist() == [[0, 0, 0]]
    assert tracemalloc.get_traced_memory()[1] < 5 * MIB
    tracemalloc.stop()


def test_a_pt_with_compressed_members_is_refused_unread(tmp_path):
    path = tmp_path / "batch.pt"
    deflated(path, {"batch/data.pkl": b"", "batch/data/0": b""}, 136 * MIB)
    said, memory = peak(path)
    assert said == too_large("batch.pt") and memory < 5


def test_a_tensor_that_claims_more_than_it_has_is_refused(tmp_path):
    wide = torch.zeros(1).expand(2000, 10**6)
    path = write(tmp_path / "batch.pt", {"policy_log_probs": wide, "response_mask": wide})
    assert path.stat().st_size < 10_000
    said, memory = peak(path)
    assert said == too_large("batch.pt") and memory < 5
    small = torch.zeros(1).expand(2, 3)  # which is no reason to refuse one that fits
    path = write(tmp_path / "batch.pt", {"policy_log_probs": small, "response_mask": small})
    assert load_inputs(path).policy_log_probs.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("row", [[-1.0] * 10_000, torch.zeros(1).expand(10_000)], ids=["list", "t"])
def test_rows_that_are_one_row_again_and_again_are_refused(row, tmp_path):
    path = write(tmp_path / "batch.pt", {"policy_log_probs": [row] * 10_000, "response_mask": []})
    assert path.stat().st_size < MIB
    said, memory = peak(path)
    assert said == too_large("batch.pt") and memory < 5


@pytest.mark.parametrize(("ending", "most"), [(".json", 64), (".pt", 256), (".npz", 256)])
def test_a_file_that_is_too_large_is_refused(ending, most, tmp_path):
    path = tmp_path / f"batch{ending}"
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole, which takes no space
    with pytest.raises(ValueError) as refusal:
        load_inputs(path)
    assert str(refusal.value) == too_large(path.name, most)


def test_what_does_not_fit_into_memory_is_a_sentence(tmp_path, monkeypatch):
    path = write(tmp_path / "batch.json")

    def full(data, **options):
        raise MemoryError

    monkeypatch.setattr(json, "loads", full)
    with pytest.raises(MemoryError) as refusal:
        load_inputs(path)
    assert str(refusal.value) == "batch.json does not fit into memory: give fewer rows."


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", None, "a batch can't be read from '.csv': give a path that ends in "),
        (
            "b",
            None,
            "a batch can't be read from a file without ending: give a path that ends in ",
        ),
        ("b.json", [1, 2], "b.json contains a list: give policy_log_probs, response_mask, "),
        (
            *("b.json", {"policy_log_probs": [[-1]]}),
            "b.json lacks response_mask: give policy_log_probs and response_mask.",
        ),
        (
            *("b.json", CONTENT | {"policy_log_probs": [[15, 27, 3]] * 2}),
            "policy_log_probs must be floating point, got 15 at row 1, token 1: "
            "pass log-probabilities, for example log_softmax(logits), not token ids.",
        ),
        (
            *("b.npz", CONTENT | {"policy_log_probs": np.array([[15, 27, 3]] * 2)}),
            "policy_log_probs must be floating point, got torch.int64: ",
        ),
        (
            *("b.json", CONTENT | {"response_mask": [[0, 0.9999999999, 1]] * 2}),
            "response_mask must contain only 0 and 1, got 0.9999999999 at row 1, token 2: ",
        ),
        (
            *("b.pt", CONTENT | {"policy_log_probs": torch.zeros(2, 3).to_sparse()}),
            "policy_log_probs must be a dense tensor, got torch.sparse_coo: ",
        ),
        (
            *("b.pt", CONTENT | {"policy_log_probs": torch.zeros(2, 3, device="meta")}),
            "policy_log_probs is on the meta device, where tensors have a shape and no numbers: ",
        ),
        (
            "b.json",
            {"logps": [[-1]]},
            "b.json contains 'logps', which is none of policy_log_probs, ",
        ),
        (
            *("b.json", CONTENT | {"response_mask": [[0, 1, 1], [1]]}),
            "response_mask has rows of 3, 1 entries: "
            "give all rows the same length, and mask the padding.",
        ),
        (
            *("b.json", CONTENT | {"policy_log_probs": [["x"]]}),
            "policy_log_probs must be rows of numbers, got str 'x' at row 1, token 1: "
            "write them as [[-0.5, -0.3], [-0.4, -0.6]].",
        ),
    ],
)
def test_refused_in_these_words(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises((TypeError, ValueError)) as refusal:
        load_inputs(path)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("ending", [".json", ".pt", ".npz"])
def test_a_file_of_rubbish_is_no_batch(ending, tmp_path):
    path = tmp_path / f"batch{ending}"
    for rubbish in (b"", b"\x00\xff" * 50, pickle.dumps(1, protocol=2)):
        path.write_bytes(rubbish)
        with pytest.raises(ValueError, match=rf"^batch\{ending} (is not|contains)"):
            load_inputs(path)
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=rf"^batch\{ending} (is no|holds)"):
        load_inputs(path)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    for ending in (".json", ".pt", ".npz"):
        with pytest.raises(FileNotFoundError):
            load_inputs(tmp_path / f"missing{ending}")


NUMPY = {
    "gradient_accumulation_steps": (
        np.int64(4),
        "gradient_accumulation_steps as a NumPy number, which is not read: "
        "save int(...) or float(...).",
    ),
    "response_mask": (
        np.ones((2, 3)),
        "response_mask as a NumPy array, which is not read: save torch.tensor(...).",
    ),
    "tokens": (
        [[PurePosixPath("a")]],
        f"tokens made by '{PurePosixPath.__module__}.PurePosixPath', which is not read: "
        "save plain data.",
    ),
}


@pytest.mark.parametrize("name", NUMPY)
def test_what_a_pt_should_contain_instead_is_said_by_name(name, tmp_path):
    value, said = NUMPY[name]
    tensors = {"policy_log_probs": torch.zeros(2, 3), "response_mask": torch.zeros(2, 3)}
    path = write(tmp_path / "batch.pt", tensors | {name: value})
    with pytest.raises(ValueError) as refusal:
        load_inputs(path)
    assert str(refusal.value) == f"batch.pt contains {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"response_mask": [[0, 1],]}', r"is not JSON: .+ at line 1, column 2[67]\."),
        (b'{"tokens": [],\n "x" 1}', r"is not JSON: Expecting ':' delimiter at line 2, column 6\."),
        (b"", r"is not JSON: Expecting value at line 1, column 1\."),
        (b"{'tokens': []}", r"is not JSON: Expecting property name .+ at line 1, column 2\."),
        (b'{"x":\n\n"\xe9"}', r"is not UTF-8 in line 3: save it as UTF-8\."),
        (b"[" * 100_000, r"is nested too deeply: give rows of numbers\."),
        (b"[" + b"9" * 5000 + b"]", r"contains an integer of too many digits to read\."),
        (
            b'{"tokens": null, "response_mask": [[1]], "tokens": null}',
            r"contains 'tokens' twice: give each argument once\.",
        ),
        (b'{"policy_log_probs": [[-1]], "response_mask": null}', r"lacks response_mask: give "),
        (b'{"%s": 1}' % (b"x" * 999), r"contains 'xxxxxxxxxxxx\.\.\.x{13}', which is none of "),
    ],
    ids=lambda x: str(x)[:20],
)
def test_what_is_wrong_with_json_is_said_with_its_place(text, said, tmp_path):
    path = tmp_path / "batch.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"^batch\.json {said}"):
        load_inputs(path)


def test_an_npz_with_the_same_name_twice_is_refused(tmp_path):
    path = write(tmp_path / "batch.npz")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("tokens.npy", header((1, 1)) + bytes(8))
    with pytest.raises(
        ValueError, match=r"^batch\.npz contains 'tokens' twice: give each argument"
    ):
        load_inputs(path)


def test_an_unusual_file_sets_off_no_warning(tmp_path, recwarn):
    path = tmp_path / "batch.pt"
    path.write_bytes(pickle.dumps(CONTENT, protocol=4))  # torch warns of the protocol
    with pytest.raises(ValueError, match=r"^batch\.pt is not a \.pt file of plain data"):
        load_inputs(path)
    assert list(recwarn) == []
