"""The six stages of the step: for each its title, the code that ran, its formula, its numbers.

The code of a stage is taken from the source of the function that ran, its numbers from the trace. A
formula is a template that is filled twice: with the names of its quantities, and with numbers.
"""

import ast
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from string import Formatter
from typing import NamedTuple

from torch import Tensor

from sftviz import step
from sftviz.drawing.formatting import MINUS, number, relation, rounded
from sftviz.step import StepTrace

SYMBOLS = {"gradient_accumulation_steps": "G", "normalize_constant": "c"}
_QUANTITIES = {field.name: field.name for field in fields(StepTrace)} | {
    symbol: name for name, symbol in SYMBOLS.items()
}
_QUANTITY = re.compile(rf"\b({'|'.join(_QUANTITIES)})\b")
_ADDENDS = 4  # shown of a sum over rows: the first ones and the last


class Term(NamedTuple):
    """A part of a formula. Its key, if any, is the name of the value that it shows."""

    text: str
    key: str | None = None


@dataclass(frozen=True)
class Stage:
    """One of the six stages of the step."""

    number: int
    title: str
    quantity: str  # the field of the trace that is its result
    code: tuple[tuple[Term, ...], ...]  # the lines that computed it
    formula: tuple[Term, ...]  # with the names of quantities
    substitution: tuple[Term, ...]  # the same formula with the numbers of this run
    sign: str  # between the substitution and the value: `=`, or `≈` if their digits differ
    value: str
    note: str


class _Shown(NamedTuple):
    """The numbers of a run, rounded to the digits that are shown."""

    row_sums: list[float]  # of the masked log-probs; empty if not all are shown
    masked_sum: float
    loss: float
    G: int
    c: float


@dataclass(frozen=True)
class _Description:
    """The part of a stage that is the same for every trace."""

    title: str
    quantity: str
    lines: tuple[str, ...]  # the names that the lines of code assign, or what they do
    template: str  # the formula with names of fields; `:Σ` is the sum over a field's tokens
    compute: Callable[[_Shown], float] | None = None  # the formula's value; None: it is exact
    note: Callable[[StepTrace], str] = lambda trace: ""


def _squared(G: int) -> str:
    written = number(float(G * G))
    return f"in all ÷ G² {'=' if rounded(float(G * G)) == G * G else '≈'} ÷ {written}"


def _elsewhere(trace: StepTrace) -> str:
    """Where the gradient is 0; that it is nowhere takes as many cells."""
    if trace.num_tokens == 0:
        return "no token counts"
    is_all = trace.num_tokens == trace.response_mask.numel()
    return "same at all tokens" if is_all else "0 at masked tokens"


_STAGES = (
    _Description(
        "Count tokens",
        "num_tokens",
        ("num_tokens",),
        "{response_mask:Σ}",
        note=lambda trace: f"of {trace.response_mask.numel()}",
    ),
    _Description(
        "Masked sum",
        "masked_sum",
        ("masked_log_probs", "masked_sum"),
        "{masked_log_probs:Σ} ÷ {normalize_constant}",
        lambda shown: sum(shown.row_sums) / shown.c,
    ),
    _Description(
        "Negate, divide by G",
        "loss",
        ("loss",),
        f"{MINUS}{{masked_sum}} ÷ {{gradient_accumulation_steps}}",
        lambda shown: -shown.masked_sum / shown.G,
    ),
    _Description(
        "Divide by G again",
        "scaled_loss",
        ("scaled_loss",),
        "{loss} ÷ {gradient_accumulation_steps}",
        lambda shown: shown.loss / shown.G,
        lambda trace: _squared(trace.gradient_accumulation_steps),
    ),
    _Description(
        "Backward",
        "grad",
        ("backward",),
        f"{MINUS}1 ÷ ({{gradient_accumulation_steps}}² · {{normalize_constant}})",
        lambda shown: -1 / (shown.G**2 * shown.c),
        _elsewhere,
    ),
    _Description(
        "Return",
        "scaled_loss",
        ("return",),
        '{scaled_loss}, {{"num_tokens": {num_tokens}, "masked_sum": {masked_sum}}}',
    ),
)


def explain_step(trace: StepTrace) -> tuple[Stage, ...]:
    """Explain a run of the step as six stages.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> for stage in explain_step(WORKED_EXAMPLE.trace()):
    ...     print(stage.number, stage.title, "→", stage.value)
    1 Count tokens → 7
    2 Masked sum → −2.8
    3 Negate, divide by G → 1.4
    4 Divide by G again → 0.7
    5 Backward → −0.25
    6 Return → 0.7
    """
    is_whole = len(trace.masked_log_probs) <= _ADDENDS
    shown = _Shown(
        row_sums=list(map(rounded, _row_sums(trace, "masked_log_probs"))) if is_whole else [],
        masked_sum=rounded(trace.masked_sum.item()),
        loss=rounded(trace.loss.item()),
        G=trace.gradient_accumulation_steps,
        c=rounded(trace.normalize_constant),
    )
    return tuple(
        _explain(trace, shown, index, stage) for index, stage in enumerate(_STAGES, start=1)
    )


