import re
from dataclasses import replace

import pytest
import torch

from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Cell
from sftviz.drawing.text import draw
from sftviz.examples import FIVE_WORDS
from sftviz.logits import LogitsInputs
from sftviz.views.logits import logits_flow


def test_every_framed_number_is_the_traces():
    trace = FIVE_WORDS.trace()
    drawing = logits_flow(trace, FIVE_WORDS.vocabulary)
    shown = re.findall(
        r'data-key="(logits|probs|logits_grad)\[0,(\d),(\d)\]"><rect.*?<text[^>]*>([^<]*)</text>',
        drawing.svg,
    )
    assert len(shown) == 3 * 4 * 5
    for field, token, entry, text in shown:
        assert text == number(getattr(trace, field)[0, int(token), int(entry)].item())


def test_a_token_keeps_its_column_from_its_logits_to_their_gradient():
    for width in (112, 124):  # in one column, and folded
        scene = logits_flow(FIVE_WORDS.trace(), FIVE_WORDS.vocabulary, width).scene
        assert len(scene.columns) == (1 if width == 112 else 2)
        for column in scene.columns:
            places = {}
            for x, _, shape in column.marks():
                key = re.fullmatch(r"\w+\[0,(\d)(?:,\d)?\]", shape.key or "")
                if key and isinstance(shape, Cell):
                    places.setdefault(key[1], set()).add((x, shape.width))
            assert len(places) == 4
            assert all(len(where) == 1 for where in places.values())


def test_a_masked_tokens_whole_column_is_masked():
    shapes = [shape for _, _, shape in logits_flow(FIVE_WORDS.trace()).scene.marks()]
    cells = [shape for shape in shapes if isinstance(shape, Cell) and "[0,0" in (shape.key or "")]
    assert {cell.tone for cell in cells} == {"masked"}


def test_the_label_is_marked_by_more_than_colour():
    lines = logits_flow(FIVE_WORDS.trace(), FIVE_WORDS.vocabulary).text.splitlines()
    softmax = next(i for i, line in enumerate(lines) if "Softmax" in line)
    assert [line.count("[") for line in lines[softmax + 1 : softmax + 6]] == [0, 0, 1, 1, 1]


def test_entries_are_numbered_without_a_vocabulary_and_elided_with_a_large_one():
    torch.manual_seed(0)
    batch = replace(
        FIVE_WORDS,
        logits=torch.randn(1, 40, 1000),
        labels=torch.zeros(1, 40, dtype=torch.int64),
        response_mask=torch.ones(1, 40),
        vocabulary=None,
    )
    drawing = logits_flow(batch.trace(), width=80)
    assert max(map(len, drawing.text.splitlines())) <= 80
    assert "] 0 " in drawing.text and " more " in drawing.text
    assert "1 row of 40 tokens; 40 of 40 count." in drawing.text
    assert "40 of 40 tokens count" in drawing.alt


def test_a_vocabulary_of_another_size_is_refused():
    with pytest.raises(ValueError) as refusal:
        logits_flow(FIVE_WORDS.trace(), ("the", "cat"))
    assert str(refusal.value) == (
        "vocabulary has 2 strings but the last dimension of the logits has 5 entries: "
        "give one string per entry."
    )


@pytest.mark.parametrize("S", [1, 4, 30])
@pytest.mark.parametrize("width", [48, 57, 80, 112, 140])
def test_a_picture_fits_its_width_with_straight_edges(S, width):
    torch.manual_seed(0)
    logits, labels = torch.randn(1, S, 12), torch.randint(0, 12, (1, S))
    drawing = logits_flow(LogitsInputs(logits, labels, torch.ones(1, S)).trace(), width=width)
    assert drawing.scene.width <= width
    for column in drawing.scene.columns:
        assert {len(line) for line in draw(column).splitlines()} == {column.width}
    assert "grad[0,0]" in drawing.keys
    assert f"grad[0,{S - 1}]" in drawing.keys or drawing.page.outline.columns.total == S


