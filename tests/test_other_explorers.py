"""The explorers other than the step's; what all of them share is tested there."""

import re

import numpy as np
import pytest
import torch
import traitlets

from sftviz import FIVE_WORDS, AccumulationExplorer, LogitsExplorer
from sftviz.drawing.formatting import number
from sftviz.experiments.bigram import make_window

pytestmark = pytest.mark.usefixtures("shown_errors")  # there must be none


def test_moving_a_logit_moves_one_gradient_and_not_the_other():
    explorer = LogitsExplorer()
    before = explorer.trace
    explorer.live.edits = {"id": 1, "generation": 0, "values": {"logits[0,1,2]": 6.0}}
    after = explorer.trace
    assert after.logits[0, 1, 2] == 6
    assert torch.equal(after.step.grad, before.step.grad)
    assert after.logits_grad[0, 1].abs().max() < before.logits_grad[0, 1].abs().max() / 10
    assert torch.equal(after.logits_grad[0, 2], before.logits_grad[0, 2])
    assert "logits[0,1,2]" in explorer.live.svg


def test_every_token_of_a_long_sequence_can_be_reached():
    mask = (torch.arange(40) > 20)[None]
    explorer = LogitsExplorer(torch.randn(1, 40, 5), torch.zeros(1, 40, dtype=torch.int64), mask)
    assert explorer.columns == 20 and explorer.selected == (0, 21)
    explorer.edit({"logits[0,21,0]": 3})
    assert explorer.columns == 20 and "logits[0,21,0]" in explorer.live.values
    seen = set()
    for column in range(0, 40, explorer.live.values["lens[columns]"]):
        explorer.columns = column
        seen |= {key for key in explorer.live.values if key.startswith("response_mask")}
        assert f"response_mask[0,{explorer.selected[1]}]" in explorer.live.values
    assert len(seen) == 40
    assert "1 row of 40 tokens; 19 of 40 count." in explorer.drawing.text


def test_a_mask_bit_silences_a_whole_column():
    explorer = LogitsExplorer()
    explorer.live.edits = {"id": 1, "generation": 0, "values": {"response_mask[0,1]": 0}}
    assert not explorer.trace.logits_grad[0, 1].any()


def test_reset_brings_the_first_logits_back():
    explorer = LogitsExplorer(gradient_accumulation_steps=3)
    explorer.edit({"logits[0,0,0]": 5.0})
    explorer.controls["gradient_accumulation_steps"].value = 8
    explorer.controls["reset"].click()
    assert torch.equal(explorer.logits, FIVE_WORDS.logits)
    assert explorer.trace.step.gradient_accumulation_steps == 3


def test_the_entry_last_touched_is_read_out_and_can_be_set_in_a_box():
    explorer = LogitsExplorer()
    box = explorer.controls["logits"]
    # The label of the first response token, then the first label.
    assert (box.description, box.value) == ("logit of token 2, entry 2", 2.5)
    explorer.live.selected = "response_mask[0,0]"
    assert (box.description, box.value) == ("logit of token 1, entry 1", 2.0)
    explorer.live.selected = "probs[0,1,2]"
    assert (box.description, box.value) == ("logit of token 2, entry 2", 2.5)

    before = read_out(explorer)
    box.value = 6
    assert explorer.logits[0, 1, 2] == 6
    after, trace = read_out(explorer), explorer.trace
    assert after["grad[0,1]"] == before["grad[0,1]"] == "−0.25"
    assert after["logits[0,1,2]"] == "6"
    assert after["logits_grad[0,1,2]"] == number(trace.logits_grad[0, 1, 2].item())
    assert after["scaled_loss"] == number(trace.step.scaled_loss.item()) != before["scaled_loss"]

    explorer.live.selected = "response_mask[0,3]"  # a token has a label
    assert (box.description, box.value) == ("logit of token 4, entry 4", pytest.approx(1.1))


