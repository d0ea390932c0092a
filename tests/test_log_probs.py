"""From token ids to log-probs: what is built, what is refused, and the kernel against float64.

The function shares no code with what it is compared with: log_softmax and gather in float64, finite
differences, and torch's own gradient.
"""

import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sftviz.log_probs import compute_entropy, get_response_log_probs
from sftviz.tokens import build_token_batch

NAN, INF = math.nan, math.inf
FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
ASK = [("prompt", [1, 2]), ("response", [3, 4])]


def rows(batch):
    return batch.input_ids.tolist(), batch.labels.tolist(), batch.response_mask.int().tolist()


# ---------------------------------------------------------------- building a batch


def test_tokens_are_shifted_masked_and_padded():
    batch = build_token_batch([ASK, [("prompt", [7]), ("response", [8])]], pad_id=9)
    assert rows(batch) == (
        [[1, 2, 3], [7, 8, 9]],
        [[2, 3, 4], [8, 9, 9]],
        [[0, 1, 1], [1, 0, 0]],
    )
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
    assert batch.response_mask.dtype == torch.bool and batch.num_tokens == 3


def test_rows_are_padded_before_they_are_shifted():
    """As in CS336: a shorter row ends with its own last token, where padding is predicted."""
    short, long = [3, 2, 4, 2], [5, 6, 7, 8, 2]
    batch = build_token_batch([[("prompt", row), ("response", short)] for row in (short, long)], 0)
    assert rows(batch) == (
        [[3, 2, 4, 2, 3, 2, 4, 2], [5, 6, 7, 8, 2, 3, 2, 4]],
        [[2, 4, 2, 3, 2, 4, 2, 0], [6, 7, 8, 2, 3, 2, 4, 2]],
        [[0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1]],
    )


@pytest.mark.parametrize("count", [1, 2])
def test_labels_can_be_changed_in_place_without_changing_what_is_read(count):
    batch = build_token_batch([ASK] * count, 0)
    batch.labels[~batch.response_mask] = -100
    assert batch.input_ids.tolist() == [[1, 2, 3]] * count
    assert batch.response_mask.tolist() == [[False, True, True]] * count


def test_every_response_of_several_turns_counts_and_nothing_else():
    turns = [("prompt", [1]), ("response", [2, 3]), ("prompt", [4, 5]), ("response", [6])]
    assert rows(build_token_batch([turns], 0)) == ([[1, 2, 3, 4, 5]], [[2, 3, 4, 5, 6]], [
        [1, 1, 0, 0, 1]
    ])  # fmt: skip


def test_the_padding_is_masked_where_it_stands_not_by_its_id():
    """A real token may have the padding's id, as an end token often does."""
    batch = build_token_batch([[("prompt", [1]), ("response", [0, 0])], ASK], pad_id=0)
    assert batch.response_mask.int().tolist() == [[1, 1, 0], [0, 1, 1]]


def test_the_first_token_of_a_row_is_never_predicted():
    assert rows(build_token_batch([[("response", [1, 2])]], 0)) == ([[1]], [[2]], [[1]])


def test_what_stands_for_an_int_is_one():
    import numpy

    ids = (numpy.array([1, 2]), torch.tensor([3, 4]), (5, numpy.int32(6)))
    turns = list(zip(("prompt", "response", "prompt"), ids, strict=True))
    assert build_token_batch([turns], 0).labels.tolist() == [[2, 3, 4, 5, 6]]


def test_a_row_may_fill_the_context_to_the_last_position():
    assert build_token_batch([ASK], 0, context_length=3).labels.shape == (1, 3)


def test_a_response_may_be_cut_off_if_one_asks_for_it():
    turns = [("prompt", [1, 2]), ("response", [3, 4, 5])]
    batch = build_token_batch([turns, ASK], 0, context_length=2, truncate=True)
    assert rows(batch) == ([[1, 2], [1, 2]], [[2, 3], [2, 3]], [[0, 1], [0, 1]])


@st.composite
def conversations(draw):
    ids = st.lists(st.integers(0, 30), min_size=1, max_size=5)
    row = st.lists(st.tuples(st.sampled_from(["prompt", "response"]), ids), max_size=3)
    return [
        [("prompt", draw(ids)), *draw(row), ("response", draw(ids))]
        for _ in range(draw(st.integers(1, 4)))
    ]


