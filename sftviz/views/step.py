"""Pictures of a trace. Each is a pure function from a trace to a drawing.

A token keeps its column from the inputs to its gradient, so that the eye falls straight down, and
every result stands at the right edge, so that the sum can be followed like a ledger.
"""

from collections.abc import Sequence
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number, token_label
from sftviz.drawing.scene import Card, Cell, Column, Flow, Node, Row, Text
from sftviz.step import StepTrace, trace_step
from sftviz.views.grid import (
    TOKEN_FIELDS,
    Sheet,
    Tokens,
    check_tokens,
    fit,
    grid,
    labels,
    row_sums,
)
from sftviz.views.parts import (
    CELL,
    TITLES,
    TONES,
    aligned,
    caption,
    elide,
    equals,
    formula,
    formula_width,
    ledger,
    result,
    section,
    table,
)
from sftviz.views.stages import SYMBOLS, Stage, Term, explain_step, largest, value

WIDTH = 112  # cells: what a notebook shows on a small laptop
NARROWEST = 48  # cells: a formula needs as many
FRAME = 4  # cells: what a card adds to its body's width
_ENDLESS = 10**6  # cells: a width at which nothing wraps
_GRIDS = {"masked_sum": "masked_log_probs", "grad": "grad"}  # what a stage shows above its result


def step_flow(trace: StepTrace, tokens: Tokens | None = None, width: int = WIDTH) -> Drawing:
    """The whole step from top to bottom: its inputs and its six stages.

    The picture fits itself to its width: titles move above what they name, code wraps, and rows
    and columns are left out of the grids. Totals are always those of all tokens.

    Args:
        trace: the run to draw.
        tokens: B rows of S strings, shown above the log-probs.
        width: in cells, 48 or more.

    Raises:
        ValueError: there is not one string for each token, or the width is too small.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> step_flow(WORKED_EXAMPLE.trace()).alt
    'SFT step, G = 2: 7 of 8 tokens count; masked_sum −2.8; loss 1.4; scaled_loss 0.7; gradient \
−0.25 at response tokens, 0 elsewhere.'
    """
    if width < NARROWEST:
        raise ValueError(
            f"width must be at least {NARROWEST} cells, got {width}: a formula needs as many."
        )
    inner = width - FRAME
    sheet = fit(trace, tokens, inner)
    stages = explain_step(trace)
    sums = [_sum_terms(stage) for stage in stages]
    natural = max(sheet.grid_width, *map(_natural_width, stages, sums))
    beside = TITLES + natural <= inner
    body = min(natural, inner)
    sections = [("0", "Inputs", _inputs(sheet, body))]
    sections += [
        (str(stage.number), stage.title, _stage(sheet, stage, terms, body))
        for stage, terms in zip(stages, sums, strict=True)
    ]
    return Drawing(
        Flow(tuple(section(*told, beside=beside) for told in sections)), alt=sentence(trace)
    )


def readings(trace: StepTrace) -> dict[str, Text]:
    """What the step came to, by name: for a line that stays in sight where the picture does not.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> [reading.text for reading in readings(WORKED_EXAMPLE.trace()).values()]
    ['7', '−2.8', '1.4', '0.7', '−0.25']
    """
    quantities = ("num_tokens", "masked_sum", "loss", "scaled_loss", "grad")
    return {name: Text(value(trace, name), TONES[name], name) for name in quantities}


