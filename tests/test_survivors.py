"""Which mistakes a test of the step lets through: the value, and the pytest file made of it."""

import sys
from dataclasses import replace
from types import CodeType, SimpleNamespace

import pytest
import torch

from sftviz.mistakes import STEP_MISTAKES, STEP_TESTS, StepTest
from sftviz.mistakes.survivors import CHECKS
from sftviz.mistakes.written_test import write_test
from sftviz.step import sft_microbatch_train_step

CS336, CS336_42, EVEN, FULL = STEP_TESTS.values()


def names(mistakes) -> set[str]:
    return {mistake.name for mistake in mistakes}


def passes(file: CodeType, step) -> bool:
    """Whether a step, imported as the learner's, passes every test of a file."""
    sys.modules["my_step"] = SimpleNamespace(sft_microbatch_train_step=step)
    try:
        exec(file, scope := {})
    finally:
        del sys.modules["my_step"]
    tests = [test for name, test in scope.items() if name.startswith("test_")]
    assert tests
    try:
        for test in tests:
            test()
    except Exception:
        return False
    return True


def test_with_the_sizes_of_cs336_these_divisors_are_not_told_from_the_right_one():
    by_hand = {"÷B·G", "÷2G", "÷(G+2)", "÷G^G", "÷2^G", "÷(B+G)", "÷B²"}  # all are 4
    divisors = {name for name in names(CS336.trace().alive) if name.startswith("÷")}
    assert divisors == by_hand
    assert {"c left out", "c twice", "c multiplied"} <= names(CS336.trace().alive)  # c is 1


def test_three_rows_leave_those_that_depend_on_g_alone():
    assert names(EVEN.trace().alive) == {"÷2G", "÷(G+2)", "÷G^G", "÷2^G"}  # G is 2


def test_five_rows_and_all_checks_leave_none():
    assert FULL.trace().alive == ()
    assert FULL.trace().advice == ()


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in ("precise", "grad")])
def test_each_check_kills_what_nothing_else_does(check):
    assert replace(FULL, **{check: False}).trace().alive


def test_what_kills_is_the_first_that_differs():
    killers = {mistake.name: killer for mistake, killer in FULL.trace().killers.items()}
    assert killers["÷G"] == "scaled_loss"
    assert killers["mask inverted"] == "num_tokens"
    assert killers["c twice"] == "masked_sum"
    assert killers["backward twice"] == "grad"
    assert killers["backward not called"] == "grad"
    assert killers["backward on a detached loss"] == "an error"
    assert killers["loss returned attached"] == "graph"
    assert killers["gradient cleared in the step"] == "the second call"
    assert killers["multiplied with NaN"] == "NaN"
    assert killers["sum in 16 bits"] == "bfloat16"


def test_a_gradient_that_is_none_is_not_one_that_is_zero():
    masked = StepTest([[-0.5, -0.3]], [[0, 0]], 2)
    assert "backward not called" not in names(masked.trace().alive)
    assert "backward twice" in names(masked.trace().alive)


def test_the_tolerance_of_cs336_lets_more_through_where_c_is_large():
    rough, precise = CS336_42.trace(), replace(CS336_42, precise=True).trace()
    # With c = 42 the gradient is −1/168, so 0.01 is more than it: twice of it is close enough.
    assert {"backward twice", "÷G³", "mask inverted"} <= names(rough.alive)
    assert names(precise.alive) < names(rough.alive)
    assert not {"backward twice", "÷G³", "mask inverted"} & names(precise.alive)


@pytest.mark.parametrize("name", STEP_TESTS)
def test_each_survivor_has_advice_and_a_change_that_is_advised_kills(name):
    survivors = STEP_TESTS[name].trace()
    advised = [mistake for advice in survivors.advice for mistake in advice.kills]
    assert sorted(names(advised)) == sorted(names(survivors.alive))
    alone = [len(advice.kills) for advice in survivors.advice if ", and " not in advice.change]
    assert alone == sorted(alone, reverse=True)


def test_the_advice_says_what_is_so_now():
    said = {advice.change: (advice.now, names(advice.kills)) for advice in CS336.trace().advice}
    assert said["change B"] == ("B = G = 2", {"÷B·G", "÷(B+G)", "÷B²"})
    assert said["change G"] == ("G = 2", {"÷2G", "÷(G+2)", "÷G^G", "÷2^G"})
    assert said["change c"] == ("c = 1", {"c left out", "c twice", "c multiplied"})
    assert said["call it twice, without clearing .grad"][1] == {"gradient cleared in the step"}
    assert said["change c, and compare num_tokens and masked_sum"][1] == {"masked_sum without c"}


