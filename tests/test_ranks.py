"""The rules on two real processes; and no process and no file remains, however a run ends."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from sftviz.experiments import rank_process, run_ranks
from sftviz.rules import RANK_SCALINGS

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
)


@pytest.fixture(scope="module")
def report():
    return run_ranks(2)


def test_the_sizes_distinguish_the_rules(report):
    assert report.ranks == 2 and len(report.tokens) == 2
    B, G = report.microbatch_size, report.gradient_accumulation_steps
    own, other = report.tokens
    assert B != G and own != other


EXPECTED = {  # the mean that the rule is compared with, and the ratio if the direction is right
    "G²": ("sequence", 3 / 4),
    "B·G": ("sequence", 1),
    "own tokens": ("token", None),
    "tokens": ("token", 1 / 2),
    "tokens/W": ("token", 1),
}


@pytest.mark.parametrize("rule", EXPECTED)
def test_a_rule_on_two_ranks_leaves_the_expected_gradient(report, rule):
    (measured,) = [each for each in report.rules if each.rule == rule]
    per, ratio = EXPECTED[rule]
    assert measured.per == per
    if ratio is None:
        assert measured.cosine < 0.9999 and measured.distance > 0.01
    else:
        assert measured.ratio == pytest.approx(ratio, rel=1e-12)
        assert measured.cosine == pytest.approx(1, rel=1e-12)
        assert measured.distance == pytest.approx(abs(1 - ratio), abs=1e-12)


def test_every_rule_is_measured_in_order(report):
    names = [rule.name for rule in RANK_SCALINGS]
    assert [rule.rule for rule in report.rules] == names == list(EXPECTED)


def test_gradients_are_averaged_once_a_window_and_are_then_equal_on_all_ranks(report):
    assert report.all_reduces == 1
    assert report.all_reduces_without_no_sync == report.gradient_accumulation_steps
    assert report.rank_difference == 0


PROGRAM = ("-m", "sftviz.experiments.rank_process")


def test_torchrun_measures_the_same(report, python):
    torchrun = "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2"
    run = python(*torchrun.split(), *PROGRAM)
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout[run.stdout.index("{") : run.stdout.rindex("}") + 1])
    assert measured["tokens"] == list(report.tokens)
    assert [rule["rule"] for rule in measured["rules"]] == [rule.rule for rule in report.rules]
    ratios = [rule["ratio"] for rule in measured["rules"]]
    assert ratios == pytest.approx([rule.ratio for rule in report.rules], rel=1e-12)


# ---------------------------------------------------------------- arguments and environment

NO_OTHER = "one rank has no other to average with."


@pytest.mark.parametrize(
    ("ranks", "error", "came"),
    [
        (1, ValueError, "1"),
        (0, ValueError, "0"),
        (2.0, TypeError, "float 2.0"),
        (True, TypeError, "bool True"),
    ],
)
def test_fewer_than_two_ranks_are_refused(ranks, error, came):
    with pytest.raises(error) as refused:
        run_ranks(ranks)
    assert str(refused.value) == f"ranks must be an int of at least 2, got {came}: {NO_OTHER}"


def test_more_ranks_than_a_machine_can_run_are_refused_before_any_is_started():
    with pytest.raises(ValueError) as refused:
        run_ranks(65, timeout=1e-9)
    assert str(refused.value) == ("ranks must be at most 64, got 65: each is a process of its own.")


def test_an_interrupt_of_the_program_is_quiet(monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.multiprocessing.spawn", interrupt)
    monkeypatch.setattr(sys, "argv", ["rank_process", "--ranks", "64"])
    with pytest.raises(SystemExit) as end:
        rank_process.main()
    assert end.value.code == 130 and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_must_be_above_0(timeout):
    with pytest.raises(ValueError, match="timeout must be a number above 0, got"):
        run_ranks(2, timeout=timeout)


def test_the_program_refuses_fewer_than_two_ranks_in_one_line(python):
    run = python(*PROGRAM, "--ranks", "-1")
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == f"ranks must be an int of at least 2, got -1: {NO_OTHER}\n"


TORCHRUN = {  # what torchrun sets for one of its processes
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    **{"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"},
    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
}


def test_ranks_can_be_started_where_torchrun_and_debugging_have_set_variables(monkeypatch):
    """Those of a process that torchrun started; with detailed debugging, ranks once crashed."""
    for name, value in (TORCHRUN | {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"}).items():
        monkeypatch.setenv(name, value)
    result = run_ranks(2, timeout=60)
    assert result.ranks == 2 and result.rank_difference == 0


def test_importing_the_experiments_and_the_charts_loads_no_more_of_torch_distributed(python):
    """`import torch` itself loads torch.distributed; what follows must not add to that."""
    code = (
        "import sys, torch; before = {*sys.modules}; import {}; "
        "new = {*sys.modules} - before; "
        "print(*sorted(name for name in new if name.startswith('torch.distributed') "
        "or name == 'sftviz.experiments.rank_process'))"
    )
    run = python("-c", code.replace("{}", "sftviz.experiments, sftviz.views.charts"))
    assert run.stdout.split() == [], run.stderr
    # The test can fail: the program of a rank loads more.
    run = python("-c", code.replace("{}", "sftviz.experiments.rank_process"))
    assert {"sftviz.experiments.rank_process", "torch.distributed.algorithms.ddp_comm_hooks"} <= {
        *run.stdout.split()
    }


# ---------------------------------------------------------------- failures, timeouts, interrupts


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Run a shell script instead of Python; returns the file that the script may write to."""

    def use(script):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
        return tmp_path / "seen"

    return use


