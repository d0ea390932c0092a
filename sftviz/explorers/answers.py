"""Answers as the page has them: one value for each key of what can be changed in the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from sftviz.explorers.widget import parse_key
from sftviz.predictions.question import Ask, Bits, Choice, Number
from sftviz.validate import place


def values_of(asks: Sequence[Ask], answers: Sequence[object]) -> dict[str, object]:
    """What can be changed in the page, by key."""
    values: dict[str, object] = {}
    for at, (ask, answer) in enumerate(zip(asks, answers, strict=True)):
        match ask:
            case Number():
                values[f"answer[{at}]"] = answer or ""
            case Choice():
                values[f"option[{at}]"] = -1 if answer is None else answer
            case Bits():
                rows = _rows(ask, answer)
                values |= {
                    f"bit[{at},{row},{column}]": bit
                    for row, bits in enumerate(rows)
                    for column, bit in enumerate(bits)
                }
    return values


def edited(
    answers: Sequence[object], asks: Sequence[Ask], values: Mapping[str, object]
) -> dict[int, object]:
    """The answers that were changed in the page."""
    new: dict[int, Any] = {}
    for key, value in values.items():
        _, (at, *place) = parse_key(key)
        match ask := asks[at]:
            case Number():
                new[at] = str(value) if str(value).strip() else None
            case Choice():
                new[at] = value
            case Bits():
                row, column = place
                bits = new.setdefault(at, [list(row) for row in _rows(ask, answers[at])])
                bits[row][column] = value
    return new


def _rows(ask: Bits, answer: Any) -> Sequence[Sequence[int]]:
    """The bits of a mask; 0 where nothing was painted yet."""
    return answer or [[0] * len(row) for row in ask.tokens]


def names_of(asks: Sequence[Ask]) -> dict[str, str]:
    """What screen readers call that which can be changed, by key."""
    names: dict[str, str] = {}
    for at, ask in enumerate(asks):
        match ask:
            case Number(label):
                names[f"answer[{at}]"] = label
            case Choice(_, options):
                names |= {f"option[{at},{i}]": option.text for i, option in enumerate(options)}
            case Bits(_, tokens):
                names |= {
                    f"bit[{at},{row},{column}]": f"{token}, {place(row, column)}"
                    for row, texts in enumerate(tokens)
                    for column, token in enumerate(texts)
                }
    return names