def key_formula(trace: StepTrace) -> Drawing:
    """The loss and its gradient a line each: with names, with this run's numbers, and the value.

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
    results = aligned(result(trace, stage.quantity) for stage in stages)
    rows = [
        (
            Text(stage.quantity, TONES[stage.quantity], stage.quantity),
            *(equals(formula(terms, _ENDLESS)[0]) for terms in (stage.formula, stage.substitution)),
            equals(outcome),
        )
        for stage, outcome in zip(stages, results, strict=True)
    ]
    return Drawing(Card(table(rows, gap=1)), sentence(trace))


def gradient_formula(trace: StepTrace) -> Drawing:
    """The two cases of the gradient, with what autograd left at the tokens of each.

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
    cells = aligned((result(trace, "grad"), Cell(left, CELL, "masked")))
    rows = [
        (
            Row((Text("grad", "gradient", "grad"), Text(" = "), Text("⎧", "muted"))),
            formula(backward.formula, _ENDLESS)[0],
            equals(formula(backward.substitution, _ENDLESS)[0]),
            equals(cells[0]),
            Text(f" at {_count(trace.num_tokens, 'response token')}", "muted"),
        ),
        (
            Text("       ⎩", "muted"),
            Text("0"),
            Text(""),
            equals(cells[1]),
            Text(f" at {_count(int(masked.sum()), 'masked token')}", "muted"),
        ),
    ]
    return Drawing(Card(table(rows, gap=1)), sentence(trace))


def gradient_table(trace: StepTrace, steps: Sequence[int] = (1, 2, 4, 8, 16)) -> Drawing:
    """The gradient at a response token as G changes and all else stays: one run of the step each.

    Raises:
        TypeError, ValueError: one of the steps is no int of at least 1.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(gradient_table(WORKED_EXAMPLE.trace(), steps=(1, 2, 4)))
    ╭──────────────────────────────────────────────╮
    │ G = [        1]  −1 ÷ (1² · 1) = [       −1] │
    │ G = [        2]  −1 ÷ (2² · 1) = [    −0.25] │
    │ G = [        4]  −1 ÷ (4² · 1) = [  −0.0625] │
    ╰──────────────────────────────────────────────╯
    """
    runs = [
        trace_step(trace.policy_log_probs, trace.response_mask, G, trace.normalize_constant)
        for G in steps
    ]
    results = aligned(result(run, "grad") for run in runs)
    rows = [
        (
            Row((Text("G = "), result(run, "gradient_accumulation_steps"), Text(" "))),
            formula(explain_step(run)[4].substitution, _ENDLESS)[0],
            equals(outcome),
        )
        for run, outcome in zip(runs, results, strict=True)
    ]
    values = ", ".join(
        f"{value(run, 'grad')} for G = {run.gradient_accumulation_steps}" for run in runs
    )
    return Drawing(Card(table(rows, gap=1)), f"Gradient at a response token: {values}.")


def token_table(trace: StepTrace, tokens: Tokens | None = None, max_tokens: int = 24) -> Drawing:
    """One line a token: its log-prob, its mask bit, what is left of it, its gradient.

    Args:
        trace: the run to draw.
        tokens: B rows of S strings.
        max_tokens: of a larger batch the first ones and the last are shown.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(token_table(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens, max_tokens=5))
    ╭────────────────────────────────────────────────────────────────────────────────╮
    │                    policy_log_probs response_mask masked_log_probs grad        │
    │ row 1 token 1 Yes  [          −0.5] [          1] [          −0.5] [    −0.25] │
    │ row 1 token 2 .    [          −0.3] [          1] [          −0.3] [    −0.25] │
    │ row 1 token 3 Why? ░          −0.8░ ░          0░ ░             0░ ░        0░ │
    │ ⋮                                                                              │
    │ row 2 token 4 blue [          −0.5] [          1] [          −0.5] [    −0.25] │
    ╰────────────────────────────────────────────────────────────────────────────────╯
    """
    check_tokens(trace.policy_log_probs.shape, tokens)
    S = trace.policy_log_probs.shape[1]
    places = elide(trace.response_mask.numel(), max_tokens)
    shown = [place for place in places if place is not None]
    texts = {
        field: [number(+entry) for entry in getattr(trace, field).flatten()[shown].tolist()]
        for field in TOKEN_FIELDS
    }
    widths = {
        field: max(CELL, len(field), 2 + max(map(len, texts[field]))) for field in TOKEN_FIELDS
    }
    lines = {}
    for index, place in enumerate(shown):
        row, column = divmod(place, S)
        tone = None if trace.response_mask[row, column] else "masked"
        lines[place] = (
            Text(f"row {row + 1}", "muted"),
            Text(f"token {column + 1}", "muted"),
            Text(token_label(tokens[row][column], 16) if tokens else ""),
            *(
                Cell(
                    texts[field][index],
                    widths[field],
                    tone or TONES[field],
                    f"{field}[{row},{column}]",
                )
                for field in TOKEN_FIELDS
            ),
        )
    blank = (Text(""),) * 3
    gap = (Text("⋮", "muted"), *blank, *blank)
    header = (*blank, *(Text(field, TONES[field], field) for field in TOKEN_FIELDS))
    rows = [header, *(gap if place is None else lines[place] for place in places)]
    return Drawing(Card(table(rows, gap=1)), sentence(trace))


