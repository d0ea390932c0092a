"""Mistakes: each computes what it is called, on real arguments; and an answer is recognised."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from sftviz.accumulation import full_batch_gradient
from sftviz.examples import WORKED_EXAMPLE
from sftviz.inputs import StepInputs
from sftviz.log_probs import get_response_log_probs
from sftviz.mistakes import (
    MISTAKES,
    TELLING,
    TELLING_TOKENS,
    TELLING_WINDOWS,
    accumulate_windows,
    recognise,
    tiny_model,
)
from sftviz.mistakes.divisors import CONSTANTS, DIVISORS
from sftviz.rules import MISTAKEN_SCALINGS
from sftviz.step import sft_microbatch_train_step

BY_NAME = {mistake.name: mistake for mistake in MISTAKES}
STEP = [mistake for mistake in MISTAKES if mistake.about == "step"]

# B = 3, G = 4, c = 7. Written as lists: nothing below uses the package to compute.
X = [[-0.5, -0.3, -0.9, -0.2], [-0.4, -0.6, -0.7, -1.1], [-1.3, -0.1, -0.8, -2.0]]
M = [[0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0]]
B, S, G, C, N = 3, 4, 4, 7.0, 6
SUM = -0.3 - 0.9 - 0.7 - 1.1 - 1.3 - 0.8
RIGHT_GRAD = [[-m / (C * G * G) for m in row] for row in M]


def masked(mask):
    return sum(x * m for xs, ms in zip(X, mask, strict=True) for x, m in zip(xs, ms, strict=True))


def by(divisor):
    """What is expected if the sum is divided by c and a number."""
    return {
        "loss": -SUM / C / divisor,
        "grad": [[-m / C / divisor for m in row] for row in M],
    }


def with_mask(mask):
    return {
        "loss": -masked(mask) / C / G / G,
        "num_tokens": sum(map(sum, mask)),
        "masked_sum": masked(mask) / C,
        "grad": [[-m / C / G / G for m in row] for row in mask],
    }


def with_constant(c):
    return {
        "loss": -SUM / c / G / G,
        "masked_sum": SUM / c,
        "grad": [[-m / c / G / G for m in row] for row in M],
    }


def times(factor):
    return [[factor * g for g in row] for row in RIGHT_GRAD]


EXPECTED = {
    "not divided": by(1),
    "÷G": by(4),
    "÷B·G": by(12),
    "÷B·G²": by(48),
    "averaged averages": by(6 * 4),
    "one weight per example": by(12 * 2),
    "÷G³": by(64),
    "÷2G": by(8),
    "÷(G+2)": by(6),
    "÷G^G": by(256),
    "÷2^G": by(16),  # 2^4 = 4²
    "÷(B+G)": by(7),
    "÷B²": by(9),
    "÷B": by(3),
    "token mean": by(6),
    "token mean ÷G²": by(96),
    "mean of row means": by(3 * 16 * 2),
    "dense mean": by(3 * 4 * 4),
    "c left out": with_constant(1),
    "c twice": with_constant(49),
    "c multiplied": with_constant(1 / 7),
    "mask ignored": with_mask([[1] * 4] * 3),
    "mask inverted": with_mask([[1 - m for m in row] for row in M]),
    "mask one too early": with_mask([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]]),
    "mask one too late": with_mask([[0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]]),
    "prompt counted": with_mask([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0]]),
    "padding counted": with_mask([[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1]]),
    "first row's mask": with_mask([M[0]] * 3),
    # Six zeros choose row 0, and six ones row 1.
    "integer mask as index": {
        "loss": 6 * (1.9 + 2.8) / C / 16,
        "masked_sum": -6 * (1.9 + 2.8) / C,
        "grad": [[-6 / C / 16] * 4, [-6 / C / 16] * 4, [0] * 4],
    },
    "multiplied with NaN": {},  # its own test, as the next but two
    "sign kept": {"loss": SUM / C / 16, "grad": times(-1)},
    "backward on the negative": {"grad": times(-1)},
    "masked_sum negated": {"masked_sum": -SUM / C},
    "sum in 16 bits": {},
    "log-probs cut to 16 bits": None,
    "backward not called": {"grad": None, "attached": True},
    "backward twice": {"grad": times(2)},
    "backward on a detached loss": None,
    "backward on a fresh leaf": {"grad": None},
    "backward on the unscaled loss": {"grad": times(4)},
    "gradient cleared in the step": {},
    "loss returned attached": {"attached": True},
    "loss returned unscaled": {"loss": -SUM / C / 4},
    "all tokens counted": {"num_tokens": 12},
    "rows counted": {"num_tokens": 3},
    "masked_sum without c": {"masked_sum": SUM},
}


def run(function, log_probs, mask, G, c, grad_before=None):
    """Everything that can be seen of a step."""
    leaf = torch.as_tensor(log_probs).clone().requires_grad_()
    leaf.grad = None if grad_before is None else torch.full_like(leaf, grad_before)
    try:
        loss, metadata = function(leaf, torch.as_tensor(mask), G, c)
    except Exception as error:
        return {"error": type(error)}
    seen = {"loss": loss.detach(), "attached": loss.requires_grad, "grad": leaf.grad}
    return seen | metadata


@pytest.mark.parametrize("mistake", STEP, ids=lambda mistake: mistake.name)
def test_a_wrong_step_computes_what_it_is_called(mistake):
    if (expected := EXPECTED[mistake.name]) is None:
        return  # below
    expected = {
        "loss": -SUM / C / 16,
        "num_tokens": 6,
        "masked_sum": SUM / C,
        "attached": False,
        "grad": RIGHT_GRAD,
    } | expected
    seen = run(mistake.run, torch.tensor(X, dtype=torch.float64), M, G, C)
    assert (seen["grad"] is None) == (expected["grad"] is None)
    assert (seen["attached"], seen["num_tokens"]) == (expected["attached"], expected["num_tokens"])
    assert float(seen["loss"]) == pytest.approx(expected["loss"], rel=1e-12)
    assert float(seen["masked_sum"]) == pytest.approx(expected["masked_sum"], rel=1e-12)
    if seen["grad"] is not None:
        assert seen["grad"].flatten().tolist() == pytest.approx(
            [x for row in expected["grad"] for x in row], rel=1e-12
        )


def test_what_only_special_numbers_show():
    nan = run(BY_NAME["multiplied with NaN"].run, [[math.nan, -1.0]], [[0, 1]], 2, 1.0)
    assert math.isnan(nan["loss"]) and nan["grad"].tolist() == [[0, -0.25]]
    half = torch.full((1, 101), -1.0).bfloat16()
    half[0, 0] = -200.0
    ones = torch.ones(1, 101)
    # −300 has more than the eight bits of a bfloat16 only if it is odd: −301 becomes −300.
    half[0, 1] = -2.0
    short = run(BY_NAME["sum in 16 bits"].run, half, ones, 1, 1.0)
    right = run(sft_microbatch_train_step, half, ones, 1, 1.0)
    assert (float(short["loss"]), float(right["loss"])) == (300, 301)
    cut = run(BY_NAME["log-probs cut to 16 bits"].run, [[-1.001]], [[1]], 1, 1.0)
    assert float(cut["loss"]) == 1
    detached = BY_NAME["backward on a detached loss"].run
    assert run(detached, [[-1.0]], [[1]], 1, 1.0) == {"error": RuntimeError}


def test_a_gradient_that_is_cleared_in_the_step_is_missed_in_the_sum():
    cleared = BY_NAME["gradient cleared in the step"].run
    assert run(cleared, [[-1.0]], [[1]], 2, 1.0, 0.5)["grad"].item() == -0.25
    assert run(sft_microbatch_train_step, [[-1.0]], [[1]], 2, 1.0, 0.5)["grad"].item() == 0.25


def agree(a, b):
    """Whether two results cannot be told apart."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(agree(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(agree, a, b))
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.shape != b.shape or a.requires_grad != b.requires_grad:
            return False
        return torch.allclose(a.double(), b.double(), rtol=1e-5, atol=0, equal_nan=True)
    return a is b or (not isinstance(a, torch.Tensor) and a == b)


