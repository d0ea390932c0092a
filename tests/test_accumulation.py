"""Accumulation: which rule comes to the full batch, and when; and every tick against plain torch.

Everything is compared with `plain`. It shares only the batches with the package: its
log-probs are torch's, its divisors are written out below, its gradient is the model's own `.grad`.
"""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import sftviz.accumulation
from sftviz.accumulation import accumulate, full_batch_gradient
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.rules import MISTAKEN_SCALINGS, SCALINGS, STEP, Scaling, cosine, distance, ratio
from sftviz.tokens import TokenBatch

V = 9
RULES = {rule.name: rule for rule in (*SCALINGS, *MISTAKEN_SCALINGS)}
DIVISORS = {  # rows and tokens of the microbatch, microbatches and tokens of the window
    "none": lambda B, n, G, N: 1,
    "G": lambda B, n, G, N: G,
    "G²": lambda B, n, G, N: G**2,
    "B·G": lambda B, n, G, N: B * G,
    "tokens": lambda B, n, G, N: N,
    "averaged averages": lambda B, n, G, N: n * G,
    "B·G²": lambda B, n, G, N: B * G**2,
}
TABLE = [(2, 2), (1, 4), (2, 4), (2, 8), (4, 2), (8, 4), (4, 4), (3, 2), (2, 128)]
OF_STEP = [1, 0.25, 0.5, 0.25, 2, 2, 1, 1.5, 0.015625]
OF_G = [2, 1, 2, 2, 4, 8, 4, 3, 2]


def bigram(seed=0):
    return BigramModel(V, seed, dtype=torch.float64)


def window(B, G, lengths=None, seed=0):
    return make_window(B, G, lengths, vocab_size=V, seed=seed)


def nll(model, batch):
    """The negative log-probs of the response tokens, added up."""
    losses = cross_entropy(model(batch.input_ids).transpose(1, 2), batch.labels, reduction="none")
    return (losses * batch.response_mask).sum()


def plain(model, microbatches, name, c=1.0, G=None):
    """`.grad` of the model itself after each microbatch, by parameter."""
    G, N = G or len(microbatches), sum(int(batch.response_mask.sum()) for batch in microbatches)
    seen = []
    model.zero_grad()
    for batch in microbatches:
        B, n = len(batch.labels), int(batch.response_mask.sum())
        (nll(model, batch) / c / DIVISORS[name](B, n, G, N)).backward()
        seen.append({key: value.grad.clone() for key, value in model.named_parameters()})
    model.zero_grad()
    return seen


def one_shot(model, microbatches, divisor):
    """The gradient of the window's whole loss, in one backward pass."""
    loss = sum(nll(model, batch) for batch in microbatches) / divisor
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- the table of ratios


@pytest.mark.parametrize(
    ("name", "ratios"), [("G²", OF_STEP), ("B·G", [1] * 9), ("tokens", [1] * 9), ("G", OF_G)]
)
def test_the_ratios_to_the_full_batch(name, ratios):
    found = [accumulate(bigram(), window(B, G), name) for B, G in TABLE]
    assert [trace.ratio for trace in found] == pytest.approx(ratios, abs=1e-6)
    assert [trace.cosine for trace in found] == pytest.approx([1] * 9, abs=1e-12)


def test_the_ratios_hold_in_float32_and_with_a_constant():
    for (B, G), expected in zip(TABLE, OF_STEP, strict=True):
        trace = accumulate(BigramModel(V), window(B, G), "G²", normalize_constant=7.0)
        assert trace.ratio == pytest.approx(expected, abs=1e-6)


def test_two_rows_in_two_microbatches_can_not_tell_the_step_from_the_mean():
    same = [accumulate(bigram(), window(2, 2), name).grad for name in ("G²", "B·G")]
    assert_same(*same)
    other = [accumulate(bigram(), window(3, 2), name).grad for name in ("G²", "B·G")]
    assert ratio(*other) == pytest.approx(1.5)


