"""The step: its contract to the digit; its gradients against what shares no code with it.

Two of those: `by_hand`, which adds up Python floats with no tensor in sight, and finite differences
in float64. B = G hides every wrong divisor, so the fixtures have B ≠ G and c ≠ 1.
"""

import ast
import dataclasses
import inspect
import io
import itertools
import math
import tokenize
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftviz import masked_normalize, sft_microbatch_train_step, step, trace_step
from sftviz.step import StepTrace

LOG_PROBS = [[-0.5, -0.3, -0.8, -0.2], [-0.4, -0.6, -0.3, -0.5]]
MASK = [[1, 1, 0, 1], [1, 1, 1, 1]]
NAN, INF = math.nan, math.inf
SHARP = [(3, 4, 7.0), (3, 2, 42.0), (5, 3, 7.0)]  # (B, G, c): no impostor survives all three
FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def leaf(rows, dtype=torch.float64):
    return torch.tensor(rows, dtype=dtype, requires_grad=True)


def by_hand(rows, mask, G, c):
    """The contract in Python floats: num_tokens, masked_sum, scaled_loss."""
    kept = [
        x
        for row, bits in zip(rows, mask, strict=True)
        for x, bit in zip(row, bits, strict=True)
        if bit
    ]
    masked_sum = math.fsum(kept) / c
    return len(kept), masked_sum, -masked_sum / (G * G)


