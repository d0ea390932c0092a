"""Every bug of the hunt is in the code that runs, and can be seen; a test finds what is wrong."""

import math
from copy import deepcopy

import pytest
import torch
from torch.optim import SGD

from sftviz.accumulation import full_batch_gradient
from sftviz.equivalence import gradient_equivalence
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.dates import CONTEXT_LENGTH, END, PAD, VOCABULARY, conversation
from sftviz.explorers.prediction import Prediction
from sftviz.hunt import cases, loop
from sftviz.hunt.bugs import CASES, HEALTHY, NOTHING, Bug, find_bug
from sftviz.hunt.cases import RUNS, case_equivalence, run_bug, run_case
from sftviz.hunt.clues import clues, draw_clues, draw_likeness
from sftviz.hunt.evidence import draw_evidence
from sftviz.hunt.question import SUSPECTS, hunt_question, line_up
from sftviz.hunt.rows import LONG_ROWS, B, long_pairs, short_pairs, window_pairs
from sftviz.mistakes import MISTAKES
from sftviz.predictions.reply import reply
from sftviz.rules import cosine, distance, ratio
from sftviz.tokens import build_token_batch

LN_V = math.log(len(VOCABULARY))
CASE = {bug.name: case for case, bug in RUNS.items()}
NAMES = [bug.name for bug in CASES.values()]
# Bugs after which the gradient of a window is the right one.
RIGHT_GRADIENT = {"healthy", "nothing is wrong", "optimizer of a copy", "the same window again"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def healthy():
    return run_bug(HEALTHY)


def run(name):
    return run_case(CASE[name])


def logged_per_token(name, windows=slice(0, 40)):
    """The logged loss relative to the measured one, as a mean over windows."""
    ratios = [window.scaled_loss / window.nll for window in run(name).history[windows]]
    return sum(ratios) / len(ratios)


def lengths(name):
    """The length of the gradient relative to that of the healthy run, in the first window."""
    return run(name).history[0].grad_norm / healthy().history[0].grad_norm


def answers(name):
    return [each.text for each in run(name).answers]


def pairs(name):
    return list(zip(answers(name), run(name).answers, strict=True))


def right(name):
    return [each.ends and each.text == each.pair.response for each in run(name).answers]


# ---------------------------------------------------------------- the healthy run


def test_the_rows_are_uneven_and_the_window_has_not_as_many_rows_as_microbatches():
    window = loop.load_window(1)
    assert {len(batch.labels) for batch in window} == {B} and len(window) == len(LONG_ROWS) != B
    assert [batch.num_tokens for batch in window] == [24, 24, 56, 88]


def test_nothing_that_is_asked_was_trained_on():
    trained = {pair for number in range(1, 81) for pairs in window_pairs(number) for pair in pairs}
    assert not trained & {each.pair for each in healthy().answers}
    assert not {*long_pairs(), *short_pairs()} & {*long_pairs(True), *short_pairs(True)}


def test_the_rows_are_prepared_as_the_package_does_it():
    for pairs in window_pairs(3):
        expected = build_token_batch([conversation(pair) for pair in pairs], PAD, CONTEXT_LENGTH)
        prepared = loop.prepare(pairs)
        for field in ("input_ids", "labels", "response_mask"):
            assert torch.equal(getattr(prepared, field), getattr(expected, field))


def test_the_healthy_run_learns_and_logs_the_loss_per_token():
    history = healthy().history
    assert history[0].nll == pytest.approx(LN_V, rel=0.15) and history[-1].nll < 0.1
    for window in history:
        assert window.scaled_loss == pytest.approx(window.nll, rel=1e-3, abs=1e-5)
    assert all(each.text == each.pair.response and each.ends for each in healthy().answers)
    assert healthy().inspection.findings == ()


def test_a_run_is_repeatable_and_leaves_the_random_numbers_alone(monkeypatch):
    whole = run_case("E").history
    monkeypatch.setattr(cases, "WINDOWS", 8)
    before = torch.get_rng_state()
    once, again = (run_bug.__wrapped__(find_bug("E")) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert once.history == again.history == whole[:8]
    assert once.answers == again.answers


# ---------------------------------------------------------------- the bugs


def test_there_are_at_least_twelve_bugs_and_one_run_without():
    assert list(CASES) == list("ABCDEFGHIJKLMNOPQ")
    assert len({*NAMES}) == len(CASES) and NOTHING in CASES.values()


def test_a_bug_that_is_a_known_mistake_has_its_name_and_who_shipped_it():
    known = {mistake.name: mistake for mistake in MISTAKES}
    for bug in CASES.values():
        if bug.name in known:
            assert (bug.remedy, bug.seen) == (known[bug.name].remedy, known[bug.name].seen)
    assert sum(bug.name in known for bug in CASES.values()) >= 12
    assert sum(bool(bug.seen) for bug in CASES.values()) >= 4


def test_lines_that_are_not_in_the_loop_are_refused():
    with pytest.raises(ValueError) as error:
        Bug("none", "", "no such line", "", "", "").loop  # noqa: B018
    assert str(error.value) == "these lines are 0 times in loop.py:\nno such line"


@pytest.mark.parametrize("ask", [run_case, clues, case_equivalence, hunt_question, draw_evidence])
def test_an_unknown_case_is_refused(ask):
    known = [*(["healthy"] if ask in (run_case, clues, case_equivalence) else []), *CASES]
    with pytest.raises(ValueError) as error:
        ask("Z")
    assert str(error.value) == f"case must be one of {', '.join(known)}, got 'Z'."


# What the symptoms say.
SEEN = {
    "sign kept": lambda name: (
        run(name).history[-1].scaled_loss < -50 and run(name).history[-1].nll > 50
    ),
    "end token left out": lambda name: (
        not any(each.ends for each in run(name).answers)
        and sum(text.startswith(each.pair.response) for text, each in pairs(name)) >= 3
    ),
    "G times too large": lambda name: (
        logged_per_token(name) == pytest.approx(4)
        and lengths(name) == pytest.approx(4, rel=1e-3)
        and all(right(name))
    ),
    "backward on a fresh leaf": lambda name: (
        {window.grad_norm for window in run(name).history} == {0}
        and run(name).history[-1].nll > 0.9 * LN_V
    ),
    "mask one too late": lambda name: (
        sum(text[1:] == each.pair.response[1:] for text, each in pairs(name)) >= 4
        and sum(text[:1] != each.pair.response[:1] for text, each in pairs(name)) >= 2
    ),
    "nothing is wrong": lambda name: (
        all(right(name))
        and logged_per_token(name) == pytest.approx(1, rel=1e-3)
        and run(name).history != healthy().history
    ),
    "no shift": lambda name: (
        run(name).history[9].scaled_loss < 0.2
        and run(name).history[-1].nll > 2 * LN_V
        and {*"".join(answers(name))} == {"→"}
    ),
    "optimizer of a copy": lambda name: (
        run(name).history[-1].nll > 0.9 * LN_V
        and min(window.grad_norm for window in run(name).history) > 1
    ),
    "prompt counted": lambda name: (
        logged_per_token(name, slice(60, 80)) > 2 and run(name).history[-1].scaled_loss > 0.5
    ),
    "the same window again": lambda name: (
        run(name).history[29].scaled_loss < 0.1 < 0.9 < run(name).history[29].nll
    ),
    "÷G twice": lambda name: (
        logged_per_token(name) == pytest.approx(1 / 4)
        and lengths(name) == pytest.approx(1 / 4, rel=1e-3)
        and all(right(name))
    ),
    "backward on the unscaled loss": lambda name: (
        logged_per_token(name) == pytest.approx(1) and lengths(name) == pytest.approx(4, rel=1e-3)
    ),
    "zero_grad after each microbatch": lambda name: (
        not any(right(name)[3:])
        and sum(len(text) == 10 for text in answers(name)[:3]) >= 2
        and run(name).history[-1].nll > 1.5
    ),
    "shifted twice": lambda name: (
        run(name).history[-1].scaled_loss < 0.1
        and run(name).history[-1].nll > LN_V
        and sum(text == each.pair.response[1] for text, each in pairs(name)[3:]) >= 2
    ),
    "padding counted": lambda name: 0.7 < logged_per_token(name, slice(10, 60)) < 0.85,
    "zero_grad forgotten": lambda name: (
        sum(window.grad_norm for window in run(name).history[20:])
        > 2 * sum(window.grad_norm for window in healthy().history[20:])
        and min(window.grad_norm for window in run(name).history) > 0.9
        and run(name).history[-1].nll < 1
    ),
    "mean of means": lambda name: 0.5 < logged_per_token(name, slice(10, 60)) < 0.85,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_looks_as_its_symptom_says(name):
    assert SEEN[name](name)
    if name != "nothing is wrong":  # and the healthy run does not
        assert not SEEN[name]("healthy")


@pytest.mark.parametrize("name", CASE)
def test_the_gradient_test_finds_every_bug_of_gradients_and_passes_the_others(name):
    found = case_equivalence(CASE[name])
    assert found.ok == (name in RIGHT_GRADIENT)


def test_the_gradient_test_agrees_with_hand_written_code_without_it():
    """What a window leaves in `.grad` with an optimizer that does nothing."""
    torch.manual_seed(0)
    model = BigramModel(vocab_size=len(VOCABULARY)).double()
    for name in ("÷G twice", "mean of means", "padding counted", "no shift"):
        code = CASES[CASE[name]].loop
        trained = deepcopy(model)
        code.train_window(trained, SGD(trained.parameters(), lr=0), code.load_window(1))
        got = {at: each.grad for at, each in trained.named_parameters()}
        whole = loop.prepare([pair for pairs in window_pairs(1) for pair in pairs])
        expected = full_batch_gradient(model, [whole], "token")
        found = gradient_equivalence(
            code.train_window, model, code.load_window(1), full_batch=loop.load_window(1)
        )
        numbers = [compare(got, expected) for compare in (ratio, cosine, distance)]
        assert [found.ratio, found.cosine, found.distance] == pytest.approx(numbers)


def test_data_bugs_are_found_by_the_inspection_too():
    found = {name for name, case in CASE.items() if run_case(case).inspection.findings}
    assert found == {
        *("end token left out", "mask one too late", "no shift"),
        *("prompt counted", "shifted twice", "padding counted"),
    }


# ---------------------------------------------------------------- the gradient test by itself


def train(model, optimizer, microbatches):
    """A loop that is right, in other words than that of the hunt."""
    optimizer.zero_grad()
    total = sum(batch.num_tokens for batch in microbatches)
    for batch in microbatches:
        log_p = model(batch.input_ids).log_softmax(-1)
        picked = log_p.gather(-1, batch.labels[..., None])[..., 0]
        (-picked[batch.response_mask].sum() / total).backward()
    optimizer.step()


WINDOW = make_window(B=3, G=2, lengths=[2, 3, 7, 4, 8, 1])


def check(train_window, **options):
    return gradient_equivalence(train_window, BigramModel(vocab_size=8), WINDOW, **options)


def test_a_right_loop_passes_and_nothing_is_changed():
    model = BigramModel(vocab_size=8)
    weights = deepcopy(model.state_dict())
    found = gradient_equivalence(train, model, WINDOW)
    assert (
        found.ok and found.message == "The gradient of the microbatches is that of the full batch."
    )
    assert (found.steps, found.ratio) == (1, pytest.approx(1))
    assert max(found.distance, found.again) < 1e-6
    assert all(torch.equal(weights[name], each) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_a_gradient_that_was_in_the_model_before_is_no_leftover():
    model = BigramModel(vocab_size=8)
    for each in model.parameters():
        each.grad = torch.ones_like(each)
    assert gradient_equivalence(train, model, WINDOW).ok


def test_a_loop_may_have_a_schedule_of_the_learning_rate():
    def train_scheduled(model, optimizer, microbatches):
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        train(model, optimizer, microbatches)
        schedule.step()

    assert check(train_scheduled).ok


def test_a_mean_over_sequences_can_be_meant():
    def train_sequences(model, optimizer, microbatches):
        optimizer.zero_grad()
        for batch in microbatches:
            log_p = model(batch.input_ids).log_softmax(-1)
            picked = log_p.gather(-1, batch.labels[..., None])[..., 0]
            (-picked[batch.response_mask].sum() / (3 * 2)).backward()
        optimizer.step()

    assert check(train_sequences, per="sequence").ok
    assert check(train_sequences).message == (
        "The gradient has the direction of the full batch's, and 4.167 times its length: "
        "look at the divisors."  # 25 tokens of 6 sequences
    )


MESSAGES = {
    "no step": (
        lambda model, optimizer, microbatches: None,
        "optimizer.step() was not called: the loop has to call it once a window.",
    ),
    "two steps": (
        lambda *arguments: [train(*arguments) for _ in range(2)],
        "optimizer.step() was called 2 times in one window: call it once, after the last "
        "microbatch.",
    ),
    "no gradient": (
        lambda model, optimizer, microbatches: optimizer.step(),
        "No gradient reached the parameters: look for detach(), item() or a new tensor between the "
        "model and the loss.",
    ),
}


def train_with_nan(model, optimizer, microbatches):
    optimizer.zero_grad()
    (model.table.sum() * math.nan).backward()
    optimizer.step()


MESSAGES["NaN"] = (
    train_with_nan,
    "The gradient is NaN or infinite: look at what is at masked places.",
)


@pytest.mark.parametrize(("train_window", "message"), MESSAGES.values(), ids=MESSAGES)
def test_what_is_wrong_with_a_loop_is_said(train_window, message):
    found = check(train_window)
    assert not found.ok and found.message == message


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "sign kept": "The gradient points in the opposite direction: look at the sign of the loss.",
        "÷G twice": "The gradient has the direction of the full batch's, and 0.25 times its "
        "length: look at the divisors.",
        "zero_grad forgotten": "The gradient of the first window is that of the full batch, and "
        "that of the next one is not (off by 100 %): call zero_grad() once a window.",
        "backward on a fresh leaf": "No gradient reached the parameters: look for detach(), item() "
        "or a new tensor between the model and the loss.",
    }.items(),
)
def test_what_is_wrong_with_a_case_is_said(name, message):
    assert case_equivalence(CASE[name]).message == message


def test_a_tolerance_has_to_be_above_zero():
    with pytest.raises(ValueError, match="tolerance"):
        check(train, tolerance=0)


# ---------------------------------------------------------------- what is shown


def test_every_suspect_can_be_named_in_every_case_and_the_right_one_is_right():
    names = [suspect.name for suspect in SUSPECTS]
    assert sorted(names) == sorted(bug.name for bug in CASES.values())
    assert names != [bug.name for bug in CASES.values()]
    for case, bug in CASES.items():
        (ask,) = hunt_question(case).asks
        assert [option.text for option in ask.options] == names
        assert reply(ask, names.index(bug.name)).is_right
        wrong = names.index(next(name for name in names if name != bug.name))
        said = reply(ask, wrong)
        assert not said.is_right and said.right == bug.name
        assert said.message == f"That would look like this: {SUSPECTS[wrong].symptom}"


def test_a_question_gives_nothing_away():
    for case, bug in CASES.items():
        question = hunt_question(case)
        assert question.before is None and bug.name not in question.text + question.name
        shown = clues(case).drawing
        assert bug.name not in shown.text + shown.alt


def test_a_wrong_suspect_is_shown_by_its_own_run():
    case, name = "N", "G times too large"
    (ask,) = hunt_question(case).asks
    option = next(option for option in ask.options if option.text == name)
    drawing = option.after(80)
    assert drawing.text == draw_likeness(run_case(case), run(name), 80).text
    assert "suspect   " in drawing.text and "16.28 to" in drawing.alt
    right_one = next(option for option in ask.options if option.text == find_bug(case).name)
    assert right_one.after is None
    prediction = Prediction(hunt_question(case))
    assert "suspect" not in prediction.drawing.text
    prediction.answer(0, ask.options.index(option))
    prediction.commit()
    shown = prediction.drawing.text
    assert f"A run with “{name}”" in shown and "loss.backward()" in shown


def test_a_question_shows_its_evidence_only_after_a_commitment_or_in_its_fold():
    prediction = Prediction(hunt_question("N"))
    shown, _, fold = prediction._repr_html_().partition("<details>")
    for part in ("verl", "divided by G", "points elsewhere", "direction"):
        assert part not in shown + repr(prediction) + prediction.live.svg + prediction.live.alt
    assert "verl" in fold and "direction" in fold


def test_a_line_up_of_all_suspects():
    drawing = line_up(60)
    for bug in CASES.values():
        assert bug.name in drawing.text and bug.cause in drawing.alt
    assert max(map(len, drawing.text.splitlines())) == 60


def test_the_evidence_has_both_lines_and_both_tests():
    text = hunt_question("I").after(80).text
    for part in (
        "in_response = (position >= starts) & (position < ends)",
        "in_response = (position >= 1) & (position < ends)",
        "The gradient points elsewhere",
        "warning: the prompt counts",
    ):
        assert part in text
    assert "(this line is missing)" in draw_evidence(CASE["zero_grad forgotten"]).text
    assert "Seen: transformers #24725 and #34191, trl #2175." in hunt_question("Q").why


@pytest.mark.parametrize("width", [48, 80, 112])
@pytest.mark.parametrize("case", CASES)
def test_pictures_fit_their_width(case, width):
    shown = [draw_clues(run_case(case), width), draw_evidence(case, width)]
    shown.append(draw_likeness(run_case("A"), run_case(case), width))
    for drawing in shown:
        assert max(map(len, drawing.text.splitlines())) <= width


def test_the_clues_show_what_counts_and_where_an_answer_ends():
    text = draw_clues(healthy(), 80).text
    assert "26.4.1901→  1901-04-26■" in text
    assert "reads    ▷2094→94■············" in text and "learns   ░░░░░94■░░░░░░░░░░░░" in text
    assert "1.00  1.00  1.00  1.00  1.00" in text and "has no finding" in text.replace("0", "no")


def test_a_notebook_shows_the_curves_and_the_rest():
    shown = clues("C")._repr_mimebundle_()
    assert shown["text/plain"] == repr(clues("C"))
    assert "sftviz-chart" in shown["text/html"] and "sftviz-drawing" in shown["text/html"]
    assert "this run from 16.28" in shown["text/html"]


def test_end_tokens_are_in_the_responses_of_the_healthy_run_alone():
    assert (healthy().batch.labels == END).sum() == B
    assert (run("end token left out").batch.labels == END).sum() == 0