@given(conversations(), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_every_response_token_is_a_label_that_counts_once_and_in_order(data, pad_id):
    batch = build_token_batch(data, pad_id)
    for row, turns in enumerate(data):
        token_ids = [token for _, ids in turns for token in ids]
        n = len(token_ids) - 1
        said = [token for role, ids in turns if role == "response" for token in ids]
        assert batch.labels[row][batch.response_mask[row]].tolist() == said
        read = token_ids + [pad_id] * (batch.labels.shape[1] - n - 1)
        assert batch.input_ids[row].tolist() == read[: batch.labels.shape[1]]
        assert batch.labels[row, :n].tolist() == token_ids[1:]
    assert batch.labels.shape == (len(data), max(sum(len(i) for _, i in t) for t in data) - 1)


PAIR = 'a conversation looks like [("prompt", [1, 2]), ("response", [3])].'
REFUSED = {
    "no row": ([], {}, ValueError, "conversations is empty: give at least one conversation."),
    "an empty row": (
        [ASK, []],
        {},
        ValueError,
        "row 1, position 0: the row is empty: leave it out.",
    ),
    "an empty response": (
        [ASK, [("prompt", [1, 2]), ("response", [])]],
        {},
        ValueError,
        "row 1, position 2: a response has no token: leave out empty turns, and end a response "
        "with an end token.",
    ),
    "an empty prompt": (
        [[("prompt", []), ("response", [1])]],
        {},
        ValueError,
        "row 0, position 0: a prompt has no token: leave out empty turns, and end a response "
        "with an end token.",
    ),
    "no response": (
        [ASK, [("prompt", [1, 2])]],
        {},
        ValueError,
        "row 1, position 2: the row ends without a response token after its first "
        "token: add one, or leave the row out.",
    ),
    "one token alone": (
        [[("response", [1])]],
        {},
        ValueError,
        "row 0, position 1: the row ends without a response token after its first "
        "token: add one, or leave the row out.",
    ),
    "another role": (
        [ASK, [("prompt", [1]), ("user", [2])]],
        {},
        ValueError,
        "row 1, position 1: a turn's role must be 'prompt' or 'response', got 'user': "
        "a response is what the model learns to write, everything else is a prompt.",
    ),
    "one conversation, not several": (
        ASK,
        {},
        TypeError,
        f"row 0, turn 0 must be a pair (role, token_ids), got 'prompt': {PAIR}",
    ),
    "a turn without tokens": (
        [[("prompt", 3)]],
        {},
        TypeError,
        f"row 0, turn 0 must be a pair (role, token_ids), got ('prompt', 3): {PAIR}",
    ),
    "text": (
        [[("prompt", [1]), ("response", "Paris")]],
        {},
        TypeError,
        "row 0, position 1: a token id must be an int, got str 'P': tokenize the text first.",
    ),
    "a float": (
        [ASK, [("prompt", [1, 2.0])]],
        {},
        TypeError,
        "row 1, position 1: a token id must be an int, got float 2.0: tokenize the text first.",
    ),
    "a bool": (
        [[("prompt", [True])]],
        {},
        TypeError,
        "row 0, position 0: a token id must be an int, got bool True: tokenize the text first.",
    ),
    "a negative id": (
        [ASK, [("prompt", [1]), ("response", [2, -100])]],
        {},
        ValueError,
        "row 1, position 2: a token id must be at least 0, got -100: use the model's own "
        "tokenizer.",
    ),
    "an id that the model does not know": (
        [ASK, [("prompt", [1]), ("response", [2, 5])]],
        {"vocab_size": 5},
        ValueError,
        "row 1, position 2: a token id must be from 0 to 4, got 5: use the model's own tokenizer.",
    ),
    "an id that torch can't hold": (
        [[("prompt", [1]), ("response", [2**63])]],
        {},
        ValueError,
        "row 0, position 1: a token id must be below 2**63, got 9223372036854775808: "
        "use the model's own tokenizer.",
    ),
    "a huge id": (
        [[("prompt", [1]), ("response", [10**5000])]],
        {"vocab_size": 5},
        ValueError,
        "row 0, position 1: a token id must be from 0 to 4, got an int of 16610 bits: "
        "use the model's own tokenizer.",
    ),
    "a turn of many tokens without a role": (
        [[list(range(10**4))]],
        {},
        TypeError,
        f"row 0, turn 0 must be a pair (role, token_ids), got [0, 1, 2, 3, 4, 5, ...]: {PAIR}",
    ),
    "a padding that the model does not know": (
        [ASK],
        {"vocab_size": 5, "pad_id": 5},
        ValueError,
        "pad_id must be from 0 to 4, got 5: use the model's own tokenizer.",
    ),
    "no padding": (
        [ASK],
        {"pad_id": None},
        TypeError,
        "pad_id must be an int, got NoneType None: tokenize the text first.",
    ),
    "too long": (
        [[("prompt", [1]), ("response", [2])], ASK],
        {"context_length": 2},
        ValueError,
        "row 1, position 2: the row needs 3 positions, context_length is 2: shorten it, or pass "
        "truncate=True to cut it off.",
    ),
    "a response that truncation would swallow": (
        [ASK, [("prompt", [1, 2, 3, 4]), ("response", [5])]],
        {"context_length": 3, "truncate": True},
        ValueError,
        "row 1, position 4: the response begins beyond context_length 3, so truncation would "
        "leave nothing of it: shorten the prompt, or leave the row out.",
    ),
    "no context": (
        [ASK],
        {"context_length": 0},
        ValueError,
        "context_length must be an int of at least 1, got 0: "
        "it is the number of positions of the model.",
    ),
    "a context that is no number": (
        [ASK],
        {"context_length": "8"},
        TypeError,
        "context_length must be an int of at least 1, got str '8': "
        "it is the number of positions of the model.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_data_is_refused_with_row_and_position(case):
    data, options, error, sentence = REFUSED[case]
    with pytest.raises(error) as caught:
        build_token_batch(data, **{"pad_id": 0} | options)
    assert str(caught.value) == sentence


# ---------------------------------------------------------------- the kernel


def batch_of_logits(*shape, dtype=torch.float64, scale=3.0, seed=0):
    """Logits that require grad, labels, and a gradient that arrives: 0 at some of the tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    upstream = torch.randn(*shape[:-1], generator=generator, dtype=torch.float64)
    upstream[torch.rand(*shape[:-1], generator=generator) < 0.3] = 0
    return logits.requires_grad_(), labels, upstream


def ours(logits, labels):
    input_ids = torch.zeros_like(labels)
    return get_response_log_probs(lambda _: logits, input_ids, labels)["log_probs"]


def reference(logits, labels):
    """In float64, of the very numbers that the logits hold."""
    exact = logits.detach().double().requires_grad_()
    log_probs = exact.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return exact, log_probs.where(labels >= 0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 80, 4001), (1, 1, 1), (4, 16, 32000)])
def test_log_probs_are_those_of_float64(shape, dtype):
    logits, labels, upstream = batch_of_logits(*shape, dtype=dtype)
    exact, expected = reference(logits, labels)
    log_probs = ours(logits, labels)
    assert log_probs.dtype == torch.float32 and log_probs.shape == labels.shape
    assert (log_probs <= 0).all()
    torch.testing.assert_close(log_probs.double(), expected, rtol=0, atol=2e-6)
    log_probs.backward(upstream.float())
    expected.backward(upstream.float().double())
    assert logits.grad.dtype == dtype
    # Rounding to a narrow dtype costs half a unit in its last place, and nothing else does.
    half = 0.51 * torch.finfo(dtype).eps + 2e-6
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=half, atol=2e-7)


def test_float64_stays_float64():
    logits, labels, upstream = batch_of_logits(4, 50, 4000)
    exact, expected = reference(logits, labels)
    log_probs = ours(logits, labels)
    log_probs.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(log_probs, expected, rtol=1e-14, atol=1e-13)
    torch.testing.assert_close(logits.grad, exact.grad, rtol=1e-12, atol=1e-14)


def test_the_gradient_passes_gradcheck():
    logits, labels, _ = batch_of_logits(2, 3, 4)
    labels[1, 2] = -100
    assert torch.autograd.gradcheck(lambda x: ours(x, labels), logits)
    many, labels, _ = batch_of_logits(1, 5, 2**14 + 1)  # 3 rows a block, and 2 left over
    few = torch.randn(3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(3, 2**14 + 1, dtype=torch.float64)
    shift = many.detach()
    assert torch.autograd.gradcheck(lambda x: ours(shift + x @ direction, labels), few)


def test_a_second_derivative_is_refused_not_wrong():
    logits, labels, _ = batch_of_logits(1, 2, 3)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(ours(logits, labels).sum(), logits, create_graph=True)


def test_large_logits_lose_nothing():
    """logit − logsumexp would: float32 near 1e6 goes in steps of 0.06."""
    logits = torch.tensor([[[1e6, 1e6 - 1, 1e6 - 2], [-1e6, 0, 1e6]]], requires_grad=True)
    log_probs = ours(logits, torch.tensor([[1, 2]]))
    expected = -1 - math.log(1 + math.exp(-1) + math.exp(-2))
    assert log_probs[0].tolist() == pytest.approx([expected, 0], abs=1e-6)
    log_probs.sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0].sum().item() == pytest.approx(0, abs=1e-6)


def test_a_token_that_is_ruled_out_has_no_probability():
    logits = torch.tensor([[[0.0, 0.0, -INF], [0.0, 0.0, -INF]]], requires_grad=True)
    log_probs = ours(logits, torch.tensor([[0, 2]]))
    assert log_probs[0].tolist() == [pytest.approx(-math.log(2)), -INF]
    log_probs.sum().backward()
    assert logits.grad.tolist() == [[[0.5, -0.5, 0.0], [-0.5, -0.5, 1.0]]]


@pytest.mark.parametrize("poison", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_label_to_be_ignored_scores_0_and_has_no_gradient(poison, dtype):
    logits, labels, _ = batch_of_logits(2, 3, 4, dtype=dtype)
    logits.data[0, 1] = poison
    labels[0, 1] = -100
    log_probs = ours(logits, labels)
    log_probs.sum().backward()
    assert log_probs[0, 1].item() == 0 and not log_probs[0, 1].signbit()
    assert logits.grad[0, 1].tolist() == [0.0] * 4
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 1] = False
    assert (log_probs[others] < 0).all() and (logits.grad[others] != 0).any(-1).all()


def test_what_is_masked_later_leaves_no_gradient_whatever_its_logits():
    """In a block of its own, where nothing counts, and in one with tokens that do."""
    logits, labels, _ = batch_of_logits(1, 4, 2**15)  # 2 rows a block
    logits.data[0, 1:] = NAN
    log_probs = ours(logits, labels)
    torch.where(torch.tensor([[True, False, False, False]]), log_probs, 0).sum().backward()
    assert (logits.grad[0, 0] != 0).all() and (logits.grad[0, 1:] == 0).all()


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 40),
    st.sampled_from([0.01, 1.0, 30.0, 1e4]),
    st.integers(0, 2**20),
)
@settings(max_examples=100, deadline=None)
def test_any_batch_agrees_with_torch(B, S, V, scale, seed):
    logits, labels, upstream = batch_of_logits(B, S, V, scale=scale, seed=seed)
    labels[torch.rand(B, S) < 0.2] = -100
    exact, expected = reference(logits, labels)
    log_probs = ours(logits, labels)
    torch.testing.assert_close(log_probs, expected, rtol=1e-13, atol=1e-13)
    log_probs.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(logits.grad, exact.grad, rtol=1e-11, atol=1e-13)


def test_logits_may_lie_in_memory_as_they_like():
    logits, labels, upstream = batch_of_logits(3, 4, 5)
    strided = logits.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    assert not strided.is_contiguous()
    for each in (logits, strided):
        ours(each, labels).backward(upstream)
    assert torch.equal(logits.grad, strided.grad)


def test_logits_that_were_changed_before_backward_are_noticed():
    logits, labels, _ = batch_of_logits(1, 2, 3)
    output = logits * 1
    log_probs = ours(output, labels)
    output.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        log_probs.sum().backward()


_PEAK = """\
import torch; from sftviz.log_probs import get_response_log_probs; torch.set_num_threads(1)
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 2**10
def run(B, S, V, dtype):
    logits = torch.empty(B, S, V, dtype=dtype).normal_().requires_grad_()
    labels, before = torch.zeros(B, S).long(), peak()
    get_response_log_probs(lambda _: logits, labels, labels)["log_probs"].sum().backward()
    return (peak() - before) / logits.nbytes
run(2, 64, 512, torch.bfloat16); run(2, 64, 512, torch.float32)
print(run(4, 64, 32000, torch.bfloat16), run(4, 128, 32000, torch.float32))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_the_peak_is_hardly_more_than_the_logits_gradient(python):
    """The second batch is large enough that its peak is not hidden by that of the first."""
    ran = python("-c", _PEAK)
    assert ran.returncode == 0, ran.stderr
    narrow, wide = map(float, ran.stdout.split())
    assert 0.9 < narrow <= 1.1 and wide <= 1.1


def test_nothing_large_but_the_logits_is_kept_for_backward():
    logits, labels, _ = batch_of_logits(2, 3, 50)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        ours(logits, labels)
    large = [x for x in kept if x.numel() > labels.numel()]
    assert [x.data_ptr() for x in large] == [logits.data_ptr()]


# ---------------------------------------------------------------- models, and what they return


def test_the_gradient_goes_on_into_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7)).double()
    batch = build_token_batch([ASK, [("prompt", [5]), ("response", [6])]], 0, vocab_size=7)
    log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
    log_probs[batch.response_mask].sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    expected = model(batch.input_ids).log_softmax(-1).gather(-1, batch.labels.unsqueeze(-1))
    expected.squeeze(-1)[batch.response_mask].sum().backward()
    for grad, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-12, atol=1e-14)


