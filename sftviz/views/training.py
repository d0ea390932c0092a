"""A training at one moment: its losses as curves, its gradients, and what the model answers."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, token_label
from sftviz.drawing.scene import (
    HIGHEST,
    SIGN,
    Align,
    Card,
    Column,
    Node,
    Row,
    Stack,
    Strip,
    Text,
    Trail,
)
from sftviz.experiments.watched import Answer, TrainingSnapshot
from sftviz.views.parts import FRAME, WIDTH, check_width, table

_CHART = 54  # cells, at most
_LEAST = 30  # cells: a chart that is beside the answers is not narrower
_TICKS, _ROWS_PER_TICK = 5, 2  # of the axis of losses, above 0
_NICE = (1.0, 2.0, 2.5, 5.0)  # and times 10, 100, …: the highest loss on the axis
_AXIS = 4  # cells left of the chart
_MARKS = 4  # cells right of it, for the marks of two curves
_TONES = ("response", "masked_sum")  # of the trainings
_LIMIT = "trainings must be one or two, got {}: more curves than four can't be told apart."
_STEP = 0.5  # nats; a bar is one step higher for each
_SYMBOLS = {"<pad>": "∅", "<start>": "▶", "<end>": "■"}  # of one cell, as all other tokens are
_KEY = ("A bar is −log-prob of its token,", "a step up is half a nat. ■ is <end>.")
_TOKEN = 2  # cells
_ROWS = ("windows", "training loss", "held-out loss", "length of the gradient", "response tokens")
_NONE = "–"  # before the first window
_Line = Sequence[tuple[int, float]]


class _Look(NamedTuple):
    """A training, and how it is told from the other one."""

    name: str
    tone: str
    mark: str  # at the end of its curve, if there are two
    now: TrainingSnapshot


def training_view(
    trainings: Mapping[str, TrainingSnapshot],
    until: int,
    width: int = WIDTH,
    seconds_left: float | None = None,
) -> Drawing:
    """Draw one or two trainings on one chart, and what their models answer to held-out prompts.

    Args:
        trainings: by name.
        until: the number of windows in all.
        width: in cells, 48 or more. The answers are beside the chart if there is room.
        seconds_left: is written into the picture, but not into its description.

    Raises:
        TypeError, ValueError: the width is too small, or there are no trainings, or more than two.
    """
    check_width(width)
    if not 1 <= len(trainings) <= len(_TONES):
        raise ValueError(_LIMIT.format(len(trainings)))
    looks = [
        _Look(name, tone, str(at) if len(trainings) > 1 else "", now)
        for at, (tone, (name, now)) in enumerate(zip(_TONES, trainings.items(), strict=False), 1)
    ]
    until = max([until, *(len(look.now.history) for look in looks)])
    right: list[Node] = [Text("Answers to held-out prompts", "title")]
    for look in looks:
        last = look.now.held_out[-1]
        after = f"{look.name}, after {count_of(last.windows, 'window')}"
        right += [Text(""), Text(after, look.tone)]
        right += [line for answer in last.answers for line in _answer(answer)]
    right += [Text(""), *(Text(line, "muted") for line in _KEY)]
    answers = Card(Column(tuple(right)))

    room = width - FRAME - _AXIS - _MARKS  # for the chart
    is_beside = room - answers.width - 1 >= _LEAST
    if is_beside:
        room -= answers.width + 1
    per_cell = math.ceil(until / min(_CHART, room))  # windows
    left = [Text("Loss of a response token, in nats", "title"), Text("")]
    left += [*_chart(looks, until, per_cell), *_gradients(looks, per_cell)]
    numbers = _numbers(looks, until)
    is_narrow = numbers.width > room + _AXIS + _MARKS
    tables = [_numbers([look], until) for look in looks] if is_narrow else [numbers]
    left += [Text(""), *tables]
    if seconds_left is not None:
        left.append(Text(f"about {count_of(math.ceil(seconds_left), 'second')} left", "muted"))
    cards = Card(Column(tuple(left))), answers
    scene = Row(cards, gap=1) if is_beside else Column(cards)
    return Drawing(scene, " ".join(_describe(look.name, look.now, until) for look in looks))


def _chart(looks: Sequence[_Look], until: int, per_cell: int) -> list[Node]:
    """The losses over the number of optimizer steps, and what each line is."""
    columns, height = math.ceil(until / per_cell) + _MARKS, _TICKS * _ROWS_PER_TICK + 1
    # The loss of a window is that of the weights before its step.
    seen = [[(at.number - 1, at.nll) for at in look.now.history] for look in looks]
    held_out = [[(at.windows, at.nll) for at in look.now.held_out] for look in looks]
    top = _top(max((loss for line in (*seen, *held_out) for _, loss in line if loss < math.inf)))

    def trail(line: _Line, tone: str, is_dashed: bool = False) -> Trail:
        points = tuple(place(*point) for point in line if math.isfinite(point[1]))
        return Trail(columns, height, points, tone, is_dashed, has_heads=False)

    def place(steps: float, loss: float) -> tuple[float, float]:
        return steps / per_cell + 0.1, (1 - loss / top) * (height - 1) + 0.5

    nodes: list[Node] = [Column((Text(" " * columns), *[Text("")] * (height - 1)))]
    nodes.append(trail([(0, 0), (until, 0)], "masked"))
    legend: list[Node] = []
    x, y = 0.0, 0.0  # where the last curve ends
    for at, look in enumerate(looks):
        for line, what, is_dashed in (
            (seen[at], "training", False),
            (held_out[at], "held out", True),
        ):
            curve = trail(line, look.tone, is_dashed)
            if curve.points:
                nodes.append(curve)
                x, y = curve.points[-1]
            sample = Trail(5, 1, ((0.0, 0.5), (4.8, 0.5)), look.tone, is_dashed, has_heads=False)
            legend.append(
                Row((sample, Text(f"{look.mark} {look.name}, {what}".strip(), "muted")), gap=1)
            )
        mark = Align(Text(look.mark, look.tone), int(x) + 2 + 2 * at, "right")
        nodes.append(Column((*[Text("")] * int(y), mark)))
    losses = [f"{top * tick / _TICKS:g}" for tick in range(_TICKS, -1, -1)]
    lines = [f"{loss:>{_AXIS - 1}} " for loss in losses for _ in range(_ROWS_PER_TICK)]
    lines = [line if at % _ROWS_PER_TICK == 0 else "" for at, line in enumerate(lines)]
    axis = Column(tuple(Text(line, "muted") for line in lines[:height]))
    ends = f"0{f'{until} windows':>{columns - 1}}"
    return [
        Row((axis, Stack(tuple(nodes)))),
        Row((Text(" " * _AXIS), Text(ends, "muted"))),
        *legend,
    ]


def _top(loss: float) -> float:
    """The highest loss on the axis: a round number that is not below this loss."""
    unit = 10.0 ** max(0, math.floor(math.log10(max(loss, 1.0))))
    return next(nice * unit for nice in (*_NICE, 10.0) if nice * unit >= loss)


def _gradients(looks: Sequence[_Look], per_cell: int) -> list[Node]:
    """A bar for the windows of each cell of the chart, as high as their longest gradient."""
    lengths = [[window.grad_norm for window in look.now.history] for look in looks]
    longest = max((max(line) for line in lengths if line), default=0.0) or 1.0
    nodes: list[Node] = []
    for look, line in zip(looks, lengths, strict=True):
        parts = [max(line[at : at + per_cell]) for at in range(0, len(line), per_cell)]
        bars = bytes(max(1, round(part / longest * HIGHEST)) for part in parts)
        nodes.append(Text(f"{look.name}: length of the gradient", "muted"))
        nodes.append(Row((Text(" " * _AXIS), Strip(len(bars), (bars,)))) if bars else Text(""))
    return nodes


def _numbers(looks: Sequence[_Look], until: int) -> Node:
    columns: list[list[Node]] = [[Text(head, "muted") for head in ("", *_ROWS)]]
    for name, tone, _, now in looks:
        last = now.history[-1] if now.history else None
        values = (
            f"{len(now.history)} of {until}",
            number(last.nll) if last else _NONE,
            number(now.held_out[-1].nll),
            number(last.grad_norm) if last else _NONE,
            f"{now.num_tokens:,}",
        )
        columns.append([Text(text, tone) for text in (name, *values)])
    return table(list(zip(*columns, strict=True)), gap=2)


def _answer(answer: Answer) -> list[Node]:
    """The prompt; the tokens and whether they are right; a bar for each token."""
    written, expected = answer.written, (*answer.pair.response, "<end>")
    tokens = [
        Text(
            f"{_SYMBOLS.get(token, token_label(token, 1)):<{_TOKEN}}",
            "knob" if expected[at : at + 1] == (token,) else "scaled_loss",
        )
        for at, token in enumerate(written.tokens)
    ]
    is_right = answer.is_right
    verdict = Text("right", "knob") if is_right else Text(f"not {answer.pair.response}", "muted")
    bars = bytes(map(_level, written.log_probs))
    line = Row((Row(tuple(tokens)), verdict), gap=1)
    return [Text(answer.pair.prompt, "muted"), line, Strip(_TOKEN * len(bars), (bars,))]


def _level(log_prob: float) -> int:
    """The level of a token's bar."""
    if math.isnan(log_prob):  # of weights that have diverged
        return SIGN
    return math.ceil(max(1, min(HIGHEST, -log_prob / _STEP)))


def _describe(name: str, now: TrainingSnapshot, until: int) -> str:
    measured = now.held_out[-1]
    losses = ""
    if now.history:
        first, last = now.history[0], now.history[-1]
        losses = (
            f"loss of a response token from {number(first.nll)} to {number(last.nll)} nats, "
            f"gradient {number(last.grad_norm)} long, {now.num_tokens:,} response tokens; "
        )
    answers = ", ".join(
        f"{answer.pair.prompt}{answer.written.text} ({'right' if answer.is_right else 'wrong'})"
        for answer in measured.answers
    )
    return (
        f"{name}, {len(now.history)} of {until} windows: {losses}held-out loss "
        f"{number(measured.nll)} after {measured.windows}; answers: {answers}."
    )
