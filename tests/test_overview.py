"""A large batch is seen whole: a strip of bars per row, and a lens around what is shown below."""

import math
import random
import re
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from sftviz import step_flow, trace_step
from sftviz.drawing import mpl, svg
from sftviz.drawing.bars import place_bars
from sftviz.drawing.scene import Card, Outline, Span, Strip
from sftviz.drawing.text import BARS, draw
from sftviz.drawing.theme import paint
from sftviz.views.overview import Lens, asked, overview

TOKENS = st.tuples(st.integers(1, 140), st.integers(1, 300), st.integers(0, 2**32 - 1))


def batch(B, S, seed=0, most=20):
    """Log-probs between −`most` and 0, and a mask with one response per row."""
    numbers = random.Random(seed)
    log_probs = [[-round(most * numbers.random() ** 4, 3) for _ in range(S)] for _ in range(B)]
    mask = torch.zeros(B, S, dtype=torch.bool)
    for row in mask:
        start = numbers.randrange(S)
        row[start : numbers.randrange(start, S) + 1] = True
    return torch.tensor(log_probs, dtype=torch.float64), mask


def shapes(node, kind):
    return [shape for _, _, shape in node.marks() if isinstance(shape, kind)]


def rows_of(node):
    """The bars of each row."""
    return [levels for strip in shapes(node, Strip) for levels in strip.rows if levels]


def height(log_prob):
    """By hand: one step from 1/8, and one more each time the surprise doubles, up to 8."""
    surprise, level = -log_prob, 1
    while level < 8 and surprise >= 2.0 ** (level - 4):
        level += 1
    return level


