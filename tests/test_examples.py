"""The batches that the course keeps coming back to are what they are called."""

from itertools import pairwise

import pytest
import torch

from sftviz import WORKED_EXAMPLE, step_flow
from sftviz.examples import PRESETS

FINITE = {name: batch.trace() for name, batch in PRESETS.items()}


def test_the_worked_example_is_the_contracts(worked):
    assert torch.equal(
        WORKED_EXAMPLE.policy_log_probs,
        torch.tensor([[-0.5, -0.3, -0.8, -0.2], [-0.4, -0.6, -0.3, -0.5]]),
    )
    assert WORKED_EXAMPLE.response_mask.tolist() == [[1, 1, 0, 1], [1, 1, 1, 1]]
    assert (worked.gradient_accumulation_steps, worked.normalize_constant) == (2, 1.0)
    assert worked.num_tokens == 7 and round(worked.scaled_loss.item(), 6) == 0.7
    assert PRESETS["worked example"] is WORKED_EXAMPLE


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_and_can_be_drawn(name):
    batch, trace = PRESETS[name], PRESETS[name].trace()
    assert trace.scaled_loss.isfinite() and trace.grad.isfinite().all()
    assert (trace.masked_log_probs <= 0).all()  # log-probs, where they count
    drawing = step_flow(trace, batch.tokens, width=80)
    assert len(drawing.text) > 1000


def test_the_presets_show_what_their_names_say():
    B, G = len(PRESETS["B = 3, G = 4"].response_mask), 4
    assert B == 3 and PRESETS["B = 3, G = 4"].gradient_accumulation_steps == G
    assert FINITE["all masked"].num_tokens == 0
    under = PRESETS["NaN under the mask"]
    assert not under.policy_log_probs.isfinite()[under.response_mask == 0].any()
    prompt = PRESETS["long prompt"].response_mask
    assert prompt.float().mean() < 0.4 and not prompt[:, 0].any()
    turns = PRESETS["several turns"].response_mask[0].tolist()
    assert sum(a < b for a, b in pairwise(turns)) == 2  # it answers twice
    padding = PRESETS["padding"]
    pads = torch.tensor([[token == "<pad>" for token in row] for row in padding.tokens])
    assert pads.any() and not padding.response_mask[pads].any()
