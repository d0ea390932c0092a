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


def test_a_large_batch_is_elided_to_the_width():
    ids = torch.arange(64 * 1024).reshape(64, 1024)
    batch = TokenBatch(ids, ids + 1, ids % 2 == 0)
    drawing = shift_view(batch, width=80)
    assert max(map(len, drawing.text.splitlines())) <= 80
    assert "65535" in drawing.text  # the last token read
    assert "32768 of 65536 labels" in drawing.alt
