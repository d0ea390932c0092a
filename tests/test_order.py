"""Lines that are put in order: an order is judged by what it computes."""

import random
import re
from textwrap import dedent

import pytest
import torch

from sftviz import MISTAKES, full_batch_gradient
from sftviz.exercises.loop_order import LOOP, TRAPS, run_loop, write
from sftviz.exercises.order import DEEPEST
from sftviz.exercises.orders import ORDERS, STEP
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.explorers.order import PutInOrder
from sftviz.rules import cosine

RIGHT = dedent(STEP.solution)


def windows() -> list:
    """Those of the loop: B = 3, G = 2."""
    return [make_window(B=3, G=2, vocab_size=5, seed=seed) for seed in range(2)]


def model() -> BigramModel:
    return BigramModel(vocab_size=5, dtype=torch.float64)


# The loop


def test_the_right_loop_steps_with_the_gradients_of_full_batches():
    table = model()
    run = run_loop(LOOP.solution, learning_rate=0.25)
    for window, grad in zip(windows(), run.steps, strict=True):
        expected = full_batch_gradient(table, window)["table"] * 3 / 2  # ÷G² is B/G of the mean
        torch.testing.assert_close(grad["table"], expected)
        with torch.no_grad():
            table.table -= 0.25 * expected
    torch.testing.assert_close(run.weights["table"], table.table.detach())


@pytest.mark.parametrize(
    "sketch",
    [
        "windows ( zero batches ( forward train ) step )",
        "windows ( batches ( forward train ) step zero )",
    ],
)
def test_every_order_that_computes_the_same_is_right(sketch):
    verdict = LOOP.check(write(sketch))
    assert (verdict.outcome, verdict.mistake) == ("correct", None)
    assert "Not needed" not in verdict.message


def test_a_line_that_changes_nothing_is_not_needed():
    verdict = LOOP.check(write("windows ( zero batches ( forward train divide ) step )"))
    assert verdict.outcome == "correct"
    assert verdict.message.splitlines()[1:] == ["Not needed: log_probs = log_probs / G"]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.sketch)
def test_what_people_build_is_answered_by_what_is_wrong_with_it(trap):
    verdict = LOOP.check(write(trap.sketch))
    assert verdict.outcome in ("wrong", "error")
    assert verdict.message.startswith(trap.because)
    assert verdict.mistake == trap.mistake
    assert trap.mistake in {None, *(mistake.name for mistake in MISTAKES)}


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("zero_grad after each microbatch", 2),
        ("step after each microbatch", 4),
        ("zero_grad forgotten", 1),  # the second is a sum of windows, which are divided otherwise
    ],
)
def test_a_trap_has_the_gradients_of_the_mistake_of_its_name(name, compared):
    trap = next(trap for trap in TRAPS if trap.mistake == name)
    mistake = next(mistake for mistake in MISTAKES if mistake.name == name)
    # The mistakes divide by other numbers and leave the weights alone: directions are the same.
    mine = run_loop(write(trap.sketch), learning_rate=0.0).steps
    theirs = mistake.run(model(), [batch for window in windows() for batch in window], 2)
    assert len(mine) == len(theirs)
    for pair in list(zip(mine, theirs, strict=True))[:compared]:
        assert cosine(*pair) > 1 - 1e-9


def test_the_verdict_has_the_ratio_and_the_gradients():
    verdict = LOOP.check(write("windows ( zero batches ( forward divide train ) step )"))
    assert "At step 1, the length of .grad relative to the right one is 0.5." in verdict.message
    run = run_loop(LOOP.solution)
    for number, grad in zip(verdict.numbers, run.steps, strict=True):
        norm = grad["table"].norm().item()
        assert float(number.right) == pytest.approx(norm, abs=1e-3)
        assert float(number.yours) == pytest.approx(norm / 2, rel=0.05) and not number.same


def test_of_two_mistakes_the_second_is_named_too():
    verdict = LOOP.check(write("windows ( batches ( zero forward divide train ) step )"))
    assert verdict.mistake is None
    assert verdict.message.startswith(
        "More than one thing is wrong. Without log_probs = log_probs / G it is this: zero_grad()"
    )


@pytest.mark.parametrize(
    ("sketch", "message"),
    [
        (
            "windows ( batches ( train forward ) )",
            "Line 3: scaled_loss, metadata = sft_microbatch_train_step(log_probs, "
            "batch.response_mask, G)\nlog_probs is used before a line has given it a value.",
        ),
        (
            "windows step",
            "Line 2: optimizer.step()\n"
            "The indentation is wrong: expected an indented block after 'for' statement on line 1.",
        ),
        (
            "step windows",
            "Line 2: for window in windows:\n"
            "The indentation is wrong: expected an indented block after 'for' statement on line 2.",
        ),
        (
            "zero ( step )",
            "Line 2: optimizer.step()\nThe indentation is wrong: unexpected indent.",
        ),
    ],
)
def test_what_does_not_run_is_answered_by_its_line(sketch, message):
    verdict = LOOP.check(write(sketch))
    assert (verdict.outcome, verdict.mistake, verdict.message) == ("error", None, message)


