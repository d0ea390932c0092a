"""Every `=` that a picture shows is an equality, and every sentence holds, in every state."""

import math
import re
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftviz import (
    PRESETS,
    gradient_formula,
    gradient_table,
    key_formula,
    step_flow,
    token_table,
    trace_step,
)
from sftviz.accumulation import accumulate
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.logits import LogitsInputs
from sftviz.rules import ALL_SCALINGS, Scaling
from sftviz.views.accumulation import accumulation_flow, scaling_table
from sftviz.views.logits import logits_flow

# Possessive: a number is not tried again in parts, of which there are 2^18 in one of 19 digits.
NUMBER = r"\d++(?:\.\d++)?+(?:e−?\d++)?+|nan|inf"
# A formula with numbers only: `−(−2.8) ÷ 2`, `(0 + 0) ÷ 1`, `−1 ÷ (2² · 1)`.
FORMULA = rf"[−(]*(?:{NUMBER})(?:[−+÷·²() ]|{NUMBER})*?"
# In a ledger the sign is before the formula, and the value at the end of the line; else between.
LEDGER = re.compile(rf"([=≈]) ({FORMULA})(  (?![ =≈])[^\[\n]*?)? *\[ *(\S+)\]")
BETWEEN = re.compile(rf"(?:=|\]) +({FORMULA}) +([=≈]) (?:\[|░) *([^\]░]+)(?:\]|░)")
SQUARE = re.compile(r"in all ÷ G² ([=≈]) ÷ (\S+)")


def equations(drawing):
    """The formulas of a picture with their sign, note and value; without abridged sums."""
    found = BETWEEN.findall(drawing.text)
    between = [(sign, formula, "", value) for formula, sign, value in found]
    return [*LEDGER.findall(drawing.text), *between]


def evaluate(formula):
    """The exact value of a formula, and the sum of the sizes of its addends over the divisor."""
    python = formula.translate({ord(a): b for a, b in zip("−÷·", "-/*", strict=True)})
    python = python.replace("²", "**2")
    if "nan" in python or "inf" in python:
        value = eval(python, {"nan": math.nan, "inf": math.inf})
        return value, abs(value)
    python = re.sub(r"\d+(?:\.\d+)?(?:e-?\d+)?", lambda n: f"D('{n[0]}')", python)
    python = python.replace("**D('2')", "**2")
    sizes = re.sub(r"(?<=[ (])- D", "+ D", python).replace("(-D", "(D").lstrip("-")
    with localcontext(prec=60, Emax=10**6, Emin=-(10**6)):
        return [eval(code, {"D": Decimal}) for code in (python, sizes)]


def read(text):
    return float(text.replace("−", "-"))


def half_a_digit(value):
    """Half a unit of the fourth digit."""
    return abs(value) and Decimal(10) ** (Decimal(abs(value)).adjusted() - 3) / 2


def assert_holds(sign, formula, note, value, dtype=torch.float64):
    exact, size = evaluate(formula)
    shown = read(value)
    if not math.isfinite(exact):
        assert sign == "=" and (shown == exact or (math.isnan(shown) and math.isnan(exact)))
        return
    limits = torch.finfo(dtype)
    if math.isinf(shown):
        assert sign == "≈" and abs(exact) > 0.99 * limits.max
        return
    assert "too large" not in note and ("too small" not in note or shown == 0 != exact)
    error = abs(Decimal(shown) - Decimal(exact))
    if sign == "=":
        tie = abs(Decimal(exact)) * Decimal("1e-12")  # the package rounds floats, not decimals
        assert error <= half_a_digit(shown or exact) + tie, (formula, value)
    else:
        rounding = Decimal(2e-3 + limits.eps) * Decimal(size)
        assert error <= rounding + Decimal(limits.tiny * limits.eps), (formula, value)


def assert_all_hold(drawing, dtype=torch.float64):
    for equation in equations(drawing):
        assert_holds(*equation, dtype)
    for sign, square in SQUARE.findall(drawing.text):
        G = read(re.search(r"gradient_accumulation_steps  = G +\[ *(\d+)\]", drawing.text)[1])
        exact = Decimal(G) ** 2
        assert (sign == "=") == (Decimal(square) == exact)
        assert abs(Decimal(square) - exact) <= half_a_digit(exact)
    return len(equations(drawing))


odd = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 0.5, 7.0, -1e-8])
log_probs = st.floats(-20, 0, width=16) | odd
dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
constants = st.sampled_from([1.0, 3.0, 2.71828, 1e-3, 12345.678]) | st.floats(1e-6, 1e6)


@st.composite
def any_traces(draw):
    B, S = draw(st.integers(1, 4)), draw(st.integers(1, 4))  # of more rows the sum is abridged
    rows = st.lists(log_probs, min_size=S, max_size=S)
    values = torch.tensor(draw(st.lists(rows, min_size=B, max_size=B)), dtype=torch.float64)
    bits = draw(st.sampled_from(["none", "one", "all", "some"]))
    mask = torch.full((B, S), bits == "all")
    if bits == "one":
        mask[draw(st.integers(0, B - 1)), draw(st.integers(0, S - 1))] = True
    if bits == "some":
        mask = torch.tensor(draw(st.lists(st.booleans(), min_size=B * S, max_size=B * S)))
        mask = mask.reshape(B, S)
    G = draw(st.integers(1, 40) | st.sampled_from([1000, 99_999, 2**62]))
    return trace_step(values.to(draw(st.sampled_from(dtypes))), mask, G, draw(constants))


