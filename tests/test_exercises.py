"""The exercises: solutions are right, wrong versions are called by their names, notebooks agree."""

import json
import math
import re
from inspect import signature

import pytest
import torch
from make_exercises import FOLDER, SHEETS, for_nbgrader, notebook
from nbformat import v4
from torch.nn.functional import cross_entropy, log_softmax, pad

import sftviz
from sftviz.__main__ import main
from sftviz.exercises.check_test import REQUIRED, check_test
from sftviz.exercises.course import EXERCISES, check_exercise
from sftviz.exercises.orders import ORDERS
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.training import Trainer, prepare, visiting_order
from sftviz.label_log_probs import IGNORE_INDEX
from sftviz.log_probs import get_response_log_probs
from sftviz.mistakes import MISTAKES
from sftviz.step import sft_microbatch_train_step, trace_step
from sftviz.tokens import TokenBatch, build_token_batch

NAMES = list(EXERCISES)
SOLUTIONS = {name: exercise.solution for name, exercise in EXERCISES.items()}
# Those of the whole step are in test_check_step.py.
WRONG = [
    (name, mistake)
    for name, exercise in EXERCISES.items()
    if name != "my_step"
    for mistake in exercise.mistakes
]


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_correct(name):
    verdict = check_exercise(SOLUTIONS[name])
    assert (verdict.outcome, verdict.mistake) == ("correct", None), verdict


@pytest.mark.parametrize(
    ("name", "mistake"), WRONG, ids=[f"{name}-{mistake.name}" for name, mistake in WRONG]
)
def test_a_wrong_version_is_called_by_its_name(name, mistake):
    verdict = EXERCISES[name].judge(mistake.run)
    assert verdict.outcome in ("wrong", "error")
    assert verdict.mistake == mistake.name, verdict
    if name != "my_test":
        assert mistake.cause in verdict.message and mistake.remedy in verdict.message
        assert f"Or {mistake.name}" not in verdict.message  # no other one gives the same


def defined(source, name):
    space = {}
    exec(source, space)
    return space[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_is_not_attempted(name):
    stub = defined(EXERCISES[name].stub, name)
    assert stub.__doc__ == SOLUTIONS[name].__doc__
    assert [*signature(stub).parameters] == [*signature(SOLUTIONS[name]).parameters]
    assert check_exercise(stub).outcome == "not attempted"


def test_there_are_twelve_with_several_mistakes_each_and_hints_in_steps():
    assert len(EXERCISES) >= 12
    for name, exercise in EXERCISES.items():
        assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes) >= 3
        assert {mistake.about for mistake in exercise.mistakes} <= {name, "step"}
        assert len(exercise.hints) >= 2
        assert len(exercise.stub.splitlines()) <= 12
        assert 1 <= exercise.minutes <= 30


def test_a_mistake_that_the_package_knows_has_no_second_name():
    """The same name means the same in an exercise as in the package."""
    known = {mistake.name for mistake in MISTAKES}
    shared = {mistake.name for name, mistake in WRONG} & known
    assert {"mask ignored", "no shift", "÷G", "mean of means", "zero_grad forgotten"} <= shared


# ---------------------------------------------------------------- right, in other words


def masked_sum_by_loops(log_probs, mask):
    total = 0 * log_probs[mask == 1].sum()
    for row, bits in zip(log_probs, mask.tolist(), strict=True):
        for value, counts in zip(row, bits, strict=True):
            total = total + value if counts else total
    return total


def masked_sum_in_float32(log_probs, mask):
    return log_probs.float().masked_fill(mask == 0, 0).sum()


def response_mask_as_lists(prompt_lengths, lengths, T):
    pairs = zip(prompt_lengths.tolist(), lengths.tolist(), strict=True)
    return [[start <= at < end for at in range(T)] for start, end in pairs]


def shift_as_a_dictionary(tokens, in_response):
    labels, mask = tokens.roll(-1, 1)[:, :-1], in_response[:, 1:].int()
    return {
        "labels": labels,
        "response_mask": mask,
        "input_ids": tokens.narrow(1, 0, labels.shape[1]),
    }