def test_following_the_advice_kills():
    changed = replace(CS336, gradient_accumulation_steps=6)
    advised = next(advice for advice in CS336.trace().advice if advice.change == "change G")
    assert not names(advised.kills) & names(changed.trace().alive)
    (advised,) = [a for a in CS336.trace().advice if a.change == CHECKS["metadata"]]
    assert not names(advised.kills) & names(replace(CS336, metadata=True).trace().alive)


def test_one_masked_token_needs_a_larger_batch():
    survivors = StepTest([[-0.5]], [[0]], 1).trace()
    assert survivors.advice[-1].change == "choose a batch with more tokens"


def test_refused_in_these_words():
    with pytest.raises(ValueError, match=r"^policy_log_probs must be finite, got nan at row 1, "):
        StepTest(torch.tensor([[float("nan")]]), [[1]], 2)
    with pytest.raises(TypeError, match=r"^nan must be True or False, got int 1\.$"):
        StepTest([[-0.5]], [[1]], 2, nan=1)


def test_log_probs_have_six_digits_in_float64():
    test = StepTest([[-0.3, -1 / 3]], [[1, 1]], 2)
    assert test.policy_log_probs.tolist() == [[-0.3, -0.333333]]


TESTS = {
    **STEP_TESTS,
    "nothing but the loss": StepTest(
        [[-0.5, -0.25]], [[1, 0]], 3, 2, **dict.fromkeys(CHECKS, False)
    ),
    "all masked": StepTest([[-0.5, -0.3], [-0.1, -0.7]], [[0, 0], [0, 0]], 3, 2),
    "none masked": StepTest([[-0.5, 0.3], [-0.1, -0.7]], [[1, 1], [1, 1]], 1),
    "large G": replace(FULL, gradient_accumulation_steps=100),
    "large c": replace(FULL, normalize_constant=1e12),
    **{f"without {name}": replace(FULL, **{name: False}) for name in CHECKS},
}


@pytest.mark.parametrize("name", TESTS)
def test_the_file_passes_the_right_step_and_exactly_the_survivors(name):
    survivors = TESTS[name].trace()
    source = write_test(survivors)
    file = compile(source, "test_my_step.py", "exec")
    assert passes(file, sft_microbatch_train_step)
    passed = [mistake for mistake in STEP_MISTAKES if passes(file, mistake.run)]
    assert names(passed) == names(survivors.alive)
    comment = " ".join(source.split('"""')[1].split())
    assert all(f" {mistake.name}" in comment for mistake in passed)
    assert f"{len(passed) or 'None'} of {len(STEP_MISTAKES)} known mistakes" in comment


def test_the_numbers_in_the_file_are_those_of_the_step():
    source = write_test(FULL.trace())
    exec(
        source[source.index("import torch") :].replace("from my_step", "from sftviz.step"),
        scope := {},
    )
    trace = FULL.inputs.trace()
    assert scope["NUM_TOKENS"] == trace.num_tokens
    assert scope["MASKED_SUM"] == pytest.approx(trace.masked_sum.item(), rel=1e-12)
    assert scope["SCALED_LOSS"] == pytest.approx(trace.scaled_loss.item(), rel=1e-12)
    torch.testing.assert_close(scope["GRAD"], trace.grad, rtol=1e-12, atol=0)
    assert torch.equal(scope["LOG_PROBS"], FULL.policy_log_probs)
    assert {line for line in source.splitlines() if "import" in line} == {
        "import torch",
        "from my_step import sft_microbatch_train_step",
    }


STEPS = {"the right step": sft_microbatch_train_step} | {m.name: m.run for m in STEP_MISTAKES}


class Outcomes:
    """Gives a test file each step in turn, and keeps the names of those that failed."""

    def __init__(self):
        self.failed = set()

    @pytest.fixture(autouse=True, params=STEPS)
    def step(self, request):
        request.module.sft_microbatch_train_step = STEPS[request.param]

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo:
            self.failed.add(item.callspec.params["step"])


def test_in_pytest_the_right_step_passes_the_file_and_no_mistake_does(tmp_path, monkeypatch):
    (tmp_path / "my_step.py").write_text("from sftviz.step import sft_microbatch_train_step\n")
    path = tmp_path / "test_written.py"
    path.write_text(write_test(FULL.trace()), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    outcomes = Outcomes()
    options = ["-q", "--tb=no", "--no-summary", "-p", "no:cacheprovider", "-c", "/dev/null"]
    pytest.main([str(path), *options, "--rootdir", str(tmp_path)], plugins=[outcomes])
    assert outcomes.failed == names(STEP_MISTAKES)