# ---------------------------------------------------------------- any window, any rule


@st.composite
def windows(draw, full=True):
    """(microbatches, B, G, c): rows of any length, the last of them missing unless `full`."""
    B, G = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rows = B * G if full else draw(st.integers(1, B * G))
    lengths = draw(st.lists(st.integers(1, 9), min_size=rows, max_size=rows))
    seed = draw(st.integers(0, 2**20))
    return window(B, G, lengths, seed), B, G, draw(st.floats(0.1, 50))


@given(windows())
@settings(max_examples=40, deadline=None)
def test_which_rule_comes_to_the_full_batch(case):
    """With B rows in every microbatch, however long they are."""
    batches, B, G, c = case
    model = bigram()
    rows, N = B * G, sum(batch.num_tokens for batch in batches)
    mean = {
        "sequence": one_shot(model, batches, rows * c),
        "token": one_shot(model, batches, N * c),
    }
    factor = {
        "none": ("sequence", B * G),
        "G": ("sequence", B),
        "G²": ("sequence", B / G),
        "B·G": ("sequence", 1),
        "B·G²": ("sequence", 1 / G),
        "tokens": ("token", 1),
    }
    for name, (per, expected) in factor.items():
        trace = accumulate(model, batches, name, c)
        assert_same(trace.full_batch_grad, mean[per])
        assert_same(trace.grad, {"table": expected * mean[per]["table"]})
        assert trace.ratio == pytest.approx(expected, rel=1e-9)
        assert trace.cosine == pytest.approx(1, abs=1e-9)
        assert trace.distance == pytest.approx(abs(expected - 1), rel=1e-6, abs=1e-9)


@given(windows(full=False))
@settings(max_examples=40, deadline=None)
def test_tokens_of_the_window_are_right_in_short_windows_too(case):
    batches, _, G, c = case
    N = sum(batch.num_tokens for batch in batches)
    trace = accumulate(bigram(), batches, "tokens", c, gradient_accumulation_steps=G)
    assert_same(trace.grad, one_shot(bigram(), batches, N * c))
    assert trace.ratio == pytest.approx(1, rel=1e-9)