needs_groups = pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")


def is_alive(pid):
    """Whether a process still runs; a zombie, which has ended and was not waited for, does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid):
    """Whether a process that was killed ends within 10 s."""
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


@needs_groups
def test_a_failure_is_reported_with_its_reason(stand_in):
    stand_in("echo noise >&2; echo 'OSError: no loopback' >&2; exit 3")
    with pytest.raises(RuntimeError, match="step could not be run on 2 ranks: OSError: no loop"):
        run_ranks(2)
    stand_in("exit 3")
    with pytest.raises(RuntimeError, match="on 2 ranks: exit status 3"):
        run_ranks(2)


@needs_groups
def test_no_process_remains_after_a_timeout(stand_in):
    seen = stand_in('sleep 60 & echo $! > "$SEEN"; wait')
    with pytest.raises(TimeoutError, match=r"had not finished after 0.5 s and were ended: pass"):
        run_ranks(2, timeout=0.5)
    assert ends(int(seen.read_text()))


@needs_groups
def test_no_process_remains_after_a_failure(stand_in):
    seen = stand_in('sleep 60 & echo $! > "$SEEN"; exit 1')
    with pytest.raises((RuntimeError, TimeoutError)):
        run_ranks(2, timeout=1)
    assert ends(int(seen.read_text()))


@needs_groups
def test_no_process_remains_after_an_interrupt(stand_in, monkeypatch):
    seen = stand_in('sleep 60 & echo $! > "$SEEN"; wait')

    def interrupted(process, timeout=None):
        monkeypatch.undo()  # only the first time
        while not (seen.exists() and seen.read_text().strip()):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ranks(2)
    assert ends(int(seen.read_text()))


@needs_groups
def test_no_temporary_file_remains_after_a_timeout(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def expired(process, timeout=None):
        while not list(tmp_path.rglob("ranks")):  # by which the ranks find each other
            assert process.poll() is None
            time.sleep(0.01)
        monkeypatch.undo()  # only the first time
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr("subprocess.Popen.communicate", expired)
    with pytest.raises(TimeoutError):
        run_ranks(2)
    assert list(tmp_path.iterdir()) == []
