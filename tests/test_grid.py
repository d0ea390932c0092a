"""A grid: which rows and columns are shown, and how wide its cells are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftviz import step_flow, trace_step
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Cell, Text
from sftviz.views.grid import Columns, elide, fit_columns, fit_rows, grid
from sftviz.views.parts import CELL


@pytest.mark.parametrize(
    ("count", "room", "places"),
    [
        (4, 4, (0, 1, 2, 3)),
        (1, 8, (0,)),
        (5, 4, (0, 1, None, 4)),
        (1000, 3, (0, None, 999)),
        (1000, 2, (None, 999)),
    ],
)
def test_the_first_rows_and_the_last_are_shown(count, room, places):
    assert fit_rows(count, room) == places


@given(st.integers(1, 100), st.integers(2, 100), st.integers(0, 1))
def test_what_is_shown_is_in_order_and_has_room(count, room, gap):
    places = elide(count, room, room - gap)
    shown = [place for place in places if place is not None]
    assert len(shown) <= room - gap or shown == list(range(count))
    assert shown == sorted(set(shown)) and shown[-1] == count - 1
    assert (None in places) == (len(shown) < count)


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
    columns = fit_columns(count, width, lambda shown: ["x" * length] * len(shown), narrowest)
    assert columns.width <= width
    assert columns.cell >= max(narrowest, length + 2)
    assert columns.places == tuple(range(count)) or columns.width + columns.cell + 1 > width


def test_only_the_texts_that_might_be_shown_are_written():
    asked = []
    fit_columns(1024, 98, lambda shown: asked.append(shown) or ["−0.25"], narrowest=3)
    assert len(asked) == 1 and len(asked[0]) == 24


def test_no_more_numbers_are_written_than_there_might_be_room_for(monkeypatch):
    written = []
    monkeypatch.setattr(
        "sftviz.views.step.number", lambda value: written.append(value) or number(value)
    )
    drawing = step_flow(trace(64, 1024))
    assert 4 * 7 * 8 < len(written) < 4 * 8 * 108 / 4
    assert drawing.text.count("Σ −512") == 7


def test_what_is_left_out_has_a_sign():
    columns = Columns((0, None, 9), cell=5)
    first, *others = grid((0, None), columns, lambda row, column: Cell(f"{row}{column}", 5, "ink"))
    assert [child.text for child in first.children] == ["00", "⋯", "09"]
    assert others == [Text("⋮", "muted")]
    assert columns.shown == [0, 9] and columns.width == first.width + 1