def language_model_batch(B, seed=0):
    """What a real microbatch looks like: (log_probs, mask), true log-probs, rows of unequal length.

    The log-probs are no leaf: they come from `weight`, on which the gradient is to land.
    """
    generator = torch.Generator().manual_seed(seed)
    S, width, V = 6, 5, 11
    hidden = torch.randn(B, S, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(width, V, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(V, (B, S, 1), generator=generator)
    lengths = 2 + torch.arange(B) % (S - 1)
    mask = torch.arange(S) >= S - lengths[:, None]

    def log_probs(weight=weight):
        return torch.log_softmax(hidden @ weight, dim=-1).gather(-1, labels).squeeze(-1)

    return log_probs, mask, weight


# ---------------------------------------------------------------- the contract, to the digit


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_worked_example_to_the_digit(dtype):
    log_probs = leaf(LOG_PROBS, dtype)
    loss, metadata = sft_microbatch_train_step(log_probs, torch.tensor(MASK), 2)
    assert loss.item() == pytest.approx(0.7, abs=1e-6) and loss.dtype == dtype
    assert metadata["masked_sum"].item() == pytest.approx(-2.8, abs=1e-6)
    assert metadata["num_tokens"] == 7
    assert log_probs.grad.tolist() == [[-0.25, -0.25, 0, -0.25], [-0.25, -0.25, -0.25, -0.25]]


def test_what_comes_back_is_a_detached_scalar_and_two_facts():
    loss, metadata = sft_microbatch_train_step(leaf(LOG_PROBS), torch.tensor(MASK), 2)
    assert loss.shape == metadata["masked_sum"].shape == ()
    assert not loss.requires_grad and not metadata["masked_sum"].requires_grad
    assert set(metadata) == {"num_tokens", "masked_sum"}
    assert type(metadata["num_tokens"]) is int
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss.backward()


def test_the_arguments_have_their_names():
    loss, _ = sft_microbatch_train_step(
        policy_log_probs=leaf(LOG_PROBS),
        response_mask=torch.tensor(MASK),
        gradient_accumulation_steps=1,
        normalize_constant=7,
    )
    assert loss.item() == pytest.approx(0.4, abs=1e-12)  # the mean of seven tokens


def test_gradients_add_up_over_calls_until_they_are_zeroed():
    log_probs, mask = leaf(LOG_PROBS), torch.tensor(MASK)
    seen = []
    for _ in range(3):
        sft_microbatch_train_step(log_probs, mask, 2)
        seen.append(log_probs.grad[0, 0].item())
    assert seen == [-0.25, -0.5, -0.75]
    log_probs.grad = None
    sft_microbatch_train_step(log_probs, mask, 4)
    assert log_probs.grad[0, 0].item() == -0.0625


def test_a_fully_masked_microbatch_is_legal():
    log_probs = leaf(LOG_PROBS)
    loss, metadata = sft_microbatch_train_step(log_probs, torch.zeros(2, 4), 2)
    assert loss.item() == 0 and metadata["num_tokens"] == 0
    assert log_probs.grad.tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("log_prob", [-0.5, 0.0, -0.0, NAN])
def test_a_fully_masked_microbatch_has_the_loss_0_and_not_minus_0(log_prob):
    log_probs, mask = leaf([[log_prob] * 4]), torch.zeros(1, 4)
    loss, metadata = sft_microbatch_train_step(log_probs, mask, 3, 7.0)
    trace = trace_step(log_probs, mask, 3, 7.0)
    values = [loss, metadata["masked_sum"], log_probs.grad, trace.masked_log_probs, trace.grad]
    for value in (*values, trace.masked_sum, trace.loss, trace.scaled_loss):
        assert (value == 0).all() and not value.signbit().any()


# ---------------------------------------------------------------- the divisor, and its impostors


def judge(train_step, B, G, c):
    """Whether a step gives the contract's loss and leaves the contract's gradient, to 1e-9."""
    make, mask, _ = language_model_batch(B)
    log_probs = make().detach().requires_grad_()
    loss, _ = train_step(log_probs, mask, G, c)
    num_tokens, masked_sum, scaled_loss = by_hand(log_probs.tolist(), mask.tolist(), G, c)
    assert num_tokens not in (B, G, B * G) and masked_sum < 0  # or the fixture would be blunt
    grad = [[-bit / (G * G * c) for bit in row] for row in mask.tolist()]
    return math.isclose(loss.item(), scaled_loss, rel_tol=1e-9) and torch.allclose(
        log_probs.grad, torch.tensor(grad, dtype=torch.float64), rtol=1e-9, atol=0
    )


def impostor(loss_of):
    def train_step(log_probs, mask, G, c):
        loss = loss_of(log_probs, mask, len(mask), G, c)
        loss.backward()
        return loss.detach(), {}

    return train_step


def masked(x, mask):
    return torch.where(mask, x, 0).sum()


IMPOSTORS = {
    "÷ B·G·c": lambda x, m, B, G, c: -masked(x, m) / (B * G * c),
    "÷ G": lambda x, m, B, G, c: -masked(x, m) / (G * c),
    "÷ B²": lambda x, m, B, G, c: -masked(x, m) / (B * B * c),
    "÷ 2G": lambda x, m, B, G, c: -masked(x, m) / (2 * G * c),
    "÷ (B + G)": lambda x, m, B, G, c: -masked(x, m) / ((B + G) * c),
    "÷ (G + 2)": lambda x, m, B, G, c: -masked(x, m) / ((G + 2) * c),
    "÷ G^G": lambda x, m, B, G, c: -masked(x, m) / (G**G * c),
    "÷ 2^G": lambda x, m, B, G, c: -masked(x, m) / (2**G * c),
    "÷ G³": lambda x, m, B, G, c: -masked(x, m) / (G**3 * c),
    "÷ B·G²": lambda x, m, B, G, c: -masked(x, m) / (B * G * G * c),
    "not divided": lambda x, m, B, G, c: -masked(x, m) / c,
    "ignores c": lambda x, m, B, G, c: -masked(x, m) / (G * G),
    "÷ c²": lambda x, m, B, G, c: -masked(x, m) / (G * G * c * c),
    "× c": lambda x, m, B, G, c: -masked(x, m) * c / (G * G),
    "÷ num_tokens": lambda x, m, B, G, c: -masked(x, m) / (G * m.sum()),
    "mean of row means ÷ G": lambda x, m, B, G, c: (
        -(torch.where(m, x, 0).sum(1) / m.sum(1)).mean() / G
    ),
    "wrong sign": lambda x, m, B, G, c: masked(x, m) / (G * G * c),
    "mask left out": lambda x, m, B, G, c: -x.sum() / (G * G * c),
    "mask the wrong way": lambda x, m, B, G, c: -masked(x, ~m) / (G * G * c),
    "mask shifted": lambda x, m, B, G, c: -masked(x, m.roll(1, 1)) / (G * G * c),
}


def survivors(B, G, c):
    return {name for name, loss in IMPOSTORS.items() if judge(impostor(loss), B, G, c)}


@pytest.mark.parametrize(("B", "G", "c"), [*SHARP, (2, 2, 1.0)])
def test_the_step_passes(B, G, c):
    assert judge(sft_microbatch_train_step, B, G, c)


def test_no_impostor_does():
    assert survivors(5, 3, 7.0) == set()
    assert survivors(3, 4, 7.0) == {"÷ 2^G"}  # 2⁴ = 4²: one fixture is not enough
    assert survivors(3, 2, 42.0) == {"÷ 2G", "÷ (G + 2)", "÷ G^G", "÷ 2^G"}


def test_two_rows_in_two_microbatches_would_have_hidden_ten_of_them():
    assert survivors(2, 2, 1.0) == {
        *("÷ B·G·c", "÷ B²", "÷ 2G", "÷ (B + G)", "÷ (G + 2)", "÷ G^G", "÷ 2^G"),
        *("ignores c", "÷ c²", "× c"),
    }


# ---------------------------------------------------------------- where the gradient lands


@pytest.mark.parametrize(("B", "G", "c"), SHARP)
def test_the_gradient_of_a_model_lands_on_its_parameters(B, G, c):
    make, mask, weight = language_model_batch(B)
    log_probs = make()
    sft_microbatch_train_step(log_probs, mask, G, c)

    # autograd, asked in another way
    (expected,) = torch.autograd.grad((make() * mask).sum() * (-1 / (c * G**2)), weight)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-9, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns when the .grad of a non-leaf is read
        assert not log_probs.is_leaf and log_probs.grad is None

    # no autograd at all
    h, entry = 1e-5, (2, 3)
    nudge = torch.zeros_like(weight)
    nudge[entry] = h
    ends = [make(weight.detach() + sign * nudge).tolist() for sign in (1, -1)]
    up, down = (by_hand(end, mask.tolist(), G, c)[2] for end in ends)
    assert weight.grad[entry].item() == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_microbatches_of_a_window_add_up_on_the_parameters():
    make, mask, weight = language_model_batch(B=4)
    for rows in (slice(0, 1), slice(1, 3), slice(3, 4)):
        sft_microbatch_train_step(make()[rows], mask[rows], 3, 7.0)
    (expected,) = torch.autograd.grad(-make()[mask].sum() / (7 * 9), weight)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-9, atol=1e-12)


def test_a_leaf_that_is_a_parameter_has_its_gradient_in_its_own_dtype():
    for dtype in FLOATS:
        parameter = torch.nn.Parameter(torch.tensor(LOG_PROBS, dtype=dtype))
        sft_microbatch_train_step(parameter, torch.tensor(MASK), 2)
        assert parameter.grad.dtype == dtype and parameter.grad[1, 1].item() == -0.25


# ---------------------------------------------------------------- any batch


@st.composite
def batches(draw):
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    numbers = st.floats(-30, 4, width=16)
    rows = [[draw(numbers) for _ in range(shape[1])] for _ in range(shape[0])]
    mask = [[draw(st.integers(0, 1)) for _ in range(shape[1])] for _ in range(shape[0])]
    return rows, mask


@given(
    batches(),
    st.integers(1, 64),
    st.floats(1e-3, 1e3),
    st.sampled_from(FLOATS),
    st.sampled_from([torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64]),
)
@settings(max_examples=150, deadline=None)
def test_any_batch_agrees_with_a_sum_of_python_floats(batch, G, c, dtype, mask_dtype):
    rows, mask = batch
    log_probs = leaf(rows, dtype)
    loss, metadata = sft_microbatch_train_step(
        log_probs, torch.tensor(mask, dtype=mask_dtype), G, c
    )
    num_tokens, masked_sum, scaled_loss = by_hand(log_probs.tolist(), mask, G, c)
    eps = torch.finfo(loss.dtype).eps
    slack = 32 * eps * (sum(map(abs, itertools.chain(*log_probs.tolist()))) / c + 1e-30)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert metadata["num_tokens"] == num_tokens
    assert metadata["masked_sum"].item() == pytest.approx(masked_sum, abs=slack)
    assert loss.item() == pytest.approx(scaled_loss, abs=slack / G**2)
    grad = [-bit / (G * G * c) for row in mask for bit in row]
    info = torch.finfo(dtype)
    assert log_probs.grad.flatten().tolist() == pytest.approx(
        grad, rel=2 * info.eps + 4 * eps, abs=info.smallest_normal * info.eps
    )


@given(batches(), st.integers(1, 9), st.floats(0.1, 50), st.data())
@settings(max_examples=40, deadline=None)
def test_any_gradient_agrees_with_finite_differences_of_the_loss(batch, G, c, data):
    rows, mask = batch
    log_probs = leaf(rows)
    sft_microbatch_train_step(log_probs, torch.tensor(mask), G, c)
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    ends = []
    for h in (0.5, -0.5):  # the loss is linear in a log-prob: a big step is an exact one
        moved = leaf(rows)
        moved.data[row, column] += h
        ends.append(sft_microbatch_train_step(moved, torch.tensor(mask), G, c)[0].item())
    assert log_probs.grad[row, column].item() == pytest.approx(ends[0] - ends[1], abs=1e-8)


# ---------------------------------------------------------------- what stands under the mask


@pytest.mark.parametrize("poison", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_masked_is_never_read(poison, dtype):
    log_probs = leaf([[-0.5, poison, -0.25], [poison, poison, -0.25]], dtype)
    mask = torch.tensor([[1, 0, 1], [0, 0, 1]])
    loss, metadata = sft_microbatch_train_step(log_probs, mask, 2)
    assert loss.item() == 0.25 and metadata["masked_sum"].item() == -1
    assert log_probs.grad.tolist() == [[-0.25, 0, -0.25], [0, 0, -0.25]]
    assert not torch.signbit(log_probs.grad[mask == 0]).any()  # multiplying would leave −0.0


def test_selecting_is_right_where_multiplying_is_not():
    log_probs = leaf([[-0.5, NAN]])
    assert (log_probs * torch.tensor([[1, 0]])).sum().isnan()
    assert sft_microbatch_train_step(log_probs, torch.tensor([[1, 0]]), 1)[0].item() == 0.5


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, *FLOATS]
)
def test_a_mask_may_have_any_dtype_that_holds_0_and_1(dtype):
    log_probs, mask = leaf(LOG_PROBS), torch.tensor(MASK, dtype=dtype)
    loss, metadata = sft_microbatch_train_step(log_probs, mask, 2)
    assert loss.item() == pytest.approx(0.7, abs=1e-12) and metadata["num_tokens"] == 7
    assert log_probs.grad[0, 2].item() == 0 and log_probs.grad[0, 3].item() == -0.25