class LikeHuggingFace(nn.Module):
    def __init__(self, V):
        super().__init__()
        self.embedding = nn.Embedding(V, V)

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.embedding(input_ids), past_key_values=None)


def test_a_model_may_return_an_object_that_has_logits():
    model = LikeHuggingFace(6)
    input_ids, labels = torch.tensor([[1, 2]]), torch.tensor([[2, 3]], dtype=torch.int32)
    wrapped = get_response_log_probs(model, input_ids, labels)["log_probs"]
    bare = get_response_log_probs(model.embedding, input_ids, labels.long())["log_probs"]
    assert torch.equal(wrapped, bare) and wrapped.requires_grad


def test_entropy_comes_only_if_asked_for_and_without_gradient():
    model = LikeHuggingFace(6)
    ids, labels = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])
    assert set(get_response_log_probs(model, ids, labels)) == {"log_probs"}
    both = get_response_log_probs(model, ids, labels, return_token_entropy=True)
    assert set(both) == {"log_probs", "token_entropy"}
    assert both["token_entropy"].shape == (1, 3) and not both["token_entropy"].requires_grad
    p = model.embedding(ids).softmax(-1)
    torch.testing.assert_close(both["token_entropy"], -(p * p.log()).sum(-1).detach())


def test_it_works_where_gradients_are_switched_off():
    with torch.no_grad():
        log_probs = get_response_log_probs(
            LikeHuggingFace(6), torch.tensor([[1]]), torch.tensor([[2]])
        )["log_probs"]
    assert not log_probs.requires_grad


