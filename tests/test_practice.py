"""Practice: the questions of a seed, the command that asks them, the widget that shows them."""

import io
import re
import sys

import pytest

from sftviz.__main__ import main
from sftviz.drawing.formatting import number
from sftviz.explorers.practice import Practice
from sftviz.inputs import StepInputs
from sftviz.mistakes import STEP_MISTAKES, recognise
from sftviz.mistakes.recognise import run_on
from sftviz.predictions.practice import LEVELS, Session
from sftviz.predictions.question import Choice, Number, Question
from sftviz.predictions.record import RECORD
from sftviz.predictions.reply import reply

SEEDS = range(4)
COMMON = (
    *("mask ignored", "mask inverted", "sign kept", "not divided", "÷G", "÷B·G", "÷G³"),
    *("c left out", "c twice"),
)


def given(question: Question) -> StepInputs:
    """The batch that is drawn above a question."""
    return question.before.args[0]


def by_hand(inputs: StepInputs) -> dict[str, float]:
    """The step in plain Python."""
    log_probs, mask = inputs.policy_log_probs.tolist(), inputs.response_mask.tolist()
    G, c = inputs.gradient_accumulation_steps, inputs.normalize_constant
    total = sum(
        p * m for row in zip(log_probs, mask, strict=True) for p, m in zip(*row, strict=True)
    )
    return {"masked_sum": total / c, "scaled_loss": -total / c / G**2, "grad": -1 / (G**2 * c)}


# The questions


@pytest.mark.parametrize("level", range(1, len(LEVELS) + 1))
def test_the_same_seed_asks_the_same(level):
    def seen(seed: int) -> tuple:
        question = Session(seed, 3, level).question()
        (ask,) = question.asks
        options = ask.options if isinstance(ask, Choice) else ()
        return question.name, question.text, question.before(80).text, ask.value(), options

    assert seen(1) == seen(1)
    assert seen(1)[2] != seen(2)[2]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("level", "quantity"), [(1, "masked_sum"), (2, "scaled_loss"), (3, "scaled_loss"), (4, "grad")]
)
def test_the_truth_is_that_of_a_computation_by_hand(level, quantity, seed):
    question = Session(seed, level=level).question()
    (ask,) = question.asks
    assert ask.value() == pytest.approx(by_hand(given(question))[quantity], rel=1e-9)
    assert reply(ask, number(ask.value())).is_right
    assert not reply(ask, None).is_right
    B, G = len(given(question).policy_log_probs), given(question).gradient_accumulation_steps
    assert B == 1 if level == 1 else B != G
    assert (given(question).normalize_constant == 1) == (level < 3)
    assert len(f"{abs(ask.value()):.6g}".replace(".", "").lstrip("0")) <= 2  # for a head


@pytest.mark.parametrize("seed", SEEDS)
def test_after_two_calls_the_gradient_is_there_twice(seed):
    question = Session(seed, level=5).question()
    (ask,) = question.asks
    once = by_hand(given(question))["grad"]
    assert ask.value() == pytest.approx(2 * once)
    assert reply(ask, number(once)).message.startswith("This is the gradient of one call alone.")
    assert reply(ask, "0").message.startswith("Nothing has cleared .grad.")


@pytest.mark.parametrize("seed", SEEDS)
def test_twice_the_G_is_a_quarter_of_the_loss(seed):
    question = Session(seed, level=6).question()
    (ask,) = question.asks
    before = by_hand(given(question))["scaled_loss"]
    assert f"Here scaled_loss is {number(before)}. " in question.text
    assert ask.value() == pytest.approx(before / 4)
    assert reply(ask, number(before / 2)).message.startswith("This divides by 2 once")


