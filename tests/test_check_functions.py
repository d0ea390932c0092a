"""Any function is judged: every known mistake by its name, and whatever else may happen."""

import linecache
import threading
from time import monotonic

import pytest
import torch

from sftviz.exercises.accumulation import check_accumulation
from sftviz.exercises.check import check
from sftviz.exercises.log_probs import LOG_PROBS, check_log_probs
from sftviz.exercises.step import STEP, check_step
from sftviz.exercises.subject import Subject, Trial
from sftviz.exercises.subjects import SUBJECTS
from sftviz.mistakes import MISTAKES, Mistake

# ---------------------------------------------------------------- what is known


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_every_mistake_is_recognised(mistake):
    verdict = check(SUBJECTS[mistake.about], mistake.run)
    assert verdict.mistake == mistake.name, verdict
    assert verdict.outcome in (
        ("correct",) if mistake.name == "sum in 16 bits" else ("wrong", "error")
    )
    assert mistake.cause in verdict.message and mistake.remedy in verdict.message


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_the_right_function_is_correct(subject):
    verdict = check(subject, subject.right)
    assert (verdict.outcome, verdict.mistake, verdict.wrong) == ("correct", None, ()), verdict
    with torch.no_grad():
        assert check(subject, subject.right) == verdict


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_ordinary_arguments_come_first_and_no_number_stands_for_another(subject):
    conditions = [trial.condition for trial in subject.trials]
    assert not conditions[0] and conditions == sorted(conditions, key=bool)
    assert len(subject.trials) > 2


# ---------------------------------------------------------------- log-probs, accumulation


def forgets_ignored_labels(model, input_ids, labels):
    log_p = model(input_ids).logits.log_softmax(-1)
    return {"log_probs": log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)}


def test_an_error_under_a_condition_says_where_and_what_is_right_elsewhere():
    verdict = check_log_probs(forgets_ignored_labels)
    first, line, rest = verdict.message.splitlines()
    assert verdict.outcome == "error" and first.startswith("forgets_ignored_labels raised ")
    assert line.endswith(
        ': return {"log_probs": log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)}'
    )
    assert rest == "On ordinary arguments all is right. It goes wrong where a label is −100."


def test_a_wrong_shape_is_said_and_stands_beside_the_right_one():
    verdict = check_log_probs(lambda model, x, y: model(x).log_softmax(-1).amax(-1, keepdim=True))
    assert verdict.message.startswith("log_probs must have shape (2, 5), got shape (2, 5, 1).")
    assert verdict.numbers[0][1:] == ("shape (2, 5, 1)", "shape (2, 5)", False)


def test_the_logarithm_of_a_softmax_fails_where_logits_are_far_apart():
    verdict = check_log_probs(
        lambda model, x, y: (
            model(x).softmax(-1).log().gather(-1, y.clamp(0)[..., None])[..., 0] * (y != -100)
        )
    )
    assert "It goes wrong where logits are far apart" in verdict.message


def test_a_missing_gradient_of_a_result_is_said():
    def through_lists(model, input_ids, labels):
        return torch.tensor(LOG_PROBS.right(model, input_ids, labels)["log_probs"].tolist())

    verdict = check_log_probs(through_lists)
    assert verdict.mistake == "log-probs detached"
    assert "No gradient arrives at model: what is returned must keep its graph" in verdict.message


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (3, "Return a list with the gradient of each window; got int."),
        ([torch.ones(7, 7)], "Return each gradient as a dictionary, {name: tensor}; got Tensor."),
        (
            [{"weight": torch.ones(7)}] * 2,
            "weight in step 1 must have shape (7, 7), got shape (7,).",
        ),
    ],
)
def test_what_accumulation_returns_has_to_be_readable(result, sentence):
    assert sentence in check_accumulation(lambda model, microbatches, G: result).message


