import re

import pytest
import torch

from sftviz.tokens import TokenBatch, build_token_batch
from sftviz.views.tokens import shift_view

CONVERSATIONS = [
    [("prompt", [1, 2]), ("response", [3, 0])],
    [("prompt", [1]), ("response", [2]), ("prompt", [3]), ("response", [1, 0])],
]


def test_what_is_read_stands_above_what_comes_next_and_whether_it_counts():
    picture = """
╭────────────────────────────────────────────────────────────────────────────╮
│ input_ids               a           b           c       <end>       <end>  │
│ labels         ░        b░ [        c] [    <end>] ░    <end>░ ░    <end>░ │
│ response_mask  ░        0░ [        1] [        1] ░        0░ ░        0░ │
│                                                                            │
│ input_ids               a           b           c           a       <end>  │
│ labels         [        b] ░        c░ [        a] [    <end>] ░    <end>░ │
│ response_mask  [        1] ░        0░ [        1] [        1] ░        0░ │
╰────────────────────────────────────────────────────────────────────────────╯
"""
    batch = build_token_batch(
        [[*CONVERSATIONS[0]], [*CONVERSATIONS[1]], [("prompt", [1] * 4), ("response", [1, 0])]],
        pad_id=0,
    )
    batch = TokenBatch(batch.input_ids[:2], batch.labels[:2], batch.response_mask[:2])
    drawing = shift_view(batch, ("<end>", "a", "b", "c"))
    assert f"\n{drawing.text}\n" == picture
    assert drawing.alt == (
        "2 rows of 5 tokens: what the model reads, below it what comes next, and whether that "
        "counts. 5 of 10 labels are response tokens."
    )


def test_token_ids_are_shown_without_a_vocabulary():
    assert "[        3]" in shift_view(build_token_batch(CONVERSATIONS, pad_id=0)).text


def test_a_large_batch_has_an_overview_and_fits_the_width():
    ids = torch.arange(64 * 1024).reshape(64, 1024)
    batch = TokenBatch(ids, ids + 1, ids % 2 == 0)
    drawing = shift_view(batch, width=80)
    assert max(map(len, drawing.text.splitlines())) <= 80
    assert "64 rows of 1024 tokens; 32,768 of 65,536 count." in drawing.text
    assert "32768 of 65536 labels" in drawing.alt
    assert drawing.alt.endswith(" Shown: tokens 1–5, rows 1–8.")


def batch_of(labels, mask, input_ids=None):
    labels = torch.tensor([labels])
    return TokenBatch(
        labels if input_ids is None else torch.tensor([input_ids]), labels, torch.tensor([mask])
    )


@pytest.mark.parametrize("vocabulary", [("a", "b", "c", "d"), None])
def test_a_label_that_is_not_scored_says_so(vocabulary):
    """−100 would be the fourth word from the end, or an IndexError."""
    batch = batch_of([-100, -4, 3, -100], [False, False, True, False], [1, 2, 0, 3])
    cells = framed(shift_view(batch, vocabulary).text.splitlines()[2])
    word = "d" if vocabulary else "3"
    assert cells == ["not scored", "not scored", word, "not scored"]


def framed(line):
    return re.findall(r"[░[] *([^]░]+?)[]░]", line)


def test_an_id_that_is_not_in_the_vocabulary_is_shown_as_a_number():
    batch = batch_of([-100, 9, 9], [True, True, False], [-1, 2, 7])
    lines = shift_view(batch, ("a", "b", "c")).text.splitlines()
    assert lines[1].split()[2:-1] == ["−1", "c", "7"]
    assert framed(lines[2]) == ["−100", "9", "not scored"]


def test_a_long_id_has_room_in_its_cell():
    drawing = shift_view(batch_of([2**62, 1], [True, True]))
    assert f"[ {2**62}]" in drawing.text or f"[{2**62}]" in drawing.text
    assert {len(line) for line in drawing.text.splitlines()} == {drawing.scene.width}


def test_of_a_long_batch_the_border_of_the_first_response_is_shown():
    mask = torch.zeros(20, 300, dtype=torch.bool)
    mask[3, 200:] = mask[17, 250:] = True
    ids = torch.arange(20 * 300).reshape(20, 300)
    drawing = shift_view(TokenBatch(ids, ids + 1, mask), width=112)
    assert {"labels[3,199]", "labels[3,200]", "labels[10,200]"} <= set(drawing.keys)
    assert "token 201" in drawing.text and "rows 4–11" in drawing.text
    assert [line.split()[-2] for line in drawing.text.splitlines() if "17–18" in line] == ["50"]
    assert drawing.scene.width <= 112


def test_the_sentence_counts_in_singular_and_plural():
    one = TokenBatch(*(torch.ones(1, 1, dtype=torch.int64),) * 2, torch.ones(1, 1).bool())
    assert shift_view(one).alt.startswith("1 row of 1 token: ")


@pytest.mark.parametrize(
    ("width", "kind", "message"),
    [
        (47, ValueError, "width must be at least 48 cells, got 47: a formula needs that many."),
        (
            *(80.5, TypeError),
            "width must be an int of at least 1, got float 80.5: "
            "it is a number of character cells.",
        ),
    ],
)
def test_a_width_that_is_no_width_is_refused(width, kind, message):
    with pytest.raises(kind) as refusal:
        shift_view(build_token_batch(CONVERSATIONS, pad_id=0), width=width)
    assert str(refusal.value) == message
