"""A question that is answered before the answer is shown."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import ipywidgets

from sftviz.drawing import svg
from sftviz.drawing.drawing import Drawing
from sftviz.explorers.answers import edited, names_of, values_of
from sftviz.explorers.controls import button
from sftviz.explorers.widget import LiveWidget, close_all
from sftviz.live.widget import LiveDrawing
from sftviz.predictions.course import QUESTIONS
from sftviz.predictions.picture import Draft, draw_answer, draw_question, draw_reveal
from sftviz.predictions.question import Ask, Question
from sftviz.predictions.record import RECORD, Commitment, Record
from sftviz.predictions.reply import check_answer, reply
from sftviz.validate import brief, listed
from sftviz.views.parts import WIDTH

_ACTIONS = {"answer": "type", "option": "choose", "bit": "toggle"}


class Prediction(LiveWidget):
    """A question in the page. What is so is computed and shown after a commitment to an answer;
    that one can't say is one, too. There is one commitment; to begin again, run the cell again.

    Args:
        question: a `Question`, or the name of one of the course.
        record: where the commitment is added to; None: the record that `Beliefs` shows.

    Raises:
        TypeError, ValueError: it is neither.

    Example:
        >>> from sftviz.predictions.question import Number
        >>> ask = Number("scaled_loss", lambda: 0.7)
        >>> prediction = Prediction(Question("G", "What is it?", (ask,), "The step divides by G²."))
        >>> prediction.answer(0, "1.4")
        >>> prediction.commit()
        >>> prediction.commitment.replies[0].message
        '1.4 is not scaled_loss.'
    """

    def __init__(self, question: Question | str, record: Record | None = None) -> None:
        super().__init__(LiveDrawing(actions=_ACTIONS))
        self.question = _find(question)
        self._record = RECORD if record is None else record
        self.commitment: Commitment | None = None
        self._draft = Draft((None,) * len(self.question.asks), hints=True)
        self._edits_id = 0.0
        self.controls = {"commit": button("commit"), "can't say": button("I can't say")}
        self.controls["commit"].add_class("sftviz-commit")
        self.controls["commit"].on_click(lambda _: self._on_click(self._on_commit))
        self.controls["can't say"].on_click(lambda _: self._on_click(self.give_up))
        self.children = (self.live, ipywidgets.HBox(tuple(self.controls.values())))
        self.live.names = names_of(self.question.asks)
        self._show()
        self.live.observe(self._on_edits, "edits")
        self.live.observe(lambda _: self._show(), "columns")

    @property
    def answers(self) -> tuple[object, ...]:
        """The answers so far, one for each ask; None where there is none."""
        return self._draft.answers

    @property
    def drawing(self) -> Drawing:
        """The question, or after the commitment the answer, as a still picture."""
        if self.commitment:
            return draw_reveal(self.commitment)
        return draw_question(self.question, Draft(self.answers))

    def answer(self, at: int, answer: object) -> None:
        """Answer one ask, counted from 0; see `reply` for what an answer is.

        Raises:
            ValueError: there was a commitment already.
        """
        self._check_open()
        self._set({at: answer})
        self._show()

    def commit(self) -> None:
        """Commit to the answers: what is so is computed and shown.

        Raises:
            ValueError: an answer is missing or can't be read, or there was a commitment already.
        """
        self._check_open()
        if obstacle := self._obstacle():
            raise ValueError(obstacle)
        self._reveal(self.answers)

    def give_up(self) -> None:
        """Commit to not being able to say; what was answered already counts.

        Raises:
            ValueError: there was a commitment already.
        """
        self._check_open()
        pairs = zip(self.question.asks, self.answers, strict=True)
        self._reveal([None if _problem(ask, answer) else answer for ask, answer in pairs])

    def _check_open(self) -> None:
        if self.commitment:
            raise ValueError("this question is answered already: run its cell again to begin anew.")

    def _set(self, answers: Mapping[int, object]) -> None:
        new = tuple(answers.get(at, old) for at, old in enumerate(self.answers))
        self._draft = replace(self._draft, answers=new, note="")

    def _obstacle(self) -> str:
        """Why one can't commit yet."""
        pairs = list(zip(self.question.asks, self.answers, strict=True))
        missing = [ask.label for ask, answer in pairs if answer is None]
        if missing:
            return f"Still to be answered: {', '.join(missing)}."
        problems = [f"{ask.label}: {_problem(ask, answer)}" for ask, answer in pairs]
        return " ".join(problem for problem in problems if not problem.endswith(": "))

    def _reveal(self, answers: Iterable[object]) -> None:
        replies = tuple(map(reply, self.question.asks, answers))
        self.commitment = Commitment(self.question, replies)
        self._show()
        _, buttons = self.children
        self.children = (self.live,)
        close_all(buttons)
        self._record.add(self.commitment)

    def _show(self) -> None:
        width = self.fit(WIDTH)
        if self.commitment:
            drawing, values = draw_reveal(self.commitment, width), {}
        else:
            drawing = draw_question(self.question, self._draft, width)
            values = {"commit": 0} | values_of(self.question.asks, self.answers)
        self.live.show(svg.markup(drawing.page), drawing.alt, values, self._edits_id)

    def _on_edits(self, change: Mapping[str, Any]) -> None:
        self._edits_id = change["new"]["id"]
        values = dict(change["new"]["values"])
        is_commit = values.pop("commit", 0)
        with self.live.guard():
            if values and not self.commitment:
                self._set(edited(self.answers, self.question.asks, values))
                self._show()
            if is_commit:
                self._on_commit()
        self.live.acknowledged = self._edits_id

    def _on_commit(self) -> None:
        """Commit, or say in the picture why one can't."""
        if self.commitment:  # in another view
            return
        self._draft = replace(self._draft, note=self._obstacle())
        if self._draft.note:
            self._show()
        else:
            self._reveal(self.answers)

    def _on_click(self, action: Callable[[], None]) -> None:
        with self.live.guard():
            action()

    def _repr_html_(self) -> str:
        if self.commitment:
            return super()._repr_html_()
        replies = tuple(reply(ask, None) for ask in self.question.asks)
        answer = draw_answer(Commitment(self.question, replies))._repr_html_()
        fold = f"<details><summary>Then look</summary>{answer}</details>"
        return super()._repr_html_() + fold


def _find(question: Question | str) -> Question:
    if isinstance(question, Question):
        return question
    if not isinstance(question, str):
        raise TypeError(
            f"question must be a Question or a name, got {type(question).__name__}: "
            "give the name of a question of the course."
        )
    if question in QUESTIONS:
        return QUESTIONS[question]
    close = get_close_matches(question, QUESTIONS, cutoff=0.4)
    names = listed(list(map(repr, close or QUESTIONS)))
    raise ValueError(f"there is no question {brief(question)}: give one of {names}.")


def _problem(ask: Ask, answer: object) -> str:
    """Why something is not an answer."""
    try:
        check_answer(ask, answer)
    except ValueError as error:
        return str(error)
    return ""