def test_the_readout_says_which_token_it_reads():
    explorer = LogitsExplorer()
    assert line(explorer).startswith("token 2, entry = sat   logits = 2.5")
    explorer.live.selected = "logits[0,2,0]"
    assert line(explorer).startswith("token 3, entry = the   logits = 0.5")
    explorer.vocabulary = None
    assert line(explorer).startswith("token 3, entry = 0   logits = 0.5")
    masked = torch.tensor([[0, 0, 0, 1]])
    assert line(LogitsExplorer(response_mask=masked)).startswith("token 4, entry = mat")


def line(explorer):
    """The line above the picture."""
    above = explorer.live.svg.partition('class="card"')[0]
    return "".join(re.findall(r"<text[^>]*>([^<]*)</text>", above)).strip()


def test_the_end_of_the_window_is_read_out():
    explorer = AccumulationExplorer(B=4, G=2)
    assert read_out(explorer) == {"ratio": "2", "cosine": "1"}
    explorer.reached = 2
    assert read_out(explorer) == {"ratio": "…", "cosine": "…"}


def read_out(explorer):
    """The line above the picture, by key."""
    above = explorer.live.svg.partition('class="card"')[0]
    return dict(re.findall(r'data-key="([^"]+)"><text[^>]*>([^<]*)</text>', above))


def test_logits_of_ones_own_need_labels():
    explorer = LogitsExplorer(torch.randn(1, 3, 4), torch.tensor([[0, 3, 1]]))
    assert explorer.trace.step.num_tokens == 3
    with pytest.raises(TypeError, match=r"labels must be a torch\.Tensor, got NoneType"):
        LogitsExplorer(torch.randn(1, 3, 4))
    with pytest.raises(traitlets.TraitError, match="labels has 9 at row 0, position 1: "):
        explorer.labels = torch.tensor([[0, 9, 1]])
    assert explorer.labels.tolist() == [[0, 3, 1]]


def test_what_is_given_of_the_logits_counts_and_the_rest_is_the_examples():
    explorer = LogitsExplorer(vocabulary=list("abcde"), response_mask=torch.tensor([[1, 1, 0, 0]]))
    assert explorer.trace.step.num_tokens == 2
    assert ">a<" in explorer.live.svg and "cat" not in explorer.live.svg
    assert LogitsExplorer(labels=torch.tensor([[0, 0, 0, 0]])).labels.tolist() == [[0, 0, 0, 0]]
    with pytest.raises(TypeError, match=r"logits must be a torch\.Tensor, got list"):
        LogitsExplorer([[[0.0]]], torch.tensor([[0]]))


def test_a_vocabulary_is_of_strings_one_for_each_entry():
    explorer = LogitsExplorer()
    with pytest.raises(traitlets.TraitError, match="vocabulary must be strings, got int 0"):
        explorer.vocabulary = [0, 1, 2, 3, 4]
    for words in (set("abcde"), dict.fromkeys("abcde"), np.array(list("abcde"))):
        kind = type(words).__name__
        with pytest.raises(traitlets.TraitError, match=f"must be a list of strings, got {kind}: "):
            explorer.vocabulary = words
    with pytest.raises(traitlets.TraitError, match="vocabulary has 2 strings but the last"):
        explorer.vocabulary = ["a", "b"]
    explorer.gradient_accumulation_steps = 3
    assert "cat" in explorer.live.svg


def test_only_what_a_quantity_allows_can_be_done_to_it():
    assert LogitsExplorer().live.actions == {"logits": "move", "response_mask": "toggle"}
    assert AccumulationExplorer().live.actions == {}


@pytest.mark.parametrize("kind", [LogitsExplorer, AccumulationExplorer])
def test_they_fit_the_width_of_the_page(kind):
    explorer = kind()
    for columns in (90, 48):
        explorer.live.set_state({"columns": columns})
        width = int(re.search(r'<svg [^>]*width="(\d+)"', explorer.live.svg)[1])
        assert width <= columns * 8 + 16


