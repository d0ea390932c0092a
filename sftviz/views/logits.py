"""The step from the logits on: one column per token, one line per entry of the vocabulary."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number, text_width, token_label
from sftviz.drawing.scene import Cell, Column, Node, Row, Text
from sftviz.logits import LogitsTrace
from sftviz.validate import check_vocabulary
from sftviz.views.focus import what_counts
from sftviz.views.grid import MAX_ROWS, Columns, fit_columns, grid
from sftviz.views.overview import Lens, asked, overview
from sftviz.views.parts import (
    CELL,
    FRAME,
    TITLES,
    TONES,
    WIDTH,
    caption,
    check_width,
    describe,
    half,
    label_text,
    ledger,
    result,
    sections,
    wrapped_formula,
)
from sftviz.views.stages import Term, explain_step, formula_of_names

_NAMES = 9  # cells, at most, for the name of an entry beside a grid
_TOP = 3  # entries that are shown besides the labels, if the vocabulary is large
_BODY = 70  # cells, for the longest formula and its result
_NARROWEST_CELL = 9  # for −0.1234
_WIDEST_CELL = 12  # for −1.234e−05


def logits_flow(
    trace: LogitsTrace,
    vocabulary: Sequence[str] | None = None,
    width: int = WIDTH,
    columns: int | range | slice | None = None,
) -> Drawing:
    """From the logits to softmax, the label's log-prob, the loss, and back: both gradients.

    Of a large vocabulary, the labels and the most probable entries are shown, and the sums of all
    others.

    Args:
        trace: the run to draw; of a batch, the first sequence.
        vocabulary: V strings; without them the entries are numbered.
        width: in cells, 48 or more. If all tokens have room in half of it, the picture goes on in a
            second column; if they have no room at all, it begins with an overview of the sequence.
        columns: the first token that is shown then, counted from 0, or all of them as a range or a
            slice. None: they begin before the first that looks wrong or counts.

    Raises:
        TypeError, ValueError: there is not one string per entry of the vocabulary, the width is too
            small, or there are no such tokens.

    >>> from sftviz.examples import FIVE_WORDS
    >>> logits_flow(FIVE_WORDS.trace(), FIVE_WORDS.vocabulary).alt.partition("; gradient")[0]
    'SFT step, G = 2: 3 of 4 tokens count; masked_sum −2.613; loss 1.307; scaled_loss 0.6533'
    """
    _, S, V = trace.logits.shape
    check_vocabulary(vocabulary, V)
    check_width(width)
    start = next((token for row, token in what_counts(trace.step) if row == 0), 0)
    first, most = asked("columns", columns, S, max(0, start - 1))
    if V <= MAX_ROWS:
        names = max(map(text_width, _names(vocabulary, range(V))))
    else:
        names = max(_NAMES, len(f"{V} more"))

    # Whatever numbers the cells get: so a step of the optimizer does not change the layout.
    is_folded = most == S and S * (_WIDEST_CELL + 1) + names <= half(width)
    inner = half(width) if is_folded else width - FRAME
    room = inner - names
    fit = partial(fit_columns, S, room, narrowest=_NARROWEST_CELL, first=first, most=most)
    entries = _entries(trace, fit().shown)
    rest = _Rest.of(trace, entries)
    shown = fit(widths=lambda columns: map(len, _texts(trace, entries, rest, columns)))
    body = max(shown.width + names, min(_BODY, inner))
    page = _Page(trace, vocabulary, entries, rest, shown, body)
    bodies = {
        "Inputs": page.inputs(),
        "Softmax": page.softmax(),
        "The label's log-prob": page.log_probs(),
        "The step": page.step(),
        "At the log-probs": page.gradient(),
        "At the logits": page.logits_gradient(),
    }
    flow = sections(
        bodies, first=0, beside=not is_folded and TITLES + body <= inner, is_folded=is_folded
    )
    alt = (
        f"{describe(trace.step)} At the logits the gradient goes from "
        f"{number(trace.logits_grad.min().item())} to {number(trace.logits_grad.max().item())}."
    )
    return Drawing(flow, f"{alt} Shown: {page.lens}." if page.lens else alt)


def readings(trace: LogitsTrace, token: int, entry: int) -> dict[str, Text]:
    """One logit of the first sequence, its probability, the loss, and both gradients."""
    values = {
        f"logits[0,{token},{entry}]": trace.logits[0, token, entry],
        f"probs[0,{token},{entry}]": trace.probs[0, token, entry],
        "scaled_loss": trace.step.scaled_loss,
        f"grad[0,{token}]": trace.step.grad[0, token],
        f"logits_grad[0,{token},{entry}]": trace.logits_grad[0, token, entry],
    }
    names = {key: key.partition("[")[0] for key in values}
    return {
        names[key]: Text(number(value.item()), TONES[names[key]], key)
        for key, value in values.items()
    }


def _entries(trace: LogitsTrace, tokens: Sequence[int]) -> list[int]:
    """The entries of the vocabulary to show: all, or the labels and the most probable."""
    V = trace.logits.shape[2]
    labels = {*trace.labels[0, tokens].tolist()}
    counted = [token for token in tokens if trace.step.response_mask[0, token]]
    most_probable = trace.probs[0, counted or tokens].amax(0)  # (V)
    top = most_probable.topk(min(V, max(_TOP, MAX_ROWS - len(labels)))).indices
    entries = sorted({at for at in (*labels, *top.tolist()) if 0 <= at < V})
    is_small = V <= MAX_ROWS or len(entries) >= V - 1
    return list(range(V)) if is_small else entries


def _names(vocabulary: Sequence[str] | None, entries: Iterable[int]) -> list[str]:
    return [token_label(vocabulary[at], _NAMES) if vocabulary else str(at) for at in entries]


class _Rest(NamedTuple):
    """The entries of the vocabulary that are not shown, and what they add up to."""

    count: int
    sums: dict[str, list[float]]  # of some fields, for each token

    @classmethod
    def of(cls, trace: LogitsTrace, entries: list[int]) -> "_Rest":
        is_left = torch.ones(trace.logits.shape[2], dtype=torch.bool)  # (V)
        is_left[entries] = False
        count = int(is_left.sum())
        fields = ("probs", "logits_grad") if count else ()
        return cls(
            count,
            {
                field: getattr(trace, field)[0][:, is_left].double().sum(1).tolist()  # (S)
                for field in fields
            },
        )


def _texts(
    trace: LogitsTrace, entries: list[int], rest: _Rest, columns: Sequence[int]
) -> Iterator[str]:
    """Every number that is shown in some columns."""
    for values in (trace.logits, trace.probs, trace.logits_grad):  # (B, S, V)
        yield from map(number, values[0, columns][:, entries].flatten().tolist())
    for values in (trace.step.policy_log_probs, trace.step.grad):  # (B, S)
        yield from map(number, values[0, columns].tolist())
    for sums in rest.sums.values():
        yield from (number(sums[column]) for column in columns)


@dataclass(frozen=True)
class _Page:
    """What is shown of a trace, and the sections that show it."""

    trace: LogitsTrace
    vocabulary: Sequence[str] | None
    entries: list[int]  # of the vocabulary: the rows of a grid
    rest: _Rest
    columns: Columns
    body: int  # the width of a section's body

    @property
    def lens(self) -> Lens | None:
        """The tokens that are shown; None if all are."""
        shown = self.columns.shown
        is_whole = len(shown) == self.columns.count
        return None if is_whole else Lens(0, 1, shown.start, len(shown))

    def inputs(self) -> Node:
        B, S, V = self.trace.logits.shape
        whole: tuple[Node, ...] = ()
        if self.lens:
            step = self.trace.step
            fields = step.response_mask[:1], step.policy_log_probs[:1]
            whole = (overview(*fields, self.body, self.lens), Text(""))
        return Column(
            (
                *whole,
                caption("logits", f"(B, S, V) = ({B}, {S}, {V})"),
                *self.columns.numbers(),
                *self.entry_grid("logits"),
                caption("labels", "the next token"),
                self.labels(),
                caption("response_mask", "1 = response, 0 = masked"),
                self.token_line("response_mask"),
                *ledger(
                    [caption("gradient_accumulation_steps", "= G")],
                    result(self.trace.step, "gradient_accumulation_steps"),
                    self.body,
                ),
            )
        )

    def softmax(self) -> Node:
        heading = self.formula("{probs} = softmax({logits})", "columns add up to 1")
        return Column((*heading, *self.entry_grid("probs")))

    def log_probs(self) -> Node:
        heading = self.formula("{policy_log_probs} = log {probs}", "at the label")
        return Column((*heading, self.token_line("policy_log_probs")))

    def step(self) -> Node:
        lines: list[Node] = []
        for stage in explain_step(self.trace.step)[1:4]:
            sign = Term(f" {stage.sign} ")
            terms = (Term(stage.quantity, stage.quantity), sign, *stage.substitution)
            left = wrapped_formula(terms, self.body - CELL - 1)
            lines += ledger(left, result(self.trace.step, stage.quantity), self.body)
        return Column(tuple(lines))

    def gradient(self) -> Node:
        backward = explain_step(self.trace.step)[4]
        terms = (Term("grad", "grad"), Term(f" {backward.sign} "), *backward.substitution)
        note = "whatever the logits are" if self.trace.step.num_tokens else backward.note
        heading = wrapped_formula(terms, self.body, note)
        return Column((*heading, self.token_line("grad")))

    def logits_gradient(self) -> Node:
        heading = self.formula(
            "{logits_grad} = ({probs} − one-hot of {labels}) · −{grad}", "columns add up to 0"
        )
        return Column((*heading, *self.entry_grid("logits_grad")))

    def formula(self, template: str, note: str) -> tuple[Node, ...]:
        return wrapped_formula(formula_of_names(template), self.body, note)

    def token_line(self, field: str) -> Node:
        """A field of the step, (B, S), on one line."""
        values = getattr(self.trace.step, field)[0].tolist()
        return self.line(field, TONES[field], lambda token: number(values[token]))

    def labels(self) -> Node:
        """The name of each token's label."""
        labels, counts = self.trace.labels[0].tolist(), self.trace.step.response_mask[0].tolist()
        width = self.columns.cell - 2

        def name(token: int) -> str:
            text = label_text(labels[token], counts[token], self.vocabulary, width)
            return token_label(text, width)

        return self.line("labels", "response", name)

    def line(self, field: str, tone: str, text: Callable[[int], str]) -> Node:
        return self.columns.line(
            lambda token: Cell(
                text(token), self.columns.cell, self.tone(token, tone), f"{field}[0,{token}]"
            )
        )

    def entry_grid(self, field: str) -> list[Node]:
        """A field of the trace, (B, S, V): one line per entry of the vocabulary, then its name.

        The entries that are not shown have a line with their sum, if a sum means something.
        """
        values = getattr(self.trace, field)[0][:, self.entries].tolist()  # (S, entries)
        labels = self.trace.labels[0].tolist()

        def cell(place: int, token: int) -> Cell:
            entry = self.entries[place]
            is_label = labels[token] == entry and field != "logits_grad"
            return Cell(
                number(values[token][place]),
                self.columns.cell,
                self.tone(token, "response" if is_label else TONES[field]),
                f"{field}[0,{token},{entry}]",
            )

        lines = grid(tuple(range(len(self.entries))), self.columns, cell)
        names = [Text(name, "muted") for name in _names(self.vocabulary, self.entries)]
        if self.rest.count:
            lines.append(self.rest_line(field))
            names.append(Text(f"{self.rest.count} more", "muted"))
        return [Row(pair, gap=1) for pair in zip(lines, names, strict=True)]

    def rest_line(self, field: str) -> Node:
        """The sum over the entries that are not shown."""
        sums = self.rest.sums.get(field)
        return self.columns.line(
            lambda token: Cell(
                number(sums[token]) if sums else "⋮",
                self.columns.cell,
                self.tone(token, TONES[field]),
            )
        )

    def tone(self, token: int, tone: str) -> str:
        return tone if self.trace.step.response_mask[0, token] else "masked"
