"""A file that nobody has read yet is judged in a process of its own, within limits.

One process imports torch and is forked for each file, where the system can fork; so a hundred files
cost a hundred forks. What comes back is JSON, and is never unpickled. The limits are against
accidents: they do not keep a file from doing what the user may do.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from sftviz.exercises.errors import describe_error, describe_timeout
from sftviz.exercises.limits import SECONDS, TimeLimit, time_limit
from sftviz.exercises.runs import Output
from sftviz.exercises.source import is_defined_in, load
from sftviz.exercises.subjects import JUDGES, names
from sftviz.exercises.verdict import Verdict

_MEMORY = 2 << 30  # bytes that it may allocate
_ANSWER = 1 << 20  # bytes
_FILE = 64 << 20  # bytes that it may write to a file
_GRACE = 1.0  # seconds until a file that does not stop by itself is killed
_START = 60.0  # seconds that importing torch may take on a busy machine


Judged = list[tuple[str, Verdict]]  # the names of functions, and what is said to each


@dataclass(frozen=True)
class Task:
    """A file; without the name of a function, all in it that have the name of a subject."""

    path: Path
    function: str | None = None
    subject: str | None = None  # a key of JUDGES
    label: str = ""  # what a table calls it


@dataclass
class _Job:
    at: int
    task: Task
    process: BaseProcess
    begins: Connection  # is ready to be read when the file begins to run
    answer: Path
    end: float  # when it is killed
    is_running: bool = False


def judge_files(tasks: Sequence[Task], timeout: float = SECONDS) -> Iterator[tuple[int, Judged]]:
    """Judge each file in a process of its own, as many at a time as there are processors.

    Whatever a file does, it has a verdict, or one for each function. In a script, call this below
    `if __name__ == "__main__":`, as all of `multiprocessing`.

    Yields:
        The index of a task and its verdicts, in the order in which they end.
    """
    waiting = list(enumerate(tasks))[::-1]
    jobs: list[_Job] = []
    with TemporaryDirectory(prefix="sftviz-") as folder:
        try:
            while waiting or jobs:
                while waiting and len(jobs) < (os.cpu_count() or 1):
                    jobs.append(_start(*waiting.pop(), Path(folder), timeout))
                ready = wait(
                    [job.process.sentinel if job.is_running else job.begins for job in jobs],
                    max(0.0, min(job.end for job in jobs) - monotonic()),
                )
                for job in tuple(jobs):
                    if job.begins in ready:  # or it has died: then its sentinel is next
                        job.is_running, job.end = True, monotonic() + timeout + _GRACE
                    elif job.process.sentinel in ready or monotonic() >= job.end:
                        jobs.remove(job)
                        if job.process.sentinel in ready:
                            job.process.join(_GRACE)  # its exit status may come a moment later
                        yield job.at, _finish(job, timeout)
        finally:
            for job in jobs:
                _kill(job)


def _start(at: int, task: Task, folder: Path, timeout: float) -> _Job:
    can_fork = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    if can_fork:
        context.set_forkserver_preload([__name__])
    begins, sender = context.Pipe(duplex=False)
    answer = folder / f"{at}.json"
    process = context.Process(target=_work, args=(task, timeout, sender, str(answer)), daemon=True)
    process.start()
    sender.close()
    return _Job(at, task, process, begins, answer, monotonic() + _START)


def _finish(job: _Job, timeout: float) -> Judged:
    """The verdicts of a process that has ended, or that has to be ended."""
    code = job.process.exitcode
    _kill(job)
    name = job.task.path.name
    try:
        with job.answer.open("rb") as file:
            found = json.loads(file.read(_ANSWER))
            return [(str(name), Verdict.from_dict(fields)) for name, fields in found]
    except FileNotFoundError:
        if code is None:
            return _error(describe_timeout(TimeLimit(timeout), name))
    except (ValueError, TypeError, KeyError):  # the file has written there, or memory was short
        pass
    how = f"by signal {-code}" if code and code < 0 else f"with exit status {code}"
    return _error(
        f"{name} ended its process {how}. A function returns, it does not end the program: look "
        "for os._exit, or for what takes too much memory."
    )


def _kill(job: _Job) -> None:
    """End a process, and those that it has started."""
    if hasattr(os, "killpg") and job.is_running and job.process.pid:  # it leads a group of its own
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(job.process.pid, signal.SIGKILL)
    job.process.kill()
    job.process.join()
    job.begins.close()


def _error(message: str, function: str = "") -> Judged:
    return [(function, Verdict("error", None, message))]


# ------------------------------------------------- what happens in the process of the file


def _work(task: Task, timeout: float, begins: Connection, answer: str) -> None:
    owner = os.getpid()
    _limit_process()
    begins.send_bytes(b"")
    begins.close()
    if hasattr(os, "fork"):  # the pipes of multiprocessing: a file that writes there ends all
        os.closerange(3, 4096)
    output = Output()
    try:
        with time_limit(timeout), redirect_stdout(output), redirect_stderr(output):
            judged = _judge(task, timeout)
    except TimeLimit as error:
        judged = _error(describe_timeout(error, task.path.name))
    except BaseException as error:
        judged = _error(describe_error(error, task.path.name))
    if os.getpid() == owner:  # not a process that the file has forked
        answers = [(name, verdict.as_dict()) for name, verdict in judged]
        Path(answer).write_text(json.dumps(answers), encoding="utf-8")
    os._exit(0)  # without what the file has asked for at exit, and without its threads


def _judge(task: Task, timeout: float) -> Judged:
    module, errors = load(task.path)
    own = [name for name, value in vars(module).items() if is_defined_in(module, value)]
    known = names(task.subject, with_exercises=task.path.suffix == ".ipynb")
    found = [task.function] if task.function else [name for name in own if name in known]
    found = found or own[: len(own) == 1]
    judged: Judged = []
    for name in found:
        judge = known.get(name) or JUDGES.get(task.subject or name, JUDGES["step"])
        if callable(function := getattr(module, name, None)):
            with time_limit(timeout / len(found)):  # an endless loop leaves time for the others
                judged.append((name, judge(function)))
    for cell, error in errors.items():
        judged += _error(describe_error(error, cell), cell)
    wanted = task.function or " or ".join(list(known)[:2])
    has = f"It has {', '.join(own)}." if own else "It has no function."
    return judged or _error(f"{task.path.name} has no function {wanted}. {has}")


def _limit_process() -> None:
    """Set the limits that the platform has, and send what is printed past Python to nowhere."""
    import torch

    torch.set_num_threads(1)  # a thread for each processor would slow down all of them
    sys.dont_write_bytecode = True
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    if hasattr(os, "setsid"):
        os.setsid()
    with suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, _FILE),
            (resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY),
        ):
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
