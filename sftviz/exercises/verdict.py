"""The answer to a function that a learner has written."""

from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any, Literal, NamedTuple

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Text
from sftviz.terminal import printable
from sftviz.views.parts import CELL, FRAME, TONES, check_width, same_width, table

Outcome = Literal["correct", "wrong", "not attempted", "error"]
WIDTH = 88  # cells: sentences are easy to read at this length
_SIGNS = {  # and their tones
    "correct": ("✓", "response"),
    "wrong": ("✗", "scaled_loss"),
    "not attempted": ("…", "muted"),
    "error": ("!", "scaled_loss"),
}


class Number(NamedTuple):
    """One number of the learner's beside the right one, as they are written."""

    name: str  # `masked_sum`, `grad[1,3]`
    yours: str
    right: str
    same: bool


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a function does right and wrong. It is shown as a picture; `str()` gives the text.

    Example:
        >>> verdict = Verdict("not attempted", None, "The function returns nothing yet.")
        >>> print(verdict)
        ╭───────────────────────────────────╮
        │ … not attempted                   │
        │ The function returns nothing yet. │
        ╰───────────────────────────────────╯
    """

    outcome: Outcome
    mistake: str | None  # the name of the mistake that gives the same numbers
    message: str  # what was wrong and what was right, in sentences; a paragraph for each line
    right: tuple[str, ...] = ()  # what was right on every batch
    wrong: tuple[str, ...] = ()  # what was wrong on at least one
    numbers: tuple[Number, ...] = ()  # of the first batch on which something was wrong
    where: str = ""  # that batch

    def as_dict(self) -> dict[str, object]:
        """The verdict in the types of JSON."""
        return asdict(self) | {"numbers": [number._asdict() for number in self.numbers]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Verdict":
        """The verdict that `as_dict` has written."""
        lists = {name: tuple(fields[name]) for name in ("right", "wrong")}
        numbers = tuple(Number(**number) for number in fields["numbers"])
        return cls(**{**fields, **lists, "numbers": numbers})

    def draw(self, width: int = WIDTH) -> Drawing:
        """A picture that fits into a width in cells, 48 or more."""
        check_width(width)
        sign, tone = _SIGNS[self.outcome]
        name = f": {self.mistake}" if self.mistake else ""
        lines: list[Node] = [
            Text(line, shade)
            for text, shade in (
                (f"{sign} {self.outcome}{name}", tone),
                *((line, "ink") for line in self.message.splitlines()),
            )
            for line in wrap(printable(text), width - FRAME)
        ]
        if self.numbers:
            lines += [Text(""), *(Text(each, "muted") for each in wrap(self.where, width - FRAME))]
            lines.append(_beside(self.numbers))
        described = " ".join(printable(line) for line in self.message.splitlines())
        return Drawing(Card(Column(tuple(lines))), f"{self.outcome}{name}. {described}")

    def __repr__(self) -> str:
        return self.draw().text

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return self.draw()._repr_mimebundle_()


def _beside(numbers: tuple[Number, ...]) -> Node:
    """The learner's numbers beside the right ones; an arrow where they part first."""
    parted = next((at for at, number in enumerate(numbers) if not number.same), None)
    tones = [TONES.get(number.name.partition("[")[0], "ink") for number in numbers]
    yours, right = (
        same_width(
            Cell(text, max(CELL, len(text) + 2), tone)
            for text, tone in zip(texts, tones, strict=True)
        )
        for texts in ([each.yours for each in numbers], [each.right for each in numbers])
    )
    heads = (
        Text(""),
        Align(Text("yours ", "muted"), yours[0].width, "right"),
        Align(Text("right ", "muted"), right[0].width, "right"),
        Text(""),
    )
    rows = [
        (
            Text(number.name, tones[at]),
            yours[at],
            right[at],
            Text("" if number.same else "← here they part" if at == parted else "≠", "scaled_loss"),
        )
        for at, number in enumerate(numbers)
    ]
    return table([heads, *rows], gap=1)