def test_autocast_narrows_the_logits_not_the_log_probs():
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7))
    ids = torch.tensor([[1, 2]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(ids).dtype == torch.bfloat16
        log_probs = get_response_log_probs(model, ids, ids)["log_probs"]
    assert log_probs.dtype == torch.float32
    log_probs.sum().backward()
    assert model[1].weight.grad.dtype == torch.float32


IDS = torch.tensor([[0, 1, 2], [2, 1, 0]])
BEFORE = IDS.roll(1, 1)  # of each label, the token before it


def model_of(output):
    return lambda input_ids: output


CALLS_REFUSED = {
    "input_ids that are no tensor": (
        (model_of(None), [[1]], IDS),
        TypeError,
        "input_ids must be a torch.Tensor, got list: wrap it in torch.tensor(...).",
    ),
    "input_ids that are no integers": (
        (model_of(None), IDS.float(), IDS),
        TypeError,
        "input_ids must contain integers, got torch.float32: pass token ids.",
    ),
    "labels that are a mask": (
        (model_of(None), IDS, IDS > 0),
        TypeError,
        "labels must contain integers, got torch.bool: pass token ids.",
    ),
    "one row without its dimension": (
        (model_of(None), IDS[0], IDS[0]),
        ValueError,
        "input_ids must have shape (B, S) with at least one token, got (3,): "
        "one row per sequence, one column per token.",
    ),
    "no token": (
        (model_of(None), IDS[:, :0], IDS[:, :0]),
        ValueError,
        "input_ids must have shape (B, S) with at least one token, got (2, 0): "
        "one row per sequence, one column per token.",
    ),
    "labels of another shape": (
        (model_of(None), IDS, IDS[:, 1:]),
        ValueError,
        "labels has shape (2, 2) but input_ids has shape (2, 3): "
        "give one label per position, the next token.",
    ),
    "−100 among the input_ids": (
        (model_of(None), torch.tensor([[0, 1, 2], [2, -100, 0]]), IDS),
        ValueError,
        "input_ids has -100 at row 1, position 1: token ids count from 0.",
    ),
    "a label that the model does not know": (
        (model_of(torch.zeros(2, 3, 2)), BEFORE, IDS),
        ValueError,
        "labels has 2 at row 0, position 2: the model knows the tokens 0 to 1, "
        "and -100 means no label.",
    ),
    "a negative label that is not −100": (
        (model_of(torch.zeros(2, 3, 4)), BEFORE, torch.tensor([[0, 1, -100], [2, -1, -2]])),
        ValueError,
        "labels has -1 at row 1, position 1: the model knows the tokens 0 to 3, "
        "and -100 means no label.",
    ),
    "a model that returns a tuple": (
        (model_of((torch.zeros(2, 3, 4),)), BEFORE, IDS),
        TypeError,
        "the model must return floating point logits, or an object with .logits, got neither: "
        "wrap it in a function that does.",
    ),
    "a model that returns ids": (
        (model_of(torch.zeros(2, 3, 4).long()), BEFORE, IDS),
        TypeError,
        "the model must return floating point logits, or an object with .logits, got "
        "torch.int64: wrap it in a function that does.",
    ),
    "logits in 8 bits": (
        (model_of(torch.zeros(2, 3, 4).to(torch.float8_e5m2)), BEFORE, IDS),
        TypeError,
        "the model must return floating point logits, or an object with .logits, got "
        "torch.float8_e5m2: wrap it in a function that does.",
    ),
    "logits of the last position alone": (
        (model_of(torch.zeros(2, 4)), BEFORE, IDS),
        ValueError,
        "the model returned logits of shape (2, 4) for input_ids of shape (2, 3): "
        "it must return (B, S, V), one score per vocabulary entry.",
    ),
    "logits of another batch": (
        (model_of(torch.zeros(3, 2, 4)), BEFORE, IDS),
        ValueError,
        "the model returned logits of shape (3, 2, 4) for input_ids of shape (2, 3): "
        "it must return (B, S, V), one score per vocabulary entry.",
    ),
}


@pytest.mark.parametrize("case", CALLS_REFUSED)
def test_what_can_not_be_scored_is_refused_in_a_sentence(case):
    arguments, error, sentence = CALLS_REFUSED[case]
    with pytest.raises(error) as caught:
        get_response_log_probs(*arguments)
    assert str(caught.value) == sentence


def test_a_token_that_the_model_can_not_read_is_pointed_out():
    def model(input_ids):
        raise IndexError("index out of range in self")

    with pytest.raises(ValueError) as caught:
        get_response_log_probs(model, torch.tensor([[0, 1, 2], [0, 7, 5]]), IDS)
    assert str(caught.value) == (
        "the model has no such index (index out of range in self): the largest of input_ids is 7, "
        "at row 1, position 1, and there are 3 positions: compare these with its vocabulary and "
        "its context length."
    )


def test_ids_that_can_not_be_right_are_refused_before_the_model_runs():
    def model(input_ids):
        raise AssertionError("the model ran")

    for input_ids, labels in ((IDS, IDS[:1]), (-1 - IDS, IDS), (IDS.float(), IDS)):
        with pytest.raises((TypeError, ValueError)):
            get_response_log_probs(model, input_ids, labels)


# ---------------------------------------------------------------- padding, packing, shifting


class Attends(nn.Module):
    """Causal: averages what it has read and may attend to, and knows positions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(20, 20, dtype=torch.float64)
        self.places = nn.Embedding(20, 20, dtype=torch.float64)

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        B, S = input_ids.shape
        if position_ids is None:
            position_ids = torch.arange(S).expand(B, S)
        sees = torch.ones(S, S).tril().expand(B, S, S)
        if attention_mask is not None:
            sees = sees * (attention_mask[:, None] if attention_mask.ndim == 2 else attention_mask)
        weights = sees.double() / sees.double().sum(-1, keepdim=True).clamp(min=1)
        return weights @ self.tokens(input_ids) + self.places(position_ids)


def scores(model, tokens, **keywords):
    """The log-probs of the tokens after the first: of each, given those before it."""
    log_probs = get_response_log_probs(model, tokens[:, :-1], tokens[:, 1:], **keywords)
    return log_probs["log_probs"].detach()


FIRST, SECOND = torch.tensor([[7, 8, 9, 10]]), torch.tensor([[11, 8, 12]])


@pytest.mark.parametrize("pads", [1, 3, 8])
def test_padding_on_the_left_is_not_read_if_the_model_is_given_a_mask_and_positions(pads):
    model = Attends()
    padded = torch.cat([torch.zeros(1, pads).long(), FIRST], 1)
    attention_mask = (torch.arange(pads + 3) >= pads).long()[None]  # of the tokens that are read
    given = {
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(1) - 1).clamp(min=0),
    }
    expected = scores(model, FIRST)
    torch.testing.assert_close(scores(model, padded, **given)[:, pads:], expected)
    for keywords in ({}, {"attention_mask": attention_mask}, {"position_ids": given[
        "position_ids"]}):  # fmt: skip
        assert not torch.allclose(scores(model, padded, **keywords)[:, pads:], expected)


def test_documents_in_one_row_do_not_read_each_other_if_the_model_is_told_where_they_begin():
    model = Attends()
    packed = torch.cat([FIRST, SECOND], 1)  # 7 tokens, of which 6 are read
    document = torch.tensor([0, 0, 0, 0, 1, 1])
    given = {
        "attention_mask": (document[:, None] == document)[None],  # (B, S, S)
        "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1]]),
    }
    together = scores(model, packed, **given)
    torch.testing.assert_close(together[:, :3], scores(model, FIRST))
    torch.testing.assert_close(together[:, 4:], scores(model, SECOND))
    assert not torch.allclose(scores(model, packed)[:, 4:], scores(model, SECOND))


def test_a_model_gets_no_keyword_that_was_not_given():
    seen = []

    def model(input_ids, **keywords):
        seen.append(sorted(keywords))
        return torch.zeros(*input_ids.shape, 20)

    ones = torch.ones(1, 3)
    scores(model, FIRST)
    scores(model, FIRST, attention_mask=ones)
    scores(model, FIRST, position_ids=ones)
    scores(model, FIRST, position_ids=ones, attention_mask=ones)
    keywords = ["attention_mask", "position_ids"]
    assert seen == [[], keywords[:1], keywords[1:], keywords]


@pytest.mark.parametrize("name", ["attention_mask", "position_ids"])
def test_a_mask_that_does_not_fit_is_refused(name):
    with pytest.raises(ValueError) as caught:  # of all tokens, not of those that are read
        scores(Attends(), FIRST, **{name: torch.ones(1, 4)})
    assert str(caught.value) == (
        f"{name} has shape (1, 4) but input_ids has shape (1, 3): "
        "give one entry per token that is read."
    )
    with pytest.raises(TypeError, match=rf"^{name} must be a torch\.Tensor, got list: "):
        scores(Attends(), FIRST, **{name: [[1, 1, 1]]})


TOKENS = torch.tensor([[5, 3, 4, 6, 2, 1], [3, 5, 1, 2, 0, 0]])
ADVICE = "pass input_ids = tokens[:, :-1] and labels = tokens[:, 1:]."
NOT_SHIFTED = f"labels are equal to input_ids, as if they were not shifted: {ADVICE}"
TWICE = f"labels are two tokens ahead of input_ids, as if they were shifted twice: {ADVICE}"
IGNORED = TOKENS.where(torch.arange(6) >= 2, -100)


@pytest.mark.parametrize(
    ("input_ids", "labels", "sentence"),
    [
        (TOKENS, TOKENS, NOT_SHIFTED),
        (TOKENS, IGNORED, NOT_SHIFTED),
        (TOKENS[:, :-1], TOKENS[:, :-1].int(), NOT_SHIFTED),
        (TOKENS[:, :-2], TOKENS[:, 2:], TWICE),
        (TOKENS[:, :-2], IGNORED[:, 2:], TWICE),
        (TOKENS[:, :-1], TOKENS.roll(-2, 1)[:, :-1], TWICE),
    ],
)
def test_labels_that_are_not_the_next_tokens_are_warned_of(input_ids, labels, sentence):
    with pytest.warns(UserWarning) as caught:
        get_response_log_probs(nn.Embedding(7, 7), input_ids, labels)
    (warning,) = caught
    assert str(warning.message) == sentence
    assert warning.filename == __file__  # where it was called


@pytest.mark.parametrize(
    ("input_ids", "labels"),
    [
        (TOKENS[:, :-1], TOKENS[:, 1:]),
        (TOKENS[:, :-1], IGNORED[:, 1:]),
        (TOKENS[:, :1], TOKENS[:, :1]),  # one position: a token may follow itself
        (TOKENS[:, :2], TOKENS[:, :2]),
        (torch.full((2, 5), 3), torch.full((2, 5), 3)),  # the same token over and over
        (torch.tensor([[1, 2, 1, 2, 1]]), torch.tensor([[2, 1, 2, 1, 2]])),
        (torch.full((2, 5), 3), torch.full((2, 5), -100)),
        (TOKENS, torch.tensor([[-100, -100, -100, 6, -100, 1]] * 2)),  # one label is no evidence
        (torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0]]), torch.tensor([[2, 3, 4, 6], [1, 0, 0, 0]])),
    ],
)
def test_labels_that_may_be_right_are_not_warned_of(input_ids, labels, recwarn):
    get_response_log_probs(nn.Embedding(7, 7), input_ids, labels)
    assert list(recwarn) == []


@given(conversations(), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_no_batch_that_is_built_here_is_warned_of(data, pad_id):
    batch = build_token_batch(data, pad_id)
    ignored = batch.labels.where(batch.response_mask, -100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for labels in (batch.labels, ignored):
            get_response_log_probs(nn.Embedding(31, 31), batch.input_ids, labels)


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64],
)
def test_ids_may_be_integers_of_any_kind(dtype):
    """Token files are often uint16."""
    model, input_ids, labels = nn.Embedding(7, 7), TOKENS[:, :-1], TOKENS[:, 1:]
    expected = get_response_log_probs(model, input_ids, labels)["log_probs"]
    found = get_response_log_probs(model, input_ids.to(dtype), labels.to(dtype))["log_probs"]
    assert torch.equal(found, expected)


# ---------------------------------------------------------------- entropy


@pytest.mark.parametrize("dtype", FLOATS)
def test_entropy_is_0_where_one_token_is_certain_and_ln_V_where_none_is(dtype):
    logits = torch.zeros(2, 1, 1000, dtype=dtype)
    logits[0, 0, 7] = 30000
    entropy = compute_entropy(logits)
    assert entropy.dtype == torch.promote_types(dtype, torch.float32) and entropy.shape == (2, 1)
    assert entropy[0, 0].item() == 0 and not entropy[0, 0].signbit()
    assert entropy[1, 0].item() == pytest.approx(math.log(1000), abs=1e-5)


def test_a_token_that_is_ruled_out_adds_no_entropy_and_no_nan():
    logits = torch.tensor([0.0, 0.0, -INF], requires_grad=True)
    entropy = compute_entropy(logits)
    entropy.backward()
    assert entropy.item() == pytest.approx(math.log(2)) and logits.grad.isfinite().all()


def test_entropy_does_not_depend_on_the_level_of_the_logits():
    logits = torch.tensor([1.0, 2.0, 3.5])
    assert compute_entropy(logits + 2**20).item() == pytest.approx(
        compute_entropy(logits).item(), abs=1e-6
    )


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_entropy_agrees_with_a_sum_of_python_floats(row):
    highest = max(row)
    weights = [math.exp(x - highest) for x in row]
    p = [w / math.fsum(weights) for w in weights]
    expected = -math.fsum(x * math.log(x) for x in p if x)
    logits = torch.tensor(row, dtype=torch.float64)
    assert compute_entropy(logits).item() == pytest.approx(expected, abs=1e-12)


def test_entropy_passes_gradcheck():
    logits = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(compute_entropy, logits)


def test_entropy_of_many_rows_is_that_of_each():
    logits = torch.randn(7, 3, 2**15)  # 2 rows a block, and 1 left over
    expected = torch.distributions.Categorical(logits=logits.double()).entropy()
    torch.testing.assert_close(compute_entropy(logits).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("logits", "error", "sentence"),
    [
        (
            [0.0],
            TypeError,
            "logits must be a torch.Tensor, got list: wrap it in torch.tensor(...).",
        ),
        (
            IDS,
            TypeError,
            "logits must be floating point, got torch.int64: pass the model's output.",
        ),
        (
            torch.tensor(0.0),
            ValueError,
            "logits must have shape (..., V), got (): "
            "the last dimension has one score per entry of the vocabulary.",
        ),
        (
            torch.zeros(3, 0),
            ValueError,
            "logits must have shape (..., V), got (3, 0): "
            "the last dimension has one score per entry of the vocabulary.",
        ),
    ],
)
def test_what_has_no_entropy_is_refused(logits, error, sentence):
    with pytest.raises(error) as caught:
        compute_entropy(logits)
    assert str(caught.value) == sentence
