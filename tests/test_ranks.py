"""Two real processes, held against one; and however they end, none is left behind."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from sftviz.experiments.ranks import run_ranks

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
)


@pytest.fixture(scope="module")
def report():
    return run_ranks(2)


def test_the_sizes_tell_the_rules_apart(report):
    assert report.ranks == 2 and len(report.tokens) == 2
    B, G = report.microbatch_size, report.gradient_accumulation_steps
    own, other = report.tokens
    assert B != G and own != other


EXPECTED = {  # the ratio, and whether the direction is right
    "÷G²": (3 / 4, True),
    "batch mean ÷G": (1, True),
    "÷ own tokens": (None, False),
    "÷N": (1 / 2, True),
    "÷N ×W": (1, True),
}


@pytest.mark.parametrize("rule", EXPECTED)
def test_what_averaging_over_two_ranks_makes_of_a_rule(report, rule):
    (measured,) = [each for each in report.rules if each.rule == rule]
    ratio, straight = EXPECTED[rule]
    if straight:
        assert measured.ratio == pytest.approx(ratio, rel=1e-12)
        assert measured.cosine == pytest.approx(1, rel=1e-12)
        assert measured.difference == pytest.approx(abs(1 - ratio), abs=1e-12)
    else:
        assert measured.cosine < 0.9999 and measured.difference > 0.01


def test_every_rule_is_expected(report):
    assert {rule.rule for rule in report.rules} == set(EXPECTED)


def test_the_ranks_speak_once_a_window_and_then_agree(report):
    assert report.messages == 1
    assert report.messages_without_no_sync == report.gradient_accumulation_steps
    assert report.apart == 0


def test_torchrun_measures_the_same(report, python):
    torchrun = "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2"
    run = python(*torchrun.split(), "-m", "sftviz.experiments.ranks")
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout[run.stdout.index("{") : run.stdout.rindex("}") + 1])
    assert measured["tokens"] == list(report.tokens)
    assert [rule["rule"] for rule in measured["rules"]] == [rule.rule for rule in report.rules]
    ratios = [rule["ratio"] for rule in measured["rules"]]
    assert ratios == pytest.approx([rule.ratio for rule in report.rules], rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 0, 2.0])
def test_fewer_than_two_have_nobody_to_average_with(ranks):
    with pytest.raises(ValueError, match=f"ranks must be an int of at least 2, got {ranks!r}: one"):
        run_ranks(ranks)


# ---------------------------------------------------------------- when it goes wrong


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Let a shell script run instead of Python; the file that it may write to comes back."""

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
    """Whether a process still runs; what has ended and was not yet fetched does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid):
    """Whether a process that was told to end does so soon."""
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


@needs_groups
def test_a_failure_is_told_with_its_reason(stand_in):
    stand_in("echo noise >&2; echo 'OSError: no loopback' >&2; exit 3")
    with pytest.raises(RuntimeError, match="2 processes could not run the step together: OSErr"):
        run_ranks(2)
    stand_in("exit 3")
    with pytest.raises(RuntimeError, match="together: exit status 3"):
        run_ranks(2)


@needs_groups
def test_nothing_outlives_a_timeout(stand_in):
    seen = stand_in('sleep 60 & echo $! > "$SEEN"; wait')
    with pytest.raises(TimeoutError, match=r"were not done after 0.5 s, and have been ended: give"):
        run_ranks(2, timeout=0.5)
    assert ends(int(seen.read_text()))


@needs_groups
def test_nothing_outlives_a_failure(stand_in):
    seen = stand_in('sleep 60 & echo $! > "$SEEN"; exit 1')
    with pytest.raises((RuntimeError, TimeoutError)):
        run_ranks(2, timeout=1)
    assert ends(int(seen.read_text()))


@needs_groups
def test_nothing_outlives_an_interrupt(stand_in, monkeypatch):
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
