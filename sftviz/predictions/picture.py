"""A question as a picture: what is given and asked; then each answer beside what is so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text
from sftviz.predictions.lines import MARK, Lines, fill
from sftviz.predictions.question import Ask, Bits, Choice, Number, Question
from sftviz.predictions.record import Commitment
from sftviz.predictions.reply import CANT_SAY, Reply
from sftviz.views.parts import FRAME, WIDTH, check_width

_CARD = 96  # cells, at most, for sentences; the pictures before and after them may be wider
_NOTHING_YET = (
    "When you have answered questions of this notebook, here is what you believed and what is so."
)


@dataclass(frozen=True)
class Draft:
    """The answers so far: None where there is none yet."""

    answers: tuple[object, ...]  # one for each ask
    note: str = ""  # what is missing, or can't be read
    hints: bool = False  # whether to say how to answer


def draw_question(question: Question, draft: Draft | None = None, width: int = WIDTH) -> Drawing:
    """What is given and what is asked. Nothing that is asked is computed.

    Of what can be changed, the keys are `answer[ask]`, `option[ask,place]` and
    `bit[ask,row,column]`.

    >>> ask = Number("scaled_loss", lambda: 0.7)
    >>> print(draw_question(Question("G", "What is scaled_loss if G is 2?", (ask,), ""), width=48))
    ╭──────────────────────────────────────────────╮
    │ What is scaled_loss if G is 2?               │
    │                                              │
    │ scaled_loss [           ?]                   │
    ╰──────────────────────────────────────────────╯
    """
    check_width(width)
    asks = question.asks
    draft = draft or Draft((None,) * len(asks))
    draw = Lines(asks, min(width, _CARD) - FRAME, draft.hints)
    lines = _spaced(
        draw.ask(at, ask, answer)
        for at, (ask, answer) in enumerate(zip(asks, draft.answers, strict=True))
    )
    if draft.note:
        lines += [Text(""), *_prose(draft.note, width - FRAME, "reply")]
    return _given(question, lines, width, draft.note)


def draw_reveal(commitment: Commitment, width: int = WIDTH) -> Drawing:
    """A question; the answers beside what is so, what is said to them, and why it is so."""
    check_width(width)
    given = _given(commitment.question, _answered(commitment, width), width)
    answer = Drawing(_card(_said(commitment, width), width), describe(commitment))
    return _below([given, answer, *_after(commitment, width)])


def draw_answer(commitment: Commitment, width: int = WIDTH) -> Drawing:
    """What is so, without the question."""
    check_width(width)
    lines = [*_answered(commitment, width), Text(""), *_said(commitment, width)]
    return _below([Drawing(_card(lines, width), describe(commitment)), *_after(commitment, width)])


def draw_beliefs(commitments: Sequence[Commitment], width: int = WIDTH) -> Drawing:
    """What was believed and what is so, question by question."""
    check_width(width)
    if not commitments:
        lines = _prose(_NOTHING_YET, width - FRAME)
        return Drawing(_card(lines, width), _NOTHING_YET)
    replies = [reply for each in commitments for reply in each.replies]
    count = sum(reply.is_right for reply in replies)
    title = f"What you believed, and what is so: {count} of {len(replies)} agree."
    lines = _prose(title, width - FRAME, "title")
    words = [title]
    for commitment in commitments:
        question = commitment.question
        for ask, reply in zip(question.asks, commitment.replies, strict=True):
            sign, tone = ("✓", "response") if reply.is_right else ("✗", "scaled_loss")
            asked = f"{question.text} ({ask.label})" if len(question.asks) > 1 else question.text
            inner = width - FRAME - MARK - 2
            body = [*_prose(asked, inner), *_prose(_both(reply)[0], inner, "title")]
            if not reply.is_right:
                body += _prose(_both(reply)[1], inner, "title")
            lines += [Text(""), Row((Cell(sign, MARK, tone), Column(tuple(body))), gap=2)]
            words += [asked, *_both(reply)]
    return Drawing(_card(lines, width), " ".join(words))


def headline(ask: Ask, reply: Reply) -> str:
    """An answer and the truth, in a sentence or two."""
    if isinstance(ask, Number):
        if reply.is_right:
            return f"{reply.yours} is right."
        said = "" if reply.yours == CANT_SAY else f"You said {reply.yours}. "
        return f"{said}It is {reply.right}."
    if reply.yours == CANT_SAY:
        return "This is so."
    return "That is right." if reply.is_right else "That is not so."


def describe(commitment: Commitment) -> str:
    """A reveal in sentences, for those who do not see the picture."""
    sentences = []
    for ask, reply in zip(commitment.question.asks, commitment.replies, strict=True):
        sentences.append(f"{ask.label}: {headline(ask, reply)}")
        if not isinstance(ask, Number):
            sentences += _both(reply)
        sentences.append(reply.message)
    return " ".join(filter(None, [*sentences, commitment.question.why]))


def _both(reply: Reply) -> tuple[str, str]:
    """An answer and the truth, in a sentence each."""
    yours = f"You said: {_ended(reply.yours)}"
    if reply.yours == CANT_SAY:
        yours = "You could not say."
    return yours, f"It is: {_ended(reply.right)}"


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _answered(commitment: Commitment, width: int) -> list[Node]:
    asks = commitment.question.asks
    draw = Lines(asks, min(width, _CARD) - FRAME)
    head = draw.head() if isinstance(asks[0], Number) else []
    return head + _spaced(map(draw.answered, asks, commitment.replies))


def _said(commitment: Commitment, width: int) -> list[Node]:
    asks = commitment.question.asks
    lines: list[Node] = []
    for ask, reply in zip(asks, commitment.replies, strict=True):
        name = f"{ask.label}: " if len(asks) > 1 else ""
        lines += _prose(name + headline(ask, reply), width - FRAME, "title")
        lines += _prose(reply.message, width - FRAME, "prose" if reply.is_right else "reply")
        lines += [Text("")] if len(asks) > 1 else []
    return lines + _prose(commitment.question.why, width - FRAME)


def _after(commitment: Commitment, width: int) -> list[Drawing]:
    """The pictures of the options that were chosen, and then of what is so."""
    pairs = zip(commitment.question.asks, commitment.replies, strict=True)
    chosen = [
        option.after
        for ask, reply in pairs
        if isinstance(ask, Choice)
        for option in ask.options
        if option.text == reply.yours
    ]
    return [draw(width) for draw in (*chosen, commitment.question.after) if draw]


def _given(question: Question, lines: Sequence[Node], width: int, note: str = "") -> Drawing:
    """A question, the picture of what is given, and lines with what is asked."""
    text = _prose(question.text, width - FRAME, "title")
    asked = " ".join(filter(None, [f"Asked: {'; '.join(map(_name, question.asks))}.", note]))
    asked_for = f"Question: {question.text}"
    if question.before is None:
        return Drawing(_card([*text, Text(""), *lines], width), f"{asked_for} {asked}")
    above, below = Drawing(_card(text, width), asked_for), Drawing(_card(lines, width), asked)
    return _below([above, question.before(width), below])


def _name(ask: Ask) -> str:
    """What is asked for, with everything that can be chosen."""
    if isinstance(ask, Choice):
        return f"{ask.label}, one of: {' / '.join(option.text for option in ask.options)}"
    if isinstance(ask, Bits):
        return f"{ask.label}, a bit for each of: {' / '.join(map(' '.join, ask.tokens))}"
    return ask.label


def _below(parts: Sequence[Drawing]) -> Drawing:
    scene = Column(tuple(part.scene for part in parts))
    return Drawing(scene, " ".join(part.alt for part in parts))


def _card(lines: Sequence[Node], width: int) -> Card:
    return Card(Align(Column(tuple(lines)), min(width, _CARD) - FRAME))


def _prose(text: str, width: int, tone: str = "prose") -> list[Node]:
    return [Text(line, tone) for line in fill(text, width)]


def _spaced(groups: Iterable[Sequence[Node]]) -> list[Node]:
    """Groups of lines; between two of which one has several lines, a blank line."""
    lines: list[Node] = []
    last = 0
    for group in groups:
        if lines and max(last, len(group)) > 1:
            lines.append(Text(""))
        lines += group
        last = len(group)
    return lines