def same(functions, see):
    seen = [(name, see(function)) for name, function in functions]
    pairs = ((x, y) for i, x in enumerate(seen) for y in seen[:i])
    return [(x[0], y[0]) for x, y in pairs if agree(x[1], y[1])]


def test_no_two_wrong_steps_agree_on_the_telling_batches_and_none_is_right():
    def see(function):
        return [run(function, *arguments(batch), 0.375) for batch in TELLING]

    functions = [("right", sft_microbatch_train_step), *((m.name, m.run) for m in STEP)]
    assert same(functions, see) == []
    assert all(len(x.policy_log_probs) != x.gradient_accumulation_steps for x in TELLING)


def arguments(x):
    G, c = x.gradient_accumulation_steps, x.normalize_constant
    return x.policy_log_probs, x.response_mask, G, c


def about(subject):
    return [(m.name, m.run) for m in MISTAKES if m.about == subject]


def test_no_two_accumulations_agree_and_the_right_one_is_the_full_batch():
    microbatches, G = TELLING_WINDOWS
    right = accumulate_windows(tiny_model(), microbatches, G)
    windows = [microbatches[:3], microbatches[3:]]
    assert agree(right, [full_batch_gradient(tiny_model(), w, per="token") for w in windows])

    def see(function):
        return function(tiny_model(), microbatches, G)

    assert same([("right", accumulate_windows), *about("accumulation")], see) == []