def label_log_probs_by_cross_entropy(logits, labels):
    return -cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)


def negate_and_divide_as_floats(total, G, c):
    return total.item() / c, -total.item() / c / G, -total.item() / c / G**2


def gradient_by_hand_with_autograd(logits, labels, mask, G, c):
    log_probs = logits.requires_grad_().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    log_probs.retain_grad()
    (-(log_probs * mask).sum() / c / G / G).backward()
    return log_probs.grad, logits.grad


def log_probs_of(model, batch):
    return get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]


def accumulate_gradient_in_one_pass(model, microbatches):
    for weight in model.parameters():
        weight.grad = None
    sums = [(log_probs_of(model, batch) * batch.response_mask).sum(1) for batch in microbatches]
    (-torch.cat(sums).mean()).backward()


def window_losses_as_a_list(masked_sums, num_tokens):
    return [-each / sum(num_tokens.tolist()) for each in masked_sums]


def train_in_one_loop(model, optimizer, microbatches, G):
    losses, loss = [], 0
    for number, batch in enumerate(microbatches, start=1):
        log_probs = log_probs_of(model, batch)
        loss = loss + sft_microbatch_train_step(log_probs, batch.response_mask, G)[0]
        if number % G == 0 or number == len(microbatches):
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss)
            loss = 0
    return losses


def ranks_gradient_as_a_sum(models, batches):
    num_tokens = sum(batch.num_tokens for batch in batches)
    for model, batch in zip(models, batches, strict=True):
        (-log_probs_of(model, batch)[batch.response_mask].sum() / num_tokens).backward()
    total = sum(model.weight.grad for model in models)
    for model in models:
        model.weight.grad = total


OTHER_WORDS = [
    (name, function)
    for name in NAMES
    for function in list(globals().values())
    if getattr(function, "__module__", "") == __name__
    and function.__name__.startswith((f"{name}_by", f"{name}_in", f"{name}_as", f"{name}_with"))
]


@pytest.mark.parametrize(
    ("name", "function"), OTHER_WORDS, ids=[function.__name__ for _, function in OTHER_WORDS]
)
def test_a_function_in_other_words_is_correct(name, function):
    verdict = check_exercise(function, name)
    assert (verdict.outcome, verdict.mistake) == ("correct", None), verdict


# ---------------------------------------------------------------- solutions, by other means


def test_the_masked_sum_is_that_of_a_loop():
    x, mask = [[-0.5, math.nan], [-2.0, -0.25]], [[1, 0], [0, 1]]
    log_probs = torch.tensor(x, requires_grad=True)
    total = SOLUTIONS["masked_sum"](log_probs, torch.tensor(mask))
    total.backward()
    assert total.item() == -0.75
    assert log_probs.grad.tolist() == mask


CONVERSATIONS = [
    [("prompt", [3, 1]), ("response", [4, 1, 5])],
    [("prompt", [2]), ("response", [6])],
    [("prompt", [1, 1, 2, 3]), ("response", [5, 2])],
]


def test_mask_and_shift_make_the_batch_of_the_package():
    prompts, responses = (
        torch.tensor([len(ids) for _, ids in turns]) for turns in zip(*CONVERSATIONS, strict=True)
    )
    rows = [[token for _, ids in turns for token in ids] for turns in CONVERSATIONS]
    T = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (T - len(row)) for row in rows])
    mask = SOLUTIONS["response_mask"](prompts, prompts + responses, T)
    batch = build_token_batch(CONVERSATIONS, pad_id=0)
    for mine, theirs in zip(
        SOLUTIONS["shift"](tokens, mask),
        (batch.input_ids, batch.labels, batch.response_mask),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


def test_log_probs_are_torchs_cross_entropy():
    logits = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 4, IGNORE_INDEX, 2], [1, 1, 3, 0], [IGNORE_INDEX, 2, 4, 4]])
    theirs = -cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    assert torch.allclose(SOLUTIONS["label_log_probs"](logits, labels).flatten(), theirs)


