"""Whose gradient is it: the rule that weighs each example equally, and the shares of a window.

The closed forms stand here alone: the package reads every share from autograd.
"""

import dataclasses
import math
import re
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from sftviz.accumulation import accumulate, full_batch_gradient
from sftviz.experiments import rank_process
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.rules import ALL_SCALINGS, EXAMPLE_MEAN, Counts, Scaling
from sftviz.shares import gradient_shares
from sftviz.tokens import TokenBatch
from sftviz.views.shares import shares_table

V = 5


def row_means(model, batch):
    """Each row's mean negative log-prob over its response tokens, by torch alone; 0 if none."""
    losses = cross_entropy(model(batch.input_ids).mT, batch.labels, reduction="none")  # (B, S)
    counts = batch.response_mask.sum(1)
    return (losses * batch.response_mask).sum(1) / counts.clamp(min=1)


# ---------------------------------------------------------------- one weight per example

UNEVEN = make_window(3, 2, lengths=[1, 7, 2, 5, 3], vocab_size=V)  # 3 + 2 rows


def test_one_weight_per_example_is_the_mean_over_examples_also_with_a_short_microbatch():
    model = BigramModel(V, dtype=torch.float64)
    assert [len(batch.labels) for batch in UNEVEN] == [3, 2]
    means = torch.cat([row_means(model, batch) for batch in UNEVEN])
    (expected,) = torch.autograd.grad(means.mean() / 7, [model.table])
    trace = accumulate(model, UNEVEN, "one weight per example", normalize_constant=7.0)
    torch.testing.assert_close(trace.grad["table"], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(trace.full_batch_grad["table"], expected, rtol=0, atol=1e-12)
    assert trace.scaling is EXAMPLE_MEAN and trace.distance < 1e-12
    total = sum(record.scaled_loss.item() for record in trace.microbatches)
    assert total == pytest.approx(means.mean().item() / 7, rel=1e-12)
    other = full_batch_gradient(model, UNEVEN, "sequence", 7.0)["table"]
    assert (other - expected).norm() > 0.1 * expected.norm()


def test_the_parts_of_a_microbatch_are_its_rows_if_each_has_a_divisor():
    trace = accumulate(BigramModel(V), UNEVEN, "one weight per example")
    assert [divisor for _, divisor in trace.microbatches[0].parts] == [5 * 1, 5 * 7, 5 * 2]
    for record in trace.microbatches:
        loss = -math.fsum(row / divisor for row, divisor in record.parts)
        assert record.scaled_loss.item() == pytest.approx(loss, rel=1e-6)
        assert record.row_sums.sum().item() == pytest.approx(record.masked_sum.item(), rel=1e-6)
    (part,) = accumulate(BigramModel(V), UNEVEN, "G²").microbatches[0].parts
    assert part[1] == 4


def test_a_row_without_tokens_adds_nothing():
    masks = [batch.response_mask.clone() for batch in UNEVEN]
    masks[0][1] = False
    window = [
        TokenBatch(batch.input_ids, batch.labels, mask)
        for batch, mask in zip(UNEVEN, masks, strict=True)
    ]
    trace = accumulate(BigramModel(V, dtype=torch.float64), window, "one weight per example")
    assert trace.microbatches[0].scaled_loss.isfinite() and trace.distance < 1e-12
    assert gradient_shares(masks, EXAMPLE_MEAN).rows[0].tolist() == pytest.approx([1 / 4, 0, 1 / 4])


def test_a_rule_has_one_divisor_or_one_per_row():
    rule = Scaling("two", "two divisors", lambda counts: [1.0, 2.0])
    with pytest.raises(ValueError) as caught:
        accumulate(BigramModel(V), UNEVEN, rule)
    assert str(caught.value) == (
        "the rule has 2 divisors but the microbatch has 3 rows: return one number, or one per row."
    )


def test_ranks_use_such_a_rule_as_it_is(monkeypatch):
    """One process in place of two, with the counts of two: half of the mean over its rows."""
    model = BigramModel(V, dtype=torch.float64)
    wrapped = torch.nn.Module()
    wrapped.module, wrapped.forward = model, model.forward
    rows = sum(len(batch.labels) for batch in UNEVEN)
    counts = [
        Counts(len(n), 2, sum(n), 0, 0, 2, 2 * rows, tuple(n))
        for n in (batch.response_mask.sum(1).tolist() for batch in UNEVEN)
    ]
    monkeypatch.setattr(rank_process, "G", 2)
    window = list(UNEVEN)
    grad = rank_process._accumulate(wrapped, window, EXAMPLE_MEAN, counts, no_sync=False)
    means = torch.cat([row_means(model, batch) for batch in window])
    (expected,) = torch.autograd.grad(means.mean() / 2, [model.table])
    torch.testing.assert_close(grad["table"], expected, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- the shares of a window

CLOSED = {  # what the loss of row r of microbatch m is divided by, up to a constant factor
    "none": lambda weights, row: 1,
    "G": lambda weights, row: 1,
    "G²": lambda weights, row: 1,
    "tokens": lambda weights, row: 1,
    "B·G": lambda weights, row: len(weights),
    "B·G²": lambda weights, row: len(weights),
    "averaged averages": lambda weights, row: math.fsum(map(math.fsum, weights)),
    "one weight per example": lambda weights, row: math.fsum(weights[row]),
}


def closed_form(window, name):
    """Each token's share, with lists of numbers alone."""
    sizes = [
        [
            [weight and weight / CLOSED[name](weights, row) for weight in entries]
            for row, entries in enumerate(weights)
        ]
        for weights in window
    ]
    total = math.fsum(size for weights in sizes for row in weights for size in row)
    return [[[size / total for size in row] for row in weights] for weights in sizes]


@st.composite
def windows(draw):
    """Masks or weights, B and S of any size, some rows empty, at least one token that counts."""
    entry = draw(st.sampled_from([st.integers(0, 1), st.sampled_from([0, 0.1, 0.5, 1, 2.5])]))
    window = []
    for _ in range(draw(st.integers(1, 4))):
        S = draw(st.integers(1, 6))
        row = st.lists(entry, min_size=S, max_size=S)
        window.append(draw(st.lists(row, min_size=1, max_size=4)))
    window[0][0][0] = 1
    return window


@given(windows(), st.sampled_from(sorted(CLOSED)))
@settings(max_examples=80, deadline=None)
def test_the_shares_are_those_of_the_closed_form(window, name):
    shares = gradient_shares(window, name)
    expected = closed_form(window, name)
    for found, row_shares, closed in zip(shares.tokens, shares.rows, expected, strict=True):
        closed = torch.tensor(closed, dtype=torch.float64)
        torch.testing.assert_close(found, closed, rtol=0, atol=1e-12)
        torch.testing.assert_close(row_shares, closed.sum(1), rtol=0, atol=1e-12)
    assert sum(tokens.sum().item() for tokens in shares.tokens) == pytest.approx(1, abs=1e-12)


def test_every_rule_has_a_closed_form():
    assert {rule.name for rule in ALL_SCALINGS} == set(CLOSED)


def test_the_shares_are_those_of_accumulated_gradients_of_a_model():
    """Tokens that each read a token of their own: the gradient of its logits is the token's."""
    masks = [torch.tensor([[1, 0], [1, 1], [0, 1]]), torch.tensor([[1, 1, 1], [1, 0, 0]])]
    start = 1
    window = []
    for mask in masks:
        ids = torch.arange(start, start + mask.numel()).reshape(mask.shape)
        window.append(TokenBatch(ids, torch.zeros_like(ids), mask.bool()))
        start += mask.numel()
    model = BigramModel(start, dtype=torch.float64)
    torch.nn.init.zeros_(model.table)  # then the gradient of each row is as long
    for rule in ALL_SCALINGS:
        sizes = accumulate(model, window, rule).grad["table"].norm(dim=1)[1:]
        shares = torch.cat([tokens.flatten() for tokens in gradient_shares(masks, rule).tokens])
        torch.testing.assert_close(shares, sizes / sizes.sum(), rtol=0, atol=1e-12)


def test_a_short_answer_weighs_ten_times_as_much_under_averaged_averages():
    """transformers issue 24725: 11 and 101 tokens."""
    window = [torch.ones(1, 11), torch.ones(1, 101)]
    short, long = gradient_shares(window, "averaged averages").per_token
    assert (short / long).item() == pytest.approx(101 / 11, rel=1e-12)


def test_one_weight_per_example_takes_the_long_answers_share_down_to_a_half():
    """tinker-cookbook pull request 334: 3 and 300 tokens, from 99 % to 50 %."""
    mask = torch.arange(300) < torch.tensor([[3], [300]])
    assert gradient_shares([mask], "none").rows[0][1].item() == pytest.approx(300 / 303)
    assert gradient_shares([mask], EXAMPLE_MEAN).rows[0].tolist() == pytest.approx([0.5, 0.5])


def test_a_rule_of_ones_own_has_shares():
    root = Scaling("root", "by the root of the row", lambda n: [r**0.5 for r in n.row_tokens])
    rows = gradient_shares([[[1, 0, 0, 0], [1, 1, 1, 1]]], root).rows[0]
    assert rows.tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-12)


def test_nothing_given_is_changed_and_gradients_may_be_switched_off():
    weights = torch.tensor([[0.0, 2.0]], requires_grad=True)
    with torch.inference_mode():
        shares = gradient_shares([weights], "tokens")
    assert weights.grad is None and weights.tolist() == [[0, 2]]
    assert shares.tokens[0].tolist() == [[0, 1]] and not shares.tokens[0].requires_grad
    with pytest.raises(dataclasses.FrozenInstanceError):
        shares.tokens = ()


ONE = torch.ones(1, 2)
REFUSED = {
    "a tensor": (
        ONE,
        TypeError,
        "window must be a sequence of microbatches, got Tensor: give a mask or weights (B, S) "
        "for each, for example [mask_1, mask_2].",
    ),
    "nothing": (
        [],
        TypeError,
        "window must be a sequence of microbatches, got an empty one: give a mask or weights "
        "(B, S) for each, for example [mask_1, mask_2].",
    ),
    "a row that is no microbatch": (
        [ONE, torch.ones(3)],
        ValueError,
        "microbatch 2 must be a mask or weights of shape (B, S), got torch.float32 (3,): "
        "one row per sequence, one column per token.",
    ),
    "words": (
        [[["a"]]],
        ValueError,
        "microbatch 1 must be rows of numbers, got str 'a' at row 1, token 1: "
        "write them as [[0, 1], [1, 1]].",
    ),
    "a negative weight": (
        [ONE, [[1, 1], [0, -0.5]]],
        ValueError,
        "microbatch 2 must have weights of at least 0, got -0.5 at row 2, token 2: "
        "0 is a token that does not count.",
    ),
    "a weight that is no number": (
        [[[math.nan]]],
        ValueError,
        "microbatch 1 must have weights of at least 0, got nan at row 1, token 1: "
        "0 is a token that does not count.",
    ),
    "nothing counts": (
        [ONE * 0, ONE * 0],
        ValueError,
        "no token of the window counts, in 2 microbatches: "
        "there is no gradient to share; give at least one weight above 0.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_window_is_refused_in_a_sentence(case):
    window, error, sentence = REFUSED[case]
    with pytest.raises(error) as caught:
        gradient_shares(window, "tokens")
    assert str(caught.value) == sentence


def test_a_rule_without_a_gradient_is_refused_in_a_sentence():
    with pytest.raises(ValueError) as caught:
        gradient_shares([ONE], Scaling("zero", "by 0", lambda counts: 0))
    assert str(caught.value) == (
        "under the rule 'zero' the gradient of the window is inf in all: "
        "it has no shares; give another divisor."
    )
    with pytest.raises(ValueError, match=r"^scaling must be one of none, .*, got 'mean'\.$"):
        gradient_shares([ONE], "mean")


# ---------------------------------------------------------------- the table


WINDOW = [[[0, 0, 1]], [[1, 1, 1], [0, 0, 0], [1, 1, 0]]]  # 1 row, and 3 of which one is empty


def test_the_table_of_an_uneven_window():
    picture = """
╭─────────────────────────────────────────────────────────────────────────────╮
│ the row's share of the gradient, and that of a token                        │
│                                                                             │
│                        G², tokens                 averaged averages         │
│ row 1 in microbatch 1  [   ] 16.67 %              [            ] 50 %       │
│ 1 token                16.67 % a token            50 % a token              │
│ row 2 in microbatch 2  [            ] 50 %        [      ] 30 %             │
│ 3 tokens               16.67 % a token            10 % a token              │
│ row 3 in microbatch 2  0 %                        0 %                       │
│ 0 tokens                                                                    │
│ row 4 in microbatch 2  [       ] 33.33 %          [    ] 20 %               │
│ 2 tokens               16.67 % a token            10 % a token              │
╰─────────────────────────────────────────────────────────────────────────────╯
"""
    drawing = shares_table(WINDOW, ["G²", "tokens", "averaged averages"], width=80)
    assert f"\n{drawing.text}\n" == picture
    assert drawing.alt == (
        "Shares of the gradient of a window of 2 microbatches, 4 rows, 6 tokens: "
        "a token of row 1 weighs 5 times as much as one of row 2 under averaged averages."
    )


def test_rules_with_the_same_shares_have_one_column():
    text = shares_table(WINDOW).text
    assert "none, G, G², tokens  " in text and "B·G, B·G²  " in text
    equal = shares_table([torch.ones(2, 3), torch.ones(2, 3)])
    assert "of weight 1" not in equal.text and equal.text.count("row 1 in microbatch 1") == 1
    assert equal.alt.endswith("12 tokens: under each rule, every token weighs the same.")


def test_a_weight_that_is_a_fraction_is_named():
    drawing = shares_table([[[0.5, 1.0], [0.0, 0.25]]], ["tokens"])
    assert "that of a token of weight 1" in drawing.text and "weight 0.25" in drawing.text
    assert "14.29 %" in drawing.text and "57.14 % a token" in drawing.text
    assert "2 rows, weight 1.75: under" in drawing.alt


@pytest.mark.parametrize("width", [48, 60, 80, 112, 140])
def test_the_table_fits_its_width(width):
    lengths = torch.tensor([[1000], [3], [1], [7]])
    window = [torch.arange(1000) < lengths, torch.ones(1, 2), *[torch.ones(3, 1)] * 40]
    drawing = shares_table(window, width=width)
    assert max(map(len, drawing.text.splitlines())) <= width
    heaviest, lightest = re.findall(r"row (\d+) ", drawing.alt)
    assert {heaviest, lightest} <= set(re.findall(r"│ row (\d+) ", drawing.text))
    assert "⋮" in drawing.text


def test_the_bars_are_as_long_as_the_shares():
    bars = [
        line.count("[") and line.index("]") - line.index("[") + 1
        for line in shares_table([[[1, 0, 0, 0], [1, 1, 1, 1]]], ["none"]).text.splitlines()
    ]
    assert [length for length in bars if length] == [5, 19]


def test_a_rules_name_is_text():
    rule = Scaling("<b>$x$\n", "a rule", lambda counts: 1)
    drawing = shares_table(WINDOW, [rule])
    ElementTree.fromstring(drawing.svg)
    assert "<b>" not in drawing.svg and "<b>$x$↵" in drawing.text
    assert "50 %" in shares_table(WINDOW, [Scaling("", "no name", lambda counts: 1)]).text


def test_a_table_of_no_rule_is_refused():
    with pytest.raises(ValueError) as caught:
        shares_table(WINDOW, [])
    assert str(caught.value) == "scalings is empty: give at least one rule, for example 'tokens'."
