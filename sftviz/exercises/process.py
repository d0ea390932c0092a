"""A file that nobody has read yet is judged in a process of its own, within limits.

One process imports torch and is forked for each file, where the system can fork; so a hundred files
cost a hundred forks. What comes back is JSON, and is never unpickled. The limits are against
accidents: they do not keep a file from doing what the user may do.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from types import FrameType, ModuleType

from sftviz.exercises.trials import Output, Step
from sftviz.exercises.verdict import Number, Verdict

SECONDS = 10.0  # that a file may take, by default
NAMES = ("my_step", "sft_microbatch_train_step")  # of the function, if none is given
_MEMORY = 2 << 30  # bytes that it may allocate
_FILE = 64 << 20  # bytes that it may write to a file
_GRACE = 1.0  # seconds until a file that does not stop by itself is killed
_START = 60.0  # seconds that importing torch may take on a busy machine


@dataclass(frozen=True)
class Task:
    """A function in a file; without a name, the one that looks like a step."""

    path: Path
    function: str | None = None


@dataclass
class _Job:
    at: int
    task: Task
    process: BaseProcess
    answer: Connection
    started: float = field(default_factory=monotonic)
    running: bool = False  # the file is being run, and its time counts


def judge_files(tasks: Sequence[Task], timeout: float = SECONDS) -> Iterator[tuple[int, Verdict]]:
    """Judge each file in a process of its own, as many at a time as there are processors.

    Whatever a file does, it has a verdict. In a script, call this below
    `if __name__ == "__main__":`, as all of `multiprocessing`.

    Yields:
        The index of a task and its verdict, in the order in which they end.
    """
    can_fork = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    if can_fork:
        context.set_forkserver_preload([__name__, "sftviz.exercises.judge"])
    waiting = list(enumerate(tasks))[::-1]
    jobs: list[_Job] = []
    try:
        while waiting or jobs:
            while waiting and len(jobs) < (os.cpu_count() or 1):
                at, task = waiting.pop()
                answer, sender = context.Pipe(duplex=False)
                arguments = (str(task.path), task.function, timeout, sender)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                sender.close()
                jobs.append(_Job(at, task, process, answer))
            ends = [job.started + (timeout + _GRACE if job.running else _START) for job in jobs]
            ready = wait(
                [each for job in jobs for each in (job.answer, job.process.sentinel)],
                max(0.0, min(ends) - monotonic()),
            )
            for job, end in zip(tuple(jobs), ends, strict=True):
                verdict = None
                if job.answer in ready:
                    verdict = _receive(job)
                elif job.process.sentinel in ready:
                    verdict = _ended(job)
                elif monotonic() >= end:
                    verdict = _too_long(job.task.path, timeout)
                if verdict is not None:
                    jobs.remove(job)
                    _end(job)
                    yield job.at, verdict
    finally:
        for job in jobs:
            _end(job)


def _receive(job: _Job) -> Verdict | None:
    """The verdict that was sent; None if the process has only said that it begins."""
    try:
        answer = json.loads(job.answer.recv_bytes(1 << 20))
        if answer == "begins":
            job.running, job.started = True, monotonic()
            return None
        fields = {name: tuple(answer[name]) for name in ("right", "wrong")}
        numbers = tuple(Number(**number) for number in answer["numbers"])
        return Verdict(**{**answer, **fields, "numbers": numbers})
    except (EOFError, OSError):
        return _ended(job)
    except (ValueError, TypeError, KeyError):
        return _error(f"{job.task.path.name} has written into the answer of the judge.")


def _ended(job: _Job) -> Verdict:
    job.process.join(_GRACE)
    code = job.process.exitcode
    how = f"by signal {-code}" if code and code < 0 else f"with exit status {code}"
    return _error(
        f"{job.task.path.name} ended its process {how}. A function returns, it does not end the "
        "program: look for os._exit, or for what takes too much memory."
    )


def _too_long(path: Path, timeout: float) -> Verdict:
    return _error(
        f"{path.name} was not finished after {timeout:g} s. Is there a loop that never ends?"
    )


def _end(job: _Job) -> None:
    """End a process, and those that it has started."""
    if hasattr(os, "killpg") and job.running:  # it leads a group of its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.process.pid, signal.SIGKILL)
    job.process.kill()
    job.process.join()
    job.answer.close()


def _error(message: str) -> Verdict:
    return Verdict("error", None, message)


# ------------------------------------------------- what happens in the process of the file


class _TimeLimit(BaseException):
    """Raised in the learner's code, so that the line is known; not an Exception, which a loop may
    catch."""


def _work(path: str, function: str | None, timeout: float, answer: Connection) -> None:
    from sftviz.exercises.judge import check_step, describe_error

    owner = os.getpid()
    _limit(timeout)
    answer.send_bytes(json.dumps("begins").encode())
    file = Path(path)
    output = Output()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            step = _find(_load(file), file, function)
        verdict = step if isinstance(step, Verdict) else check_step(step)
    except _TimeLimit as error:
        lines = describe_error(error, file.name).splitlines()[1:]
        verdict = _error("\n".join((_too_long(file, timeout).message, *lines)))
    except BaseException as error:
        verdict = _error(describe_error(error, file.name))
    if os.getpid() == owner:  # not a process that the file has forked
        answer.send_bytes(json.dumps(verdict.as_dict()).encode())
    os._exit(0)  # without what the file has asked for at exit, and without its threads


def _limit(timeout: float) -> None:
    """Set the limits that the platform has, and send what is printed past Python to nowhere."""
    import torch

    torch.set_num_threads(1)  # a thread for each processor would slow down all of them
    sys.dont_write_bytecode = True
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    if hasattr(os, "setsid"):
        os.setsid()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, _FILE),
            (resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY),
        ):
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, timeout)


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise _TimeLimit


def _load(file: Path) -> ModuleType:
    sys.path.insert(0, str(file.parent))  # as if the file were run
    spec = importlib.util.spec_from_file_location("my_file", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _find(module: ModuleType, file: Path, name: str | None) -> Step | Verdict:
    """The function to judge, or why there is none."""
    own = {
        key: value
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    }
    if name is not None:
        found = getattr(module, name, None)
        if callable(found):
            return found
    else:
        for candidate in (*NAMES, *(own if len(own) == 1 else ())):
            if candidate in own:
                return own[candidate]
    wanted = name or " or ".join(NAMES)
    has = f"It has {', '.join(own)}." if own else "It has no function."
    return _error(f"{file.name} has no function {wanted}. {has}")