def test_wrong_accumulations_against_sums_of_separate_microbatches():
    microbatches, G = TELLING_WINDOWS
    sums, counts = [], [6, 2, 3, 4, 2]
    assert counts == [batch.num_tokens for batch in microbatches]
    for batch in microbatches:
        model = tiny_model()
        log_p = model(batch.input_ids).log_softmax(-1)
        chosen = log_p.flatten(0, 1)[torch.arange(batch.labels.numel()), batch.labels.flatten()]
        (-chosen[batch.response_mask.flatten()].sum()).backward()
        sums.append(model.weight.grad)
    a, b, c, d, e = sums
    means = [grad / n for grad, n in zip(sums, counts, strict=True)]
    first, last = (a + b + c) / 11, (d + e) / 6
    expected = {
        "zero_grad forgotten": [first, first + last],
        "zero_grad after each microbatch": [c / 11, e / 6],
        "step after each microbatch": [a / 11, b / 11, c / 11, d / 6, e / 6],
        "leftover window dropped": [first],
        "mean of means": [sum(means[:3]) / 3, sum(means[3:]) / 3],
        "÷G twice": [sum(means[:3]) / 9, sum(means[3:]) / 9],
        "÷G forgotten": [sum(means[:3]), sum(means[3:])],
        "window mean ÷G": [first / 3, last / 3],
        "G times too large": [3 * first, 3 * last],
        "mean over tokens forgotten": [a + b + c, d + e],
    }
    assert expected.keys() == dict(about("accumulation")).keys()
    for name, function in about("accumulation"):
        steps = [gradient["weight"] for gradient in function(tiny_model(), microbatches, G)]
        torch.testing.assert_close(steps, expected[name], msg=name)


def test_no_two_wrong_log_probs_agree_and_none_is_right():
    def see(function):
        model = tiny_model()
        try:
            return function(model, *TELLING_TOKENS)
        except IndexError as error:
            return type(error)

    functions = [("right", get_response_log_probs), *about("log-probs")]
    assert same(functions, see) == []


def test_wrong_log_probs_against_loops():
    model, (input_ids, labels) = tiny_model(), TELLING_TOKENS
    logits = model.weight.tolist()
    ids, names = input_ids.tolist(), labels.tolist()

    def log_p(scores):
        total = math.log(sum(map(math.exp, scores)))
        return [score - total for score in scores]

    def look_up(function, names=names):
        return [
            [0.0 if y == -100 else function(logits[x], y) for x, y in zip(xs, ys, strict=True)]
            for xs, ys in zip(ids, names, strict=True)
        ]

    def column(row, v):  # the scores of one token at each position
        return math.log(sum(math.exp(logits[x][v]) for x in ids[row]))

    expected = {
        "no shift": look_up(lambda z, y: log_p(z)[y], ids),
        "shifted twice": look_up(lambda z, y: log_p(z)[y], [[*ys[1:], 0] for ys in names]),
        "probabilities": look_up(lambda z, y: math.exp(log_p(z)[y])),
        "logits": look_up(lambda z, y: z[y]),
        "normalized over positions": [
            [
                0.0 if y == -100 else logits[x][y] - column(row, y)
                for x, y in zip(ids[row], names[row], strict=True)
            ]
            for row in range(2)
        ],
        "wrong gather axis": [
            [log_p(logits[ids[row][max(y, 0)]])[0] for y in names[row]] for row in range(2)
        ],
        "most likely token": look_up(lambda z, y: max(log_p(z))),
        "sampling temperature left in": look_up(lambda z, y: log_p([s / 0.7 for s in z])[y]),
        "negative log-probs": look_up(lambda z, y: -log_p(z)[y]),
        "log-probs detached": look_up(lambda z, y: log_p(z)[y]),
        "ignored label looked up": look_up(
            lambda z, y: log_p(z)[y], [[max(y, 0) for y in ys] for ys in names]
        ),
    }
    assert expected.keys() == dict(about("log-probs")).keys()
    for name, function in about("log-probs"):
        found = function(model, input_ids, labels)["log_probs"]
        assert found.requires_grad == (name != "log-probs detached")
        for mine, theirs in zip(found.tolist(), expected[name], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-12), name