def sentence(trace: StepTrace) -> str:
    """What a picture of a trace shows, in one sentence."""
    return (
        f"SFT step, G = {trace.gradient_accumulation_steps}: "
        f"{trace.num_tokens} of {trace.response_mask.numel()} tokens count; "
        f"masked_sum {value(trace, 'masked_sum')}; loss {value(trace, 'loss')}; "
        f"scaled_loss {value(trace, 'scaled_loss')}; "
        f"gradient {value(trace, 'grad')} at response tokens, 0 elsewhere."
    )


def _inputs(sheet: Sheet, body: int) -> Node:
    B, S = sheet.trace.policy_log_probs.shape
    log_probs = grid(sheet, "policy_log_probs")
    if sheet.tokens is not None:
        pairs = zip(sheet.rows, log_probs, strict=True)
        log_probs = [
            line if row is None else Column((labels(sheet, row), line)) for row, line in pairs
        ]
    return Column(
        (
            caption("policy_log_probs", f"(B, S) = ({B}, {S})"),
            *log_probs,
            Text(""),
            caption("response_mask", "1 = response, 0 = masked"),
            *grid(sheet, "response_mask"),
            *(Text(line, "muted") for line in wrap(sheet.left_out, body) or [""]),
            *(
                line
                for name, symbol in SYMBOLS.items()
                for line in ledger([caption(name, f"= {symbol}")], result(sheet.trace, name), body)
            ),
        )
    )


def _stage(sheet: Sheet, stage: Stage, terms: tuple[Term, ...], body: int) -> Node:
    """The code that ran, what it did to each token, and the sum that it did."""
    first, *rest = [Column(formula(line, body)) for line in stage.code]
    tokens = grid(sheet, _GRIDS[stage.quantity]) if stage.quantity in _GRIDS else []
    if stage.quantity == "masked_sum":
        sums = row_sums(sheet)
        tokens = [Row(pair, gap=1) for pair in zip(tokens, sums, strict=True)]
    if any(term.key == stage.quantity for term in stage.substitution):
        outcome = formula(terms, body, stage.note)  # which shows the result among its terms
    else:
        lines = formula(terms, body - CELL - 1, stage.note)
        outcome = ledger(lines, result(sheet.trace, stage.quantity), body)
    return Column((first, *tokens, *rest, *outcome))


def _sum_terms(stage: Stage) -> tuple[Term, ...]:
    """The substitution, so placed that its `=` or its values stand below those of the code."""
    name, _, rest = "".join(term.text for term in stage.code[-1]).partition(" ")
    if rest.startswith("= "):
        lead = (Term(" " * len(name) + " = "),)
    elif name == "return":
        lead = (Term(" " * len("return ")),)
    else:  # no formula can be seen in the code
        lead = (Term(stage.quantity, stage.quantity), Term(" = "), *stage.formula, Term(" = "))
    return (*lead, *stage.substitution)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _natural_width(stage: Stage, terms: tuple[Term, ...]) -> int:
    code = map(formula_width, stage.code)
    outcome = formula_width(terms, stage.note)
    return max(*code, outcome + 1 + CELL)
