"""A limit of time for code that nobody has read yet."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

SECONDS = 10.0  # that a function, or a file, may take by default


class TimeLimit(BaseException):
    """Raised in the code that takes too long, so that the line is known; not an Exception, which a
    loop may catch."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimit in what takes longer. A limit that is already set and ends earlier is kept.

    Without effect on Windows and outside of the main thread: there is no such timer.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "setitimer") or not is_main:
        yield
        return
    left, start = signal.getitimer(signal.ITIMER_REAL)[0], monotonic()
    if 0 < left <= seconds:
        yield
        return

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TimeLimit(seconds)

    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - start), 1e-3) if left else 0)
        signal.signal(signal.SIGALRM, handler)