def survivors(B, G, c):
    generator = torch.Generator().manual_seed(B)
    log_probs = -torch.rand((B, 10), generator=generator, dtype=torch.float64) - 0.1
    mask = torch.arange(10) >= torch.arange(B).unsqueeze(1) + 2
    right = run(sft_microbatch_train_step, log_probs, mask, G, c)
    found = [(m.name, run(m.run, log_probs, mask, G, c)) for m in (*DIVISORS, *CONSTANTS)]
    return {name for name, seen in found if agree(seen, right)}


def test_what_survives_the_fixture_of_the_course():
    seven = {"÷B·G", "÷B²", "÷2G", "÷(B+G)", "÷(G+2)", "÷G^G", "÷2^G"}
    assert survivors(2, 2, 42.0) == seven
    assert survivors(2, 2, 1.0) == seven | {"c left out", "c twice", "c multiplied"}
    assert survivors(3, 2, 42.0) == {"÷2G", "÷(G+2)", "÷G^G", "÷2^G"}
    assert survivors(3, 4, 7.0) == {"÷2^G"}
    assert survivors(5, 3, 7.0) == set()


def test_there_are_enough_mistakes_and_each_is_explained():
    assert len(MISTAKES) == len(BY_NAME) >= 36
    for mistake in MISTAKES:
        for sentence in (mistake.cause, mistake.remedy):
            assert sentence.endswith(".") and ". " not in sentence, sentence
    with pytest.raises(FrozenInstanceError):
        mistake.name = ""


def test_the_wrong_divisors_of_the_rules_are_used_and_not_copied():
    used = [mistake.run.__closure__ for mistake in DIVISORS]
    divisors = {id(cell.cell_contents) for cells in used for cell in cells}
    assert all(id(rule.divisor) in divisors for rule in MISTAKEN_SCALINGS)


PLAIN = StepInputs(torch.tensor(X, dtype=torch.float64), torch.tensor(M), G, C)


@pytest.mark.parametrize(
    ("answer", "quantity", "arguments", "outcome", "message"),
    [
        (
            "1.4",
            "scaled_loss",
            WORKED_EXAMPLE,
            "mistake",
            '1.4 is not scaled_loss. 3 mistakes give it here: "÷G", "÷B" and "loss returned '
            'unscaled". With B = G = 2 and c = 1 they cannot be told apart: change B. "÷G" and '
            '"loss returned unscaled" always give the same scaled_loss: look at grad.',
        ),
        (
            "−0.7",
            "scaled_loss",
            WORKED_EXAMPLE,
            "mistake",
            '−0.7 is not scaled_loss. 1 mistake gives it here: "sign kept". The masked sum is not '
            "negated, so training makes the response less likely. Negate the masked sum: the loss "
            "is what becomes smaller.",
        ),
        (
            7,
            "num_tokens",
            WORKED_EXAMPLE,
            "right",
            '7 is right. 2 mistakes give it here too: "prompt counted" and "padding counted". With '
            "B = G = 2 and c = 1 they cannot be told apart: change the mask.",
        ),
        (
            "6",
            "num_tokens",
            PLAIN,
            "right",
            '6 is right. 2 mistakes give it here too: "mask inverted" and "first row\'s mask". '
            "With B = 3, G = 4 and c = 7 they cannot be told apart: change the mask.",
        ),
        (
            3.3,
            "loss",
            WORKED_EXAMPLE,
            "unknown",
            "3.3 is not loss, and no known mistake gives it here.",
        ),
        (
            RIGHT_GRAD,
            "grad",
            PLAIN,
            "right",
            'This is right. 1 mistake gives it here too: "÷2^G". With B = 3, G = 4 and '
            "c = 7 they cannot be told apart: change G.",
        ),
    ],
)
def test_an_answer_is_recognised(answer, quantity, arguments, outcome, message):
    found = recognise(answer, quantity, arguments)
    assert (found.outcome, found.message) == (outcome, message)


@pytest.mark.parametrize("mistake", STEP, ids=lambda mistake: mistake.name)
def test_what_a_mistake_returns_is_recognised_by_its_name(mistake):
    batch = TELLING[0]
    seen = run(mistake.run, *arguments(batch))
    right = run(sft_microbatch_train_step, *arguments(batch))
    for quantity, key in {"scaled_loss": "loss", "grad": "grad"}.items():
        if "error" not in seen and seen[key] is not None and not agree(seen[key], right[key]):
            answer = seen[key] if quantity == "grad" else float(seen[key])
            assert mistake in recognise(answer, quantity, batch).mistakes


