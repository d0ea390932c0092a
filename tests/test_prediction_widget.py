"""The widget of a question, its still picture, and the beliefs at the end of a notebook."""

import json

import pytest
import torch

from sftviz import WORKED_EXAMPLE, step_flow
from sftviz.explorers import beliefs, prediction
from sftviz.explorers.beliefs import Beliefs
from sftviz.explorers.prediction import Prediction
from sftviz.predictions.picture import draw_answer, draw_question, draw_reveal
from sftviz.predictions.question import Bits, Choice, Number, Option, Question
from sftviz.predictions.record import Commitment, Record
from sftviz.predictions.reply import reply

pytestmark = pytest.mark.usefixtures("shown_errors", "record")  # there must be none

MASK = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]])
NUMBER = Number("scaled_loss", lambda: 0.6875)
CHOICE = Choice(
    "how it changes",
    (Option("It grows.", "It is divided."), Option("It shrinks.", "So it is.")),
    lambda: 1,
)
BITS = Bits("mask", (("Say", "hi", "Hi", "!"), ("Say", "no", "No", "<eos>")), lambda: MASK)
WHY = "It is divided by sixteen."


@pytest.fixture
def record(monkeypatch):
    """A record of this test alone."""
    record = Record()
    for module in (prediction, beliefs):
        monkeypatch.setattr(module, "RECORD", record)
    return record


def ask(*asks, **fields):
    return Question("it", "What is it?", asks, WHY, **fields)


def never():
    raise AssertionError("computed before a commitment")


def edit(widget, values):
    """What the page sends."""
    widget.live.edits = {"id": widget.live.edits["id"] + 1, "generation": 0, "values": values}


def test_nothing_is_computed_and_nothing_is_drawn_of_it_before_a_commitment():
    options = (Option("A", ""), Option("B", ""))
    asks = Number("x", never), Choice("y", options, never), Bits("z", (("a", "b"),), never)
    question = ask(*asks, after=lambda width: never())
    widget = Prediction(question)
    edit(widget, {"answer[0]": "abc", "option[1]": 1, "bit[2,0,1]": 1})
    edit(widget, {"answer[0]": "abc", "commit": 1})
    assert widget.answers == ("abc", 1, [[0, 1]])
    assert widget.commitment is None
    for part in (repr(widget), widget.live.svg, widget.live.alt, json.dumps(widget.live.values)):
        assert WHY not in part
    assert draw_question(question, width=48).text.count("?") == 4  # with that of the text


def test_a_commitment_shows_the_answer_beside_the_truth(record):
    widget = Prediction(ask(NUMBER))
    edit(widget, {"answer[0]": "1.4", "commit": 1})
    assert widget.live.acknowledged == widget.live.edits["id"]
    assert "You said 1.4. It is 0.6875." in widget.live.svg
    assert widget.live.values == {} and widget.children == (widget.live,)
    assert repr(widget) == draw_reveal(widget.commitment).text
    assert record.commitments == (widget.commitment,)
    edit(widget, {"answer[0]": "0.6875", "commit": 1})  # of another view
    assert widget.answers == ("1.4",) and record.commitments == (widget.commitment,)
    for again in (widget.commit, widget.give_up, lambda: widget.answer(0, "2")):
        with pytest.raises(ValueError, match="answered already: run its cell again"):
            again()


def test_what_is_missing_or_no_number_is_said_and_is_not_a_commitment(record):
    widget = Prediction(ask(NUMBER, CHOICE))
    widget.controls["commit"].click()
    said = "Still to be answered: scaled_loss, how it changes."
    assert said in widget.live.alt and said in widget.live.svg
    edit(widget, {"answer[0]": "0,7", "option[1]": 0})
    assert said not in widget.live.alt
    with pytest.raises(ValueError) as error:
        widget.commit()
    assert str(error.value) == (
        "scaled_loss: answer must be a number, got '0,7': write digits with a point, such as -0.25."
    )
    edit(widget, {"answer[0]": "  "})
    assert widget.answers == (None, 0)
    assert record.commitments == ()


def test_to_give_up_is_a_commitment_and_what_was_answered_counts():
    widget = Prediction(ask(NUMBER, CHOICE))
    edit(widget, {"answer[0]": "half", "option[1]": 1})
    widget.controls["can't say"].click()
    number, choice = widget.commitment.replies
    assert (number.yours, number.right) == ("can't say", "0.6875")
    assert choice.is_right
    assert "scaled_loss: It is 0.6875. how it changes: That is right." in widget.live.alt


def test_an_error_while_the_truth_is_computed_is_shown(shown_errors):
    widget = Prediction(ask(Number("x", lambda: 1 / 0)))
    edit(widget, {"answer[0]": "1", "commit": 1})
    assert shown_errors == ["division by zero"] and widget.commitment is None
    shown_errors.clear()


