"""What is said to an answer, and the record of answers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftviz import StepInputs
from sftviz.drawing.formatting import number
from sftviz.predictions.question import Belief, Bits, Choice, Number, Option, Question
from sftviz.predictions.record import Commitment, Record
from sftviz.predictions.reply import CANT_SAY, Reply, reply

# B = 3, G = 4, c = 2: the masked sum is −1.85, loss −(−1.85) ÷ 4, scaled_loss that ÷ 4, by hand.
LOG_PROBS = [[-0.5, -0.3, -0.8, -0.2], [-0.4, -0.6, -0.3, -0.5], [-0.1, -0.2, -0.3, -0.4]]
MASK = [[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]]
INPUTS = StepInputs(torch.tensor(LOG_PROBS, dtype=torch.float64), MASK, 4, 2.0)
SCALED = Number("scaled_loss", lambda: 1.85 / 16, inputs=INPUTS, quantity="scaled_loss")
PLAIN = Number("the ratio", lambda: 0.5, (Belief(lambda: 2.0, "This is the inverse: G ÷ B."),))


@pytest.mark.parametrize("answer", ["0.1156", "0.116", " +0.12 ", "1.156e-1"])
def test_the_digits_that_were_typed_decide_how_exact_an_answer_is(answer):
    assert reply(SCALED, answer).is_right


@pytest.mark.parametrize("answer", ["0.115", "0.117", "0.13", "-0.1156"])
def test_and_the_last_of_them_has_to_be_right(answer):
    assert not reply(SCALED, answer).is_right


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_as_the_pictures_write_it_is_right(value):
    shown = number(value)
    assert reply(Number("x", lambda: value), shown) == Reply(True, shown, shown, "")


@given(st.text(max_size=12))
def test_a_text_is_a_number_or_is_refused(text):
    try:
        said = reply(PLAIN, text)
    except ValueError as error:
        assert "-0.25" in str(error)
    else:
        assert said.is_right == (said.yours == "0.5") or not said.is_right


def test_one_mistake_is_named_with_its_cause_and_its_remedy():
    assert reply(SCALED, "1.85") == Reply(
        False,
        "1.85",
        "0.1156",
        'The mistake "not divided" gives 1.85 here. The masked sum is not divided: the sum over '
        "the window, which grows with G. Divide the masked sum by G, and by G again: nothing else "
        "than c and G divides it.",
    )


def test_that_mistakes_give_an_answer_is_said_and_of_a_right_one_only_if_they_are_few():
    worked = StepInputs(LOG_PROBS[:2], MASK[:2], 2)
    ask = Number("scaled_loss", lambda: 0.7, inputs=worked, quantity="scaled_loss")
    few, many = reply(ask, "1.4").message, reply(ask, "0.7")
    assert few == 'The mistakes "÷G", "÷B" and "loss returned unscaled" give 1.4 here.'
    assert many.is_right and many.message == ""  # fifteen do


def test_a_belief_is_said_before_the_mistakes_and_instead_of_their_causes():
    belief = Belief(lambda: 1.85 / 16 / 16, "This divides by G² twice.")
    both = Number("scaled_loss", SCALED.value, (belief,), INPUTS, "scaled_loss")
    assert reply(both, "0.00723").message.startswith("This divides by G² twice.")
    undivided = Belief(lambda: 1.85, "This is the masked sum.")
    both = Number("scaled_loss", SCALED.value, (undivided,), INPUTS, "scaled_loss")
    assert reply(both, "1.85").message == (
        'This is the masked sum. The mistake "not divided" gives 1.85 here.'
    )


def test_two_beliefs_that_give_the_same_are_both_said():
    beliefs = Belief(lambda: 4.0, "This is 2 + 2."), Belief(lambda: 4.0, "This is 2 · 2.")
    ask = Number("x", lambda: 5, beliefs)
    assert reply(ask, "4").message == "2 ways lead to 4. This is 2 + 2. This is 2 · 2."


def test_an_answer_that_nothing_explains_is_said_to_be_wrong():
    assert reply(PLAIN, "7").message == "7 is not the ratio."
    assert reply(SCALED, "7").message == "No known mistake gives 7 here."
    assert reply(PLAIN, "2").message == "This is the inverse: G ÷ B."


def test_a_count_is_written_in_full():
    ask = Number("tokens", lambda: 123456)
    assert reply(ask, "123457") == Reply(False, "123457", "123456", "123457 is not tokens.")
    assert reply(ask, "123456").is_right


def test_nan_can_be_asked_for():
    ask = Number("loss", lambda: float("nan"))
    assert reply(ask, "NaN") == Reply(True, "nan", "nan", "")
    assert not reply(ask, "0").is_right


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("abc", "answer must be a number, got 'abc': write digits with a point, such as -0.25."),
        ("0,3", "answer must be a number, got '0,3': write digits with a point, such as -0.25."),
        (" ", "a number is asked for, got ' ': type one such as -0.25."),
        (0.3, "a number is asked for, got 0.3: type one such as -0.25."),
    ],
)
def test_what_is_not_a_number_is_not_an_answer(answer, said):
    never = Number("x", lambda: pytest.fail("computed"))
    with pytest.raises(ValueError) as error:
        reply(never, answer)
    assert str(error.value) == said


CHOICE = Choice(
    "the gradient",
    (Option("It moves.", "Only at the logits."), Option("It stays.", "It is a constant.")),
    lambda: 1,
)


def test_each_option_has_its_reply():
    assert reply(CHOICE, 0) == Reply(False, "It moves.", "It stays.", "Only at the logits.")
    assert reply(CHOICE, 1) == Reply(True, "It stays.", "It stays.", "It is a constant.")


@pytest.mark.parametrize("answer", [2, -1, "0", True, 0.0])
def test_only_the_place_of_an_option_is_a_choice(answer):
    with pytest.raises(ValueError) as error:
        reply(CHOICE, answer)
    said = f"the place of an option is asked for, from 0 to 1, got {answer!r}: choose one of them."
    assert str(error.value) == said


BITS = Bits(
    "response_mask",
    (("a", "b", "c"), ("d", "e", "f")),
    lambda: torch.tensor([[0, 1, 1], [0, 0, 1]]),
    ((lambda: torch.tensor([[1, 0, 0], [1, 1, 0]]), "This counts the prompt."),),
)


def test_a_mask_is_compared_bit_by_bit():
    assert reply(BITS, [[0, 1, 1], [0, 0, 1]]) == Reply(True, "011 001", "011 001", "")
    assert reply(BITS, [[0, 1, 0], [0, 0, 1]]).message == (
        "1 bit of 6 is different: row 1, token 3."
    )
    assert reply(BITS, [[1, 0, 0], [1, 0, 1]]).message == (
        "4 bits of 6 are different: row 1, token 1; row 1, token 2; row 1, token 3; and 1 more."
    )
    assert reply(BITS, [[1, 0, 0], [1, 1, 0]]).message == "This counts the prompt."


@pytest.mark.parametrize("answer", [[[0, 1]], [[2, 0, 0], [0, 0, 0]], "011 001", 3, [[1], [1, 0]]])
def test_a_mask_of_another_shape_is_not_an_answer(answer):
    with pytest.raises(ValueError, match=r"a mask of 2 × 3 bits is asked for, got .*: give rows"):
        reply(BITS, answer)


@pytest.mark.parametrize(
    ("ask", "right"), [(PLAIN, "0.5"), (CHOICE, "It stays."), (BITS, "011 001")]
)
def test_that_one_cannot_say_is_an_answer_without_reproach(ask, right):
    assert reply(ask, None) == Reply(False, CANT_SAY, right, "")


def test_of_two_answers_to_a_question_the_record_keeps_the_last_one():
    first, second = Question("first", "?", (), ""), Question("second", "?", (), "")
    record, seen = Record(), []
    record.observe(seen.append(len(record.commitments)) or (lambda: seen.append("called")))
    for question in (first, second, first):
        record.add(Commitment(question, ()))
    assert [each.question for each in record.commitments] == [second, first]
    assert seen == [0, "called", "called", "called"]