def test_a_long_number_widens_every_cell():
    rows = [[-1.2345e-12, 9.0, 0.0], [-1.2345e-123, 0.0, 1.0]]
    logits = torch.tensor([rows], dtype=torch.float64)
    trace = LogitsInputs(logits, torch.tensor([[1, 2]]), torch.tensor([[1, 1]])).trace()
    drawing = logits_flow(trace)
    shapes = [shape for _, _, shape in drawing.scene.marks()]
    cells = [shape for shape in shapes if isinstance(shape, Cell) and "[0," in (shape.key or "")]
    assert {cell.width for cell in cells} == {len("−1.234e−123") + 2}
    assert all(cell.indent > 0 for cell in cells)


@pytest.fixture
def long():
    """B = 1, S = 40, V = 500; the second half counts."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(1, 40, 500, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 500, (1, 40), generator=generator)
    mask = (torch.arange(40) >= 20)[None]
    return LogitsInputs(logits, labels, mask, 3).trace()


def shown(drawing, field):
    """What each cell of a field shows, by token and entry."""
    shapes = [shape for _, _, shape in drawing.page.marks if isinstance(shape, Cell)]
    keys = [(re.fullmatch(rf"{field}\[0,(\d+),(\d+)\]", s.key or ""), s.text) for s in shapes]
    return {tuple(map(int, key.groups())): text for key, text in keys if key}


@pytest.mark.parametrize("width", [48, 80, 112])
def test_of_a_large_vocabulary_every_label_and_the_most_probable_entry_are_shown(long, width):
    probs = shown(logits_flow(long, width=width), "probs")
    tokens = sorted({token for token, _ in probs})
    assert {19, 20} <= set(tokens)  # the border of the response
    for token in tokens:
        label = long.labels[0, token].item()
        assert probs[token, label] == number(long.probs[0, token, label].item())
    counted = [token for token in tokens if token >= 20]
    entry = long.probs[0, counted].amax(0).argmax().item()
    assert (counted[0], entry) in probs


def test_all_other_entries_are_summed_so_that_columns_add_up(long):
    drawing = logits_flow(long)
    entries = sorted({entry for _, entry in shown(drawing, "probs")})
    lines = [line for line in drawing.text.splitlines() if f"{500 - len(entries)} more" in line]
    assert len(lines) == 3 and "⋮" in lines[0]
    tokens = sorted({token for token, _ in shown(drawing, "probs")})
    others = [entry for entry in range(500) if entry not in entries]
    for line, field in zip(lines[1:], ("probs", "logits_grad"), strict=True):
        wanted = [getattr(long, field)[0, token, others].sum().item() for token in tokens]
        assert [number(value) for value in wanted] == re.findall(r"−?\d[\d.e−]*", line)[:-1]


def test_other_tokens_can_be_shown(long):
    probs = shown(logits_flow(long, columns=range(7, 10)), "probs")
    assert {token for token, _ in probs} == {7, 8, 9}
    with pytest.raises(ValueError, match="columns must be from 0 to 39, got 40: the batch has 40"):
        logits_flow(long, columns=40)


def test_a_vocabulary_that_is_hardly_larger_than_the_picture_is_shown_whole():
    logits = torch.arange(9.0)[None, None]
    drawing = logits_flow(LogitsInputs(logits, torch.tensor([[0]])).trace())
    assert len(shown(drawing, "probs")) == 9 and " more" not in drawing.text


def test_on_a_phone_the_column_that_the_course_asks_about_is_shown():
    """`sat` in the second column, whatever its logit is."""
    for logit in (2.5, 6.0, 12.0, -7.25):
        logits = FIVE_WORDS.logits.clone()
        logits[0, 1, 2] = logit
        trace = replace(FIVE_WORDS, logits=logits).trace()
        drawing = logits_flow(trace, FIVE_WORDS.vocabulary, width=48)
        assert drawing.scene.width <= 48 and "logits[0,1,2]" in drawing.keys
        assert "logits_grad[0,1,2]" in drawing.keys


def test_a_huge_vocabulary_keeps_the_edges_straight():
    logits = torch.zeros(1, 2, 200_000)
    drawing = logits_flow(LogitsInputs(logits, torch.tensor([[5, 199_999]])).trace(), width=48)
    assert {len(line) for line in drawing.text.splitlines()} == {drawing.scene.width}
    assert drawing.scene.width <= 48 and "19999" in drawing.text
