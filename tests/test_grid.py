"""A grid: which rows and columns are shown, and how wide its cells are."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftviz import step_flow, token_table, trace_step
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Cell, Text
from sftviz.drawing.text import draw
from sftviz.views.grid import Columns, Gap, elide, fit_columns, fit_range, grid, shown
from sftviz.views.parts import CELL


@pytest.mark.parametrize(
    ("count", "room", "places"),
    [
        (4, 4, (0, 1, 2, 3)),
        (1, 8, (0,)),
        (6, 4, (0, 1, Gap(3), 5)),
        (1000, 4, (0, 1, Gap(997), 999)),
        (1000, 3, (0, Gap(998), 999)),
        (1000, 2, (0, Gap(999))),
    ],
)
def test_the_first_lines_and_the_last_are_shown(count, room, places):
    assert elide(count, room, beside=()) == places


@pytest.mark.parametrize(
    ("around", "places"),
    [
        ([50], (0, Gap(48), 49, 50, 51, Gap(47), 99)),  # as many as fit on seven lines
        ([98], (0, Gap(94), 95, 96, 97, 98, 99)),  # to the left where the right has ended
        ([50, 52], (Gap(49), 49, 50, 51, 52, 53, Gap(46))),
        ([99, 97], (0, Gap(94), 95, 96, 97, 98, 99)),
        ([500, -3], (0, 1, 2, 3, 4, Gap(94), 99)),  # what is not there is not looked for
        ([], (0, 1, 2, 3, 4, Gap(94), 99)),
    ],
)
def test_what_is_around_given_indices_is_shown(around, places):
    assert elide(100, 7, around) == places


def test_a_gap_as_large_as_what_it_hides_is_not_made():
    assert elide(5, 4) == (0, 1, Gap(2), 4)
    assert elide(9, 8, [4]) == (0, Gap(2), 3, 4, 5, 6, 7, 8)
    assert elide(9, 8, [2]) == (0, 1, 2, 3, 4, 5, Gap(2), 8)


some = st.lists(st.integers(-2, 120), max_size=8)


@given(st.integers(1, 100), st.integers(3, 100), some)
def test_lines_are_in_order_and_have_room(count, most, around):
    places = elide(count, most, around)
    indices = shown(places)
    gaps = [place for place in places if isinstance(place, Gap)]
    assert len(places) <= most and indices == sorted(set(indices))
    assert sum(left_out.count for left_out in gaps) + len(indices) == count
    where = [at for at in around if 0 <= at < count]
    assert not where or where[0] in indices


@given(st.integers(1, 2000), st.integers(1, 200), st.integers(0, 2100))
def test_a_range_is_full_and_begins_where_it_should_or_ends_at_the_end(count, most, first):
    places = fit_range(count, most, first)
    assert len(places) == min(count, most) and set(places) <= set(range(count))
    assert places.start == first or places.stop == count
    assert first >= count or first in places


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(40, 200), st.integers(3, 20))
def test_only_columns_whose_texts_were_measured_are_shown(count, first, width, longest):
    asked = []
    widths = lambda columns: asked.append(columns) or [longest]  # noqa: E731
    columns = fit_columns(count, width, widths, 3, first)
    assert set(columns.shown) <= set(asked[0]) and columns.cell >= longest + 2


def trace(B, S, log_prob=-0.5, G=2):
    return trace_step(torch.full((B, S), log_prob, dtype=torch.float64), torch.ones(B, S), G)


def cells(drawing, field):
    shapes = [shape for _, _, shape in drawing.page.marks]
    return [s for s in shapes if isinstance(s, Cell) and s.key and s.key.startswith(f"{field}[")]


def test_cells_have_one_width_while_G_moves():
    """Or the picture would jump while somebody moves the slider."""
    widths = {
        cell.width
        for G in (1, 2, 3, 7, 16)
        for cell in cells(step_flow(trace(2, 4, G=G)), "policy_log_probs")
    }
    assert widths == {CELL}


@pytest.mark.parametrize("width", [48, 80, 112, 204])
@pytest.mark.parametrize("S", [1, 4, 9, 1024])
@pytest.mark.parametrize("log_prob", [-0.5, -1.2345e-10])
def test_a_picture_fits_its_width_and_every_number_fits_its_cell(width, S, log_prob):
    drawing = step_flow(trace(3, S, log_prob, G=1000), width=width)
    assert drawing.scene.width <= width
    for field in ("policy_log_probs", "response_mask", "masked_log_probs", "grad"):
        assert all(len(cell.text) <= cell.width - 2 for cell in cells(drawing, field))
        assert len({cell.width for cell in cells(drawing, field)}) == 1


@given(st.integers(1, 2000), st.integers(30, 200), st.integers(3, 11), st.integers(1, 12))
def test_columns_fit_their_width_and_their_texts(count, width, narrowest, length):
    columns = fit_columns(count, width, lambda shown: [length] * len(shown), narrowest)
    assert columns.width <= width
    assert columns.cell >= max(narrowest, length + 2)
    assert len(columns.shown) == count or columns.width + columns.cell + 1 > width


def test_only_the_texts_that_might_be_shown_are_written():
    asked = []
    fit_columns(1024, 98, lambda shown: asked.append(shown) or [5], narrowest=3)
    assert len(asked) == 1 and len(asked[0]) == 98 // 12


def test_no_more_numbers_are_written_than_there_might_be_room_for(monkeypatch):
    written = []
    monkeypatch.setattr(
        "sftviz.views.step.number", lambda value: written.append(value) or number(value)
    )
    drawing = step_flow(trace(64, 1024))
    assert 4 * 8 * 8 < len(written) < 4 * 8 * 8 + 40
    assert drawing.text.count("Σ −512") == 8


def test_rows_that_are_left_out_have_a_sign():
    columns = Columns(range(2), 2, cell=5)
    line, *others = grid((0, Gap(7)), columns, lambda row, column: Cell(f"{row}{column}", 5, "ink"))
    assert [child.text for child in line.children] == ["00", "01"]
    assert others == [Text("⋮ 7 more", "muted")] and columns.width == line.width + 1


def test_columns_are_numbered_if_some_are_left_out():
    def read(columns):
        return [draw(line) for line in columns.numbers()]

    assert read(Columns(range(8, 10), 10, cell=11)) == ["   token 9    token 10"]
    assert read(Columns(range(8, 10), 10, cell=8)) == ["      9       10"]
    assert read(Columns(range(2), 2, cell=11)) == []


def test_columns_do_not_move_while_G_changes():
    """A gradient has between two and nine characters."""
    log_probs = -torch.rand(2, 100, dtype=torch.float64)
    for width in (64, 112):
        pictures = [step_flow(trace_step(log_probs, log_probs < -0.5, G), width=width)
                    for G in range(1, 17)]  # fmt: skip
        assert len({frozenset(places(picture)) for picture in pictures}) == 1


# ---------------------------------------------------------------- what counts


def answers(*spans, S=188):
    """Log-probs of −0.5 and a mask that is 1 in one span of each row."""
    mask = torch.zeros(len(spans), S)
    for row, (start, end) in enumerate(spans):
        mask[row, start:end] = 1
    return torch.full((len(spans), S), -0.5, dtype=torch.float64), mask


def places(drawing, field="policy_log_probs"):
    keys = [re.fullmatch(rf"{field}\[(\d+),(\d+)\]", key) for key in drawing.keys]
    return {(int(key[1]), int(key[2])) for key in keys if key}


@pytest.mark.parametrize("width", [48, 64, 80, 112])
def test_of_a_long_batch_the_border_of_the_response_is_shown(width):
    log_probs, mask = answers((161, 188), (161, 188))
    shown = places(step_flow(trace_step(log_probs, mask, 3), width=width))
    columns = sorted({column for _, column in shown})
    assert columns == list(range(160, 160 + len(columns))) and len(columns) >= 3
    assert len(shown) == 2 * len(columns)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.25])
def test_a_log_prob_that_looks_wrong_is_shown(value):
    log_probs, mask = answers(*[(161, 188)] * 20)
    log_probs[13, 170] = value
    for width in (48, 112):
        drawing = step_flow(trace_step(log_probs, mask, 3), width=width)
        assert (13, 170) in places(drawing)
    assert (13, 170) in places(token_table(trace_step(log_probs, mask, 3)))


def test_a_nan_comes_before_a_log_prob_above_0():
    log_probs, mask = answers((161, 188), (161, 188))
    log_probs[0, 165], log_probs[1, 180] = 0.25, math.nan
    assert (1, 180) in places(step_flow(trace_step(log_probs, mask, 3)))


def test_a_nan_that_does_not_count_is_no_reason_to_look_elsewhere():
    log_probs, mask = answers((161, 188), (170, 188))
    log_probs[1, 40] = math.nan
    assert {(0, 160), (0, 161)} <= places(step_flow(trace_step(log_probs, mask, 3)))


def test_the_rows_begin_with_the_first_that_has_a_response_token():
    log_probs, mask = answers(*[(0, 0)] * 30, (5, 9), *[(0, 0)] * 9, (7, 9), S=9)
    shown = places(step_flow(trace_step(log_probs, mask, 3)))
    assert {row for row, _ in shown} == set(range(30, 38))


def test_every_number_of_an_elided_picture_is_under_its_own_key():
    log_probs, mask = answers((161, 188), (183, 188))
    log_probs -= torch.arange(2 * 188.0).reshape(2, 188) / 8
    for cell in cells(step_flow(trace_step(log_probs, mask, 3)), "policy_log_probs"):
        row, column = map(int, re.findall(r"\d+", cell.key))
        assert cell.text == number(log_probs[row, column].item())
