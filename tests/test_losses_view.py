"""The picture of several losses, and its explorer: every number is autograd's."""

import re

import pytest
import torch

from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Cell, Strip
from sftviz.explorers.losses import LossesExplorer
from sftviz.losses import DFT, GRPO, LOSSES, SHORT_AND_LONG, LossInputs
from sftviz.views.weights import weights_view

pytestmark = pytest.mark.usefixtures("shown_errors")  # there must be none

WINDOW = (1, 2, 2, 1, 1, 3)  # response tokens of its rows: B = 2, G = 3


def weights(log_probs, mask, advantages=(1.0, 1.0)):
    """For each loss the gradients of plain torch, on a leaf of log-probs."""
    N, R, V = sum(WINDOW), len(WINDOW), 5
    gains = torch.tensor(advantages, dtype=torch.float64)[:, None]

    def rows(term):
        return torch.where(mask, term, 0).sum(1) / mask.sum(1)

    def total(term):
        return torch.where(mask, term, 0).sum()

    def ratio(x):
        return gains * (x - x.detach()).exp()

    losses = {
        "the step": lambda x: total(x) / 3**2,
        "token mean": lambda x: total(x) / N,
        "one weight per example": lambda x: rows(x).sum() / R,
        "DFT": lambda x: total(x.exp().detach() * x) / N,
        "label smoothing": lambda x: total(0.9 * x + 0.1 * x / V) / N,  # of the mean, its part
        "GRPO": lambda x: rows(ratio(x)).sum() / R,
        "DAPO": lambda x: total(ratio(x)) / N,
        "Dr. GRPO": lambda x: total(ratio(x)) / (R * 8),
    }
    found = {}
    for name, gain in losses.items():
        leaf = log_probs.double().requires_grad_()
        gain(leaf).backward()
        found[name] = leaf.grad
    return found


def cells(drawing):
    """The cells of a drawing by key."""
    return {
        shape.key: shape
        for _, _, shape in drawing.page.marks
        if isinstance(shape, Cell) and shape.key
    }


@pytest.mark.parametrize("width", [48, 60, 80, 112])
def test_the_picture_fits_its_width_and_has_every_weight(width):
    inputs = SHORT_AND_LONG
    drawing = weights_view(inputs, inputs.trace(), width)
    assert drawing.page.width <= width
    assert all(len(line) <= width for line in drawing.text.splitlines())
    shown = cells(drawing)
    expected = weights(inputs.policy_log_probs, inputs.response_mask != 0)
    assert len(shown) == (1 + len(LOSSES)) * 2 * 3
    for name, grad in expected.items():
        for row in range(2):
            for at in range(3):
                cell = shown[f"{re.sub(r'[. ]+', '_', name)}[{row},{at}]"]
                assert cell.text == number(grad[row, at].item())
                assert cell.tone == ("gradient" if inputs.response_mask[row, at] else "masked")
        assert name in drawing.text


def test_a_bar_is_as_high_as_the_weight_beside_the_largest_of_the_loss():
    traces = SHORT_AND_LONG.trace([DFT])
    drawing = weights_view(SHORT_AND_LONG, traces)
    bars = [shape.rows[0][0] for _, _, shape in drawing.page.marks if isinstance(shape, Strip)]
    p = torch.tensor([-0.1, -0.7, -1.6]).exp()
    assert bars == [0, 8, 0, 0, *(p[1:] / p[0] * 8).ceil().int().tolist()]


def test_a_negative_advantage_makes_a_negative_weight():
    inputs = LossInputs(
        SHORT_AND_LONG.policy_log_probs,
        SHORT_AND_LONG.response_mask,
        3,
        SHORT_AND_LONG.other_rows,
        advantages=(1.0, -0.5),
    )
    drawing = weights_view(inputs, inputs.trace([GRPO]))
    expected = weights(inputs.policy_log_probs, inputs.response_mask != 0, (1.0, -0.5))["GRPO"]
    cell = cells(drawing)["GRPO[1,2]"]
    assert (cell.text, cell.tone) == (number(expected[1, 2].item()), "scaled_loss")
    assert cell.text.startswith("−") and "A, per row: 1, −0.5" in drawing.text
    assert drawing.alt == (
        "Weight of each response token. GRPO: row 1: 0.1667; row 2: −0.04167, −0.04167."
    )


def test_a_long_batch_shows_the_columns_from_the_first_response_token_on():
    mask = (torch.arange(40) > 20).int()[None]
    inputs = LossInputs(torch.full((1, 40), -0.5), mask)
    shown = cells(weights_view(inputs, inputs.trace([DFT]), 60))
    assert "DFT[0,21]" in shown and "DFT[0,20]" not in shown


def test_a_batch_without_a_response_token_weighs_nothing():
    inputs = LossInputs([[-0.5, -1.0]], [[0, 0]], other_rows=(3,))
    drawing = weights_view(inputs, inputs.trace())
    assert {cell.text for key, cell in cells(drawing).items() if "log_probs" not in key} == {"0"}


def test_only_dft_follows_a_log_prob_that_is_dragged():
    explorer = LossesExplorer()
    before = cells(explorer.drawing)
    edits = {"policy_log_probs[1,1]": -2.5}
    explorer.live.edits = {"id": 1, "generation": 0, "values": edits}
    after = cells(explorer.drawing)
    changed = {key for key in after if after[key].text != before[key].text}
    assert changed == {"policy_log_probs[1,1]", "DFT[1,1]"}
    moved = torch.tensor([[-2.0, -0.1, -9.0], [-3.0, -2.5, -1.6]])
    expected = weights(moved, SHORT_AND_LONG.response_mask != 0)["DFT"]
    assert after["DFT[1,1]"].text == number(expected[1, 1].item())
    explorer.controls["reset"].click()
    assert cells(explorer.drawing) == before


def test_the_token_last_touched_is_read_out_and_set_in_a_box():
    explorer = LossesExplorer()
    box = explorer.controls["policy_log_probs"]
    assert (box.description, box.value) == ("log-prob of row 1, token 2", -0.1)
    explorer.live.selected = "GRPO[1,2]"
    assert (box.description, box.value) == ("log-prob of row 2, token 3", -1.6)
    box.value = -3
    assert explorer.policy_log_probs[1, 2] == -3
    assert explorer.live.limits == {"policy_log_probs": -0.01}


def test_a_log_prob_of_0_changes_nothing_and_says_why():
    explorer = LossesExplorer()
    before = explorer.live.svg
    with pytest.raises(
        Exception, match="policy_log_probs must be finite and below 0 at response tokens"
    ):
        explorer.edit({"policy_log_probs[0,1]": 0.0})
    assert explorer.live.svg == before


def test_its_code_makes_the_same_state():
    explorer = LossesExplorer(
        policy_log_probs=[[-1.0, -2.0]], response_mask=[[1, 1]], advantages=(-0.5,), other_rows=(3,)
    )
    lines = explorer.code.splitlines()
    assert lines[0] == "from sftviz import LossesExplorer"
    again = eval("\n".join(lines[2:]), {"LossesExplorer": LossesExplorer})
    assert again.drawing.text == explorer.drawing.text
