"""What was answered in this process, in order."""

from collections.abc import Callable
from dataclasses import dataclass

from sftviz.predictions.question import Question
from sftviz.predictions.reply import Reply


@dataclass(frozen=True)
class Commitment:
    """A question, and the reply to each of its asks."""

    question: Question
    replies: tuple[Reply, ...]


class Record:
    """Commitments in the order in which they came. Of one question, the last one counts.

    >>> record = Record()
    >>> record.observe(lambda: print(len(record.commitments)))
    >>> record.add(Commitment(Question("divisor", "By what?", (), ""), ()))
    1
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Commitment] = {}
        self._observers: list[Callable[[], None]] = []

    @property
    def commitments(self) -> tuple[Commitment, ...]:
        return tuple(self._by_name.values())

    def add(self, commitment: Commitment) -> None:
        self._by_name.pop(commitment.question.name, None)
        self._by_name[commitment.question.name] = commitment
        for observer in tuple(self._observers):
            observer()

    def observe(self, observer: Callable[[], None]) -> None:
        """Call a function after each commitment."""
        self._observers.append(observer)

    def unobserve(self, observer: Callable[[], None]) -> None:
        if observer in self._observers:
            self._observers.remove(observer)


RECORD = Record()  # of this process