def test_a_mask_can_be_painted_bit_by_bit():
    widget = Prediction(ask(BITS))
    assert "[    ?]" in repr(widget)
    edit(widget, {"bit[0,0,1]": 1, "bit[0,0,2]": 1})
    edit(widget, {"bit[0,0,1]": 0, "bit[0,1,2]": 1, "bit[0,1,3]": 1})
    assert widget.live.values["bit[0,0,2]"] == 1 and widget.live.values["bit[0,0,1]"] == 0
    widget.commit()
    assert widget.commitment.replies[0].message == "1 bit of 8 is different: row 1, token 2."
    yours, right = (
        next(line for line in widget.drawing.text.splitlines() if side in line)
        for side in ("yours", "right")
    )
    assert "yours ░    0░ [    0] [    1] ░    0░" in yours
    assert "right ░    0░ [    1] [    1] ░    0░" in right


def test_the_names_of_what_can_be_changed_are_known_to_screen_readers():
    names = Prediction(ask(NUMBER, CHOICE, BITS)).live.names
    assert names["answer[0]"] == "scaled_loss"
    assert names["option[1,1]"] == "It shrinks."
    assert names["bit[2,1,3]"] == "<eos>, row 2, token 4"
    assert set(names) == {
        key for key in Prediction(ask(NUMBER, CHOICE, BITS)).drawing.keys if "[" in key
    }


def test_the_still_has_the_answer_in_a_fold_and_nowhere_else():
    widget = Prediction(ask(NUMBER, before=lambda width: step_flow(WORKED_EXAMPLE.trace())))
    data, _ = widget._repr_mimebundle_()
    question, answer = data["text/html"].split("<details><summary>Then look</summary>")
    assert "0.6875" in answer and WHY in answer and answer.endswith("</details>")
    assert "0.6875" not in question + data["text/plain"] and WHY not in question
    assert data["text/plain"].count("?]") == 1
    assert data == Prediction(widget.question)._repr_mimebundle_()[0] | {
        key: value for key, value in data.items() if "widget" in key
    }
    widget.give_up()
    assert "<details>" not in widget._repr_html_() and "It is 0.6875." in widget._repr_html_()


@pytest.mark.parametrize("width", [48, 60, 96, 112])
def test_sentences_are_as_wide_as_was_asked_but_not_too_wide_to_be_read(width):
    long = "A sentence that is much longer than any page is wide, so it has to be wrapped. " * 3
    wide = Bits("mask", (tuple(f"token{at}" for at in range(30)),), lambda: torch.ones(1, 30))
    options = Option(long, long), Option("short", long)
    question = Question(
        "it", long, (Number(long, lambda: 1), Choice("", options, lambda: 0), wide), long
    )
    commitment = Commitment(question, tuple(reply(each, None) for each in question.asks))
    for drawing in (
        draw_question(question, width=width),
        draw_reveal(commitment, width),
        draw_answer(commitment, width),
    ):
        lines = drawing.text.splitlines()
        assert {len(line) for line in lines} == {min(width, 96)}
        assert all(line[0] in "╭│╰" and line[-1] in "╮│╯" for line in lines)


def test_a_name_that_is_not_there_is_answered_with_those_that_are_like_it(monkeypatch):
    names = ("the divisor", "the mask", "a second backward")
    monkeypatch.setattr(prediction, "QUESTIONS", {name: ask(NUMBER) for name in names})
    assert Prediction("the mask").question.asks == (NUMBER,)
    with pytest.raises(ValueError) as error:
        Prediction("the divisors")
    assert str(error.value) == (
        "there is no question 'the divisors': give one of 'the divisor', 'the mask'."
    )
    with pytest.raises(ValueError, match="'xyz': give one of 'the divisor', 'the mask', 'a second"):
        Prediction("xyz")
    with pytest.raises(TypeError, match="question must be a Question or a name, got int: give"):
        Prediction(3)


def test_beliefs_grow_with_each_commitment_and_stand_before_them_as_well():
    shown = Beliefs()
    sentence = "When you have answered questions of this notebook, here is what you believed"
    assert sentence in repr(shown) and sentence in shown._repr_html_()
    widget = Prediction(ask(CHOICE))
    edit(widget, {"option[0]": 0, "commit": 1})
    assert shown.live.alt == (
        "What you believed, and what is so: 0 of 1 agree. What is it? "
        "You said: It grows. It is: It shrinks."
    )
    right = Prediction(Question("other", "And this?", (NUMBER,), WHY))
    right.answer(0, "0.69")
    right.commit()
    assert "1 of 2 agree." in shown.live.svg and "1 of 2 agree." in repr(Beliefs())
    shown.close()
    right = Prediction(ask(NUMBER))
    right.give_up()
    assert "1 of 2 agree." in shown.live.svg  # it has seen nothing more


def test_a_word_with_a_hyphen_is_not_broken():
    text = draw_question(Question("it", "a b log-prob " * 12, (NUMBER,), ""), width=48).text
    assert text.count("log-prob") == 12
