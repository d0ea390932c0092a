"""Pictures of one run of the step.

A token has the same column from the inputs to its gradient, so the eye goes straight down; or
straight across, where the picture goes on in a second column. Every result is at the right edge, so
the sum can be followed like a ledger.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, text_width, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Text
from sftviz.step import StepTrace
from sftviz.validate import Tokens, above_zero, check_count, check_tokens
from sftviz.views.focus import Place, lens_start, what_counts
from sftviz.views.grid import (
    MAX_ROWS,
    Columns,
    Gap,
    elide,
    fit_columns,
    fit_range,
    grid,
    shown,
)
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
    equals,
    formula,
    half,
    ledger,
    result,
    same_width,
    sections,
    table,
    wrapped_formula,
)
from sftviz.views.stages import SYMBOLS, Stage, Term, explain_step, largest, value

TOKEN_FIELDS = ("policy_log_probs", "response_mask", "masked_log_probs", "grad")  # each (B, S)
_GRIDS = {"masked_sum": "masked_log_probs", "grad": "grad"}  # of a stage, above its result
_NARROWEST_CELL = 3  # a digit and its flanks
_RESERVED = 7  # cells, for −0.1234
_SUMS = 10  # cells, at least, for the row sums beside a grid


def step_flow(
    trace: StepTrace,
    tokens: Tokens | None = None,
    width: int = WIDTH,
    columns: int | range | slice | None = None,
    rows: int | range | slice | None = None,
    signs: Sequence[Place] = (),
) -> Drawing:
    """The whole step from top to bottom: its inputs and its six stages.

    The picture fits itself to its width: titles move above what they name, and code is wrapped. If
    all tokens have room in half of it, the picture goes on in a second column, so that inputs and
    gradient share a screen. If there is no room for all tokens, it begins with an overview of the
    batch, and a lens says which rows and columns the grids show. Sums are always over all tokens.

    Args:
        trace: the run to draw.
        tokens: B rows of S strings, shown above the log-probs.
        width: in cells, 48 or more.
        columns: where the lens is: its first column, counted from 0, or all of its columns as a
            range or a slice. None: it begins before the first of `signs`; without them, before the
            first token that looks wrong or, if none does, before the first response token.
        rows: likewise, if there are more than 8 rows.
        signs: tokens that have a sign in the overview, (row, token), besides those that look wrong.

    Raises:
        TypeError, ValueError: there is not one string per token, the width is too small, or the
            batch does not have these columns or rows.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> step_flow(WORKED_EXAMPLE.trace()).alt
    'SFT step, G = 2: 7 of 8 tokens count; masked_sum −2.8; loss 1.4; scaled_loss 0.7; gradient \
−0.25 at response tokens, 0 elsewhere.'
    """
    check_width(width)
    check_tokens(tokens, trace.policy_log_probs.shape)
    B, S = trace.policy_log_probs.shape
    is_all = asked("rows", rows, B, 0)[1] == B and asked("columns", columns, S, 0)[1] == S
    is_folded = is_all and _has_room(trace, tokens, half(width))
    inner = half(width) if is_folded else width - FRAME
    has_sums = not is_folded or _has_room(trace, tokens, inner - _SUMS)
    token_grids = _fit(trace, tokens, inner, columns, rows, signs, has_sums)
    stages = explain_step(trace)
    sums = [_sum_terms(stage) for stage in stages]
    natural = max(token_grids.width, *map(_natural_width, stages, sums))
    beside = not is_folded and TITLES + natural <= inner
    body = min(natural, inner)
    bodies = {"Inputs": _inputs(token_grids, body, signs)}
    for stage, terms in zip(stages, sums, strict=True):
        bodies[stage.title] = _stage(token_grids, stage, terms, body, is_folded)
    alt = f"{describe(trace)} Shown: {token_grids.lens}." if token_grids.lens else describe(trace)
    return Drawing(sections(bodies, first=0, beside=beside, is_folded=is_folded), alt)


def inputs(
    trace: StepTrace,
    width: int,
    columns: int | range | slice | None = None,
    rows: int | range | slice | None = None,
) -> Node:
    """The arguments of a step, as `step_flow` begins with them."""
    fields = "policy_log_probs", "response_mask"
    return _inputs(
        _fit(trace, None, width, columns, rows, (), has_sums=False, fields=fields), width, ()
    )


def readings(trace: StepTrace) -> dict[str, Text]:
    """The results of the step by name: for a line that is always visible above the picture."""
    quantities = ("num_tokens", "masked_sum", "loss", "scaled_loss", "grad")
    return {name: Text(value(trace, name), TONES[name], name) for name in quantities}


def key_formula(trace: StepTrace) -> Drawing:
    """The loss and its gradient, one line each: with names, with this run's numbers, and the value.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(key_formula(WORKED_EXAMPLE.trace()))
    ╭─────────────────────────────────────────────────────────────────────╮
    │ masked_sum  = Σ masked_log_probs ÷ c = (−1 − 1.8) ÷ 1 = [     −2.8] │
    │ loss        = −masked_sum ÷ G        = −(−2.8) ÷ 2    = [      1.4] │
    │ scaled_loss = loss ÷ G               = 1.4 ÷ 2        = [      0.7] │
    │ grad        = −1 ÷ (G² · c)          = −1 ÷ (2² · 1)  = [    −0.25] │
    ╰─────────────────────────────────────────────────────────────────────╯
    """
    stages = explain_step(trace)[1:5]
    results = same_width(result(trace, stage.quantity) for stage in stages)
    rows = [
        (
            Text(stage.quantity, TONES[stage.quantity], stage.quantity),
            equals(formula(stage.formula)),
            equals(formula(stage.substitution)) if _has_numbers(stage) else Text(""),
            equals(outcome, stage.sign),
        )
        for stage, outcome in zip(stages, results, strict=True)
    ]
    return Drawing(Card(table(rows, gap=1)), describe(trace))


def gradient_formula(trace: StepTrace) -> Drawing:
    """The cases of the gradient that occur, with the values that autograd computed.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(gradient_formula(WORKED_EXAMPLE.trace()))
    ╭────────────────────────────────────────────────────────────────────────────╮
    │ grad = ⎧ −1 ÷ (G² · c) = −1 ÷ (2² · 1) = [    −0.25]  at 7 response tokens │
    │        ⎩ 0                             = ░        0░  at 1 masked token    │
    ╰────────────────────────────────────────────────────────────────────────────╯
    """
    backward = explain_step(trace)[4]
    masked = ~trace.response_mask
    left = number(largest(trace.grad[masked]).item())
    cells = same_width((result(trace, "grad"), Cell(left, CELL, "masked")))
    at_response = (
        formula(backward.formula),
        equals(formula(backward.substitution)),
        equals(cells[0], backward.sign),
        Text(f" at {count_of(trace.num_tokens, 'response token')}", "muted"),
    )
    count = masked.numel() - trace.num_tokens
    at_masked = (
        Text("0"),
        Text(""),
        equals(cells[1]),
        Text(f" at {count_of(count, 'masked token')}", "muted"),
    )
    cases = [case for case, n in ((at_response, trace.num_tokens), (at_masked, count)) if n]
    braces = (" ⎧", " ⎩") if len(cases) == 2 else ("", "")
    name = Row((Text("grad", "gradient", "grad"), Text(" ="), Text(braces[0], "muted")))
    leads = (name, Text(f"      {braces[1]}", "muted"))
    rows = [(lead, *case) for lead, case in zip(leads, cases, strict=False)]
    return Drawing(Card(table(rows, gap=1)), describe(trace))


def gradient_table(trace: StepTrace, steps: Sequence[int] = (1, 2, 4, 8, 16)) -> Drawing:
    """The gradient at a response token for several G: one run of the step each.

    Raises:
        TypeError, ValueError: there is no step, or one is not an int of at least 1.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(gradient_table(WORKED_EXAMPLE.trace(), steps=(1, 2, 4)))
    ╭──────────────────────────────────────────────╮
    │ G = [        1]  −1 ÷ (1² · 1) = [       −1] │
    │ G = [        2]  −1 ÷ (2² · 1) = [    −0.25] │
    │ G = [        4]  −1 ÷ (4² · 1) = [  −0.0625] │
    ╰──────────────────────────────────────────────╯
    """
    if len(steps) == 0:
        raise ValueError("steps is empty: give at least one G.")
    runs = [trace.rerun(G) for G in steps]
    results = same_width(result(run, "grad") for run in runs)
    stages = [explain_step(run)[4] for run in runs]
    rows = [
        (
            Row((Text("G = "), result(run, "gradient_accumulation_steps"), Text(" "))),
            formula(stage.substitution),
            equals(outcome, stage.sign),
        )
        for run, stage, outcome in zip(runs, stages, results, strict=True)
    ]
    values = ", ".join(
        f"{value(run, 'grad')} for G = {run.gradient_accumulation_steps}" for run in runs
    )
    place = "at a response token" if trace.num_tokens else "where no token counts"
    return Drawing(Card(table(rows, gap=1)), f"Gradient {place}: {values}.")


def token_table(trace: StepTrace, tokens: Tokens | None = None, max_tokens: int = 24) -> Drawing:
    """One line per token: its log-prob, its mask bit, its masked log-prob, its gradient.

    Args:
        trace: the run to draw.
        tokens: B rows of S strings.
        max_tokens: the number of lines for tokens. Of a larger batch, those around `what_counts`
            are shown.

    Raises:
        TypeError, ValueError: there is not one string per token, or `max_tokens` is not an int of
            at least 1.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(token_table(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens, max_tokens=5))
    ╭───────────────────────────────────────────────────────────────────────────────╮
    │                   policy_log_probs response_mask masked_log_probs grad        │
    │ row 1 token 1 Yes [          −0.5] [          1] [          −0.5] [    −0.25] │
    │ row 1 token 2 .   [          −0.3] [          1] [          −0.3] [    −0.25] │
    │ ⋮     2 more                                                                  │
    │ row 2 token 1 The [          −0.4] [          1] [          −0.4] [    −0.25] │
    │ ⋮     3 more                                                                  │
    ╰───────────────────────────────────────────────────────────────────────────────╯
    """
    B, S = trace.policy_log_probs.shape
    check_tokens(tokens, (B, S))
    check_count("max_tokens", max_tokens, "it is a number of lines")
    places = elide(B * S, max_tokens, [row * S + token for row, token in what_counts(trace)])
    indices = shown(places)
    values = {field: getattr(trace, field).flatten()[indices].tolist() for field in TOKEN_FIELDS}
    texts = {field: list(map(number, values[field])) for field in TOKEN_FIELDS}
    widths = {field: max(CELL, len(field), 2 + max(map(len, texts[field]))) for field in texts}

    def line(index: int) -> Iterator[Node]:
        place = indices.index(index)
        row, column = divmod(index, S)
        yield Text(f"row {row + 1}", "muted")
        yield Text(f"token {column + 1}", "muted")
        yield Text(token_label(tokens[row][column], 16) if tokens else "")
        for field in TOKEN_FIELDS:
            tone = TONES[field] if values["response_mask"][place] else "masked"
            yield Cell(texts[field][place], widths[field], tone, f"{field}[{row},{column}]")

    def gap(count: int) -> Iterator[Node]:
        yield Text("⋮", "muted")
        yield Text(f"{count} more", "muted")
        yield from (Text(""),) * (1 + len(TOKEN_FIELDS))

    blank = (Text(""),) * 3
    header = (*blank, *(Text(field, TONES[field], field) for field in TOKEN_FIELDS))
    rows = [tuple(gap(index.count) if isinstance(index, Gap) else line(index)) for index in places]
    rows.insert(0, header)
    return Drawing(Card(table(rows, gap=1)), describe(trace))


def _has_room(trace: StepTrace, tokens: Tokens | None, width: int) -> bool:
    """Whether all tokens have room, whatever numbers they get: so G does not change the layout."""
    B, S = trace.policy_log_probs.shape
    texts = [text_width(text) for row in tokens or () for text in row]
    return B <= MAX_ROWS and width >= S * (CELL + 1) and max(texts, default=0) < CELL


@dataclass(frozen=True)
class _TokenGrids:
    """What is shown of the token fields of a trace."""

    trace: StepTrace
    tokens: Tokens | None
    rows: range
    columns: Columns
    texts: dict[str, dict[int, dict[int, str]]]  # of each field, by row, by column
    sums: dict[int, str]  # of the masked log-probs of each row; empty: there is no room for them
    width: int  # of a grid with its row sums
    lens: Lens | None  # None: all tokens have room

    def grid(self, field: str) -> list[Node]:
        """A field of the trace; masked tokens have a tone of their own."""
        texts, mask = self.texts[field], self.texts["response_mask"]
        tones = {"1": TONES[field], "0": "masked"}
        return grid(
            self.rows,
            self.columns,
            lambda row, column: Cell(
                texts[row][column],
                self.columns.cell,
                tones[mask[row][column]],
                f"{field}[{row},{column}]",
            ),
        )

    def labels(self, row: int) -> Node:
        """The tokens of a row, each above its column and aligned to the right."""
        width = self.columns.cell

        def label(column: int) -> Node:
            text = f"{token_label(self.tokens[row][column], width - 1)} "
            return Align(Text(text, "muted", f"tokens[{row},{column}]"), width, "right")

        return self.columns.line(label)

    def row_sums(self) -> Iterator[Node]:
        """The sum of each row of the masked log-probs, over all its tokens."""
        for row, text in self.sums.items():
            yield Text(text, "muted", f"masked_log_probs[{row},:]")


def _fit(
    trace: StepTrace,
    tokens: Tokens | None,
    width: int,
    wanted_columns: int | range | slice | None,
    wanted_rows: int | range | slice | None,
    signs: Sequence[Place],
    has_sums: bool,
    fields: Sequence[str] = TOKEN_FIELDS,
) -> _TokenGrids:
    """Choose the rows and columns of a trace that a width in cells has room for."""
    B, S = trace.policy_log_probs.shape
    is_given = None not in (wanted_rows, wanted_columns)
    row, column = (0, 0) if is_given else lens_start(trace, signs)
    first_row, most_rows = asked("rows", wanted_rows, B, row)
    first_column, most_columns = asked("columns", wanted_columns, S, column)
    rows = fit_range(B, min(most_rows, MAX_ROWS), first_row)
    sums = {}
    if has_sums:
        totals = trace.masked_log_probs[rows.start : rows.stop].cpu().double().sum(1).tolist()
        sums = {row: f"Σ {number(total)}" for row, total in zip(rows, totals, strict=True)}
    texts: dict[str, dict[int, dict[int, str]]] = {}

    def write(columns: range) -> Iterator[int]:
        part = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        for field in fields:
            texts[field] = {
                row: dict(zip(columns, map(number, line), strict=True))
                for row, line in zip(rows, getattr(trace, field)[part].tolist(), strict=True)
            }
            yield max([len(text) for line in texts[field].values() for text in line.values()])

    sums_width = max(_SUMS, *map(len, sums.values())) if sums else 0
    room = width - sums_width
    columns = fit_columns(S, room, write, _NARROWEST_CELL, first_column, most_columns)
    lens = Lens(rows.start, len(rows), columns.shown.start, len(columns.shown))
    is_whole = lens == Lens(0, B, 0, S)
    grids_width = columns.width + sums_width
    return _TokenGrids(
        trace, tokens, rows, columns, texts, sums, grids_width, None if is_whole else lens
    )


def _inputs(token_grids: _TokenGrids, body: int, signs: Sequence[Place]) -> Node:
    trace, lens = token_grids.trace, token_grids.lens
    B, S = trace.policy_log_probs.shape
    whole, left_out = [], ""
    if lens:
        mask, log_probs = trace.response_mask, trace.policy_log_probs
        whole = [overview(mask, log_probs, body, lens, signs), Text("")]
        left_out = f"{lens}; sums are over all"
    log_probs = token_grids.grid("policy_log_probs")
    if token_grids.tokens is not None:
        pairs = zip(token_grids.rows, log_probs, strict=True)
        log_probs = [Column((token_grids.labels(row), line)) for row, line in pairs]
    return Column(
        (
            *whole,
            caption("policy_log_probs", f"(B, S) = ({B}, {S})"),
            *token_grids.columns.numbers(),
            *log_probs,
            *(Text(line, "loss") for line in _wrapped(above_zero(trace.policy_log_probs), body)),
            Text(""),
            caption("response_mask", "1 = response, 0 = masked"),
            *token_grids.grid("response_mask"),
            *(Text(line, "muted") for line in _wrapped(left_out, body) or [""]),
            *(
                line
                for name, symbol in SYMBOLS.items()
                for line in ledger([caption(name, f"= {symbol}")], result(trace, name), body)
            ),
        )
    )


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width) if text else []


def _stage(
    token_grids: _TokenGrids, stage: Stage, terms: tuple[Term, ...], body: int, is_folded: bool
) -> Node:
    """The code that ran, its effect on each token, and the numbers of its formula."""
    first, *rest = [Column(wrapped_formula(line, body)) for line in stage.code]
    tokens = token_grids.grid(_GRIDS[stage.quantity]) if stage.quantity in _GRIDS else []
    if stage.quantity == "masked_sum":
        pairs = zip(tokens, token_grids.row_sums(), strict=False)
        tokens = [Row(pair, gap=1) for pair in pairs] or tokens
    is_cut = is_folded and stage.quantity != "num_tokens"  # whose numbers have one digit
    write = _cut_formula if is_cut else wrapped_formula
    if any(term.key == stage.quantity for term in stage.substitution):
        outcome = write(terms, body, stage.note)  # the result is one of its terms
    else:
        left = write(terms, body - CELL - 1, stage.note)
        outcome = ledger(left, result(token_grids.trace, stage.quantity), body)
    return Column((first, *tokens, *rest, *outcome))


def _cut_formula(terms: tuple[Term, ...], width: int, note: str) -> list[Node]:
    """A formula on lines that stay as they are while its numbers change.

    They are cut before a second equals sign, a dictionary and the note; and there are as many as a
    sum of long numbers needs.
    """
    pieces: list[list[Term]] = [[]]
    column = 0  # of the first equals sign
    for term in terms:
        if term.text.strip() in ("=", "≈"):
            sign = term.text.lstrip()
            if column:
                pieces.append([Term(" " * column + sign)])
                continue
            column = sum(text_width(before.text) for before in pieces[0])
            column += len(term.text) - len(sign)
        elif term.text.startswith(", {"):
            pieces[-1].append(Term(","))
            pieces.append([terms[0]])
            term = Term(term.text.removeprefix(", "))
        pieces[-1].append(term)
    lines = [line for piece in pieces for line in wrapped_formula(tuple(piece), width)]
    widened = [tuple(map(_widened, piece)) for piece in pieces]
    needed = sum(len(wrapped_formula(piece, width)) for piece in widened)
    lines += [Text("")] * (needed - len(lines))
    return [*lines, Text(f"{' ' * (column + 2)}{note}", "muted")] if note else lines


def _widened(term: Term) -> Term:
    """A row's sum with as many digits as it may get."""
    is_sum = (term.key or "").startswith("masked_log_probs[")
    return term._replace(text=f"{term.text:>{_RESERVED}}") if is_sum else term


def _sum_terms(stage: Stage) -> tuple[Term, ...]:
    """The substitution, indented so that its `=` or its values are below those of the code."""
    name, _, rest = "".join(term.text for term in stage.code[-1]).partition(" ")
    sign = f" {stage.sign} "
    if rest.startswith("= "):
        lead = (Term(" " * len(name) + sign),)
    elif name == "return":
        lead = (Term(" " * len("return ")),)
    else:  # the code contains no formula
        lead = (Term(stage.quantity, stage.quantity), Term(" = "))
        lead += (*stage.formula, Term(sign)) if _has_numbers(stage) else ()
    return (*lead, *stage.substitution)


def _has_numbers(stage: Stage) -> bool:
    """Whether a formula has anything to put numbers into; `0` has not."""
    return stage.substitution != stage.formula


def _natural_width(stage: Stage, terms: tuple[Term, ...]) -> int:
    code = max(formula(line).width for line in stage.code)
    return max(code, formula(terms, stage.note).width + 1 + max(CELL, len(stage.value) + 2))
