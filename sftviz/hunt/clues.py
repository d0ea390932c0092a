"""What a run gives away: its curves, what the model answers, and what it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from matplotlib.axes import Axes

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number
from sftviz.drawing.scene import HIGHEST, Align, Card, Column, Node, Row, Strip, Text
from sftviz.experiments.dates import END, VOCABULARY
from sftviz.experiments.training import Window
from sftviz.hunt.bugs import HEALTHY
from sftviz.hunt.cases import SIGNS, Answer, Run, run_bug, run_case
from sftviz.views.charts import compare_runs
from sftviz.views.parts import FRAME, WIDTH, check_width, table

_MASKED = "░"
_WINDOWS = (1, 20, 40, 60, 80)  # at which both losses are compared
_NAME = 9  # cells
_GAP = 6
_ROWS = (0, -1)  # of the microbatch and of the answers: a long one and a short one
_TONES = {"reads": "entry", "learns": "response"}
_QUANTITIES = {
    "scaled_loss": ("scaled_loss, as the run logs it", "scaled_loss"),
    "nll": ("loss a response token, measured", "loss"),
    "grad_norm": ("length of the gradient", "gradient"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Clues:
    """What is seen of a run, with the healthy run behind it. A notebook shows it."""

    run: Run

    @property
    def chart(self) -> Axes:
        """The curves."""
        histories = {"healthy": run_bug(HEALTHY).history}
        if self.run.name != HEALTHY.name:
            histories["this run"] = self.run.history
        return compare_runs(histories)

    @cached_property
    def drawing(self) -> Drawing:
        """Everything that is not a curve."""
        return draw_clues(self.run)

    def __repr__(self) -> str:
        return self.drawing.text

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        html = self.chart._repr_html_() + self.drawing._repr_html_()
        return {"text/plain": self.drawing.text, "text/html": html}


def clues(case: str) -> Clues:
    """Train with the bug of a case, and show what is seen of it.

    Args:
        case: a letter, or "healthy".

    Raises:
        ValueError: there is no such case.

    Example:
        >>> clues("A").run is run_case("A")
        True
    """
    return Clues(run_case(case))


def draw_clues(run: Run, width: int = WIDTH) -> Drawing:
    """What the model answers, what two rows teach, and how the logged loss is to the measured one.

    Args:
        run: from `run_case`.
        width: in cells, 48 or more.
    """
    check_width(width)
    losses = {at: _relation(run.history[at - 1]) for at in _WINDOWS}
    inspected = count_of(len(run.inspection.findings), "finding")
    rows = [_row(run, row) for row in _ROWS]
    left: list[Node] = [
        Text("Answers to prompts that no training had", "title"),
        table([_answer(answer) for answer in run.answers], gap=2),
        Text(""),
        Text("scaled_loss ÷ loss a response token", "title"),
        Text("  ".join(losses.values()), "scaled_loss"),
        Text(f"in windows {', '.join(map(str, losses))}", "muted"),
    ]
    right: list[Node] = [
        Text("Two rows of a microbatch", "title"),
        *(
            Text(f"{name:{_NAME}}{text}", _TONES[name])
            for row in rows
            for name, text in row.items()
        ),
        Text(f"▷ start  ■ end  · padding  {_MASKED} does not count", "muted"),
        Text(""),
        Text("inspect_batch", "title"),
        Text(f"has {inspected} on this microbatch"),
    ]
    beside = Row((Column(tuple(left)), Column(tuple(right))), gap=_GAP)
    body = beside if beside.width <= width - FRAME else Column((*left, Text(""), *right))
    answers = "; ".join(f"{each.pair.prompt} {_shown(each)}" for each in run.answers)
    words = [
        f"Answers, ■ is the end: {answers}.",
        *(f"A row reads {row['reads']} and learns {row['learns']}." for row in rows),
        f"scaled_loss divided by the loss a response token: {', '.join(losses.values())} in "
        f"windows {', '.join(map(str, losses))}.",
        f"inspect_batch has {inspected}.",
    ]
    return Drawing(Card(Align(body, width - FRAME)), " ".join(words))


def draw_likeness(run: Run, suspect: Run, width: int = WIDTH) -> Drawing:
    """The curves and two answers of a run, of one with a suspected bug, and of the healthy one."""
    check_width(width)
    runs = {"this run": run, "suspect": suspect, "healthy": run_bug(HEALTHY)}
    lines: list[Node] = [Text(f"A run with “{suspect.name}”", "title")]
    words = []
    for quantity, (title, tone) in _QUANTITIES.items():
        values = {
            name: [getattr(window, quantity) for window in each.history]
            for name, each in runs.items()
        }
        ends = {name: f"{number(each[0])} to {number(each[-1])}" for name, each in values.items()}
        low = min(0.0, *map(min, values.values()))
        high = max(map(max, values.values()))
        room = width - FRAME - _NAME - 2 - max(map(len, ends.values()))
        lines.append(Text(title, tone))
        for name, each in values.items():
            strip = Strip(room, (_levels(each, low, high),))
            parts = (Align(Text(name, "muted"), _NAME), strip, Text(ends[name]))
            lines.append(Row(parts, gap=1))
        words.append(f"{title}: " + "; ".join(f"{name} {end}" for name, end in ends.items()))
    for row in _ROWS:
        prompt = run.answers[row].pair.prompt
        answers = {name: _shown(each.answers[row]) for name, each in runs.items()}
        lines.append(Text(f"answer to {prompt}", "response"))
        lines += [
            Row((Align(Text(name, "muted"), _NAME), Text(answer)), gap=1)
            for name, answer in answers.items()
        ]
        words.append(f"{prompt} " + "; ".join(f"{name} {text}" for name, text in answers.items()))
    return Drawing(Card(Column(tuple(lines))), f"{suspect.name}. {'. '.join(words)}.")


def _levels(values: Sequence[float], low: float, high: float) -> bytes:
    scale = (HIGHEST - 1) / (high - low or 1)
    return bytes(1 + round(scale * (value - low)) for value in values)


def _relation(window: Window) -> str:
    return f"{window.scaled_loss / window.nll:.2f}".replace("-", "−")


def _answer(answer: Answer) -> list[Node]:
    is_right = answer.ends and answer.text == answer.pair.response
    tone = "response" if is_right else "scaled_loss"
    return [Text(answer.pair.prompt, "muted"), Text(_shown(answer), tone)]


def _shown(answer: Answer) -> str:
    return answer.text + (SIGNS[END] if answer.ends else "…")


def _row(run: Run, row: int) -> dict[str, str]:
    """What a row of the microbatch reads, and what it has to predict where that counts."""
    ids, labels = run.batch.input_ids[row].tolist(), run.batch.labels[row].tolist()
    counts = run.batch.response_mask[row].tolist()
    learned = [_sign(label) if at else _MASKED for label, at in zip(labels, counts, strict=True)]
    return {"reads": "".join(map(_sign, ids)), "learns": "".join(learned)}


def _sign(token: int) -> str:
    return SIGNS.get(token, VOCABULARY[token])