X = torch.tensor([[-0.5, -0.3, -0.9], [-0.4, -0.6, -0.7]], dtype=torch.float64)
M = torch.tensor([[0, 1, 1], [0, 0, 1]]).bool()


def test_the_step_and_its_last_lines_are_those_of_the_trace():
    trace = trace_step(X, M, 3, 7.0)  # B = 2
    found = SOLUTIONS["negate_and_divide"](torch.tensor(-1.9), 3, 7.0)
    expected = torch.stack([trace.masked_sum, trace.loss, trace.scaled_loss]).float()
    assert torch.allclose(torch.stack(found), expected)
    leaf = X.clone().requires_grad_()
    loss, metadata = SOLUTIONS["my_step"](leaf, M, 3, 7.0)
    assert torch.allclose(loss, trace.scaled_loss) and torch.allclose(leaf.grad, trace.grad)
    assert metadata["num_tokens"] == 3 and torch.allclose(metadata["masked_sum"], trace.masked_sum)


def test_the_gradient_by_hand_is_autograds():
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    labels = torch.tensor([[1, 0, 4], [2, 2, 3]])
    log_probs = log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0]
    log_probs.retain_grad()
    sft_microbatch_train_step(log_probs, M, 3, 7.0)
    grad, logits_grad = SOLUTIONS["gradient_by_hand"](logits.detach(), labels, M, 3, 7.0)
    assert torch.allclose(grad, log_probs.grad) and torch.allclose(logits_grad, logits.grad)


def nll_sum(model, batches):
    """By torch's cross-entropy, all batches padded to one."""
    S = max(batch.labels.shape[1] for batch in batches)

    def joined(name):
        return torch.cat(
            [pad(getattr(each, name), (0, S - each.labels.shape[1])) for each in batches]
        )

    labels = joined("labels").masked_fill(~joined("response_mask"), -100)
    logits = model(joined("input_ids"))
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


def grad_of(loss, model):
    return torch.autograd.grad(loss, model.table)[0]


def test_accumulation_leaves_the_gradient_of_the_full_batch():
    model, window = BigramModel(8, dtype=torch.float64), make_window(B=3, G=4)
    expected = grad_of(nll_sum(model, window) / 12, model)
    SOLUTIONS["accumulate_gradient"](model, window)
    assert torch.allclose(model.table.grad, expected)


def test_an_uneven_window_is_the_mean_over_its_tokens():
    log_probs = torch.linspace(-3, -0.1, 9, dtype=torch.float64, requires_grad=True)
    parts = log_probs.split([2, 6, 1])
    losses = SOLUTIONS["window_losses"](
        torch.stack([part.sum() for part in parts]), torch.tensor([2, 6, 1])
    )
    for loss in losses:
        loss.backward(retain_graph=True)
    assert torch.allclose(log_probs.grad, torch.full((9,), -1 / 9, dtype=torch.float64))


def test_two_and_three_ranks_have_the_gradient_of_one():
    for W in (2, 3):
        batches = make_window(B=2, G=W)
        models = [BigramModel(8, dtype=torch.float64) for _ in batches]
        tokens = sum(batch.num_tokens for batch in batches)
        expected = grad_of(nll_sum(models[0], batches) / tokens, models[0])
        SOLUTIONS["ranks_gradient"](models, batches)
        assert all(torch.allclose(model.table.grad, expected) for model in models)


def test_the_loop_trains_as_the_trainer_does():
    rows = [[("prompt", [1, 2]), ("response", [3 + n % 4, n % 3])] for n in range(12)]
    data = prepare(rows, 0, 8, vocab_size=8)
    B, G = 3, 2
    mine, theirs = (BigramModel(8, dtype=torch.float64) for _ in range(2))
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5) for model in (mine, theirs)]
    trainer = Trainer(theirs, optimizers[1], data, microbatch_size=B, gradient_accumulation_steps=G)
    history = list(trainer.run(until=3))
    microbatches = [
        TokenBatch(
            data.tokens.input_ids[rows], data.tokens.labels[rows], data.tokens.response_mask[rows]
        )
        for number in (1, 2, 3)
        for rows in visiting_order(12, number, B * G, seed=0).split(B)
    ]
    losses = SOLUTIONS["train"](mine, optimizers[0], microbatches, G)
    assert losses == pytest.approx([window.scaled_loss for window in history])
    assert torch.allclose(mine.table, theirs.table)