def unfolded(trace):
    """A picture whose formulas have a line each: its tokens are too long for half of the width."""
    B, S = trace.policy_log_probs.shape
    return step_flow(trace, [["long enough"] * S] * B, width=140)


@given(any_traces())
@settings(max_examples=40, deadline=None)
def test_every_equation_of_the_step_holds_to_the_digits_that_it_shows(trace):
    """`=`: the formula's exact value, rounded to four digits, is the value beside it. `≈`: it is so
    apart from rounding, of every number to four digits and of the result to its dtype."""
    dtype = trace.grad.dtype
    assert assert_all_hold(unfolded(trace), dtype) == 5
    assert assert_all_hold(key_formula(trace), dtype) == 4
    assert_all_hold(gradient_formula(trace), dtype)
    assert_all_hold(gradient_table(trace, (1, 7)), dtype)


@given(any_traces())
@settings(max_examples=40, deadline=None)
def test_every_sentence_about_the_gradient_holds(trace):
    count, size = trace.num_tokens, trace.grad.numel()
    grad = trace.grad.double()
    for drawing in (step_flow(trace), key_formula(trace), token_table(trace)):
        alt = drawing.alt
        assert f": {count} of {size} token" in alt
        written, place = re.search(r"gradient (\S+) (.*?)\.(?: |$)", alt).groups()
        places = {
            "everywhere": torch.ones_like(trace.response_mask) if count == 0 else None,
            "at every token": torch.ones_like(trace.response_mask) if count == size else None,
            "at the response token, 0 elsewhere": trace.response_mask if count == 1 else None,
            "at response tokens, 0 elsewhere": trace.response_mask if count > 1 else None,
        }
        where = places[place]
        assert where is not None and (count < size or "elsewhere" not in place)
        assert all(f"{abs(x):.4g}" == f"{abs(read(written)):.4g}" for x in grad[where].tolist())
        assert (grad[~where] == 0).all()
    text = unfolded(trace).text
    notes = [note for note in ("0 at masked", "same at all", "no token counts") if note in text]
    assert notes == [
        "no token counts" if count == 0 else "same at all" if count == size else "0 at masked"
    ]
    cases = gradient_formula(trace).text
    assert ("response token" in cases) == (count > 0) and ("masked" in cases) == (count < size)
    table = gradient_table(trace, (1, 2))
    assert table.alt.startswith(f"Gradient {'at a response' if count else 'where no'} token")


@pytest.mark.parametrize("name", PRESETS)
def test_every_equation_of_a_preset_holds(name):
    trace = PRESETS[name].trace()
    for drawing in (step_flow(trace), key_formula(trace), gradient_table(trace)):
        assert_all_hold(drawing)


def test_where_no_token_counts_no_formula_says_otherwise():
    trace = PRESETS["all masked"].trace()
    assert "grad = 0  no token counts" in unfolded(trace).text
    for view in (step_flow, key_formula, gradient_formula, gradient_table):
        assert "÷ (" not in view(trace).text
    assert step_flow(trace).alt.endswith(
        "0 of 6 tokens count; masked_sum 0; loss 0; scaled_loss 0; gradient 0 everywhere."
    )


def test_a_result_outside_its_dtype_says_so():
    large = trace_step(torch.full((2, 1), -3e38), torch.ones(2, 1), 1)
    assert "≈ (−3e38 − 3e38) ÷ 1  too large for float32" in unfolded(large).text
    small = trace_step(torch.full((1, 1), -1.0, dtype=torch.float16), torch.ones(1, 1), 10**5)
    assert "same at all tokens, too small for float16" in unfolded(small).text


@given(
    st.lists(st.floats(-9, 9, width=16) | st.just(math.nan), min_size=12, max_size=12),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.integers(1, 40),
    constants,
)
@settings(max_examples=25, deadline=None)
def test_every_equation_from_the_logits_on_holds(logits, mask, G, c):
    batch = LogitsInputs(
        torch.tensor(logits).reshape(1, 4, 3),
        torch.tensor([[0, 1, 2, 0]]),
        torch.tensor([mask]),
        G,
        c,
    )
    drawing = logits_flow(batch.trace(), width=100)
    assert assert_all_hold(drawing, torch.float32) == 3
    formula = re.search(r"grad ([=≈]) (−1 ÷ \([^)]*\)|0)  (.*?) *│", drawing.text)
    value = drawing.alt.partition("gradient ")[2].partition(" ")[0]
    assert_holds(formula[1], formula[2], "", value)
    assert formula[3] == ("whatever the logits are" if any(mask) else "no token counts")


THIRD = Scaling("third", "a divisor that is not a whole number", lambda n: n.num_tokens / 3)


@pytest.mark.parametrize("rule", [*ALL_SCALINGS, THIRD], ids=lambda rule: rule.name)
@pytest.mark.parametrize(("B", "G", "c"), [(2, 3, 1.0), (3, 2, 2.71828)])
def test_every_equation_of_a_window_holds(rule, B, G, c):
    model = BigramModel(vocab_size=4, dtype=torch.float64)
    trace = accumulate(model, make_window(B, G, vocab_size=4, unevenness=1.0), rule, c)
    flows = [accumulation_flow(trace, reached + 1, width=140) for reached in range(G)]
    assert [assert_all_hold(flow) for flow in flows] == [1] * G
    divisors = re.search(r"([=≈]) ÷ ([\d., ]*\d) +ratio", scaling_table([trace]).text)
    exact = sorted({divisor for record in trace.microbatches for _, divisor in record.parts})
    shown = list(map(float, divisors[2].split(", ")))
    assert (divisors[1] == "=") == (shown == exact) and shown == pytest.approx(exact, rel=5e-4)