@given(windows(full=False), st.sampled_from(sorted(DIVISORS)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_at_every_tick_the_gradient_is_torchs_own(case, name, nominal):
    batches, _, G, c = case
    G = G if nominal else len(batches)
    model = bigram()
    expected = plain(model, batches, name, c, G)
    trace = accumulate(model, batches, name, c, gradient_accumulation_steps=G)
    assert len(trace.microbatches) == len(batches) == len(expected)
    before = torch.zeros(V, V, dtype=torch.float64)
    N = sum(int(batch.response_mask.sum()) for batch in batches)
    for index, (tick, batch, grad) in enumerate(
        zip(trace.microbatches, batches, expected, strict=True)
    ):
        assert_same(tick.grad, grad)
        alone = {"table": grad["table"] - before}
        torch.testing.assert_close(
            tick.microbatch_grad["table"], alone["table"], rtol=1e-7, atol=1e-10
        )
        before = grad["table"]
        n = int(batch.response_mask.sum())
        assert (tick.index, tick.num_tokens) == (index, n)
        assert tick.divisor == DIVISORS[name](len(batch.labels), n, G, N)
        masked_sum = -nll(model, batch).item() / c
        assert tick.masked_sum.item() == pytest.approx(masked_sum, rel=1e-9)
        assert tick.scaled_loss.item() == pytest.approx(-masked_sum / tick.divisor, rel=1e-9)
    assert trace.num_tokens == N and trace.gradient_accumulation_steps == G
    assert trace.scaling is RULES[name] and trace.normalize_constant == c


@given(windows(full=False), st.sampled_from(["sequence", "token"]))
@settings(max_examples=30, deadline=None)
def test_the_full_batch_gradient_is_that_of_one_backward_pass(case, per):
    batches, _, _, c = case
    total = sum(len(b.labels) if per == "sequence" else b.num_tokens for b in batches)
    found = full_batch_gradient(bigram(), batches, per, c)
    assert_same(found, one_shot(bigram(), batches, total * c))


# ---------------------------------------------------------------- where a rule is off


def test_a_short_last_microbatch_is_counted_for_more_than_it_is():
    """4 + 4 + 2 rows: each of the last two weighs twice what it should."""
    batches = window(4, 3, [1, 7, 2, 9, 3, 5, 8, 1, 6, 4])
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    trace = accumulate(bigram(), batches, "B·G")
    assert trace.distance > 0.05 and trace.cosine < 0.999
    expected = [one_shot(bigram(), [batch], 3 * len(batch.labels))["table"] for batch in batches]
    assert_same(trace.grad, {"table": sum(expected)})
    assert accumulate(bigram(), batches, "tokens").distance < 1e-12


def test_a_window_that_the_data_ran_out_in_is_divided_by_too_much():
    """Three microbatches of two rows, where G is 4."""
    batches = window(2, 4, [3, 1, 4, 1, 5, 9])
    assert len(batches) == 3
    for name, expected in (("B·G", 3 / 4), ("G", 2 * 3 / 4), ("G²", 3 * 2 / 16), ("tokens", 1)):
        trace = accumulate(bigram(), batches, name, gradient_accumulation_steps=4)
        assert trace.ratio == pytest.approx(expected, rel=1e-9)
        assert trace.cosine == pytest.approx(1, abs=1e-12)


def test_averaged_averages_point_elsewhere_unless_all_microbatches_are_as_long():
    lengths = [1, 2, 16, 4, 1, 12, 3, 9, 2, 14, 1, 7, 25, 1, 3, 31]
    assert sum(lengths) == 132
    off = {}
    for B in (1, 2, 4, 8):
        trace = accumulate(bigram(), window(B, 16 // B, lengths), "averaged averages")
        assert trace.cosine < 0.9999
        off[B] = trace.distance
    assert off[8] < off[1] and off[1] > 0.1
    assert accumulate(bigram(), window(16, 1, lengths), "averaged averages").distance < 1e-12
    even = accumulate(bigram(), window(2, 4, [5] * 8), "averaged averages")
    assert even.ratio == pytest.approx(1) and even.distance < 1e-12


def test_sixteen_rows_cut_in_every_way_come_to_the_same():
    lengths = [1, 2, 16, 4, 1, 12, 3, 9, 2, 14, 1, 7, 25, 1, 3, 31]
    for name in ("B·G", "tokens"):
        traces = [accumulate(bigram(), window(B, 16 // B, lengths), name) for B in (1, 2, 4, 8, 16)]
        for trace in traces:
            assert_same(trace.grad, traces[0].grad)
            assert trace.distance < 1e-14


def test_gradients_left_over_from_the_last_window_are_still_there():
    first, second = window(2, 3, seed=1), window(2, 3, seed=2)
    last = accumulate(bigram(), first, "B·G")
    trace = accumulate(bigram(), second, "B·G", leftover=last.grad)
    clean = accumulate(bigram(), second, "B·G")
    for tick, other in zip(trace.microbatches, clean.microbatches, strict=True):
        assert_same(tick.grad, {"table": other.grad["table"] + last.grad["table"]})
        assert_same(tick.microbatch_grad, other.microbatch_grad)
    assert_same(trace.full_batch_grad, clean.full_batch_grad)
    assert trace.distance > 0.1 and clean.distance < 1e-12


def masked(batch):
    return TokenBatch(batch.input_ids, batch.labels, torch.zeros_like(batch.response_mask))


def test_a_microbatch_without_response_tokens_adds_nothing():
    batches = (window(2, 2)[0], masked(window(2, 2)[1]))
    for name in ("none", "G", "G²", "B·G", "tokens", "B·G²"):
        ticks = accumulate(bigram(), batches, name).microbatches
        assert ticks[1].scaled_loss.item() == 0 and ticks[1].num_tokens == 0
        assert not ticks[1].scaled_loss.signbit()
        assert not ticks[1].microbatch_grad["table"].any()
        assert_same(ticks[1].grad, ticks[0].grad)


def test_the_mean_of_no_tokens_is_nan_while_training_goes_on():
    batches = (window(2, 2)[0], masked(window(2, 2)[1]))
    ticks = accumulate(bigram(), batches, "averaged averages").microbatches
    assert math.isnan(ticks[1].scaled_loss.item())
    assert ticks[1].grad["table"].isfinite().all() and ticks[1].divisor == 0
    assert_same(ticks[1].grad, ticks[0].grad)


# ---------------------------------------------------------------- the step itself


def test_the_rule_of_the_step_calls_the_step_and_no_other_does(monkeypatch):
    calls = []
    real = sftviz.accumulation.sft_microbatch_train_step

    def spy(policy_log_probs, response_mask, G, c):
        calls.append((tuple(policy_log_probs.shape), int(response_mask.sum()), G, c))
        return real(policy_log_probs, response_mask, G, c)

    monkeypatch.setattr(sftviz.accumulation, "sft_microbatch_train_step", spy)
    batches = window(3, 2)
    for name in set(RULES) - {"G²"}:
        accumulate(bigram(), batches, name, 7.0)
    assert calls == []
    accumulate(bigram(), batches, "G²", 7.0)
    assert calls == [(tuple(b.labels.shape), b.num_tokens, 2, 7.0) for b in batches]


def test_what_the_step_returns_is_what_is_recorded(monkeypatch):
    def returns(log_probs, mask, G, c):
        (log_probs.sum() * 0).backward()
        return torch.tensor(42.0), {"num_tokens": 1, "masked_sum": torch.tensor(-41.0)}

    monkeypatch.setattr(sftviz.accumulation, "sft_microbatch_train_step", returns)
    (tick,) = accumulate(bigram(), window(2, 1), STEP).microbatches
    assert (tick.scaled_loss.item(), tick.masked_sum.item()) == (42, -41)
    assert not tick.grad["table"].any()


# ---------------------------------------------------------------- what it runs on


class Tied(nn.Module):
    """Two uses of one table, a frozen parameter, one that no loss depends on, and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(V, 4)
        self.out = nn.Linear(4, V, bias=False)
        self.out.weight = self.table.weight
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)

    def forward(self, input_ids):
        return self.out(self.dropout(self.table(input_ids)) * self.frozen)


def test_any_module_will_do():
    model = Tied().double()
    trace = accumulate(model, window(3, 2), "G²")
    assert {name: tuple(grad.shape) for name, grad in trace.grad.items()} == {
        "unused": (3,),
        "table.weight": (V, 4),
    }
    assert not trace.grad["unused"].any()
    assert trace.ratio == pytest.approx(1.5) and trace.cosine == pytest.approx(1)
    total = sum(tick.microbatch_grad["table.weight"] for tick in trace.microbatches)
    torch.testing.assert_close(trace.grad["table.weight"], total)


class ByPosition(nn.Module):
    """A token's logits depend on where it stands; one parameter is for long rows alone."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(12, V, V, generator=generator, dtype=torch.float64))
        self.long = nn.Parameter(torch.ones(V, dtype=torch.float64))

    def forward(self, input_ids):
        S = input_ids.shape[1]
        logits = self.table[torch.arange(S), input_ids]
        return logits * self.long if S > 6 else logits


def test_rows_of_different_length_are_put_into_one_batch_from_the_left():
    batches = window(2, 3, [2, 2, 3, 4, 1, 3])
    assert len({batch.labels.shape[1] for batch in batches}) > 1
    model = ByPosition()
    loss = sum(nll(model, batch) for batch in batches) / 6
    (expected,) = torch.autograd.grad(loss, model.table)
    torch.testing.assert_close(full_batch_gradient(ByPosition(), batches)["table"], expected)


def test_a_parameter_that_a_microbatch_does_not_use_gets_nothing_from_it():
    first, second = accumulate(ByPosition(), window(1, 2, [8, 2]), "G").microbatches
    assert first.microbatch_grad["long"].any() and not second.microbatch_grad["long"].any()
    assert second.microbatch_grad["table"].any()
    assert torch.equal(second.grad["long"], first.grad["long"])


def test_the_callers_model_is_left_alone():
    model = Tied().train()
    leftover = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    del leftover["frozen"]
    for name, parameter in model.named_parameters():
        parameter.grad = None if name == "frozen" else torch.full_like(parameter, 5)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    randomness = torch.get_rng_state()
    accumulate(model, window(2, 2), "B·G", leftover=leftover)
    full_batch_gradient(model, window(2, 2))
    assert model.training and torch.equal(torch.get_rng_state(), randomness)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or (parameter.grad == 5).all(), name
    assert all((grad == 1).all() for grad in leftover.values())


def test_ticks_do_not_share_memory():
    trace = accumulate(bigram(), window(2, 3), "none")
    places = [
        grad["table"].data_ptr() for t in trace.microbatches for grad in (t.grad, t.microbatch_grad)
    ]
    assert len(set(places)) == 6
    for tick in trace.microbatches:
        values = [*tick.grad.values(), tick.masked_sum, tick.scaled_loss]
        assert not any(value.requires_grad for value in values)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_switched_off(off):
    model, batches = bigram(), window(3, 2)
    with off():
        trace = accumulate(model, batches, "G²")
        assert not torch.is_grad_enabled()
    assert trace.ratio == pytest.approx(1.5)


@pytest.mark.parametrize("name", sorted(DIVISORS))
def test_a_huge_g_returns_at_once(name):
    G = 2**63 - 1
    batches = window(3, 2)
    trace = accumulate(bigram(), batches, name, gradient_accumulation_steps=G)
    N = sum(batch.num_tokens for batch in batches)
    last = trace.microbatches[-1]
    assert last.divisor == DIVISORS[name](3, last.num_tokens, G, N)
    assert last.scaled_loss.item() == pytest.approx(
        nll(bigram(), batches[-1]).item() / last.divisor, rel=1e-12
    )


def test_a_rule_of_ones_own_can_be_tried():
    mine = Scaling("rows", "divided by all rows", lambda n: n.B * n.G)
    assert accumulate(bigram(), window(3, 2), mine).ratio == pytest.approx(1)


def test_records_are_frozen():
    trace = accumulate(bigram(), window(1, 1), "none")
    for record in (trace, trace.microbatches[0], trace.scaling):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.name = "another"


def test_rules_have_names_and_sentences_of_their_own():
    assert [rule.name for rule in SCALINGS] == ["none", "G", "G²", "B·G", "tokens"]
    assert (
        len(RULES)
        == len(SCALINGS) + len(MISTAKEN_SCALINGS)
        == len({r.description for r in RULES.values()})
    )


# ---------------------------------------------------------------- three ways to compare


def test_ratio_cosine_and_distance():
    full = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}
    turned = {"b": torch.tensor([[-3.0]]), "a": torch.tensor([4.0])}  # the order does not matter
    half = {"a": torch.tensor([1.5]), "b": torch.tensor([[2.0]])}
    nothing = {"a": torch.zeros(1), "b": torch.zeros(1, 1)}
    assert (ratio(half, full), cosine(half, full), distance(half, full)) == pytest.approx(
        (0.5, 1, 0.5)
    )
    assert (ratio(turned, full), cosine(turned, full), distance(turned, full)) == pytest.approx(
        (0, 0, math.sqrt(2)), abs=1e-12
    )
    assert (ratio(nothing, full), distance(nothing, full)) == (0, 1)
    assert math.isnan(cosine(nothing, full)) and math.isnan(ratio(full, nothing))


# ---------------------------------------------------------------- windows


@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_rows_are_four_tokens_long_on_average_and_uneven_as_asked(B, G, unevenness):
    batches = make_window(B, G, unevenness=unevenness)
    lengths = [int(n) for batch in batches for n in batch.response_mask.sum(1)]
    assert len(batches) == G and {len(batch.labels) for batch in batches} == {B}
    assert sum(lengths) == 4 * B * G and min(lengths) >= 1
    if G > 1 and unevenness == 1:
        assert batches[0].num_tokens < batches[-1].num_tokens
    if unevenness == 0:
        assert set(lengths) == {4}


def test_a_window_has_the_lengths_it_was_given_and_the_same_tokens_every_time():
    lengths = [5, 1, 2, 7, 3]
    first, again = (make_window(2, 3, lengths, seed=3) for _ in range(2))
    assert [b.response_mask.sum(1).tolist() for b in first] == [[5, 1], [2, 7], [3]]
    for batch, other in zip(first, again, strict=True):
        assert torch.equal(batch.input_ids, other.input_ids)
        assert torch.equal(batch.labels, other.labels)
        assert not (batch.labels[batch.response_mask] == 0).any()  # which is the padding
    assert not torch.equal(first[0].labels, make_window(2, 3, lengths, seed=4)[0].labels)


def test_a_bigram_model_is_a_table_that_its_seed_decides():
    model = BigramModel(5, seed=1)
    input_ids = torch.tensor([[0, 4]])
    assert torch.equal(model(input_ids)[0], model.table[[0, 4]])
    assert torch.equal(model.table, BigramModel(5, seed=1).table)
    assert not torch.equal(model.table, BigramModel(5, seed=2).table)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_seed_gives_a_bigram_model_the_same_numbers_in_every_dtype(dtype):
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    assert torch.equal(BigramModel(5, seed=1, dtype=dtype).table, table.to(dtype))


# ---------------------------------------------------------------- what is refused


NO_TOKEN = "the window has no response token, in {} microbatches: " + (
    "there is no gradient to compare; give at least one."
)
NOT_G = "gradient_accumulation_steps must be an int of at least 2, got {}: " + (
    "a window has at most G microbatches."
)
NO_MODULE = "model must be a torch.nn.Module, got {}: a copy of it is run, and its named " + (
    "parameters are read. Write a module whose forward() calls your function."
)
NAMES = "none, G, G², B·G, tokens, one weight per example, averaged averages, B·G²"
REFUSED = {
    "an unknown rule": (
        lambda: accumulate(bigram(), window(1, 2), "G^2"),
        ValueError,
        f"scaling must be one of {NAMES}, got 'G^2'.",
    ),
    "no microbatch": (lambda: accumulate(bigram(), (), "G"), ValueError, NO_TOKEN.format(0)),
    "nothing to learn": (
        lambda: accumulate(bigram(), [masked(b) for b in window(1, 2)], "G"),
        ValueError,
        NO_TOKEN.format(2),
    ),
    "nothing to compare with": (
        lambda: full_batch_gradient(bigram(), ()),
        ValueError,
        NO_TOKEN.format(0),
    ),
    "fewer G than microbatches": (
        lambda: accumulate(bigram(), window(1, 2), "G", gradient_accumulation_steps=1),
        ValueError,
        NOT_G.format("1"),
    ),
    "a G that is no int": (
        lambda: accumulate(bigram(), window(1, 2), "G", gradient_accumulation_steps=2.0),
        TypeError,
        NOT_G.format("float 2.0"),
    ),
    "a constant of 0": (
        lambda: accumulate(bigram(), window(1, 2), "G", normalize_constant=0),
        ValueError,
        "normalize_constant must be a finite number above 0, got 0: it divides the masked sum.",
    ),
    "a model that is not trained": (
        lambda: accumulate(bigram().requires_grad_(False), window(1, 2), "G"),
        ValueError,
        "the model has no parameter that requires grad, so there is no gradient to accumulate: "
        "call requires_grad_() on the parameters to train.",
    ),
    "a function": (
        lambda: accumulate(lambda input_ids: bigram()(input_ids), window(1, 2), "G"),
        TypeError,
        NO_MODULE.format("function"),
    ),
    "a function for the full batch": (
        lambda: full_batch_gradient(bigram().forward, window(1, 2)),
        TypeError,
        NO_MODULE.format("method"),
    ),
    "a scaling of another kind": (
        lambda: accumulate(bigram(), window(1, 2), list(range(100))),
        ValueError,
        f"scaling must be one of {NAMES}, got [0, 1, 2, 3, 4, 5, ...].",
    ),
    "gradients of another model": (
        lambda: accumulate(bigram(), window(1, 2), "G", leftover={"weight": torch.zeros(V, V)}),
        ValueError,
        "leftover has gradients of weight, but the parameters are table: "
        "pass the grad of a trace of the same model.",
    ),
    "another mean": (
        lambda: full_batch_gradient(bigram(), window(1, 2), per="row"),
        ValueError,
        "per must be 'sequence', 'token' or 'example', got 'row'.",
    ),
    "a token that the model does not know": (
        lambda: accumulate(lookup(3), window(2, 1), "G"),
        ValueError,
        "labels has 8 at row 0, position 0: the model knows the tokens 0 to 2, "
        "and -100 means no label.",
    ),
    "too many lengths": (
        lambda: make_window(2, 2, [1] * 5),
        ValueError,
        "lengths must hold 1 to B·G = 4 numbers, got 5: one for each row.",
    ),
    "no lengths": (
        lambda: make_window(2, 2, []),
        ValueError,
        "lengths must hold 1 to B·G = 4 numbers, got 0: one for each row.",
    ),
    "no rows": (
        lambda: make_window(0, 2),
        ValueError,
        "B must be an int of at least 1, got 0: it is the number of rows of a microbatch.",
    ),
    "more rows than can be made": (
        lambda: make_window(3, 2**62),
        ValueError,
        "B·G must be an int of at most 1,048,576, got 13835058055282163712: "
        "every row of the window is made.",
    ),
    "a response of no tokens": (
        lambda: make_window(1, 2, [3, 0]),
        ValueError,
        "every entry of lengths must be an int of at least 1, got 0: "
        "it is the number of response tokens of a row.",
    ),
}


def lookup(known):
    """A model that reads any token, but can say only `known` of them."""
    torch.manual_seed(0)
    return nn.Embedding(V, known)


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_window_is_refused_in_a_sentence(case):
    call, error, sentence = REFUSED[case]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ({"B": True}, TypeError),
        ({"G": 2.0}, TypeError),
        ({"G": 0}, ValueError),
        ({"lengths": [1, 2.0]}, TypeError),
        ({"unevenness": -0.1}, ValueError),
        ({"unevenness": math.nan}, ValueError),
        ({"unevenness": "1"}, TypeError),
        ({"vocab_size": 1}, ValueError),
        ({"seed": -1}, ValueError),
    ],
)
def test_numbers_of_a_window_are_checked(numbers, error):
    (name,) = numbers
    with pytest.raises(error, match=rf"{name} must be an? \w+"):
        make_window(**({"B": 2, "G": 2} | numbers))


@pytest.mark.parametrize("numbers", [{"vocab_size": 0}, {"vocab_size": 4, "seed": -1}])
def test_numbers_of_a_bigram_model_are_checked(numbers):
    with pytest.raises(ValueError, match=f"{list(numbers)[-1]} must be an int of at least"):
        BigramModel(**numbers)