# ---------------------------------------------------------------- narrow dtypes


def test_a_float16_sum_does_not_overflow():
    log_probs = torch.full((32, 4096), -0.7, dtype=torch.float16, requires_grad=True)
    loss, metadata = sft_microbatch_train_step(log_probs, torch.ones(32, 4096), 2)
    exact = log_probs[0, 0].item() * 32 * 4096  # about −91,750: float16 ends at −65,504
    assert metadata["masked_sum"].item() == pytest.approx(exact, rel=1e-6)
    assert loss.item() == pytest.approx(-exact / 4, rel=1e-6)


def test_a_bfloat16_sum_does_not_stall_at_256_and_its_count_is_exact():
    log_probs = torch.full((1, 1001), -1.0, dtype=torch.bfloat16, requires_grad=True)
    mask = torch.ones(1, 1001, dtype=torch.bfloat16)
    _, metadata = sft_microbatch_train_step(log_probs, mask, 1)
    assert metadata["masked_sum"].item() == -1001 and metadata["num_tokens"] == 1001


# ---------------------------------------------------------------- masked_normalize


@pytest.mark.parametrize(
    ("dim", "expected"),
    [(None, 4.0), (0, [0.5, 1.0, 2.5]), (1, [1.5, 2.5]), (-1, [1.5, 2.5]), ((0, 1), 4.0)],
)
def test_masked_normalize_sums_over(dim, expected):
    tensor = torch.tensor([[1.0, 2.0, NAN], [INF, NAN, 5.0]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 1]])
    summed = masked_normalize(tensor=tensor, mask=mask, normalize_constant=2.0, dim=dim)
    assert summed.tolist() == expected


