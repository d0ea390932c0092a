"""What a picture shows of a trace: which rows and columns, and how wide."""

import pytest
import torch

from sftviz import trace_step
from sftviz.drawing.formatting import number
from sftviz.views.grid import check_tokens, fit
from sftviz.views.parts import CELL


def trace(B, S, log_prob=-0.5, G=2):
    return trace_step(torch.full((B, S), log_prob, dtype=torch.float64), torch.ones(B, S), G)


def test_cells_are_of_one_width_while_G_moves():
    """Or the picture would jump under the hand that moves the slider."""
    assert {fit(trace(2, 4, G=G), None, 108).cell for G in (1, 2, 3, 7, 16)} == {CELL}


@pytest.mark.parametrize("width", [44, 76, 108, 200])
@pytest.mark.parametrize("S", [1, 4, 9, 1024])
@pytest.mark.parametrize("log_prob", [-0.5, -1.2345e-10])
def test_a_grid_and_its_sums_fit_and_every_number_fits_its_cell(width, S, log_prob):
    sheet = fit(trace(3, S, log_prob, G=1000), None, width)
    assert sheet.grid_width <= width
    texts = [text for lines in sheet.lines.values() for line in lines.values() for text in line]
    assert max(map(len, texts)) <= sheet.cell - 2
    assert sheet.cell >= CELL or len(sheet.columns) * (CELL + 1) > width - 10 or S > 4


def test_no_more_is_written_than_there_might_be_room_for(monkeypatch):
    written = []
    monkeypatch.setattr(
        "sftviz.views.grid.number", lambda value: written.append(value) or number(value)
    )
    sheet = fit(trace(64, 1024), None, 108)
    assert 4 * 7 * 8 < len(written) < 4 * 8 * 108 / 4
    assert len(sheet.sums) == 7 and set(sheet.sums.values()) == {"Σ −512"}


def test_a_row_of_letters_is_a_row_of_strings():
    check_tokens((2, 3), ["abc", "def"])
