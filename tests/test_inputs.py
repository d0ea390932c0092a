"""The arguments of a step as a value: checked, copied, and run."""

import pytest
import torch

from sftviz import WORKED_EXAMPLE, StepInputs


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
