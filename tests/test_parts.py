"""The parts of pictures: where lines break, where results are."""

from sftviz.drawing.scene import Card, Column, Text
from sftviz.drawing.text import draw
from sftviz.views.parts import (
    TITLES,
    caption,
    equals,
    ledger,
    readout,
    result,
    sections,
    table,
    wrapped_formula,
)
from sftviz.views.stages import Term


def read(nodes):
    return ["".join(text.text for text in line.children) for line in nodes]


def test_a_formula_breaks_between_its_terms():
    terms = (
        Term("masked_sum", "masked_sum"),
        Term(" = "),
        Term("−1.75"),
        Term(" − 2"),
        Term(" ÷ 7"),
    )
    assert read(wrapped_formula(terms, 40, "note")) == ["masked_sum = −1.75 − 2 ÷ 7  note"]
    assert read(wrapped_formula(terms, 19)) == ["masked_sum = −1.75", "     − 2 ÷ 7"]
    assert all(line.width <= 19 for line in wrapped_formula(terms, 19))


def test_a_break_leaves_no_comma_no_bracket_and_no_power_behind():
    terms = (
        Term("where("),
        Term("mask", "response_mask"),
        Term(", x"),
        Term("G"),
        Term("²"),
        Term(")"),
    )
    for width in range(9, 22):
        for line in read(wrapped_formula(terms, width)):
            assert line.lstrip()[0] not in ",)²"


def test_a_readout_breaks_between_its_readings():
    readings = {"loss": Text("1.4", "loss", "loss"), "grad": Text("−0.25", "gradient", "grad[0,1]")}
    assert read(readout(readings, 30).children) == ["loss = 1.4   grad = −0.25   "]
    *_, name, _, value, _ = readout(readings, 20).children[1].children
    assert (name.tone, name.key) == (value.tone, value.key) == ("gradient", "grad[0,1]")
    assert read(readout(readings, 20).children) == ["loss = 1.4   ", "grad = −0.25   "]


def test_a_result_stands_at_the_right_edge_or_below_where_it_has_no_room(worked):
    beside = ledger([Text("loss = 1")], result(worked, "loss"), 20)
    below = ledger([Text("loss = 1.4 + 0")], result(worked, "loss"), 20)
    assert (
        draw(Card(Column((*beside, *below))))
        == """
╭──────────────────────╮
│ loss = 1 [      1.4] │
│ loss = 1.4 + 0       │
│          [      1.4] │
╰──────────────────────╯""".removeprefix("\n")
    )


def test_a_table_has_columns(worked):
    rows = [
        (caption("loss", "detached"), equals(result(worked, "loss"))),
        (Text("G"), equals(result(worked, "gradient_accumulation_steps"))),
    ]
    assert (
        draw(Card(table(rows, gap=2)))
        == """
╭───────────────────────────────╮
│ loss  detached  = [      1.4] │
│ G               = [        2] │
╰───────────────────────────────╯""".removeprefix("\n")
    )


def test_a_title_stands_beside_its_body_or_above():
    body = Column((Text("one"), Text("two")))
    (above,), (beside,) = (
        sections({"Negate": body}, first=3, beside=beside).bodies for beside in (False, True)
    )
    assert draw(above) == "(3) Negate\none\ntwo"
    assert draw(beside) == f"{'(3) Negate':{TITLES}}one\n{'':{TITLES}}two"
