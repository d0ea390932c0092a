"""Start the step on several ranks. What each runs is in `rank_process`, with torch.distributed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass

from sftviz.averaging import find_rank_scaling
from sftviz.experiments.bigram import make_window
from sftviz.rules import Per
from sftviz.validate import check_count, check_positive

VOCABULARY = 4  # of `run_window`: the gradient of the model is then a small table
MOST_RANKS = 64  # each is a process that loads torch, in about a quarter of a gigabyte
_LONGEST_TIMEOUT = 1e6  # seconds; the operating system's timers end at 24 days


@dataclass(frozen=True)
class RankedRule:
    """The gradient that a scaling rule leaves on every rank, compared with the full-batch mean."""

    rule: str  # the name of a rule in `RANK_SCALINGS`
    per: Per  # the mean that it is compared with: over sequences or over response tokens
    ratio: float  # length along the full-batch gradient, in lengths of it: 1 if the rule is exact
    cosine: float  # 1 if both gradients point in the same direction
    distance: float  # of the two gradients, in lengths of the full-batch one: 0 if exact


@dataclass(frozen=True)
class RankReport:
    """One run on several ranks: its sizes, its rules, and how often gradients were averaged."""

    ranks: int  # W
    microbatch_size: int  # B
    gradient_accumulation_steps: int  # G
    tokens: tuple[int, ...]  # response tokens of each rank
    rules: tuple[RankedRule, ...]
    all_reduces: int  # in one window, with no_sync on all microbatches but the last
    all_reduces_without_no_sync: int
    rank_difference: float  # the largest between the gradients of two ranks, under any rule


@dataclass(frozen=True)
class RankedWindow:
    """What a window has left in `.grad` on several ranks. A gradient is a table, written flat."""

    own: tuple[tuple[tuple[float, ...], ...], ...]  # of each rank, after each microbatch
    average: tuple[tuple[float, ...], ...]  # on each rank, after the all-reduce


def check_ranks(ranks: object) -> None:
    """Check that a value is a number of ranks that can be compared and can be started."""
    check_count("ranks", ranks, "one rank has no other to average with", least=2)
    if ranks > MOST_RANKS:
        raise ValueError(
            f"ranks must be at most {MOST_RANKS}, got {ranks}: each is a process of its own."
        )


def run_ranks(ranks: int = 2, timeout: float = 120.0) -> RankReport:
    """Run every rule of `RANK_SCALINGS` on several ranks, each a process on this machine.

    All processes have ended and their temporary files are deleted when the call returns, also after
    an error, a timeout or an interrupt.

    Args:
        ranks: W, from 2 to 64.
        timeout: in seconds, above 0.

    Raises:
        TypeError, ValueError: an argument is not such a number.
        TimeoutError: the processes had not finished after `timeout` seconds.
        RuntimeError: a process failed; the message ends with the last line that it printed.

    Example:
        >>> [f"{rule.ratio:.3f} of the mean per {rule.per}" for rule in run_ranks(2).rules[:2]]
        ['0.750 of the mean per sequence', '1.000 of the mean per sequence']
    """
    check_ranks(ranks)
    check_positive("timeout", timeout, "it is the number of seconds to wait for the processes")
    content = _start("rank_process", ranks, timeout)
    rules = tuple(RankedRule(**rule) for rule in content["rules"])
    return RankReport(**{**content, "tokens": tuple(content["tokens"]), "rules": rules})


def run_window(
    ranks: int,
    B: int,
    G: int,
    scaling: str = "G²",
    unevenness: float = 1.0,
    timeout: float = 120.0,
) -> RankedWindow:
    """Run one window of random tokens under one rule on several ranks, each a process.

    The model is `BigramModel(4)` in float64; of `make_window(B, ranks·G)`, each rank has G
    microbatches. Processes and files end as those of `run_ranks`.

    Args:
        ranks: W, from 2 to 64.
        B, G, unevenness: as for `make_window`.
        scaling: the name of a rule in `RANK_SCALINGS`.
        timeout: in seconds, above 0.

    Raises:
        TypeError, ValueError: an argument is out of range.
        TimeoutError, RuntimeError: as `run_ranks`.

    Example:
        >>> window = run_window(2, B=1, G=2)  # doctest: +SKIP
        >>> window.average[0] == window.average[1], window.own[0] == window.own[1]  # doctest: +SKIP
        (True, False)
    """
    check_ranks(ranks)
    check_positive("timeout", timeout, "it is the number of seconds to wait for the processes")
    scaling = find_rank_scaling(scaling).name
    make_window(B, ranks * G, unevenness=unevenness, vocab_size=VOCABULARY)  # refuses what it can't
    setting = json.dumps({"B": B, "G": G, "scaling": scaling, "unevenness": unevenness})
    content = _start("window_process", ranks, timeout, setting)
    return RankedWindow(**{name: _tuples(value) for name, value in content.items()})


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _start(program: str, ranks: int, timeout: float, *arguments: str) -> dict:
    """Run a program of this folder on several ranks, and return the JSON that it has printed."""
    # Without torchrun's variables: torchrun may have started this process too.
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("TORCHELASTIC_")}
    # A process that is killed does not delete its temporary files, so they are kept in a folder
    # that is deleted here.
    command = [sys.executable, "-m", f"sftviz.experiments.{program}", "--ranks", str(ranks)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**kept, "PYTHONIOENCODING": "utf-8", "TMPDIR": folder},
            start_new_session=True,  # a process group of its own, which can be killed as a whole
        )
        try:
            output, errors = process.communicate(timeout=min(timeout, _LONGEST_TIMEOUT))
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{ranks} processes had not finished after {timeout:g} s and were ended: "
                "pass a longer timeout, or close other programs."
            ) from None
        finally:
            if process.returncode != 0:
                _kill_all(process)
    if process.returncode:
        reason = errors.strip().rpartition("\n")[2] or f"exit status {process.returncode}"
        raise RuntimeError(f"the step could not be run on {ranks} ranks: {reason}")
    # Gloo may have added lines of its own to what rank 0 has printed.
    return json.loads(output[output.index("{") : output.rindex("}") + 1])


def _kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process and those that it has started, also if it has ended by itself."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows
        process.kill()
    process.communicate()  # returns when all of them have closed their output