def test_the_test_fails_for_each_mistake():
    SOLUTIONS["my_test"](sft_microbatch_train_step)
    for mistake in REQUIRED:
        with pytest.raises((AssertionError, RuntimeError, TypeError)):
            SOLUTIONS["my_test"](mistake.run)


# ---------------------------------------------------------------- the judge of tests


def test_a_test_that_is_too_weak_is_told_who_survives_and_what_would_show_it():
    def my_test(step):
        log_probs = torch.tensor([[-0.5, -0.25], [-2.0, -1.0]], requires_grad=True)
        loss, metadata = step(log_probs, torch.tensor([[0, 1], [1, 1]]), 2)
        assert metadata["num_tokens"] == 3 and not loss.requires_grad
        assert torch.allclose(loss, torch.tensor(3.25 / 4))
        assert log_probs.grad.tolist() == [[0, -0.25], [-0.25, -0.25]]

    verdict = check_exercise(my_test)
    said = verdict.message
    assert verdict.outcome == "wrong" and verdict.mistake is None
    assert f"of {len(REQUIRED)} mistakes survive: “÷B·G”" in said
    found = re.search(
        r"A test on this batch fails for \d+ of them: (.*), mask (.*)\. Look at", said
    )
    mask = torch.tensor(json.loads(found[2]))
    G, c = (float(re.search(rf"{name} = ([\d.]+)", found[1])[1]) for name in "Gc")
    (per_row,) = [mistake for mistake in MISTAKES if mistake.name == "÷B·G"]
    right, wrong = (
        step(torch.ones(mask.shape, requires_grad=True), mask, int(G), c)[0]
        for step in (sft_microbatch_train_step, per_row.run)
    )
    assert not torch.isclose(right, wrong)
    assert "A test on this batch fails for “multiplied with NaN”: B = 3, S = 6" in said


def test_a_test_can_raise_what_it_wants_and_never_learns_which_step_it_has():
    def my_test(step):
        print("called")
        if step is not sft_microbatch_train_step and "given" not in step.__name__:
            pytest.fail("I know you")

    assert check_exercise(my_test).mistake == "asserts nothing"

    def fails(step):
        pytest.fail("always")

    assert "fails raised Failed: always" in check_exercise(fails, "my_test").message

    def broken(step):
        return step(unknown)  # noqa: F821

    verdict = check_exercise(broken, "my_test")
    assert verdict.outcome == "error"
    assert "NameError" in verdict.message and "return step(unknown)" in verdict.message


def test_a_test_that_never_ends_is_stopped():
    def my_test(step):
        while True:
            pass

    verdict = check_test(my_test, (), seconds=0.2)
    assert verdict.outcome == "error" and "was not finished after 0.2 s" in verdict.message


def test_a_test_without_an_argument_is_not_called():
    verdict = check_exercise(lambda: None, "my_test")
    assert verdict.outcome == "error" and "0 parameters" in verdict.message


# ---------------------------------------------------------------- the notebooks


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_a_notebook_is_what_is_made_of_its_exercises(sheet):
    stored = v4.reads((FOLDER / f"{sheet.file}.ipynb").read_text("utf-8"))
    for cell in stored.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    assert stored == notebook(sheet)