def test_parameters_must_stay_as_they_are():
    def trains(model, microbatches, gradient_accumulation_steps):
        found = SUBJECTS["accumulation"].right(model, microbatches, gradient_accumulation_steps)
        with torch.no_grad():
            model.weight -= 0.1
        return found

    verdict = check_accumulation(trains)
    assert verdict.wrong == ("unchanged inputs",)
    assert "The function changes its arguments: work on a copy." in verdict.message


# ---------------------------------------------------------------- dangers


def cell(body, file="/tmp/ipykernel_12/345.py", **names):
    """A step that is defined in a cell of a notebook."""
    lines = ["def my_step(lp, mask, G, c):", *(f"    {line}" for line in body.splitlines())]
    source = "\n".join(lines)
    linecache.cache[file] = len(source), None, [f"{line}\n" for line in lines], file
    space = {"torch": torch, **names}
    exec(compile(source, file, "exec"), space)
    return space["my_step"]


RIGHT = """\
total = torch.where(mask.bool(), lp.double(), 0).sum() / c
loss = -total / G / G
loss.backward()
return loss.detach(), {"num_tokens": mask.sum(), "masked_sum": total.detach()}"""


def test_a_loop_that_never_ends_is_stopped_and_its_line_is_said():
    start = monotonic()
    verdict = check(STEP, cell("while True:\n  try: lp = lp * 1\n  except Exception: pass"), 0.3)
    assert verdict.outcome == "error" and monotonic() - start < 5
    first, line = verdict.message.splitlines()
    assert first == "my_step was not finished after 0.3 s. Is there a loop that never ends?"
    assert line.startswith(("line 2: ", "line 3: "))


def test_a_limit_of_time_leaves_an_earlier_one_and_other_threads_alone():
    signal = pytest.importorskip("signal")
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 500)
        assert check_step(cell(RIGHT)).outcome == "correct"
        assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] < 500
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(check_step(cell(RIGHT)).outcome))
    thread.start()
    thread.join()
    assert seen == ["correct"]


@pytest.mark.parametrize("file", ["/tmp/ipykernel_12/345.py", "<ipython-input-3-a1b2>", "<stdin>"])
def test_an_error_in_a_cell_has_the_line_of_the_cell(file):
    verdict = check_step(cell("inner = lambda: lp @ mask\nreturn inner()", file))
    _, *lines = verdict.message.splitlines()
    assert lines == ["line 3: return inner()", "line 2: inner = lambda: lp @ mask"]


def test_a_function_that_calls_itself_is_shown_once():
    verdict = check_step(cell("def f(n): return f(n + 1)\nf(0)"))
    assert verdict.message.count("line 2: def f(n)") == 1


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("lp.double()", "log_probs.double()", {"log_probs": torch.ones(3, 4)}),
        ("/ G / G", "/ G / STEPS", {"STEPS": 2}),
    ],
)
def test_a_variable_of_the_notebook_in_the_place_of_an_argument_is_named(before, after, names):
    verdict = check_step(cell(RIGHT.replace(before, after), **names))
    assert verdict.outcome != "correct"
    (name,) = names
    assert f"It uses {name} from outside of the function: is an argument meant?" in verdict.message


def test_what_is_left_from_one_call_to_the_next_is_noticed():
    verdict = check_step(
        cell("seen.append(1)\n" + RIGHT.replace("/ c", "/ c * len(seen)"), seen=[])
    )
    assert "Called again with the same arguments, it gives something else." in verdict.message
    assert "It uses seen from outside of the function" in verdict.message


@pytest.mark.parametrize(
    ("function", "own"),
    [
        (lambda lp, mask: 0, "2 parameters (lp, mask)"),
        (lambda lp: 0, "1 parameter (lp)"),
        (lambda lp, mask, G, c, more: 0, "5 parameters (lp, mask, G, c, more)"),
        (lambda lp, *, mask, G, c: 0, "4 parameters (lp, *, mask, G, c)"),
    ],
)
def test_a_wrong_number_of_parameters_is_said(function, own):
    verdict = check_step(function)
    assert verdict.outcome == "error"
    assert verdict.message == (
        f"The function has {own}, and is called with 4 arguments: policy_log_probs, "
        "response_mask, gradient_accumulation_steps, normalize_constant."
    )


