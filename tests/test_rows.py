"""Rows of numbers as tensors: what is exact stays exact, what is not a number is refused."""

import math

import numpy as np
import pytest
import torch

from sftviz import StepInputs
from sftviz.rows import log_prob_rows, mask_rows

MAKERS = [log_prob_rows, mask_rows]
AS_LOG_PROBS = "write them as [[-0.5, -0.3], [-0.4, -0.6]]."


@pytest.mark.parametrize(
    "rows", [[[-1, -2.5], [0, -3]], ((-1, -2.5), (0, -3)), np.array([[-1, -2.5], [0, -3]])]
)
def test_rows_of_numbers_are_a_tensor(rows):
    assert log_prob_rows("x", rows).tolist() == [[-1, -2.5], [0, -3]]


@pytest.mark.parametrize("rows", [[[0, 1.0]], [[False, True]], [[False, 1]], [(0, np.True_)]])
def test_a_mask_may_be_of_booleans_too(rows):
    mask = mask_rows("x", rows)
    assert mask.tolist() == [[0, 1]] and mask.dtype == torch.float32


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_tensors_keep_their_dtype_and_are_copied(make, dtype):
    tensor = torch.tensor([[1, 0], [0, 0]], dtype=dtype)
    for rows in (tensor, list(tensor), tuple(tensor)):
        made = make("x", rows)
        assert made.dtype == dtype and torch.equal(made, tensor)
        made[0, 0] = 0
        assert tensor[0, 0] == 1


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f8", ">i4", "int8", "uint16", "bool"])
def test_arrays_keep_their_dtype_and_are_copied(make, dtype):
    array = np.array([[1, 0], [0, 0]], dtype=dtype)
    array.flags.writeable = False
    made = make("x", array)
    assert made.numpy().dtype == array.dtype.newbyteorder("=")
    assert made.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("rows", "came"),
    [
        (5, "5"),
        (None, "None"),
        ([5], "[5]"),
        ({"0": [-1]}, "{'0': [-1]}"),
        ([{"0": -1}], "[{'0': -1}]"),
        ([{-1, -2}], "[{-2, -1}]"),
        ([torch.tensor(5.0), [1]], "[tensor(5.), [1]]"),
        ([[None]], "NoneType None at row 1, token 1"),
        ([[-1, -2], [-3, "4"]], "str '4' at row 2, token 2"),
        (["12", "34"], "str '1' at row 1, token 1"),
        ([[-1, "nan"]], "str 'nan' at row 1, token 2"),
        ([[-1.0, [-2]]], "list [-2] at row 1, token 2"),
        ([[-1.0, 1j]], "complex 1j at row 1, token 2"),
        ([["x" * 999]], f"str 'xxxxxxxxxxxx...{'x' * 13}' at row 1, token 1"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_what_is_not_rows_of_numbers_is_refused_with_its_place(rows, came):
    with pytest.raises(ValueError) as refusal:
        log_prob_rows("x", rows)
    assert str(refusal.value) == f"x must be rows of numbers, got {came}: {AS_LOG_PROBS}"
    with pytest.raises(ValueError) as refusal:
        mask_rows("x", rows)
    assert str(refusal.value) == (
        f"x must be rows of numbers, got {came}: write them as [[0, 1], [1, 1]]."
    )


@pytest.mark.parametrize("entry", [True, np.False_])
def test_a_boolean_is_not_a_log_prob(entry):
    with pytest.raises(ValueError, match=r"got bool_? \S+ at row 1, token 2: write"):
        log_prob_rows("x", [[-0.5, entry]])


def test_rows_of_different_lengths_are_refused_however_many():
    for make in MAKERS:
        with pytest.raises(ValueError) as refusal:
            make("x", [[0, 1, 1], [1]])
        assert str(refusal.value) == (
            "x has rows of 3, 1 entries: give all rows the same length, and mask the padding."
        )
        with pytest.raises(
            ValueError, match=r"^x has rows of 3, 1, 1, 1, 1, 1, … \(\d+ in all\) entries: "
        ):
            make("x", [[0, 1, 1], *[[1]] * 999])


@pytest.mark.parametrize("rows", [[[0, 15], [27, 3]], [[np.int64(0), np.int64(15)]]])
def test_token_ids_are_not_log_probs(rows):
    with pytest.raises(TypeError) as refusal:
        log_prob_rows("x", rows)
    assert str(refusal.value) == (
        "x must be floating point, got 15 at row 1, token 2: "
        "pass log-probabilities, for example log_softmax(logits), not token ids."
    )
    assert log_prob_rows("x", [[-15, 0]]).tolist() == [[-15, 0]]
    assert log_prob_rows("x", [[0.0, 15]]).tolist() == [[0, 15]]


def test_a_number_that_the_dtype_would_change_to_infinity_is_refused():
    with pytest.raises(ValueError) as refusal:
        log_prob_rows("x", [[-1.0, -math.inf], [math.nan, -1e300]])
    assert str(refusal.value) == (
        "x must fit into torch.float32, got -1e+300 at row 2, token 2: "
        "the log-prob of an impossible token is -Infinity."
    )
    for make in MAKERS:
        with pytest.raises(ValueError, match=r"^x contains an int that is too large for a float\."):
            make("x", [[-(10**400)]])


@pytest.mark.parametrize("entry", [0.9999999999, 1e-50, 1 + 1e-12, "array"])
def test_what_is_almost_0_or_1_is_neither(entry):
    mask = np.array([[0.9999999999]]) if entry == "array" else [[entry]]
    with pytest.raises(ValueError, match=r"must contain only 0 and 1, got .* at row 1, token 1: "):
        StepInputs([[-1.0]], mask)


@pytest.mark.parametrize("dtype", ["U3", "longdouble", "datetime64[s]", "S2"])
def test_an_array_that_torch_does_not_have_is_refused(dtype):
    array = np.zeros((1, 2), dtype=dtype)
    for make in MAKERS:
        with pytest.raises(TypeError) as refusal:
            make("x", array)
        assert str(refusal.value) == (
            f"x must be an array of a dtype that torch has too, got {array.dtype}: "
            "convert it, for example to float32."
        )
