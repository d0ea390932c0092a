"""The text backend, against literal pictures."""

import re

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import width as cells

from sftviz import FIVE_WORDS, StepInputs, logits_flow, step_flow
from sftviz.drawing.formatting import token_label
from sftviz.drawing.scene import Align, Arrow, Card, Cell, Column, Flow, Row, Stack, Text, Trail
from sftviz.drawing.text import draw


def picture(text):
    """A literal: its first line is empty, so that the rest stands at the margin."""
    return text.removeprefix("\n")


def test_every_kind_of_node():
    grid = [Row((Cell("−0.5", 7, "response"), Cell("0", 7, "masked")), gap=1) for _ in range(2)]
    scene = Flow(
        (
            Column((Row((Cell("1", 3, "badge"), Text("Inputs", "title")), gap=1), *grid)),
            Align(Row((Text("loss = "), Cell("1.4", 8, "loss"))), 20, "right"),
            Column((Text("last"), Text(""), Text("line"))),
        )
    )
    assert draw(scene) == picture("""
╭──────────────────────╮
│ (1) Inputs           │
│ [ −0.5] ░    0░      │
│ [ −0.5] ░    0░      │
╰──┬───────────────────╯
╭──▼───────────────────╮
│      loss = [   1.4] │
╰──┬───────────────────╯
╭──▼───────────────────╮
│ last                 │
│                      │
│ line                 │
╰──────────────────────╯""")


def test_wide_and_joined_characters_keep_the_edge_straight():
    words = ("日本語", "👩‍👩‍👧‍👦", "e\u0301 a\u0301", "🇬🇧!", "plain", "\u2068שבת\u2069")
    text = draw(Card(Column(tuple(Row((Text(word), Cell("1", 5, "loss")), 1) for word in words))))
    assert text == picture("""
╭──────────────╮
│ 日本語 [  1] │
│ 👩‍👩‍👧‍👦 [  1]     │
│ e\u0301 a\u0301 [  1]    │
│ 🇬🇧! [  1]    │
│ plain [  1]  │
│ \u2068שבת\u2069 [  1]    │
╰──────────────╯""")
    assert {cells(line) for line in text.splitlines()} == {16}


def test_what_has_no_width_is_kept_where_it_stands():
    """An isolate that lost its opening half would turn the rest of the line around."""
    assert draw(Row((Text("\u2068ab\u2069"), Text("c")))) == "\u2068ab\u2069c"
    assert draw(Row((Text("ab"), Text("\u2068c\u2069")))) == "ab\u2068c\u2069"


def test_what_takes_up_no_cell_moves_nothing():
    lines = draw(Card(Column((Text("\u200b"), Text("ab"))))).splitlines()
    assert lines == ["╭────╮", "│    │", "│ ab │", "╰────╯"]


def test_an_arrow_longer_than_one_row():
    class Long:
        width, height = 1, 4

        def marks(self, x=0, y=0):
            yield x, y, Arrow(3)

    assert draw(Long()) == "┬\n│\n│\n▼"


def test_trailing_blanks_are_left_out():
    assert draw(Column((Text("a  "), Align(Text("b"), 9)))) == "a\nb"


KNOWN = st.characters(exclude_categories=("Cn",)) | st.characters(categories=("Mn", "Mc", "Cf"))


@given(st.lists(st.text(KNOWN, max_size=8), min_size=1, max_size=4))
@settings(max_examples=200)
def test_any_tokens_keep_the_edge_straight(tokens):
    labels = [Row((Text(token_label(token, 6)), Text("|")), gap=1) for token in tokens]
    lines = draw(Card(Column(tuple(labels)))).splitlines()
    assert len(lines) == len(tokens) + 2 and len({cells(line) for line in lines}) == 1


def test_colours_are_codes_between_the_same_characters(worked, hostile):
    for drawing in (
        step_flow(worked),
        step_flow(StepInputs(torch.full((2, 6), -0.5), tokens=hostile).trace(), hostile, 48),
        logits_flow(FIVE_WORDS.trace(), FIVE_WORDS.vocabulary, 48),
    ):
        assert re.sub(r"\x1b\[[0-9;]*m", "", drawing.coloured_text) == drawing.text
        assert "\x1b" not in drawing.text


def test_a_value_has_the_colour_of_its_name_and_a_masked_one_another(worked):
    text = step_flow(worked).coloured_text
    loss = re.search(r"(\x1b\[[0-9;]+m)loss\x1b", text)[1]
    assert f"{loss}[      1.4]" in text
    response, masked = (
        re.search(rf"(\x1b\[[0-9;]+m){cell}", text)[1] for cell in (r"\[ +1\]", "░ +0░")
    )
    assert len({loss, response, masked}) == 3


def test_a_colour_is_the_nearest_that_every_terminal_has():
    # The frame is #3a80bf: 58, 128, 191. The nearest are 95, 135, 175, at 1, 2, 3 of the cube.
    cell = Cell("1", 4, "response")
    assert draw(cell, colours=True) == f"\x1b[38;5;{16 + 1 * 36 + 2 * 6 + 3}m[ 1]\x1b[0m"


def test_a_trail_is_a_line_of_dots_eight_to_a_cell():
    down = Trail(4, 1, ((0, 0), (3.9, 0.99)), "loss")
    assert draw(down) == "⠑⠢⢄⡀" or len(draw(down)) == 4
    flat = Trail(4, 1, ((0, 0), (3.9, 0)), "loss")
    assert draw(flat) == "⠉⠉⠉⠉"
    points = tuple((at / 2, 0.0) for at in range(8))
    dashed = Trail(4, 1, points, "loss", is_dashed=True, has_heads=False)
    assert draw(dashed) != draw(flat)  # also where each piece is one dot
    both = Stack((flat, Trail(4, 1, ((0, 0.9), (3.9, 0.9)), "grad")))
    assert draw(both) == "⣉⣉⣉⣉"
