"""Exercise: a test that passes the right step and fails for every wrong one."""

from collections.abc import Iterable
from functools import partial

import torch

from sftviz.exercises.check_test import check_test
from sftviz.exercises.exercise import Exercise
from sftviz.exercises.pair import Pair
from sftviz.exercises.runs import DETACHED, Function, run
from sftviz.exercises.step import STEP
from sftviz.exercises.subject import Trial
from sftviz.mistakes import Mistake


def my_test(step: Function) -> None:
    """Call a step, and assert what must be so.

    step: a function with the arguments and the results of sft_microbatch_train_step.
    For the right step no assert may fail; for every wrong one, something must.
    """
    G, c, nan = 5, 7.0, float("nan")
    x = [[nan, -1.0, -2.0, -1.5], [-9.0, -9.0, -4.0, nan], [-9.0, nan, -8.0, -0.5]]
    mask = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 1, 1]])
    log_probs = torch.tensor(x, requires_grad=True)
    for calls in (1, 2):
        loss, metadata = step(log_probs, mask, G, c)
        assert not loss.requires_grad
        assert metadata["num_tokens"] == 6
        assert abs(metadata["masked_sum"].item() + 17 / c) < 1e-6
        assert abs(loss.item() - 17 / c / G**2) < 1e-6
        assert torch.allclose(log_probs.grad, -calls * mask / (c * G**2))


def _compare(trials: Iterable[Trial], names: Iterable[str] = ()) -> Function:
    """A test that compares a step with the right one on some batches: only these results, or all
    of them."""

    def test(step: Function) -> None:
        for trial in trials:
            pair = Pair(trial, run(STEP, step, trial), run(STEP, STEP.right, trial))
            assert not pair.differing & {*names} if names else not pair.differing

    return test


def _weak(name: str, run: Function, cause: str, remedy: str) -> Mistake:
    return Mistake(name, cause, remedy, "my_test", run)


_ORDINARY = [trial for trial in STEP.trials if not trial.condition]
_B_IS_G = torch.tensor([[-0.5, -0.3, -0.8, -0.2], [-0.4, -0.6, -0.3, -0.5]], requires_grad=True)
_B_IS_G_MASK = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]])
_RETURNED = ("num_tokens", "masked_sum", "scaled_loss", DETACHED)

_WEAK = (
    _weak(
        "asserts nothing",
        lambda step: None,
        "Nothing is asserted, so every step passes.",
        "Assert what is returned and what is in .grad.",
    ),
    _weak(
        "B = G",
        _compare([Trial((_B_IS_G, _B_IS_G_MASK, 2, 1.0))]),
        "With B = G = 2 and c = 1, many wrong divisors are equal to the right one.",
        "Let B, G and c be different, and have a row with a prompt and with padding.",
    ),
    _weak(
        "only ordinary batches",
        _compare(_ORDINARY),
        "All is compared, on batches with nothing special: finite log-probs, and nothing in .grad.",
        "Put NaN at masked tokens, give the mask as integers, and call the step twice.",
    ),
    _weak(
        "gradient not looked at",
        _compare(STEP.trials, _RETURNED),
        "Only what the step returns is looked at, and it also leaves a gradient.",
        "Compare policy_log_probs.grad as well.",
    ),
    _weak(
        "only the gradient",
        _compare(STEP.trials, ["grad"]),
        "Only the gradient is looked at, and the step returns numbers too.",
        "Compare scaled_loss, num_tokens and masked_sum as well.",
    ),
)


def _fails_the_right_step(step: Function) -> None:
    loss, _ = step(_B_IS_G.detach().clone().requires_grad_(), _B_IS_G_MASK, 4, 1.0)
    assert abs(loss.item() - 0.7) < 1e-6  # as with G = 2


EXERCISE = Exercise(
    title="The test",
    minutes=20,
    goal="A test is good if no wrong step passes it. Write one that passes the right step and "
    "fails for each of the package's mistakes; those that survive are named.",
    solution=my_test,
    mistakes=(
        *_WEAK,
        _weak(
            "fails the right step",
            _fails_the_right_step,
            "It fails for the right step too.",
            "Compute by hand what the right step gives.",
        ),
    ),
    judge=partial(check_test, weak=_WEAK),
    hints=(
        "Begin with a batch whose results you can compute by hand. Which divisors are equal there? "
        "Choose B, G and c so that none are.",
        "Everything that the step returns and leaves can be wrong: scaled_loss (and whether it "
        "still requires grad), num_tokens, masked_sum, policy_log_probs.grad.",
        "Some mistakes show only in special places: NaN at a masked token, a mask of integers, a "
        "prompt before and padding after a response, a second call with the same log-probs.",
    ),
)