def test_the_digits_that_are_typed_decide():
    inputs = StepInputs([[-1.38, -0.2], [-0.5, -3.0], [-0.7, -0.1]], [[1, 0]] + [[0, 0]] * 2, 1)
    for answer, is_right in {"1.4": 1, "1.38": 1, "1.40": 0, "1.3": 0, 1.4: 1, 1: 0}.items():
        assert (recognise(answer, "loss", inputs).outcome == "right") == is_right, answer
    seven = StepInputs([[-0.7]], [[1]], 1)
    assert recognise("0.7", "loss", seven).outcome == recognise(0.7, "loss", seven).outcome
    assert recognise("0.71", "loss", seven).outcome == "unknown"
    assert recognise("nan", "loss", TELLING[2]).mistakes
    typed = [[-0.0089 * m for m in row] for row in M]  # the gradient is −0.008929
    assert recognise(typed, "grad", PLAIN).outcome == "right"
    assert recognise([[-0.0088 * m for m in row] for row in M], "grad", PLAIN).outcome == "unknown"


def test_a_random_number_is_not_recognised():
    generator = torch.Generator().manual_seed(0)
    # As many of each size: 0.001 to 0.01, to 0.1, to 1, to 10.
    sizes = torch.rand(10_000, generator=generator, dtype=torch.float64) * 4 - 3
    numbers = (10**sizes).tolist()
    seen = [run(mistake.run, *arguments(PLAIN)) for mistake in STEP]
    truths = {each["loss"].item() for each in seen if "loss" in each} | {-SUM / C / 16}

    def is_near(x):  # by half of the third digit
        half = 0.5 * 10 ** (math.floor(math.log10(abs(x))) - 2)
        return any(abs(x - truth) <= half for truth in truths)

    near = [x for x in numbers if is_near(x)]
    far = sorted(set(numbers) - set(near))
    assert 50 < len(near) < 200
    for sample, is_known in ((near[::10], True), (far[::500], False)):
        outcomes = [recognise(x, "scaled_loss", PLAIN).outcome for x in sample]
        assert all((outcome != "unknown") == is_known for outcome in outcomes)


@pytest.mark.parametrize(
    ("answer", "quantity", "arguments", "error", "message"),
    [
        (
            1,
            "final_loss",
            PLAIN,
            ValueError,
            "quantity must be one of num_tokens, masked_sum, loss, scaled_loss, grad, "
            "got 'final_loss'.",
        ),
        (
            1,
            "loss",
            {},
            TypeError,
            "arguments must be a StepInputs, got dict: "
            "make one with StepInputs(policy_log_probs, response_mask, ...).",
        ),
        (
            True,
            "loss",
            PLAIN,
            TypeError,
            "answer must be a number, got bool True: "
            "give a number such as -0.25, or a string of its digits.",
        ),
        (
            "1,4",
            "loss",
            PLAIN,
            ValueError,
            "answer must be a number, got '1,4': write digits with a point, such as -0.25.",
        ),
        (
            [[1.0]],
            "grad",
            PLAIN,
            ValueError,
            "answer has shape (1, 1) but the gradient has shape (3, 4): "
            "give one number per token, or one for all response tokens.",
        ),
    ],
)
def test_nonsense_is_refused(answer, quantity, arguments, error, message):
    with pytest.raises(error) as caught:
        recognise(answer, quantity, arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "answer", [10**400, "1e999999", "-inf", 1e300, "1e-5", "7e-7"], ids=range(6)
)
def test_a_number_of_any_size_is_read(answer):
    assert recognise(answer, "loss", PLAIN).outcome == "unknown"


def test_an_int_that_python_does_not_print_is_refused():
    message = "answer must be a number, got an int of 16610 bits: write digits with a point"
    with pytest.raises(ValueError, match=message):
        recognise(10**5000, "loss", PLAIN)


def test_only_what_no_batch_tells_apart_is_said_to_agree_always():
    accident = StepInputs([[-1.38, -0.2], [-0.5, -3.0], [-0.7, -0.1]], [[1, 0]] + [[0, 0]] * 2, 1)
    found = recognise("1.4", "loss", accident)
    assert {"÷G", "token mean", "averaged averages"} <= {each.name for each in found.mistakes}
    assert "always" not in found.message


def test_a_huge_power_takes_no_time():
    inputs = StepInputs([[-0.5]], [[1]], 10**6)
    assert recognise("7", "scaled_loss", inputs).outcome == "unknown"


def test_nothing_that_is_given_changes():
    inputs = StepInputs(torch.tensor(X), torch.tensor(M), G, C)
    with torch.no_grad():
        recognise("1.4", "loss", inputs)
    assert inputs.policy_log_probs.tolist() == torch.tensor(X).tolist()
    assert inputs.policy_log_probs.grad is None
