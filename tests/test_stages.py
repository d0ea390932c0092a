"""The six stages: their texts, and that the numbers are those of the run."""

import inspect
import re

import pytest
import torch

from sftviz import explain_step, step, trace_step
from sftviz.views.stages import largest, value


def read(terms):
    return "".join(term.text for term in terms)


def keys(terms):
    return {term.key for term in terms if term.key}


WORKED = [
    (1, "Count tokens", "num_tokens", "Σ response_mask", "3 + 4", "7", "of 8"),
    (2, "Masked sum", "masked_sum", "Σ masked_log_probs ÷ c", "(−1 − 1.8) ÷ 1", "−2.8", ""),
    (3, "Negate, divide by G", "loss", "−masked_sum ÷ G", "−(−2.8) ÷ 2", "1.4", ""),
    (4, "Divide by G again", "scaled_loss", "loss ÷ G", "1.4 ÷ 2", "0.7", "in all ÷ G² = ÷ 4"),
    (5, "Backward", "grad", "−1 ÷ (G² · c)", "−1 ÷ (2² · 1)", "−0.25", "0 at masked tokens"),
    (
        *(6, "Return", "scaled_loss"),
        'scaled_loss, {"num_tokens": num_tokens, "masked_sum": masked_sum}',
        '0.7, {"num_tokens": 7, "masked_sum": −2.8}',
        *("0.7", ""),
    ),
]


def test_the_worked_example_is_written_in_six_stages(worked):
    written = [
        (s.number, s.title, s.quantity, read(s.formula), read(s.substitution), s.value, s.note)
        for s in explain_step(worked)
    ]
    assert written == WORKED


def test_the_code_of_a_stage_is_the_code_that_ran(worked):
    assert [[read(line) for line in stage.code] for stage in explain_step(worked)] == [
        ["num_tokens = response_mask.sum()"],
        [
            "masked_log_probs = torch.where(response_mask, policy_log_probs, 0)",
            "masked_sum = _sum(masked_log_probs) / normalize_constant",
        ],
        ["loss = -masked_sum / G"],
        ["scaled_loss = loss / G"],
        ["scaled_loss.backward()"],
        ["return scaled_loss.detach(), metadata"],
    ]
    source = inspect.getsource(step)
    assert all(read(line) in source for stage in explain_step(worked) for line in stage.code)


def test_a_formula_and_its_substitution_name_the_same_values(worked):
    for stage in explain_step(worked):
        whole = {key.partition("[")[0] for key in keys(stage.substitution)}
        assert keys(stage.formula) == whole
        assert whole and stage.quantity in keys(stage.code[-1]) | {"grad"}


def test_every_stage_follows_its_own_trace():
    """B ≠ G, c ≠ 1: each number in a substitution is this run's."""
    log_probs = torch.tensor([[-1.5, -0.25], [-2.0, -9.0], [-0.125, -3.0]])
    mask = torch.tensor([[1, 1], [1, 0], [0, 1]])
    stages = explain_step(trace_step(log_probs, mask, 4, 7.0))
    assert [read(stage.substitution) for stage in stages] == [
        "2 + 1 + 1",
        "(−1.75 − 2 − 3) ÷ 7",
        "−(−0.9643) ÷ 4",
        "0.2411 ÷ 4",
        "−1 ÷ (4² · 7)",
        '0.06027, {"num_tokens": 4, "masked_sum": −0.9643}',
    ]
    assert [stage.value for stage in stages] == [
        *("4", "−0.9643", "0.2411", "0.06027", "−0.008929", "0.06027")
    ]


@pytest.mark.parametrize("B", [1, 2, 4, 5, 9])
def test_a_long_sum_is_shortened_and_keeps_its_last_row(B):
    log_probs = -torch.arange(1.0, B + 1)[:, None]
    substitution = explain_step(trace_step(log_probs, torch.ones(B, 1), 1))[1].substitution
    rows = range(1, B + 1) if B <= 4 else [1, 2, 3, B]
    terms = [str(row) for row in rows]
    written = "−" + " − ".join(terms[:3]) + (" + …" if B > 4 else "")
    written += f" − {terms[3]}" if B > 3 else ""
    assert read(substitution) == (f"({written}) ÷ 1" if B > 1 else f"{written} ÷ 1")
    assert keys(substitution) == {"normalize_constant"} | {
        f"masked_log_probs[{row - 1},:]" for row in rows
    }


def test_positive_log_probs_leave_no_needless_parentheses():
    stages = explain_step(trace_step(torch.tensor([[0.5, 1.0]]), torch.ones(1, 2), 2))
    assert [read(stage.substitution) for stage in stages[1:4]] == [
        "1.5 ÷ 1",
        "−1.5 ÷ 2",
        "−0.75 ÷ 2",
    ]


def test_a_fully_masked_microbatch_is_written_without_a_gradient():
    stages = explain_step(trace_step(torch.full((2, 2), torch.nan), torch.zeros(2, 2), 3))
    assert [stage.value for stage in stages] == ["0"] * 6
    assert stages[4].note == "no token counts"
    assert not re.search("nan", "".join(read(stage.substitution) for stage in stages))


def test_the_value_of_a_gradient_is_the_largest_in_size(worked):
    assert value(worked, "grad") == "−0.25"
    assert largest(torch.tensor([[0.0, -3.0], [2.0, 0.0]])).item() == -3
    assert largest(torch.empty(0)).item() == 0


def test_nothing_is_minus_nothing():
    trace = trace_step(torch.tensor([[-1.0, -2.0]]), torch.tensor([[0, 0]]), 2)
    assert read(explain_step(trace)[2].substitution) == "−(0) ÷ 2"