@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_common_mistake_is_recognised_and_none_is_right(level):
    question = Session(seed=level, level=level).question()
    (ask,) = question.asks
    inputs = given(question)
    right = recognise(number(ask.value()), ask.quantity, inputs)
    assert right.outcome == "right"
    has_c = inputs.normalize_constant != 1
    names = [name for name in COMMON if has_c or not name.startswith("c ")]
    names = [name for name in names if level != 4 or not name.startswith("mask")]
    assert not {mistake.name for mistake in right.mistakes} & set(names)
    for name in names:
        (mistake,) = (each for each in STEP_MISTAKES if each.name == name)
        value = run_on(mistake, inputs)[ask.quantity]
        value = value[inputs.response_mask != 0][0] if level == 4 else value
        found = recognise(number(value.item()), ask.quantity, inputs)
        assert {each.name for each in found.mistakes} & set(names) == {name}


@pytest.mark.parametrize("seed", range(8))
def test_the_options_give_different_numbers_and_one_of_them_the_one_that_is_asked_about(seed):
    question = Session(seed, level=7).question()
    (ask,) = question.asks
    said = float(re.search(r"scaled_loss = (\S+) for", question.text)[1].replace("−", "-"))
    values = []
    for option in ask.options:
        mistakes = [mistake for mistake in STEP_MISTAKES if mistake.cause == option.text]
        run = run_on(mistakes[0], given(question)) if mistakes else by_hand(given(question))
        values.append(float(run["scaled_loss"]))
        assert number(values[-1]) in option.reply
    assert len({number(value) for value in values}) == len(ask.options) == 4
    assert values[ask.value()] == pytest.approx(said, rel=1e-3)
    assert reply(ask, ask.value()).is_right


def test_a_right_answer_goes_up_a_level_and_a_wrong_one_stays():
    session = Session(seed=3)
    for level in (*range(2, len(LEVELS) + 1), len(LEVELS)):
        session = session.next(was_right=True)
        assert session.level == level
    assert session.next(was_right=False) == Session(3, session.number + 1, len(LEVELS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "seed must be an int of at least 0, got -1: it seeds a random number generator."),
        ((0, 0), "number must be an int of at least 1, got 0: it is the number of a question."),
        ((0, 1, 9), "level must be an int of at most 8, got 9: it is how hard a question is."),
    ],
)
def test_a_session_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Session(*arguments)


# The command


