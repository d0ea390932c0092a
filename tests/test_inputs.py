"""Batches from files: the three kinds give the same one, and none of them runs what it holds."""

import io
import json
import pickle

import numpy as np
import pytest
import torch

from sftviz import WORKED_EXAMPLE, StepInputs, load_inputs
from sftviz.inputs import matrix

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


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "batch.pt"
    torch.save({"policy_log_probs": Trap(sprung)}, path)
    with pytest.raises(ValueError) as refusal:
        load_inputs(path)
    assert str(refusal.value) == (
        "batch.pt is not a .pt file of plain data (UnpicklingError): "
        "write it with json.dump, torch.save or numpy.savez."
    )
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # the trap works


def test_an_array_of_objects_is_refused_and_not_unpickled(tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / "batch.npz"
    np.savez(path, policy_log_probs=np.array([[Trap(sprung)]], dtype=object))
    with pytest.raises(ValueError, match=r"^batch\.npz is not a \.npz file of plain data"):
        load_inputs(path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", None, "a batch can't be read from '.csv': give a path that ends in "),
        (
            "b",
            None,
            "a batch can't be read from 'a file without ending': give a path that ends in ",
        ),
        ("b.json", [1, 2], "b.json contains a list: give policy_log_probs, response_mask, "),
        (
            *("b.json", {"policy_log_probs": [[-1]]}),
            "b.json lacks response_mask: give policy_log_probs and response_mask.",
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
            "policy_log_probs must be rows of numbers, such as [[-0.5, -0.3], [-0.4, -0.6]].",
        ),
    ],
)
def test_refused_in_these_words(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(ValueError) as refusal:
        load_inputs(path)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("ending", [".json", ".pt", ".npz"])
def test_a_file_of_rubbish_is_no_batch(ending, tmp_path):
    path = tmp_path / f"batch{ending}"
    for rubbish in (b"", b"\x00\xff" * 50, pickle.dumps(1, protocol=2), b"[" * 10_000):
        path.write_bytes(rubbish)
        with pytest.raises(ValueError, match=rf"^batch\{ending} (is no|holds)"):
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


@pytest.mark.parametrize("rows", [5, None, [5], [[None]], [["1", "x"]], [[[1]]], [[10**400]]])
def test_a_matrix_is_rows_of_numbers_or_nothing(rows):
    with pytest.raises(ValueError) as refusal:
        matrix("--mask", rows)
    assert str(refusal.value) == (
        "--mask must be rows of numbers, such as [[-0.5, -0.3], [-0.4, -0.6]]."
    )


def test_a_message_about_many_rows_is_short():
    with pytest.raises(ValueError) as refusal:
        matrix("--mask", [[1]] * 500 + [[1, 1]])
    assert str(refusal.value).startswith("--mask has rows of 1, 1, 1, 1, 1, 1, … (501 in all)")
    with pytest.raises(ValueError) as refusal:
        StepInputs([[-1.0]] * 500, tokens=["ab"] * 500)
    assert str(refusal.value).startswith("tokens has 500 rows of 2, 2, 2, 2, 2, 2, … (500 in all)")


def test_a_matrix_of_numbers_is_a_tensor():
    assert matrix("x", ((1, "2.5"), (True, -3))).tolist() == [[1, 2.5], [1, -3]]


def test_nothing_that_was_given_is_shared():
    log_probs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    mask, tokens = torch.tensor([[0, 1]]), [["a", "b"]]
    inputs = StepInputs(log_probs, mask, tokens=tokens)
    with torch.no_grad():
        log_probs[0, 1] = -9
    mask[0, 1], tokens[0][0] = 0, "changed"
    assert inputs.policy_log_probs.tolist() == [[-1, -2]]
    assert inputs.response_mask.tolist() == [[0, 1]] and inputs.tokens == (("a", "b"),)
    assert not inputs.policy_log_probs.requires_grad


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy_log_probs": [-1.0, -2.0]},
        {"response_mask": [[0, 2]]},
        {"gradient_accumulation_steps": 0},
        {"normalize_constant": -1.0},
        {"tokens": [["a"]]},
        {"tokens": 5},
    ],
)
def test_inputs_that_no_step_can_have_do_not_exist(wrong):
    right = {"policy_log_probs": [[-1.0, -2.0]], "response_mask": [[0, 1]], "tokens": ["ab"]}
    StepInputs(**right)
    with pytest.raises((TypeError, ValueError)):
        StepInputs(**right | wrong)


def test_a_batch_runs_its_own_arguments(worked):
    batch = StepInputs(torch.tensor([[-1.0, -2.0]]), torch.tensor([[0, 1]]), 3, 5.0)
    assert batch.trace().scaled_loss.item() == pytest.approx(2 / (5 * 9))
    assert worked.scaled_loss.item() == WORKED_EXAMPLE.trace().scaled_loss.item()