def test_masked_normalize_passes_gradcheck():
    tensor = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, 4) < 0.6
    for dim in (None, 0, 1):
        assert torch.autograd.gradcheck(
            lambda x, dim=dim: masked_normalize(
                tensor=x, mask=mask, normalize_constant=7.0, dim=dim
            ),
            tensor,
        )


def test_masked_normalize_takes_any_shape_and_sums_in_at_least_float32():
    tensor = torch.full((2, 3, 5), 300.0, dtype=torch.float16)
    summed = masked_normalize(tensor=tensor * 100, mask=torch.ones(2, 3, 5), dim=(1, 2))
    assert summed.tolist() == [450000.0, 450000.0] and summed.dtype == torch.float32


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.uint32, torch.uint64, torch.uint16, torch.bool]
)
def test_masked_normalize_adds_up_integers_exactly(dtype):
    """float32 goes in steps of 2 above 2²⁴, so a running sum of ones stalls there."""
    high = 2**24 if dtype not in (torch.uint16, torch.bool) else 1
    tensor = torch.tensor([[high, 1, 1, 1]]).to(dtype)
    mask = torch.tensor([[1, 1, 1, 0]])
    assert masked_normalize(tensor, mask).item() == high + 2
    assert masked_normalize(tensor, mask, normalize_constant=2.0, dim=1).tolist() == [high / 2 + 1]


def test_masked_normalize_can_not_be_called_in_the_other_order():
    """Elsewhere `dim` comes before the constant: (…, 1, 42.0) and (…, 42.0, 1) both look right."""
    for last in ((1, 42.0), (42.0, 1)):
        with pytest.raises(TypeError, match="takes 2 positional arguments but 4 were given"):
            masked_normalize(torch.ones(2, 3), torch.ones(2, 3), *last)


