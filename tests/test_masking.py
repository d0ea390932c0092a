"""What is lost and gained when a mask or a shift is wrong, as counted by hand."""

import re

import pytest
import torch
from traitlets import TraitError

from sftviz import MaskExplorer, build_token_batch, sft_microbatch_train_step
from sftviz.masking import PAD, WAYS, Text, build, find_way
from sftviz.views.masking import masking_view

TEXT = Text.of("2 + 2 =", "4 .")  # <start> 2 + 2 = 4 . <end>
BY_HAND = {  # what counts: (read, label); what is lost
    "nothing": ([("=", "4"), ("4", "."), (".", "<end>")], []),
    "mask about the token read": ([("4", "."), (".", "<end>"), ("<end>", "<pad>")], ["4"]),
    "labels not shifted": (
        [("4", "4"), (".", "."), ("<end>", "<end>")],
        ["4", ".", "<end>"],
    ),
    "labels shifted twice": (
        [("2", "4"), ("=", "."), ("4", "<end>")],
        ["4", ".", "<end>"],
    ),
    "<end> left out": ([("=", "4"), ("4", ".")], ["<end>"]),
    "pad is end": ([("=", "4"), ("4", ".")], ["<end>"]),
    "padding counted": (
        [("=", "4"), ("4", "."), (".", "<end>"), ("<end>", "<pad>"), ("<pad>", "<pad>")],
        [],
    ),
    "prompt counted": (
        [
            ("<start>", "2"),
            ("2", "+"),
            ("+", "2"),
            ("2", "="),
            ("=", "4"),
            ("4", "."),
            (".", "<end>"),
        ],
        [],
    ),
    "padding on the left": ([("=", "4"), ("4", "."), (".", "<end>")], []),
    "response cut off": ([("=", "4")], [".", "<end>"]),
    "two documents in one row": (
        [
            *(("=", "4"), ("4", "."), (".", "<end>"), ("<end>", "<start>")),
            *(("=", "2"), ("2", "."), (".", "<end>")),
        ],
        [],
    ),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_what_counts_is_what_a_hand_counts(way):
    masking = build(TEXT, way)
    pairs, lost = BY_HAND[way.name]
    counted = [(at.read, at.label) for at in masking.positions if at.counts]
    assert counted == pairs and masking.num_tokens == len(pairs)
    assert [masking.text.tokens[place] for place in masking.lost] == lost
    right = {("=", "4"), ("4", "."), (".", "<end>"), ("=", "2"), ("2", ".")}
    gained = [(masking.positions[at].read, masking.positions[at].label) for at in masking.gained]
    assert gained == [pair for pair in pairs if pair not in right]


def test_the_right_way_is_that_of_build_token_batch():
    words = sorted({*TEXT.tokens, PAD})
    ids = {word: at for at, word in enumerate(words)}
    prompt, response = ([ids[word] for word in part] for part in (TEXT.tokens[:5], TEXT.tokens[5:]))
    longer = [("prompt", [0] * 9), ("response", [0])]  # so that the first is padded with two
    batch = build_token_batch([[("prompt", prompt), ("response", response)], longer], ids[PAD])
    found = build(TEXT, WAYS[0]).positions
    assert [ids[at.read] for at in found] == batch.input_ids[0].tolist()
    assert [ids[at.label] for at in found] == batch.labels[0].tolist()
    assert [at.counts for at in found] == batch.response_mask[0].tolist()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_the_gradient_is_that_of_the_step(way):
    masking = build(TEXT, way)
    log_probs = torch.full((1, len(masking.positions)), -2.0, requires_grad=True)
    sft_microbatch_train_step(log_probs, torch.tensor([[at.counts for at in masking.positions]]), 1)
    assert masking.grad.tolist() == log_probs.grad[0].tolist()


@pytest.mark.parametrize("width", [48, 70, 112])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_the_picture_says_what_is_lost_and_gained(way, width):
    masking = build(TEXT, way)
    drawing = masking_view(masking, width)
    assert drawing.scene.width <= width
    if way is not WAYS[0]:
        assert f"{len(masking.lost)} lost, {len(masking.gained)} gained" in drawing.alt
    if len(masking.positions) < 10 and width == 112:  # all are shown
        assert len(re.findall(r"\bgained\b", drawing.text)) - drawing.alt.count("gained") == len(
            masking.gained
        )


def test_each_arrow_goes_from_where_a_token_is_read_to_where_it_is_predicted():
    text = masking_view(build(TEXT, find_way("labels not shifted"))).text
    assert "“4” where “4” is read" in text
    assert masking_view(build(TEXT, WAYS[1])).alt.endswith(
        "Learned: “<pad>” where “<end>” is read."
    )


def test_a_long_text_is_shown_around_its_response():
    long = Text.of("word " * 100, "answer here")
    drawing = masking_view(build(long, WAYS[0]), 80)
    assert drawing.scene.width <= 80 and "answer" in drawing.text and "token 10" in drawing.text


def test_the_readers_own_text_is_followed_and_an_empty_one_is_refused(shown_errors):
    explorer = MaskExplorer()
    explorer.controls["prompt"].value = "How are you ?"
    explorer.controls["response"].value = "Fine <b>$x$"
    explorer.controls["way"].value = "mask about the token read"
    assert "Never learned: “Fine”." in explorer.live.alt
    assert "<b>" not in explorer.live.svg
    before = explorer.live.svg
    explorer.controls["response"].value = "  "
    assert shown_errors.pop() == "the response has no word: write at least one."
    assert explorer.live.svg == before
    with pytest.raises(TraitError, match="way must be one of nothing, mask about"):
        explorer.way = "none"
    explorer.controls["reset"].click()
    assert explorer.drawing.text == MaskExplorer().drawing.text
    assert explorer.code == (
        "from sftviz import MaskExplorer\n\nMaskExplorer(\n    prompt='2 +2=',\n"
        "    response='4 .',\n    way='nothing',\n    trained=False,\n)"
    )


def test_many_words_are_refused():
    with pytest.raises(ValueError, match="the prompt has 201 words, and at most 200 can be shown"):
        Text.of("a " * 201, "b")