def _explain(trace: StepTrace, shown: _Shown, index: int, stage: _Description) -> Stage:
    template, compute = stage.template, stage.compute
    if stage.quantity == "grad" and trace.num_tokens == 0:
        template, compute = "0", None  # the formula holds at response tokens
    if stage.quantity == "masked_sum" and not shown.row_sums:
        compute = None  # the formula is abridged
    written, sign, notes = value(trace, stage.quantity), "=", [stage.note(trace)]
    if compute:
        computed = compute(shown)
        sign = relation(computed, written)
        if sign != "=":
            notes.append(_out_of_range(trace, stage.quantity, computed, written))
    return Stage(
        number=index,
        title=stage.title,
        quantity=stage.quantity,
        code=tuple(_code()[line] for line in stage.lines),
        formula=formula_of_names(template),
        substitution=_fill(template, lambda *field: _numbers(trace, *field)),
        sign=sign,
        value=written,
        note=", ".join(note for note in notes if note),
    )


def _out_of_range(trace: StepTrace, quantity: str, computed: float, written: str) -> str:
    """A note on a result that its dtype has no number for."""
    if computed == 0 or not math.isfinite(computed):
        return ""
    dtype = str(getattr(trace, quantity).dtype).removeprefix("torch.")
    if written.endswith("inf"):
        return f"too large for {dtype}"
    is_small = written == "0" and quantity != "masked_sum"  # a sum may be 0 by cancellation
    return f"too small for {dtype}" if is_small else ""


def value(trace: StepTrace, quantity: str) -> str:
    """Write a quantity of a trace. Of the gradient, write the entry of the largest size, which is
    the gradient at every response token."""
    field = getattr(trace, quantity)
    if quantity == "grad":
        field = largest(field)
    return number(field.item() if isinstance(field, Tensor) else field)


def largest(tensor: Tensor) -> Tensor:
    """The entry of the largest size; 0 if there is none."""
    flat = tensor.flatten()
    return flat[flat.abs().argmax()] if len(flat) else tensor.new_zeros(())


def formula_of_names(template: str) -> tuple[Term, ...]:
    """Fill a template with the names of its quantities."""
    return _fill(template, _name)


def _name(quantity: str, spec: str) -> list[Term]:
    symbol = Term(SYMBOLS.get(quantity, quantity), quantity)
    return [Term("Σ "), symbol] if spec else [symbol]


def _numbers(trace: StepTrace, quantity: str, spec: str) -> list[Term]:
    """One number; with a spec, the sum of a field's rows, one term per row."""
    if not spec:
        return [Term(value(trace, quantity), quantity)]
    rows = _row_sums(trace, quantity)
    shown = [row for row in range(len(rows)) if row < _ADDENDS - 1 or row == len(rows) - 1]
    terms: list[Term] = []
    for place, row in enumerate(shown):
        if row != place and len(rows) > _ADDENDS:
            terms.append(Term(" + …"))
        text = number(rows[row])
        if place:
            terms.append(Term(f" {MINUS} " if text.startswith(MINUS) else " + "))
            text = text.removeprefix(MINUS)
        terms.append(Term(text, f"{quantity}[{row},:]"))
    return terms


def _row_sums(trace: StepTrace, quantity: str) -> list[float]:
    return getattr(trace, quantity).cpu().double().sum(1).tolist()


def _fill(template: str, write: Callable[[str, str], list[Term]]) -> tuple[Term, ...]:
    """Fill a template. A sum, and a number with a minus after an operator, get parentheses."""
    terms: list[Term] = []
    for literal, quantity, spec, _ in Formatter().parse(template):
        if literal:
            terms.append(Term(literal))
        if quantity is None:
            continue
        written = write(quantity, spec)
        is_sum = sum(term.key is not None for term in written) > 1
        first = written[0].text
        if (
            (is_sum and template != f"{{{quantity}:{spec}}}")
            or (first.startswith(MINUS) and literal.endswith((MINUS, "÷ ", "· ")))
            or (first == "0" and literal.endswith(MINUS))  # −(0), because there is no number −0
        ):
            written = [Term("("), *written, Term(")")]
        terms += written
    return tuple(terms)


@cache  # reading and parsing the source takes 2 ms
def _code() -> dict[str, tuple[Term, ...]]:
    """Each line of the step, taken from its source, by the name it assigns or what it does."""
    source = inspect.getsource(step)
    functions = {
        node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    }
    code = {}
    for statement in functions["_step"].body:
        match statement:
            case ast.Assign(targets=[ast.Name(name)]):
                code[name] = _words(source, statement)
            case ast.Expr():
                code["backward"] = _words(source, statement)
    return code | {"return": _words(source, functions["sft_microbatch_train_step"].body[-1])}


def _words(source: str, statement: ast.stmt) -> tuple[Term, ...]:
    """A statement as terms: the words that name a quantity, and the text between them."""
    parts = _QUANTITY.split(ast.get_source_segment(source, statement))
    return tuple(Term(part, _QUANTITIES.get(part)) for part in parts if part)
