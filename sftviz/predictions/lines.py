"""The lines that one ask takes in a picture: before it is answered, and after."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from textwrap import wrap

from sftviz.drawing.formatting import text_width, token_label
from sftviz.drawing.scene import Align, Cell, Column, Node, Row, Text
from sftviz.predictions.question import Ask, Bits, Choice, Number
from sftviz.predictions.reply import CANT_SAY, Reply
from sftviz.views.parts import TONES

SENTENCE = 88  # cells: longer lines are hard to read
MARK = 3  # cells, of the mark before a sentence
_ANSWER = 14  # cells, of a number that is typed
_TOKEN = 10  # cells at most, of a token above its bit
_UNKNOWN = "?"
_SIDES = ("yours", "right")
Rows = Sequence[Sequence[object]]  # of a mask


class Lines:
    """Draws the lines of asks, in one layout before and after they are answered."""

    def __init__(self, asks: Sequence[Ask], width: int, hints: bool = False) -> None:
        self.width, self.hints = width, hints
        numbers = [ask for ask in asks if isinstance(ask, Number)]
        longest = max([text_width(ask.label) for ask in numbers], default=1)
        self.labels = min(longest, width - 2 * (_ANSWER + 1))  # the width of their column
        self.is_one_of_many = len(asks) > 1

    def ask(self, at: int, ask: Ask, answer: object) -> list[Node]:
        """What is asked, with the answer so far."""
        match ask:
            case Number(label):
                typed = token_label(str(answer or _UNKNOWN), _ANSWER - 2)
                cell = Cell(typed, _ANSWER, "asked", f"answer[{at}]")
                hint = self._hint("type a number, or drag up and down", self.labels + _ANSWER + 2)
                return self._labelled(label, cell, hint)
            case Choice(_, options):
                chosen = ["●" if place == answer else "" for place in range(len(options))]
                keys = [f"option[{at},{place}]" for place in range(len(options))]
                marks = map(Cell, chosen, repeat(MARK), repeat("asked"), keys)
                return self._options(ask, marks)
            case Bits(label, tokens):
                rows = answer or [[_UNKNOWN] * len(row) for row in tokens]
                hint = self._hint("click or paint the 1s", text_width(label) + 1)
                return [
                    Row((Text(label), hint), gap=1),
                    *self._mask(ask, {"": rows}, key=f"bit[{at},"),
                ]

    def answered(self, ask: Ask, reply: Reply) -> list[Node]:
        """What was asked, the answer, and what is so."""
        match ask:
            case Number(label):
                tone = TONES.get(ask.quantity or label, "response")
                yours = _UNKNOWN if reply.yours == CANT_SAY else reply.yours
                cells = Cell(yours, _ANSWER, "asked"), Cell(reply.right, _ANSWER, tone)
                return self._labelled(label, *cells)
            case Choice(_, options):
                marks = {reply.yours: Cell("✗", MARK, "scaled_loss")}
                marks[reply.right] = Cell("✓", MARK, "response")
                none = Cell("", MARK, "entry")
                return self._options(ask, [marks.get(option.text, none) for option in options])
            case Bits(label):
                right = reply.right.split()
                if reply.is_right or reply.yours == CANT_SAY:
                    masks = {"": right}
                else:
                    masks = dict(zip(_SIDES, (reply.yours.split(), right), strict=True))
                return [Text(label), *self._mask(ask, masks)]

    def head(self) -> list[Node]:
        """What stands over answered numbers."""
        sides = (Align(Text(f"{side} ", "muted"), _ANSWER, "right") for side in _SIDES)
        return self._labelled("", *sides)

    def _hint(self, text: str, after: int) -> Text:
        """How to answer, if there is room for it."""
        has_room = self.hints and after + text_width(text) + 2 <= self.width
        return Text(f"← {text}" if has_room else "", "muted")

    def _labelled(self, label: str, *nodes: Node) -> list[Node]:
        lines = wrap(label, self.labels) or [""]
        first = Row((Align(Text(lines[0]), self.labels), *nodes), gap=1)
        return [first, *map(Text, lines[1:])]

    def _options(self, ask: Choice, marks: Iterable[Cell]) -> list[Node]:
        lines: list[Node] = [Text(ask.label)] if self.is_one_of_many else []
        for option, mark in zip(ask.options, marks, strict=True):
            texts = wrap(option.text, min(SENTENCE, self.width - MARK - 2))
            body = Column(tuple(Text(text, "prose", mark.key) for text in texts))
            lines.append(Row((mark, body), gap=2))
        return lines

    def _mask(self, ask: Bits, masks: Mapping[str, Rows], key: str = "") -> list[Node]:
        """For each row of tokens, those and their bits of each mask, on as many lines as needed."""
        texts = [[token_label(token, _TOKEN) for token in row] for row in ask.tokens]
        width = max(3, *(text_width(text) for row in texts for text in row)) + 2
        names = max(map(len, masks)) + 1 if any(masks) else 0
        count = max(1, (self.width - names) // (width + 1))  # of tokens on a line
        *_, right = masks.values()

        def bit(rows: Rows, row: int, column: int) -> Cell:
            text = str(rows[row][column])
            tone = _bit_tone(text, str(right[row][column]))
            return Cell(text, width, tone, f"{key}{row},{column}]" if key else None)

        lines: list[Node] = []
        for row, tokens in enumerate(texts):
            for start in range(0, len(tokens), count):
                columns = range(len(tokens))[start : start + count]
                heads = [Align(Text(f"{tokens[i]} ", "muted"), width, "right") for i in columns]
                lines.append(Row((Text(" " * names), Row(tuple(heads), gap=1))))
                for name, rows in masks.items():
                    bits = tuple(bit(rows, row, column) for column in columns)
                    lines.append(Row((Align(Text(name, "muted"), names), Row(bits, gap=1))))
        return lines


def _bit_tone(bit: str, right: str) -> str:
    if bit == _UNKNOWN:
        return "asked"
    if bit != right:
        return "scaled_loss"
    return "response" if bit == "1" else "masked"