@pytest.mark.parametrize("problem", ORDERS.values(), ids=ORDERS)
def test_any_order_has_an_answer(problem):
    draw = random.Random(0)
    outcomes = set()
    for _ in range(40):
        chosen = draw.sample(range(len(problem.lines)), draw.randint(0, 6))
        level, placed = 0, []
        for line in chosen:
            placed.append([line, level])
            level = min(DEEPEST, level + 1) if problem.lines[line].endswith(":") else level
        outcomes.add(problem.check(problem.arrange(placed)).outcome)
    assert outcomes >= {"error", "not attempted"}


# The step


@pytest.mark.parametrize(
    ("line", "instead", "mistake"),
    [
        ("loss = -masked_sum", "loss = masked_sum", "sign kept"),
        ("scaled_loss.backward()", "loss.backward()", "backward on the unscaled loss"),
        ("scaled_loss.backward()", "", "backward not called"),
        (
            "torch.where(mask, policy_log_probs, 0)",
            "(policy_log_probs * mask)",
            "multiplied with NaN",
        ),
        ("mask.sum().item()", "mask.numel()", "all tokens counted"),
        ("masked_sum / normalize_constant\n", "masked_sum / num_tokens\n", None),
        ("masked_sum = masked_sum / normalize_constant\n", "", "c left out"),
    ],
)
def test_the_lines_of_the_step_are_judged_as_a_function(line, instead, mistake):
    assert STEP.check(RIGHT).outcome == "correct"
    assert line in RIGHT
    verdict = STEP.check(RIGHT.replace(line, instead))
    assert (verdict.outcome, verdict.mistake) == ("wrong", mistake)


def test_a_step_without_its_last_lines_says_what_is_missing():
    verdict = STEP.check("mask = response_mask.bool()")
    assert verdict.outcome == "error"
    assert verdict.message.startswith(
        "your_lines raised NameError: scaled_loss has no value after your lines"
    )


# The value


@pytest.mark.parametrize(
    ("order", "line"),
    [
        (["optimizer.step()", "import os"], "'import os'"),
        ("optimizer.step()\noptimizer.step()", "'optimizer.step()'"),
        ("optimizer.step(); import os", "'optimizer.step(); import os'"),
    ],
)
def test_only_the_lines_of_the_problem_are_run_each_once(order, line):
    message = f"{line} is not among the lines that are left: use each of the lines of the problem "
    with pytest.raises(ValueError, match=re.escape(message + "once at most, as it is written.")):
        LOOP.check(order)


@pytest.mark.parametrize(
    ("placed", "message"),
    [
        ([[99, 0]], "line must be an int of at most 8, got 99: it is a place in lines."),
        ([[0, 4]], "level must be an int of at most 3, got 4: it is the indentation of a line."),
        ([[0, 1], [0, 0]], "a line is placed twice: place each of them once at most."),
    ],
)
def test_an_arrangement_that_is_none_is_refused(placed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LOOP.arrange(placed)


@pytest.mark.parametrize("problem", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("width", [48, 88])
def test_the_still_has_every_line_and_not_the_solution(problem, width):
    drawing = problem.draw(width)
    assert max(map(len, drawing.text.splitlines())) <= width
    _, *shown = re.sub(r"[\s│╰─╯]", "", drawing.text).split("·")
    assert shown == [re.sub(r"\s", "", line) for line in problem.lines]
    solution = [line.strip() for line in problem.solution.splitlines() if line.strip()]
    assert [line for line in problem.lines if line in solution] != solution
    assert problem.check("").outcome == "not attempted"


# The widget


def test_the_page_asks_and_is_answered():
    problem = PutInOrder("loop")
    placed = [[problem.lines.index("optimizer.zero_grad()"), 0]]
    problem.asked = {"id": 0.5, "placed": placed}
    assert problem.answer["id"] == 0.5 and problem.answer["outcome"] == "wrong"
    assert problem.answer["message"] == "The optimizer steps 0 times; there are 2 windows."
    problem.asked = {"id": 0.6, "placed": [[0, 0], [0, 0]]}
    assert problem.answer["message"].startswith("a line is placed twice")


def test_a_notebook_that_was_not_run_shows_the_lines():
    data, _ = PutInOrder("loop")._repr_mimebundle_()
    assert data["text/plain"] == repr(PutInOrder("loop")) == LOOP.draw().text
    assert "<img alt=" in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_problem_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"order must be one of 'loop', 'step', got 'lopo'\."):
        PutInOrder("lopo")
    with pytest.raises(TypeError, match=r"order must be an Order or its name, got int 3\."):
        PutInOrder(3)
