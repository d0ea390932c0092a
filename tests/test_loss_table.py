import math
import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz.drawing.scene import Cell
from sftviz.drawing.theme import TONES
from sftviz.examples import PRESETS, WORKED_EXAMPLE
from sftviz.step import trace_step
from sftviz.views.losses import loss_table

UNITS = ["scaled_loss", "nats a token", "perplexity", "probability"]
FINITE = "every entry of scaled_loss and nats must be a finite number, got {}: it is a loss."
ABOVE_0 = (
    "every entry of perplexity and probability must be a number above 0, got {}: "
    "its logarithm is a loss."
)


@pytest.fixture
def batch():
    """Logits (3, 5, 11), labels and a mask (3, 5): 8 tokens count."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(11, (3, 5), generator=generator)
    mask = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
    return logits, labels, mask


@pytest.fixture
def trace(batch):
    logits, labels, mask = batch
    log_probs = torch.log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0]
    return trace_step(log_probs, mask, 7, normalize_constant=42.0)


def lines(drawing):
    """The numbers of each line, in the order of UNITS."""
    found = re.findall(r"\[ *(\S+)\]", drawing.text)
    numbers = [float(text.replace("−", "-")) for text in found]
    return [numbers[start : start + 4] for start in range(0, len(numbers), 4)]


def test_the_loss_of_a_batch_is_torchs_mean_cross_entropy_in_other_units(batch, trace):
    logits, labels, mask = batch
    nats = cross_entropy(logits[mask], labels[mask]).item()
    probs = torch.softmax(logits[mask], -1)[range(8), labels[mask]]  # (8,)
    (shown,) = lines(loss_table(trace))
    expected = [nats * 8 / (7 * 7 * 42), nats, math.e**nats, probs.prod().item() ** (1 / 8)]
    assert shown == pytest.approx(expected, rel=1e-3)


def test_one_number_in_any_unit_gives_the_same_line(trace):
    # a model that gives each of 44 tokens the same probability
    given = {"scaled_loss": [math.log(44) * 8 / (49 * 42)], "nats": [math.log(44)]}
    given |= {"perplexity": [44], "probability": [1 / 44]}
    expected = [0.01471, 3.784, 44, 0.02273]
    assert lines(loss_table(trace, **given))[1:] == [expected] * 4


def test_a_loss_below_0_is_called_impossible_and_no_other(trace):
    text = loss_table(trace, nats=[-0.1, 0.0, 0.1], probability=[1, 1.5]).text
    is_marked = ["impossible" in line for line in text.splitlines() if "[" in line]
    assert is_marked == [False, True, False, False, False, True]


def test_extreme_losses_have_a_line(trace):
    drawing = loss_table(trace, nats=[800, -800], perplexity=[math.inf], probability=[5e-324])
    assert [line[2:] for line in lines(drawing)[1:]] == [
        [math.inf, 0],
        [0, math.inf],
        [math.inf, 0],
        [math.inf, 5e-324],
    ]
    assert len({len(line) for line in drawing.text.splitlines()}) == 1


@pytest.mark.parametrize("name", ["worked example", "B = 3, G = 4", "padding", "several turns"])
def test_the_first_line_is_what_the_step_returned(name):
    trace = PRESETS[name].trace()
    scaled_loss, nats, _, probability = lines(loss_table(trace))[0]
    counted = trace.policy_log_probs[trace.response_mask]
    assert scaled_loss == pytest.approx(trace.scaled_loss.item(), rel=1e-3)
    assert nats == pytest.approx(-counted.mean().item(), rel=1e-3)
    assert probability == pytest.approx(counted.exp().log().mean().exp().item(), rel=1e-3)


def test_every_number_has_a_key_and_the_tone_of_its_unit(trace):
    drawing = loss_table(trace, perplexity=[10])
    cells = [shape for _, _, shape in drawing.page.marks if isinstance(shape, Cell)]
    assert [cell.key for cell in cells] == [f"{unit}[{row}]" for row in (0, 1) for unit in UNITS]
    tones = [cell.tone for cell in cells]
    assert tones[:4] == tones[4:] and len(set(tones)) == 4 and set(tones) <= set(TONES)


def test_the_sentence_has_the_numbers():
    assert loss_table(WORKED_EXAMPLE.trace(), perplexity=[10]).alt == (
        "Conversion of losses, nats a token = scaled_loss · G² · c ÷ num_tokens = scaled_loss · 2² "
        "· 1 ÷ 7: a scaled_loss of 0.7 is 0.4 nats a token; of 4.03 is 2.303 nats a token."
    )


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"scaled_loss": [math.nan]}, ValueError, FINITE.format("nan")),
        ({"nats": [0.5, math.inf]}, ValueError, FINITE.format("inf")),
        ({"nats": ["0.5"]}, TypeError, FINITE.format("str '0.5'")),
        ({"perplexity": [0]}, ValueError, ABOVE_0.format("0")),
        ({"probability": [-0.1]}, ValueError, ABOVE_0.format("-0.1")),
    ],
)
def test_what_is_no_loss_is_refused_word_for_word(given, error, message, trace):
    with pytest.raises(error) as caught:
        loss_table(trace, **given)
    assert str(caught.value) == message


def test_a_batch_in_which_nothing_counts_has_no_loss_per_token():
    with pytest.raises(ValueError) as caught:
        loss_table(PRESETS["all masked"].trace())
    assert str(caught.value) == (
        "no token counts in this trace, so there is no loss per token: give a batch with a "
        "response token."
    )
