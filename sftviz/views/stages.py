"""A trace told as the six stages of the step: what each is called, what it ran, what it gave.

The code of a stage is taken from the function that ran, its numbers from the trace. A formula is
one template, read twice: with the names of its quantities, and with their numbers.
"""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from string import Formatter
from typing import NamedTuple

from torch import Tensor

from sftviz import step
from sftviz.drawing.formatting import MINUS, number
from sftviz.step import StepTrace

SYMBOLS = {"gradient_accumulation_steps": "G", "normalize_constant": "c"}
_QUANTITIES = {field.name: field.name for field in fields(StepTrace)} | {
    symbol: name for name, symbol in SYMBOLS.items()
}
_QUANTITY = re.compile(rf"\b({'|'.join(_QUANTITIES)})\b")
_ADDENDS = 4  # written of a sum over rows, the last one always among them


class Term(NamedTuple):
    """A piece of a formula. Its key, if any, names the value that it stands for."""

    text: str
    key: str | None = None


@dataclass(frozen=True)
class Stage:
    """One of the six things that the step does.

    `formula` says it with names, `substitution` says the same with this run's numbers, and `value`
    is what came out: the field `quantity` of the trace. `code` holds the lines that computed it.
    """

    number: int
    title: str
    quantity: str
    code: tuple[tuple[Term, ...], ...]
    formula: tuple[Term, ...]
    substitution: tuple[Term, ...]
    value: str
    note: str


@dataclass(frozen=True)
class _Script:
    """The part of a stage that is the same for every trace.

    A template names fields of the trace; `:Σ` stands for the sum over a field's tokens. `lines`
    names what the lines of code assign or do.
    """

    title: str
    quantity: str
    lines: tuple[str, ...]
    template: str
    note: Callable[[StepTrace], str] = lambda trace: ""


_SCRIPTS = (
    _Script(
        "Count tokens",
        "num_tokens",
        ("num_tokens",),
        "{response_mask:Σ}",
        lambda trace: f"of {trace.response_mask.numel()}",
    ),
    _Script(
        "Masked sum",
        "masked_sum",
        ("masked_log_probs", "masked_sum"),
        "{masked_log_probs:Σ} ÷ {normalize_constant}",
    ),
    _Script(
        "Negate, divide by G",
        "loss",
        ("loss",),
        f"{MINUS}{{masked_sum}} ÷ {{gradient_accumulation_steps}}",
    ),
    _Script(
        "Divide by G again",
        "scaled_loss",
        ("scaled_loss",),
        "{loss} ÷ {gradient_accumulation_steps}",
        lambda trace: f"in all ÷ G² = ÷ {trace.gradient_accumulation_steps**2}",
    ),
    _Script(
        "Backward",
        "grad",
        ("backward",),
        f"{MINUS}1 ÷ ({{gradient_accumulation_steps}}² · {{normalize_constant}})",
        lambda trace: "0 at masked tokens" if trace.num_tokens else "no token counts",
    ),
    _Script(
        "Return",
        "scaled_loss",
        ("return",),
        '{scaled_loss}, {{"num_tokens": {num_tokens}, "masked_sum": {masked_sum}}}',
    ),
)


def explain_step(trace: StepTrace) -> tuple[Stage, ...]:
    """Tell a trace as six stages.

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
    return tuple(
        Stage(
            number=index,
            title=script.title,
            quantity=script.quantity,
            code=tuple(_code()[line] for line in script.lines),
            formula=_formula(script.template),
            substitution=_read(script.template, lambda *field: _numbers(trace, *field)),
            value=value(trace, script.quantity),
            note=script.note(trace),
        )
        for index, script in enumerate(_SCRIPTS, start=1)
    )


def value(trace: StepTrace, quantity: str) -> str:
    """Write the number of a trace that a quantity names; the gradient's is its largest in size,
    which is that of every response token."""
    field = getattr(trace, quantity)
    if quantity == "grad":
        field = largest(field)
    return number(field.item() if isinstance(field, Tensor) else field)


def largest(tensor: Tensor) -> Tensor:
    """The entry that is largest in size, 0 of none."""
    flat = tensor.flatten()
    return flat[flat.abs().argmax()] if len(flat) else tensor.new_zeros(())


@cache
def _formula(template: str) -> tuple[Term, ...]:
    """A template filled with names."""
    return _read(template, _name)


def _name(quantity: str, spec: str) -> list[Term]:
    symbol = Term(SYMBOLS.get(quantity, quantity), quantity)
    return [Term("Σ "), symbol] if spec else [symbol]


def _numbers(trace: StepTrace, quantity: str, spec: str) -> list[Term]:
    """One number, or with a spec the sum of a field's rows, each row a term of its own."""
    if not spec:
        return [Term(value(trace, quantity), quantity)]
    rows = getattr(trace, quantity).cpu().double().sum(1).tolist()
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


def _read(template: str, write: Callable[[str, str], list[Term]]) -> tuple[Term, ...]:
    """Fill a template. What would read as two operators, or bind otherwise, gets parentheses."""
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
            or (first == "0" and literal.endswith(MINUS))  # −(0), for there is no number −0
        ):
            written = [Term("("), *written, Term(")")]
        terms += written
    return tuple(terms)


@cache
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
    """A statement as terms: each word that names a quantity is one, what lies between another."""
    parts = _QUANTITY.split(ast.get_source_segment(source, statement))
    return tuple(Term(part, _QUANTITIES.get(part)) for part in parts if part)