def test_the_result_of_a_call_is_not_a_function():
    with pytest.raises(TypeError) as caught:
        check_step((torch.tensor(0.0), {}))
    message = "give the function itself, without calling it, got tuple."
    assert str(caught.value) == message


def test_an_interrupt_reaches_the_notebook():
    with pytest.raises(KeyboardInterrupt):
        check_step(cell("raise KeyboardInterrupt"))


# ---------------------------------------------------------------- subjects of one's own


def mistake(name, run):
    return Mistake(name, f"{name}.", "Mend it.", "another function", run)


IDS = torch.tensor([[5, 3, 8, 1], [2, 7, 4, 6]])
SHIFT = Subject(
    "shift",
    ("ids",),
    lambda ids: (ids[:, :-1], ids[:, 1:]),
    (
        mistake("not shifted", lambda ids: (ids, ids)),
        mistake("shifted back", lambda ids: (ids[:, 1:], ids[:, :-1])),
    ),
    (Trial((IDS,)), Trial((IDS[:, :2],), "there are two tokens")),
    returns=("input_ids", "labels"),
)


@pytest.mark.parametrize(
    ("function", "outcome", "name"),
    [
        (lambda ids: [ids[:, :3], ids[:, 1:4]], "wrong", None),  # right for four tokens only
        (
            lambda ids: {"labels": ids.roll(-1, 1)[:, :-1], "input_ids": ids[:, :-1]},
            "correct",
            None,
        ),
        (lambda ids: (ids.tolist(), ids.numpy()), "wrong", "not shifted"),
        (lambda ids: (ids[:, 1:], ids[:, :-1]), "wrong", "shifted back"),
        (lambda ids: ids[:, 1:], "wrong", None),
        (lambda ids: None, "not attempted", None),
    ],
)
def test_a_function_with_two_results(function, outcome, name):
    verdict = check(SHIFT, function)
    assert (verdict.outcome, verdict.mistake) == (outcome, name), verdict


def test_what_is_missing_in_a_result_is_said():
    message = check(SHIFT, lambda ids: ids[:, 1:]).message
    assert message.startswith("Return 2 values, input_ids, labels; got Tensor.")
    message = check(SHIFT, lambda ids: {"labels": ids[:, 1:]}).message
    assert message.startswith("What is returned lacks 'input_ids'.")


def test_the_arguments_are_described():
    assert check(SHIFT, lambda ids: (ids, ids)).where == "The arguments: ids (2, 4)."
    trial = Trial((torch.ones(2, 3), 4), "no token counts")
    subject = Subject("f", ("mask", "G"), lambda mask, G: G, (), (trial,))
    assert subject.describe(trial) == "mask (2, 3), G = 4, where no token counts"


def test_a_function_that_may_change_its_arguments():
    def train(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            model.weight.square().sum().backward()
            optimizer.step()
        return model.weight

    def forgets_zero_grad(model, optimizer, steps):
        for _ in range(steps):
            model.weight.square().sum().backward()
            optimizer.step()
        return model.weight

    model = torch.nn.Linear(2, 1).double()
    trials = (Trial((model, torch.optim.SGD(model.parameters(), lr=0.1), 3)),)
    subject = Subject(
        "train",
        ("model", "optimizer", "steps"),
        train,
        (mistake("zero_grad forgotten", forgets_zero_grad),),
        trials,
        changes_arguments=True,
    )
    before = model.weight.tolist()
    assert check(subject, forgets_zero_grad).mistake == "zero_grad forgotten"
    assert check(subject, train).outcome == "correct"
    assert check(subject, lambda model, optimizer, steps: None).outcome == "not attempted"
    assert model.weight.tolist() == before
