"""What is learned under each way to make a mask: the claims that the picture lets one see."""

import re

import pytest
import torch

from sftviz import MaskExplorer, build_token_batch
from sftviz.experiments.dates import PAD, Pair, conversation, date_pairs
from sftviz.experiments.masks import Learned, learn, to_batch, to_text
from sftviz.masking import RIGHT, WAYS
from sftviz.views.masking import masking_view

PAIRS = date_pairs()[0][2:40:3]


def share(way, is_so):
    found = learn(way)
    asked = zip(found.pairs, found.answers, found.ends, strict=True)
    return sum(map(lambda each: is_so(*each), asked)) / len(found.pairs)


def test_the_rows_of_the_right_way_are_those_that_the_package_builds():
    built = to_batch([RIGHT.build(to_text(pair)) for pair in PAIRS])
    usual = build_token_batch([conversation(pair) for pair in PAIRS], pad_id=PAD)
    length = usual.labels.shape[1]  # the other has two columns of padding more
    for name in ("input_ids", "labels", "response_mask"):
        assert torch.equal(getattr(built, name)[:, :length], getattr(usual, name))
    assert not built.response_mask[:, length:].any()


def test_no_pair_that_is_asked_was_trained_on():
    trained = {pair.prompt for pair in date_pairs()[0]}
    assert not trained & {pair.prompt for pair in learn("nothing").pairs}


def test_the_right_way_answers_nearly_all():
    assert learn("nothing").right > 0.95


def test_a_mask_about_the_token_read_leaves_only_the_first_token_unlearned():
    way = "mask about the token read"
    assert share(way, lambda pair, answer, ends: answer[-6:] == pair.response[-6:]) > 0.8
    assert share(way, lambda pair, answer, ends: answer[:1] == pair.response[:1]) < 0.5


@pytest.mark.parametrize("way", ["<end> left out", "pad is end"])
def test_without_the_end_token_no_answer_ends_and_all_begin_right(way):
    assert share(way, lambda pair, answer, ends: ends) == 0
    assert share(way, lambda pair, answer, ends: answer.startswith(pair.response[:8])) > 0.9


def test_labels_that_are_shifted_twice_leave_out_the_first_token():
    def begins(pair, answer, ends):
        return answer[:4] == pair.response[1:5]

    assert share("labels shifted twice", begins) > 0.9


def test_labels_that_are_not_shifted_repeat_what_was_read_last():
    assert share("labels not shifted", lambda pair, answer, ends: len(set(answer)) == 1) > 0.9


@pytest.mark.parametrize("way", ["response cut off", "padding on the left"])
def test_other_ways_after_which_nothing_is_right(way):
    assert learn(way).right < 0.05


def test_a_prompt_that_counts_slows_learning_down():
    assert 0.3 < learn("prompt counted").right < learn("nothing").right - 0.1


def test_learning_is_repeatable_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    again = learn.__wrapped__("response cut off")
    assert again == learn("response cut off")
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="way must be one of nothing, mask about"):
        learn("none")


# The picture


def test_the_picture_says_what_was_answered():
    pairs = tuple(Pair(f"{day}.1.2001→", f"2001-01-{day}") for day in (10, 11, 12, 13, 14))
    answers = ("2001-01-10", "2001-01-12", "1001-01-12", "2001-01-13■", "2001-01-14")
    found = Learned("nothing", pairs, answers, (True, True, True, False, False))
    assert found.right == 1 / 5
    drawing = masking_view(MaskExplorer().trace, learned=found)
    lines = [" ".join(line.split()) for line in drawing.text.splitlines()]
    said = "Of 5 new dates it answers 1 right: 4 answers begin right, and 3 end."
    assert drawing.alt.endswith(said) and any(said in line for line in lines)
    for line in (
        "10.1.2001→ 2001-01-10 ✓",
        "11.1.2001→ 2001-01-12 ✗ 2001-01-11",
        "13.1.2001→ 2001-01-13■… ✗ 2001-01-13",
    ):
        assert any(line in found for found in lines)
    narrow = masking_view(MaskExplorer().trace, 48, found).text
    assert max(map(len, narrow.splitlines())) <= 48


def test_a_press_trains_a_model_and_another_way_trains_another():
    explorer = MaskExplorer()
    assert "Trained so" not in explorer.drawing.text
    explorer.controls["trained"].value = True
    assert "1901-04-26" in explorer.drawing.text and explorer.trained is True
    explorer.controls["way"].value = "labels shifted twice"
    assert re.search(r"it answers 0 right", explorer.live.alt)
    explorer.controls["reset"].click()
    assert explorer.drawing.text == MaskExplorer().drawing.text


def test_whether_a_model_is_trained_is_yes_or_no():
    with pytest.raises(TypeError, match=r"^trained must be True or False, got int 1\.$"):
        MaskExplorer(trained=1)


def test_every_way_can_be_learned():
    for way in WAYS:
        found = learn(way.name)
        assert not any("<" in answer for answer in found.answers)  # one sign a token