def test_every_exercise_is_in_one_notebook_and_there_is_no_other_notebook():
    assert [name for sheet in SHEETS for name in sheet.names] == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == [sheet.file for sheet in SHEETS]


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_a_notebook_links_to_files_that_are_there(sheet):
    for link in re.findall(r"\]\(([^)]+)\)", v4.writes(notebook(sheet))):
        assert (FOLDER / link).exists(), link


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_solution_is_in_a_notebook(name):
    exercise = EXERCISES[name]
    body = set(exercise.solved.splitlines()) - set(exercise.stub.splitlines())
    given = ORDERS["loop"].lines  # to be put in order, in front of the loop
    lines = {line.strip() for line in body if len(line.strip()) > 24} - {*given}
    assert lines
    for path in FOLDER.glob("*.ipynb"):
        text = path.read_text("utf-8").replace('\\"', '"')
        assert not [line for line in lines if line in text]


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_a_solved_notebook_needs_nothing_but_its_imports(sheet):
    cells = [cell for cell in notebook(sheet, solved=True).cells if cell.cell_type == "code"]
    space = {}
    for cell in cells:
        if cell.id.endswith("-check"):
            assert eval(cell.source, space).outcome == "correct"
        else:
            exec(cell.source, space)


# ---------------------------------------------------------------- what is asked of `check_exercise`


def test_a_function_needs_the_name_of_an_exercise():
    def my_sum(log_probs, mask):
        return log_probs.sum()

    message = (
        "there is no exercise 'my_sum': keep the name of the function, or give the name of the "
        f"exercise, one of {', '.join(NAMES)}."
    )
    with pytest.raises(ValueError) as error:
        check_exercise(my_sum)
    assert str(error.value) == message
    assert check_exercise(my_sum, "masked_sum").mistake == "mask ignored"
    with pytest.raises(TypeError) as error:
        check_exercise(3)
    assert str(error.value) == "give the function itself, without calling it, got int."


def test_what_a_loop_leaves_in_a_model_is_compared():
    """The losses are right, and the last window does not reach the weights."""

    def train(model, optimizer, microbatches, G):
        losses = SOLUTIONS["train"](model, optimizer, microbatches, G)
        with torch.no_grad():
            model.weight.add_(1)
        return losses

    verdict = check_exercise(train)
    assert (verdict.outcome, verdict.right, verdict.wrong) == ("wrong", ("losses",), ("weight",))


def test_the_command_judges_the_file_of_an_exercise(tmp_path, capsys):
    texts = {
        "masked_sum": EXERCISES["masked_sum"].solved,
        "shift": "def shift(tokens, in_response):\n    return tokens, tokens, in_response",
        "train": EXERCISES["train"].stub,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(f"import torch\n\n{text}\n", "utf-8")
    assert main(["check", *(str(tmp_path / f"{name}.py") for name in texts), "--json"]) == 1
    judged = json.loads(capsys.readouterr().out)
    assert [each["outcome"] for each in judged] == ["correct", "wrong", "not attempted"]


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.file)
def test_a_notebook_for_nbgrader_has_points_solutions_and_a_hidden_assertion(sheet):
    """The course of three students that docs/instructors.md tells of was graded with such ones."""
    page = for_nbgrader(sheet)
    marked = {cell.id: cell for cell in page.cells if "nbgrader" in cell.metadata}
    data = {name: cell.metadata["nbgrader"] for name, cell in marked.items()}
    assert [each["grade_id"] for each in data.values()] == list(data)
    assert {each["schema_version"] for each in data.values()} == {3}
    plain = {cell.id: cell.source for cell in notebook(sheet).cells}
    begin, end = "    ### BEGIN SOLUTION\n", "    ### END SOLUTION"
    for name in sheet.names:
        before, solution, after = re.split(f"{begin}|{end}", marked[name].source)
        assert before + "    raise NotImplementedError" + after == plain[name]
        room = {"torch": torch, "__name__": "learner"} | vars(sftviz)
        exec(before + solution, room)
        assert data[f"{name}-check"]["points"] == EXERCISES[name].minutes
        assert data[name]["solution"] and data[f"{name}-check"]["grade"]
        for function, is_right in ((room[name], True), (lambda *arguments: None, False)):
            room |= {name: function, "check_exercise": lambda it: check_exercise(it, name)}  # noqa: B023
            try:
                exec(marked[f"{name}-check"].source, room)
            except AssertionError:
                assert not is_right
            else:
                assert is_right