@pytest.mark.parametrize("c", [2**64, 10**30])
def test_an_int_constant_may_be_as_large_as_a_float(c):
    log_probs, ones = leaf(LOG_PROBS), torch.ones(2, 4)
    loss, _ = sft_microbatch_train_step(log_probs, ones, 1, c)
    assert loss.item() == pytest.approx(3.6 / c, rel=1e-12)
    assert trace_step(log_probs, ones, 1, c).scaled_loss.item() == loss.item()
    assert masked_normalize(ones, ones, normalize_constant=c).item() == pytest.approx(8 / c)


# ---------------------------------------------------------------- the record of one run


@given(batches(), st.integers(1, 9), st.floats(0.1, 50), st.sampled_from(FLOATS))
@settings(max_examples=50, deadline=None)
def test_the_trace_is_what_the_step_did(batch, G, c, dtype):
    rows, mask = batch
    log_probs = leaf(rows, dtype)
    trace = trace_step(log_probs, torch.tensor(mask), G, c)
    loss, metadata = sft_microbatch_train_step(log_probs, torch.tensor(mask), G, c)
    assert torch.equal(trace.scaled_loss, loss) and trace.scaled_loss.dtype == loss.dtype
    assert torch.equal(trace.masked_sum, metadata["masked_sum"])
    assert trace.num_tokens == metadata["num_tokens"] and type(trace.num_tokens) is int
    assert torch.equal(trace.grad, log_probs.grad)
    assert torch.equal(trace.policy_log_probs, log_probs)
    assert trace.response_mask.dtype == torch.bool and trace.response_mask.tolist() == mask
    assert (trace.masked_log_probs == torch.tensor(mask) * log_probs.detach()).all()
    assert trace.loss.item() == pytest.approx(loss.item() * G, rel=1e-6)
    assert (trace.gradient_accumulation_steps, trace.normalize_constant) == (G, c)


def tensors(trace):
    values = [getattr(trace, field.name) for field in dataclasses.fields(StepTrace)]
    return [value for value in values if isinstance(value, torch.Tensor)]


def test_a_trace_leaves_the_caller_alone_and_is_left_alone_by_them():
    log_probs, mask = leaf(LOG_PROBS), torch.tensor(MASK, dtype=torch.bool)
    log_probs.grad = torch.full_like(log_probs, 5)
    trace = trace_step(log_probs, mask, 2)
    assert log_probs.tolist() == LOG_PROBS and mask.tolist() == MASK
    assert (log_probs.grad == 5).all() and log_probs.is_leaf and log_probs.requires_grad
    with torch.no_grad():
        log_probs.zero_()
        mask.zero_()
    assert trace.policy_log_probs.tolist() == LOG_PROBS and trace.response_mask.tolist() == MASK
    assert len(tensors(trace)) == 7 and not any(tensor.requires_grad for tensor in tensors(trace))


def test_a_trace_of_a_models_output_puts_nothing_on_its_parameters():
    make, mask, weight = language_model_batch(B=3)
    trace = trace_step(make(), mask, 4, 7.0)
    assert weight.grad is None
    assert trace.grad[mask].tolist() == pytest.approx([-1 / 112] * int(mask.sum()), rel=1e-12)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_trace_works_where_gradients_are_switched_off(off):
    with off():
        trace = trace_step(torch.tensor(LOG_PROBS), torch.tensor(MASK), 2)
        assert not torch.is_grad_enabled()
    assert trace.grad[0].tolist() == [-0.25, -0.25, 0, -0.25]
    assert not any(tensor.is_inference() for tensor in tensors(trace))


def test_a_trace_is_frozen(worked):
    with pytest.raises(dataclasses.FrozenInstanceError):
        worked.loss = torch.tensor(0.0)


# ---------------------------------------------------------------- a file to read


def test_step_can_be_read_alone_in_two_screens():
    source = inspect.getsource(step)
    documented = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node)
    ]
    prose = {
        line
        for node in documented
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    blank = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in blank and token.type != tokenize.ENDMARKER
        for line in range(token.start[0], token.end[0] + 1)
    }
    assert 40 < len(code - prose) <= 94


def test_step_needs_torch_and_the_checks_alone():
    imported = set()
    for node in ast.walk(ast.parse(inspect.getsource(step))):
        match node:
            case ast.Import(names):
                imported |= {alias.name for alias in names}
            case ast.ImportFrom(module):
                imported.add(module)
    assert imported == {"dataclasses", "typing", "torch", "sftviz.validate"}