def test_a_slider_reaches_as_far_as_python_went():
    logits, window = LogitsExplorer(gradient_accumulation_steps=40), AccumulationExplorer(B=12)
    window.G = 9
    for explorer, name, count in (
        (logits, "gradient_accumulation_steps", 40),
        (window, "B", 12),
        (window, "G", 9),
    ):
        assert explorer.controls[name].value == getattr(explorer, name) == count


def test_the_timeline_follows_its_slider():
    explorer = AccumulationExplorer(B=2, G=4)
    slider = explorer.controls["reached"]
    assert (slider.value, slider.max) == (6, 6)
    slider.value = 2
    assert explorer.reached == 2
    assert ".grad is None" not in explorer.drawing.text
    explorer.G = 5
    assert (explorer.reached, slider.value, slider.max) == (2, 2, 7)


def test_what_is_played_stops_at_the_end():
    explorer = AccumulationExplorer(B=2, G=4, reached=0)
    play, slider = (explorer.controls[name] for name in ("play", "reached"))
    play.playing = True
    slider.value = 5
    assert play.playing
    slider.value = 6
    assert not play.playing and explorer.reached is None


def test_a_window_that_is_over_stays_over_when_it_grows():
    explorer = AccumulationExplorer(B=4, G=2)
    slider = explorer.controls["reached"]
    for G in (3, 8, 2, 5):
        explorer.controls["G"].value = G
        assert slider.value == slider.max == G + 2
        assert read_out(explorer)["ratio"] == number(4 / G)
    slider.value = 3
    slider.value = 7  # by hand to the end
    explorer.controls["G"].value = 6
    assert slider.value == slider.max == 8 and explorer.reached is None


def test_a_window_can_be_reset_and_shown_as_code():
    explorer = AccumulationExplorer(B=3, forgot_zero_grad=True, reached=2)
    before = explorer.drawing.text
    explorer.update(scaling="B·G", B=2, G=4, unevenness=0.25, ran_out=True, reached=None)
    assert explorer.drawing.text != before
    explorer.controls["code"].value = True
    lines = explorer.code.splitlines()
    assert lines[:3] == ["from sftviz import AccumulationExplorer", "", "AccumulationExplorer("]
    assert "    scaling='B·G'," in lines and "    ran_out=True," in lines
    assert "AccumulationExplorer(" in explorer.children[1].value
    variables = {}
    exec(
        explorer.code.replace("AccumulationExplorer(\n", "again = AccumulationExplorer(\n"),
        variables,
    )
    assert variables["again"].state == explorer.state
    explorer.controls["reset"].click()
    assert explorer.drawing.text == before and explorer.controls["reached"].value == 2


def test_every_control_of_a_window_changes_it():
    explorer = AccumulationExplorer(B=4, G=2)
    settings = {
        "scaling": ("B·G", 1.0),
        "G": (3, 1.0),
        "B": (2, 1.0),
        "unevenness": (0.0, 1.0),
        "forgot_zero_grad": (True, 2.0),
    }
    assert explorer.trace.ratio == pytest.approx(2)
    for name, (value, ratio) in settings.items():
        explorer.controls[name].value = value
        assert getattr(explorer, name) == value
        assert explorer.trace.ratio == pytest.approx(ratio)
    before = [tick.num_tokens for tick in explorer.trace.microbatches]
    explorer.controls["ran_out"].value = True
    assert [tick.num_tokens for tick in explorer.trace.microbatches] == before[
        :-1
    ]  # the last never came
    assert explorer.controls["reached"].max == 4


def test_more_moments_than_there_are_is_the_end():
    explorer = AccumulationExplorer(B=1, G=5)
    explorer.G = 2
    assert explorer.controls["reached"].value == explorer.controls["reached"].max == 4
    assert ".grad is None" in explorer.drawing.text and ".grad is None" in explorer.live.alt
    with pytest.raises(traitlets.TraitError):
        explorer.reached = -1


