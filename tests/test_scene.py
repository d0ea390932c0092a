"""Nodes and their marks: a node is exactly as large as what it draws."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import width as cells

from sftviz.drawing.scene import Align, Arrow, Card, Cell, Column, Flow, Frame, Row, Text, Trail

LINE, VALUE = Text("loss ="), Cell("1.4", 7, "loss", "loss")


@pytest.mark.parametrize(
    ("node", "size", "marks"),
    [
        (Text("日本 x", "muted"), (6, 1), [(0, 0, Text("日本 x", "muted"))]),
        (Text(""), (0, 1), []),
        (VALUE, (7, 1), [(0, 0, VALUE)]),
        (
            *(Row((LINE, VALUE), gap=1), (14, 1)),
            [(0, 0, LINE), (7, 0, VALUE)],
        ),
        (
            Row((Column((LINE, LINE)), VALUE)),
            (13, 2),
            [(0, 0, LINE), (0, 1, LINE), (6, 0, VALUE)],
        ),
        (Column((LINE, VALUE)), (7, 2), [(0, 0, LINE), (0, 1, VALUE)]),
        (Align(LINE, 10), (10, 1), [(0, 0, LINE)]),
        (Align(LINE, 10, "right"), (10, 1), [(4, 0, LINE)]),
        (Card(LINE), (10, 3), [(0, 0, Frame(10, 3)), (2, 1, LINE)]),
        (
            *(Flow((VALUE, LINE)), (11, 6)),
            [
                *((0, 0, Frame(11, 3)), (2, 1, VALUE)),
                *((0, 3, Frame(11, 3)), (2, 4, LINE), (3, 2, Arrow(1))),
            ],
        ),
        (
            *(Flow((VALUE, LINE, VALUE), is_folded=True), (26, 6)),  # two columns, and 4 cells
            [
                *((0, 0, Frame(11, 3)), (2, 1, VALUE)),
                *((0, 3, Frame(11, 3)), (2, 4, LINE), (3, 2, Arrow(1))),
                *((15, 0, Frame(11, 3)), (17, 1, VALUE)),
                # From the middle of the last card on the left, up, and to the first on the right.
                (11, 0, Trail(4, 6, ((0, 4.5), (2, 4.5), (2, 1.5)), "muted", has_heads=False)),
                (11, 0, Trail(4, 2, ((2, 1.5), (3.5, 1.5)), "muted")),
            ],
        ),
        (Flow((LINE,), is_folded=True), (10, 3), [(0, 0, Frame(10, 3)), (2, 1, LINE)]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_node_has_this_size_and_these_marks(node, size, marks):
    assert (node.width, node.height) == size
    assert list(node.marks()) == marks


words = st.text("ab 日👩é", max_size=6)
leaves = words.map(Text) | st.builds(
    lambda text, slack: Cell(text, cells(text) + 2 + slack, "loss", "loss"),
    words,
    st.integers(0, 3),
)
some = {"min_size": 1, "max_size": 3}
trees = st.recursive(
    leaves,
    lambda nodes: (
        st.builds(Row, st.lists(nodes, **some).map(tuple), st.integers(0, 2))
        | st.lists(nodes, **some).map(tuple).map(Column)
        | st.builds(Flow, st.lists(nodes, **some).map(tuple), st.booleans())
        | nodes.map(Card)
        | st.builds(
            lambda node, slack, side: Align(node, node.width + slack, side),
            *(nodes, st.integers(0, 4), st.sampled_from(["left", "right"])),
        )
    ),
    max_leaves=8,
)


def box(mark):
    """Left, top, right, bottom: the cells that a mark covers."""
    x, y, shape = mark
    match shape:
        case Arrow(length):
            return x, y, x + 1, y + length + 1
        case _:
            return x, y, x + shape.width, y + shape.height


@given(trees, st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=200)
def test_any_tree_draws_within_its_bounds_and_moves_as_a_whole(node, x, y):
    boxes = [box(mark) for mark in node.marks(x, y)]
    for left, top, right, bottom in boxes:
        assert x <= left <= right <= x + node.width and y <= top < bottom <= y + node.height
    home = [box(mark) for mark in node.marks()]
    assert boxes == [(a + x, b + y, c + x, d + y) for a, b, c, d in home]


@given(trees)
@settings(max_examples=100)
def test_any_card_and_any_row_of_values_is_filled_to_its_edges(node):
    """No node claims more room than its marks reach, frames being what says so."""
    for filled in (Card(node), Flow((node, LINE)), Row((VALUE, Card(node)), gap=2)):
        boxes = [box(mark) for mark in filled.marks()]
        assert min(left for left, _, _, _ in boxes) == min(top for _, top, _, _ in boxes) == 0
        assert max(right for _, _, right, _ in boxes) == filled.width
        assert max(bottom for _, _, _, bottom in boxes) == filled.height


def test_a_value_stands_flush_right_with_a_cell_of_air():
    assert (VALUE.indent, Cell("日", 5, "ink").indent) == (3, 2)


def test_the_marks_of_a_row_are_at_its_position():
    row = Row((LINE, VALUE), gap=1)
    assert row.marks(2, 3) == [(2, 3, LINE), (9, 3, VALUE)]
    assert row.marks(1, 3) == [(1, 3, LINE), (8, 3, VALUE)]
    assert row == Row((LINE, VALUE), gap=1) != Row((LINE, VALUE))


def test_a_scene_is_a_value():
    assert Card(Row((LINE, VALUE))) == Card(Row((Text("loss ="), Cell("1.4", 7, "loss", "loss"))))
    assert hash(Card(LINE)) == hash(Card(Text("loss =")))
    with pytest.raises(AttributeError):
        LINE.text = "other"
