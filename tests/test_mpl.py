"""The matplotlib backend: files for print and slides, the same bytes every time."""

import struct
import warnings

import pytest
import torch

from sftviz import step_flow, trace_step
from sftviz.drawing import mpl, svg
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Card, Cell, Column, Row, Text, Trail
from sftviz.drawing.theme import paint

SCENE = Card(Column((Text("Title", "title"), Row((Text("loss = "), Cell("1.4", 7, "loss"))))))


def size(path):
    """Width and height, from the header of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_the_same_drawing_is_the_same_bytes_in_another_process(ending, same_bytes_elsewhere):
    assert same_bytes_elsewhere(ending)


def test_a_png_has_two_pixels_for_each_of_the_svg(tmp_path):
    mpl.save(SCENE, tmp_path / "a.png")
    width = SCENE.width * svg.CELL_WIDTH + 2 * svg.MARGIN
    height = SCENE.height * svg.CELL_HEIGHT + 2 * svg.MARGIN
    assert size(tmp_path / "a.png") == (2 * width, 2 * height)


def test_a_pdf_is_a_pdf(tmp_path):
    Drawing(SCENE, "").save(tmp_path / "a.PDF")
    data = (tmp_path / "a.PDF").read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert b"CreationDate" not in data and b"atplotlib" not in data


def test_every_mark_is_drawn_in_its_colours():
    ax = mpl.draw(SCENE).axes[0]
    assert [text.get_text() for text in ax.texts] == ["Title", "loss = ", "1.4"]
    assert ax.texts[2].get_color() == paint("loss", "light").ink
    card, value = ax.patches
    assert card.get_width() > value.get_width() == 7 * svg.CELL_WIDTH - 1


def test_a_trail_is_an_arrow_for_each_pair_of_points():
    arrows = mpl.draw(Trail(10, 2, ((0, 2), (5, 2), (5, 1)), "loss")).axes[0].texts
    assert [arrow.xy for arrow in arrows] == [(40, 42), (40, 21)]
    assert [arrow.xyann for arrow in arrows] == [(0, 42), (40, 42)]


def test_a_curve_is_one_line_without_heads():
    curve = Trail(10, 2, ((0, 2), (5, 2), (5, 1)), "loss", has_heads=False)
    ax = mpl.draw(curve).axes[0]
    assert not ax.texts
    assert ax.lines[0].get_xydata().tolist() == [[0, 42], [40, 42], [40, 21]]


def test_masked_values_are_hatched():
    hatched = [patch.get_hatch() for patch in mpl.draw(Cell("0", 5, "masked")).axes[0].patches]
    assert any(hatched)
    assert not any(
        patch.get_hatch() for patch in mpl.draw(Cell("0", 5, "response")).axes[0].patches
    )


def test_a_dollar_in_a_token_is_a_dollar(tmp_path):
    mpl.save(Text(r"$\nonsense{$"), tmp_path / "a.png")  # as a formula it would raise


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_what_one_font_lacks_another_stands_in_for(ending, tmp_path):
    with warnings.catch_warnings(action="error"):  # of matplotlib's own fonts, the second has these
        mpl.save(Row((Text("שבת"), Cell("Ǻ", 5, "loss"))), tmp_path / f"a.{ending}")


@pytest.mark.parametrize("text", ["loss = −2.8", "", "\U0010ffff", "\u2068\u2069"])
def test_no_font_is_taken_that_has_nothing_to_add(text):
    assert mpl._fonts(Text(text)) == ["DejaVu Sans Mono"]


def test_no_more_fonts_are_opened_than_it_takes(monkeypatch):
    opened = []
    get_font = mpl.get_font
    monkeypatch.setattr(mpl, "get_font", lambda path: opened.append(path) or get_font(path))
    mpl._fonts(Row((Text("a"), Text("\u2068שבת\u2069"))))  # with what isolates it: no font has that
    assert len(opened) == 2


def test_a_font_that_is_gone_is_passed_over(monkeypatch):
    fonts = mpl._installed() | {"Gone": "/nowhere/gone.ttf"}
    monkeypatch.setattr(mpl, "_installed", lambda: fonts)
    assert mpl._fonts(Text("a\U0010ffff")) == ["DejaVu Sans Mono"]


def test_hostile_tokens_can_be_saved(hostile, tmp_path):
    trace = trace_step(torch.full((2, 6), -0.5), torch.ones(2, 6), 2)
    drawing = step_flow(trace, hostile)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # no font of matplotlib's has them all
        for ending in ("png", "pdf"):
            assert drawing.save(tmp_path / f"a.{ending}").stat().st_size > 10_000