def test_a_window_that_can_not_be_is_refused():
    explorer = AccumulationExplorer()
    with pytest.raises(traitlets.TraitError, match="B must be an int of at least 1, got 0: "):
        explorer.B = 0
    with pytest.raises(
        traitlets.TraitError, match=r"unevenness must be a number from 0 to 1, got 2: "
    ):
        explorer.unevenness = 2
    with pytest.raises(traitlets.TraitError, match="scaling must be one of none, G, G²"):
        explorer.scaling = "G³"
    assert (explorer.B, explorer.scaling) == (8, "G²")


def test_the_windows_microbatches_are_those_of_make_window():
    explorer = AccumulationExplorer(B=3, G=2, unevenness=0.5)
    window = make_window(3, 2, unevenness=0.5, vocab_size=4)
    assert [tick.num_tokens for tick in explorer.trace.microbatches] == [
        b.num_tokens for b in window
    ]


def test_the_optimizer_takes_steps_and_the_way_of_the_loss_is_shown():
    explorer = LogitsExplorer()
    first, losses = explorer.drawing.text, []
    for name in ["1 step", "1 step", "10 steps"]:
        losses.append(explorer.trace.step.scaled_loss)
        explorer.controls[name].click()
    logits = FIVE_WORDS.logits
    for _ in range(12):  # the closed form: softmax minus one-hot, over G²
        gap = logits.softmax(-1) - torch.eye(5)[FIVE_WORDS.labels]
        scale = FIVE_WORDS.response_mask[..., None] / FIVE_WORDS.gradient_accumulation_steps**2
        logits = logits - 4.0 * scale * gap
    torch.testing.assert_close(explorer.logits, logits, rtol=1e-4, atol=1e-5)
    assert losses[0] > losses[1] > losses[2] > explorer.trace.step.scaled_loss
    assert "after 12 steps" in explorer.drawing.text.splitlines()[0]
    assert explorer.live.alt.startswith(f"scaled_loss {losses[0]:.4g} → ")
    for _ in range(12):
        assert not explorer.controls["undo"].disabled
        explorer.controls["undo"].click()
    assert explorer.drawing.text == first and explorer.controls["undo"].disabled


def test_another_change_begins_a_new_way_and_reset_ends_it():
    explorer = LogitsExplorer()
    explorer.descend(3)
    explorer.edit({"logits[0,1,2]": 3.0})
    assert "after" not in explorer.drawing.text.splitlines()[0]
    assert explorer.controls["undo"].disabled
    explorer.descend()
    assert "after 1 step" in explorer.drawing.text.splitlines()[0]
    explorer.undo()
    assert explorer.logits[0, 1, 2] == 3.0
    explorer.controls["reset"].click()
    assert explorer.logits.equal(FIVE_WORDS.logits)


def test_nothing_moves_where_every_label_is_masked():
    explorer = LogitsExplorer(response_mask=torch.zeros(1, 4))
    explorer.descend(5)
    assert explorer.logits.equal(FIVE_WORDS.logits)


def test_a_learning_rate_of_zero_is_answered_in_the_panel(shown_errors):
    explorer = LogitsExplorer()
    explorer.controls["learning_rate"].value = 0
    explorer.controls["1 step"].click()
    assert "learning_rate must be a finite number above 0" in shown_errors.pop()
    assert explorer.logits.equal(FIVE_WORDS.logits)


@pytest.mark.parametrize("columns", [48, 60, 112])
def test_the_way_of_the_loss_fits_the_page(columns):
    explorer = LogitsExplorer()
    explorer.live.columns = columns
    explorer.descend(100)
    svg = explorer.live.svg
    width = float(svg.partition('viewBox="0 0 ')[2].split()[0])
    assert width <= 8 * max(columns, 48) + 16