@given(TOKENS, st.integers(44, 200))
@settings(max_examples=25, deadline=None)
def test_every_token_is_in_one_bar_that_is_as_high_as_its_highest(size, width):
    B, S, seed = size
    log_probs, mask = batch(B, S, seed)
    node = overview(mask, log_probs, width)
    rows = rows_of(node)
    assert node.width <= width and len(shapes(node, Strip)) <= 16
    together, merged = -(-S // len(rows[0])), -(-B // len(rows))
    for i, row in enumerate(rows):
        for j, level in enumerate(row):
            part = slice(i * merged, (i + 1) * merged), slice(j * together, (j + 1) * together)
            counted = log_probs[part][mask[part]].tolist()
            assert level == max(map(height, counted), default=0)
    assert len(rows[0]) * together >= S > (len(rows[0]) - 1) * together
    assert len(rows) * merged >= B > (len(rows) - 1) * merged


@given(st.integers(1, 100), st.integers(1, 300), st.data())
def test_text_shows_each_bar_in_one_cell_or_one_bar_in_several(width, bars, data):
    levels = bytes(data.draw(st.lists(st.integers(0, 9), min_size=bars, max_size=bars)))
    cells = Strip(width, (levels,)).cells
    assert len(cells) == width and max(cells) == max(levels)
    if bars >= width:  # the cells are the highest of parts that together are the row
        ends = [(at + 1) * bars // width for at in range(width)]
        parts = [levels[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        assert b"".join(parts) == levels and cells == [max(part) for part in parts]
    else:
        assert [
            level for i, level in enumerate(cells) if i * bars // width != (i - 1) * bars // width
        ] == [*levels]


def test_the_counts_at_the_right_are_those_of_the_mask():
    _, mask = batch(4, 188)
    lines = draw(overview(mask, None, 108)).splitlines()
    counted = [sum(row) for row in mask.tolist()]
    assert [int(line.split()[-1]) for line in lines if line.startswith("row ")] == counted
    assert f"4 rows of 188 tokens; {sum(counted)} of 752 count." in lines[0]


def test_many_rows_share_lines_and_the_caption_says_how():
    log_probs, mask = batch(64, 1024)
    text = draw(overview(mask, log_probs, 108, Lens(8, 8, 600, 8)))
    lines = [line for line in text.splitlines() if line.startswith("rows ")]
    assert len(lines) == 16 and "Each line is 4 rows." in text
    sums = [sum(map(sum, mask[at : at + 4].tolist())) for at in range(0, 64, 4)]
    assert [int(line.split()[-1].replace(",", "")) for line in lines] == sums
    assert [line.startswith(("rows 9–12", "rows 13–16")) for line in lines] == [
        "▸" in line for line in lines
    ]
    many = draw(overview(mask.repeat(20, 1), None, 80))
    assert "Each line is 80 rows." in many and len(many.splitlines()) < 20


def test_without_log_probs_tokens_that_count_have_one_height():
    _, mask = batch(3, 50)
    (row, *_) = rows_of(overview(mask, None, 108))
    assert [level > 0 for level in row] == mask[0].tolist() and len({*row} - {0}) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.25])
def test_what_looks_wrong_has_a_sign_and_is_under_the_lens(value):
    """A batch of 2 × 188 tokens whose answer is at 161 to 187."""
    log_probs, mask = batch(2, 188)
    mask[:], mask[:, 161:] = False, True
    log_probs[1, 175] = log_probs[0, 3] = value  # the second one does not count
    for width in (48, 112):
        drawing = step_flow(trace_step(log_probs, mask, 3), width=width)
        first, second = rows_of(drawing.scene)
        together = -(-188 // len(first))
        assert [i for i, level in enumerate(second) if level == 9] == [175 // together]
        assert 9 not in first and second[161 // together :].count(0) == 0
        shown = drawing.page.outline.columns
        assert shown.first <= 175 < shown.first + shown.count
        assert "policy_log_probs[1,175]" in drawing.keys
        assert " at row 2, token 176\n" in draw(drawing.scene.bodies[0]) + "\n"
        assert "!" in next(line for line in drawing.text.splitlines() if "row 2▸" in line)


def test_rounding_and_what_is_masked_have_no_sign():
    log_probs, mask = batch(2, 60)
    log_probs[mask] = log_probs[mask].clamp(max=-0.1)
    log_probs[0, mask[0].nonzero()[0]] = 1e-6
    log_probs[~mask] = math.nan
    assert "!" not in draw(overview(mask, log_probs, 80))


def test_given_places_have_a_sign():
    log_probs, mask = batch(3, 60)
    node = overview(mask, log_probs, 108, signs=[(2, 7), (0, 59)])
    assert [[i for i, level in enumerate(row) if level == 9] for row in rows_of(node)] == [
        *([59], [], [7])
    ]
    assert "at row 3, token 8, and 1 more" in draw(node)
    drawing = step_flow(trace_step(*batch(20, 188), 3), signs=[(17, 100), (2, 3)])
    assert "grad[17,100]" in drawing.keys and "token 101, and 1 more" in drawing.text


# The lens


@given(TOKENS, st.integers(0, 299), st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_the_frame_is_around_the_bars_of_what_is_shown(size, first, count):
    B, S, _ = size
    first = min(first, S - 1)
    count = min(count, S - first)
    node = overview(torch.ones(B, S, dtype=torch.bool), None, 108, Lens(0, B, first, count))
    (outline,), strip = shapes(node, Outline), shapes(node, Strip)[0]
    bars = len(strip.rows[0])
    together = -(-S // bars)
    left, top, right, bottom = outline.box
    assert left * bars / outline.width == pytest.approx(first // together)
    assert right * bars / outline.width == pytest.approx((first + count - 1) // together + 1)
    assert (top, outline.columns.total) == (0, S) and bottom <= outline.height


@pytest.mark.parametrize("first", [0, 3, 50, 97, 180])
@pytest.mark.parametrize("width", [44, 60, 108])
def test_the_numbers_of_the_lens_stand_beside_its_bracket(first, width):
    _, mask = batch(4, 188)
    lines = draw(overview(mask, None, width, Lens(0, 4, first, 8))).splitlines()
    strip = next(i for i, line in enumerate(lines) if line.startswith("row 4"))
    below = lines[strip + 1 :]
    assert f"tokens {first + 1}–{first + 8}, rows 1–4" in " ".join(below)
    bracket = re.search(r"└─*┘|▲", below[0])
    assert bracket and max(map(len, below)) <= width


def test_the_lens_is_where_an_argument_puts_it():
    log_probs, mask = batch(20, 188, most=2)
    trace = trace_step(log_probs, mask, 3)

    def shown(**wish):
        outline = step_flow(trace, **wish).page.outline
        return [
            range(span.first, span.first + span.count) for span in (outline.rows, outline.columns)
        ]

    assert shown(columns=100, rows=9) == [range(9, 17), range(100, 108)]
    assert shown(columns=187, rows=19) == [range(12, 20), range(180, 188)]
    assert shown(columns=range(100, 103), rows=slice(2, 4)) == [range(2, 4), range(100, 103)]
    assert shown(columns=slice(150, None), rows=range(20))[1] == range(150, 158)
    assert step_flow(trace_step(log_probs[:2, :4], mask[:2, :4], 3), columns=1).page.outline is None


@pytest.mark.parametrize(
    ("wish", "kind", "message"),
    [
        (
            *(1.5, TypeError),
            "columns must be an int, a range or a slice, got 1.5: give the first of the columns to "
            "show, counted from 0.",
        ),
        (
            *(True, TypeError),
            "columns must be an int, a range or a slice, got True: give the first of the columns "
            "to show, counted from 0.",
        ),
        (188, ValueError, "columns must be from 0 to 187, got 188: the batch has 188 columns."),
        (-1, ValueError, "columns must be from 0 to 187, got -1: the batch has 188 columns."),
        (
            *(range(180, 190), ValueError),
            "columns must be from 0 to 187, got range(180, 190): the batch has 188 columns.",
        ),
        (
            *(slice(9, 9), ValueError),
            "columns must be from 0 to 187, got slice(9, 9, None): the batch has 188 columns.",
        ),
        (
            *(range(0, 9, 2), ValueError),
            "columns must be side by side, got range(0, 9, 2): give them without a step.",
        ),
    ],
)
def test_columns_that_can_not_be_shown_are_refused(wish, kind, message):
    with pytest.raises(kind) as refusal:
        step_flow(trace_step(*batch(2, 188), 3), columns=wish)
    assert str(refusal.value) == message
    with pytest.raises(kind):
        asked("rows", wish, 188, 0)


# The backends


STRIP = Strip(8, (b"\x00\x01\x02\x08", b"\x03\x03\x09\x00", b""))


def test_text_has_one_glyph_per_level_from_masked_to_sign():
    assert draw(Strip(10, (bytes(range(10)),))) == BARS == "░▁▂▃▄▅▆▇█!"


def test_bars_stand_on_one_line_and_are_as_high_as_their_level():
    parts = place_bars(STRIP, left=100, top=50, cell=(8, 21))
    (first, second) = parts.bars
    assert first[:5] == [116, 56.5, 55.8, 131, 56.5]  # up, to the right, down, and a gap of 1 px
    assert first[5:] == [132, 55, 147, 56.5, 148, 50.5, 163, 56.5, 164, 56.5]
    assert second[:9] == [100, 63.5, 61.2, 115, 63.5, 116, 61.2, 131, 63.5]
    assert set(second[10::2]) == {63.5}  # a sign has no height
    (_, narrow) = place_bars(STRIP, left=100, top=50, cell=(1, 21)).bars
    assert narrow == [100, 63.5, 61.2, 104, 63.5, 106, 63.5]  # no gap: two of one height are one
    assert parts.signs == [(140, 51.5, 63.5)] and parts.ground == (100, 50.5, 64, 13)
    heights = [place_bars(Strip(1, (bytes([level]),)), 0, 0, (8, 21)).bars for level in range(1, 9)]
    tops = [bars[0][2] for bars in heights]
    assert tops == sorted(tops, reverse=True) and len({*tops}) == 8


def test_svg_and_matplotlib_draw_the_same_bars_signs_and_frame():
    outline = Outline(8, 1, Span(0, 1, 2, 1, 3), Span(1, 2, 4), "lens")

    class Both:
        width, height = 10, 2

        def marks(self, x=0, y=0):
            return [(x + 1, y, STRIP), (x + 1, y, outline)]

    root = ElementTree.fromstring(svg.draw(Both()))
    name = "{http://www.w3.org/2000/svg}"
    paths = {path.get("class"): path.get("d") for path in root.iter(f"{name}path")}
    parts = place_bars(STRIP, 8, 0, (8, 21))
    assert paths["bar"].count("M") == len(parts.bars) == 2
    assert [float(x) for x in re.findall(r"[\d.]+", paths["bar"])] == [
        *parts.bars[0],
        *parts.bars[1],
    ]
    assert paths["sign"].startswith(f"M{parts.signs[0][0]:g} ")
    frame = root.findall(f".//{name}g[@data-key='lens']/{name}rect")[1]
    ax = mpl.draw(Both()).axes[0]
    bars = [p for p in ax.patches if p.get_facecolor()[:3] == to_rgb(paint("bar", "light").fill)]
    assert len(bars) == 1 and len(ax.lines) == 2  # a sign is a line and a dot
    box = bars[0].get_path().get_extents()
    xs = [x for outline in parts.bars for x in (outline[0], *outline[3::2])]
    assert (box.x0, box.x1) == (min(xs), max(xs))
    assert ax.patches[-1].get_x() == float(frame.get("x")) == 8 + 16 - 2
    assert any(patch.get_hatch() for patch in ax.patches)


def test_a_picture_of_64_rows_is_small_and_one_mark_per_line():
    log_probs, mask = batch(64, 1024)
    drawing = step_flow(trace_step(log_probs, mask, 3))
    assert len(shapes(drawing.scene, Strip)) == 16
    assert len(drawing.svg) < 150_000


def test_only_a_picture_with_strips_has_their_colours(worked):
    assert ".lens" not in step_flow(worked).svg
    assert ".lens" in svg.draw(Card(STRIP)) and ".lens" in svg.stylesheet("live")