@pytest.fixture
def run(capsys, monkeypatch):
    """The exit status, what was printed and what was complained of, for what is typed."""

    def run(typed: str | None, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", None if typed is None else io.StringIO(typed))
        try:
            status = main(["practice", *words])
        except SystemExit as end:
            status = end.code
        return (status, *capsys.readouterr())

    return run


def answers(*levels: int) -> list[str]:
    """The right answers to the first questions of seed 0."""
    asks = [Session(0, at, level).question().asks[0] for at, level in enumerate(levels, start=1)]
    return ["abcd"[a.value()] if isinstance(a, Choice) else number(a.value()) for a in asks]


def test_right_answers_lead_to_the_highest_level(run):
    typed = "\n".join(answers(*range(1, 9)))
    status, out, err = run(typed, "--rounds", "8")
    assert (status, err) == (0, "")
    levels = re.findall(r"Question (\d), level (\d) of 8", out)
    assert levels == [(str(at), str(at)) for at in range(1, 9)]
    assert out.endswith("\nRight: 8 of 8.\n")
    assert out == run(typed, "--rounds", "8")[1]


def test_a_wrong_answer_is_met_by_its_mistake_and_the_next_question_is_as_hard(run):
    (ask,) = Session(0, level=2).question().asks
    wrong = next(b for b in ask.beliefs if b.because.startswith("The masked sum is divided by G:"))
    status, out, _ = run(f"{number(wrong.value())}\n", "--level", "2")
    assert status == 0  # the input has ended
    assert f"It is {number(ask.value())}. The masked sum is divided by G:" in " ".join(out.split())
    assert "scaled_loss = loss ÷ G" in out  # the right computation
    assert "Question 2, level 2 of 8" in out
    assert out.endswith('\nRight: 0 of 1. Mistakes that came up: "÷G".\n')


def test_one_can_give_up_mistype_and_end(run):
    status, out, err = run("?\nabc\n\nq\n")
    assert (status, err) == (0, "")
    assert f"It is {answers(1)[0]}." in out
    flat = " ".join(out.split())
    assert "Answer must be a number, got 'abc': write digits with a point, such as -0.25." in flat
    assert out.endswith("\nRight: 0 of 1.\n")
    flat = " ".join(run("e\nb and c\nQ\n", "--level", "7")[1].split())
    assert flat.count("Type one of the letters a, b, c, d, or ? or q.") == 2
    assert flat.endswith("No question was answered.")


@pytest.mark.parametrize("typed", ["", None])
def test_without_input_it_ends(run, typed):
    status, out, err = run(typed)
    assert (status, err) == (0, "") and out.endswith("No question was answered.\n")


def test_what_is_typed_can_not_draw_on_the_terminal(run):
    out = run("\x1b[31mred\x07\n" + "9" * 10_000 + "\n")[1]
    assert "\x1b" not in out and "\x07" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_Ctrl_C_ends_with_the_score(run, monkeypatch, capsys):
    class Interrupted(io.StringIO):
        def readline(self, size: int = -1) -> str:
            line = super().readline(size)
            if not line:
                raise KeyboardInterrupt
            return line

    monkeypatch.setattr(sys, "stdin", Interrupted(answers(1)[0] + "\n"))
    assert main(["practice"]) == 130
    out, err = capsys.readouterr()
    assert out.endswith("\nRight: 1 of 1.\n") and err == ""


def test_it_fits_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setattr("sftviz.predictions.command.columns", lambda widest, narrowest: narrowest)
    for level in range(1, 9):
        out = run("x\n?\n", "--level", str(level), "--rounds", "1")[1]
        assert max(map(len, out.splitlines())) <= 48


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--level", "9"],
            "level must be an int of at most 8, got 9: it is how hard a question is.",
        ),
        (
            ["--seed=-1"],
            "seed must be an int of at least 0, got -1: it seeds a random number generator.",
        ),
        (["--rounds", "0"], "argument --rounds: give 1 or more, got 0."),
        (["--rounds", "two"], "argument --rounds: invalid count value: 'two'"),
        (["file"], "unrecognized arguments: file"),
    ],
)
def test_what_can_not_be_asked_is_one_line(run, words, message):
    assert run("", *words) == (2, "", f"sftviz: {message}\n")


# The widget


def test_the_next_question_is_harder_after_a_right_answer():
    practice = Practice()
    first = practice.prediction
    with pytest.raises(ValueError, match=r"this question is not answered yet: commit to an answer"):
        practice.next()
    assert practice.children[-1].layout.display == "none"  # the button
    first.answer(0, answers(1)[0])
    first.commit()
    score, shown, button = practice.children
    assert score.value == "Question 1, level 1 of 8. Right: 1 of 1."
    assert shown is first and button.layout.display is None
    button.click()
    assert practice.session == Session(0, 2, 2)
    assert practice.children[0].value == "Question 2, level 2 of 8. Right: 1 of 1."
    assert practice.prediction.commitment is None and practice.children[1] is practice.prediction
    assert first.live.comm is None  # closed
    assert not any(each.question.name.startswith("practice") for each in RECORD.commitments)


def test_before_it_is_run_it_is_the_first_question_with_a_folded_answer():
    data, _ = Practice(seed=5)._repr_mimebundle_()
    (ask,) = Session(5).question().asks
    shown, folded = data["text/html"].split("<details>")
    assert data["text/plain"] == repr(Practice(seed=5))
    assert f"[{number(ask.value()):>12}" not in data["text/plain"]
    assert "What is masked_sum?" in shown and number(ask.value()) in folded


def test_a_practice_that_is_none_is_refused():
    with pytest.raises(ValueError, match="level must be an int of at most 8"):
        Practice(level=9)
    assert isinstance(Practice(level=8).prediction.question.asks[0], Choice | Number)
