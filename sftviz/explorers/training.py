"""Trainings that are drawn while they run."""

import asyncio
import threading
import time
from collections.abc import Mapping

import ipywidgets

from sftviz.drawing import svg
from sftviz.drawing.drawing import Drawing
from sftviz.experiments.watched import WatchedTraining
from sftviz.explorers.controls import button
from sftviz.explorers.widget import LiveWidget
from sftviz.live.widget import LiveDrawing
from sftviz.validate import check_count
from sftviz.views.parts import WIDTH
from sftviz.views.training import training_view

_PAUSE = 0.002  # seconds between two windows, in which the kernel reads messages


class TrainingPanel(LiveWidget):
    """One or two trainings while they happen: losses, gradients, and answers to held-out prompts.

    The button starts, stops and goes on: one window at a time, so that the page stays live. `run`
    does the same in the cell that calls it. Both end with the same weights, bit for bit.

    Args:
        trainings: by name. Those with fewer windows are trained first, so two advance together.
        until: the number of windows of each.

    Raises:
        TypeError, ValueError: `until` is not an int of at least 1, or there are no trainings, or
            more than two.

    Example:
        >>> from torch import nn, optim
        >>> from sftviz.experiments.dates import CONTEXT_LENGTH, PAD, VOCABULARY, Pair, conversation
        >>> from sftviz.experiments.training import Trainer, prepare
        >>> rows = [conversation(Pair("1→", "2"))]
        >>> data = prepare(rows, PAD, CONTEXT_LENGTH, len(VOCABULARY))
        >>> model = nn.Embedding(len(VOCABULARY), len(VOCABULARY))  # a bigram model
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> sizes = {"microbatch_size": 1, "gradient_accumulation_steps": 2}
        >>> trainer = Trainer(model, optimizer, data, **sizes)
        >>> panel = TrainingPanel({"bigram": WatchedTraining(trainer, [Pair("3→", "4")])}, until=7)
        >>> panel.run().alt[:23]
        'bigram, 7 of 7 windows:'
    """

    def __init__(self, trainings: Mapping[str, WatchedTraining], until: int = 150) -> None:
        _check_until(until)
        super().__init__(LiveDrawing())
        self.trainings = dict(trainings)
        self.until = until
        self._is_running = False
        self._began = 0.0, 0  # when, and how many windows were missing then
        # A front end may call from a thread of its own. Training stays in this one.
        self._loop = _running_loop()
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.RLock()
        self.controls = {"train": button("train")}
        self.controls["train"].on_click(lambda _: self._on_click())
        self.children = (ipywidgets.HBox(tuple(self.controls.values())), self.live)
        self._show()
        self.live.observe(lambda _: self._show(), ["columns", "edits"])

    @property
    def drawing(self) -> Drawing:
        """The trainings as they are now, without the time left."""
        return self._draw(WIDTH)

    def run(self, until: int | None = None) -> Drawing:
        """Train in the calling cell, and return the last state as a still picture.

        Args:
            until: the number of windows of each training from now on; None: as it was.

        Raises:
            TypeError, ValueError: `until` is not an int of at least 1.
            ValueError, FloatingPointError: what `Trainer.run` raises.
        """
        if until is not None:
            _check_until(until)
            self.until = until
        self._begin()
        try:
            while self._is_running and self._advance():
                pass
        finally:
            self.stop()
        return self.drawing

    def start(self) -> None:
        """Train in the background, or go on: one window at a time, until `stop` or the end.

        Raises:
            RuntimeError: the panel was made where no event loop runs, so there is no background.
        """
        if self._loop is None:
            raise RuntimeError(
                "this panel was made where no event loop runs, so it can't train in the "
                "background: call run()."
            )
        self._begin()
        self._loop.call_soon_threadsafe(self._ensure_task)

    def stop(self) -> None:
        """Stop after the window that is being trained."""
        self._is_running = False
        self._show()

    def close(self) -> None:
        self._is_running = False
        super().close()

    def _begin(self) -> None:
        self._is_running = True
        self._began = time.monotonic(), self._missing()
        self._show()

    def _ensure_task(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._train())

    async def _train(self) -> None:
        with self.live.guard():
            while self._is_running and self._advance():
                await asyncio.sleep(_PAUSE)
        if self._is_running:
            self.stop()

    def _advance(self) -> bool:
        """Train one window of the training that has the fewest; whether one was missing."""
        training = min(self.trainings.values(), key=lambda each: len(each.trainer.history))
        window = next(training.run(self.until), None)
        if window:
            self._show()
        return window is not None

    def _missing(self) -> int:
        """The number of windows that are still to be trained."""
        done = (len(training.trainer.history) for training in self.trainings.values())
        return sum(max(0, self.until - count) for count in done)

    def _seconds_left(self) -> float | None:
        """What the windows that are missing take, if they take as long as those since the start."""
        began, missing_then = self._began
        missing = self._missing()
        if not self._is_running or missing == missing_then:
            return None
        return (time.monotonic() - began) / (missing_then - missing) * missing

    def _draw(self, width: int, seconds_left: float | None = None) -> Drawing:
        now = {name: training.snapshot(self.until) for name, training in self.trainings.items()}
        return training_view(now, self.until, width, seconds_left)

    def _show(self) -> None:
        with self._lock:
            drawing = self._draw(self.fit(WIDTH), self._seconds_left())
            # Nothing can be changed: edits only ask whether the kernel is there.
            self.live.show(svg.markup(drawing.page), drawing.alt, {}, self.live.edits["id"])
            missing = self._missing()
            control = self.controls["train"]
            control.description = (
                "trained" if not missing else "stop" if self._is_running else "train"
            )
            control.disabled = not missing

    def _on_click(self) -> None:
        with self.live.guard():
            if self._is_running:
                self.stop()
            else:
                self.start()


def _check_until(until: int) -> None:
    check_count("until", until, "it is the number of windows of each training")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
