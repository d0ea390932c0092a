"""Questions about fresh small batches, one after another."""

import ipywidgets

from sftviz.drawing.drawing import Drawing
from sftviz.explorers.controls import button
from sftviz.explorers.prediction import Prediction
from sftviz.explorers.widget import LiveWidget
from sftviz.predictions.practice import LEVELS, Session
from sftviz.predictions.record import Record


class Practice(LiveWidget):
    """Endless questions about the step: every right answer makes the next one harder. They are not
    among the `Beliefs` of a notebook.

    Args:
        seed: which questions, 0 or more.
        level: how hard the first one is, from 1.

    Raises:
        TypeError, ValueError: a number is not a count, or there is no such level.

    Example:
        >>> practice = Practice(seed=1)
        >>> practice.prediction.give_up()
        >>> practice.next()
        >>> practice.session
        Session(seed=1, number=2, level=1)
    """

    def __init__(self, seed: int = 0, level: int = 1) -> None:
        self.session = Session(seed, level=level)
        self.right = self.answered = 0
        self._record = Record()
        self._record.observe(self._on_commit)
        self._score, self._next = ipywidgets.Label(), button("next")
        self._next.on_click(lambda _: self.next())
        self.prediction = Prediction(self.session.question(), self._record)
        super().__init__(self.prediction.live)
        self._show()

    @property
    def drawing(self) -> Drawing:
        """The question, or after the commitment its answer, as a still picture."""
        return self.prediction.drawing

    def next(self) -> None:
        """Ask the next question.

        Raises:
            ValueError: this one is not answered yet.
        """
        if not self.prediction.commitment:
            raise ValueError("this question is not answered yet: commit to an answer first.")
        before, (reply,) = self.prediction, self.prediction.commitment.replies
        self.session = self.session.next(reply.is_right)
        self.prediction = Prediction(self.session.question(), self._record)
        self.live = self.prediction.live
        self._show()
        before.close()

    def _on_commit(self) -> None:
        (reply,) = self.prediction.commitment.replies
        self.answered += 1
        self.right += reply.is_right
        self._show()

    def _show(self) -> None:
        level = f"Question {self.session.number}, level {self.session.level} of {len(LEVELS)}."
        score = f" Right: {self.right} of {self.answered}." if self.answered else ""
        self._score.value = level + score
        self._next.layout.display = None if self.prediction.commitment else "none"
        # One explorer in the page: its keys stay in it, those of the button too.
        self.prediction.remove_class("sftviz-explorer")
        self.children = (self._score, self.prediction, self._next)

    def _repr_html_(self) -> str:
        return self.prediction._repr_html_()
