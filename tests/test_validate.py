"""What is refused, word for word: an error text is a feature. And a refusal changes nothing."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sftviz import masked_normalize, sft_microbatch_train_step, trace_step
from sftviz.validate import (
    above_zero,
    check_count,
    check_finite,
    check_fraction,
    check_mask,
    check_positive,
)

LOG_PROBS, MASK = "policy_log_probs", "response_mask"
G, C = "gradient_accumulation_steps", "normalize_constant"


def leaf(*shape):
    return torch.full(shape, -0.5, requires_grad=True)


def good(**changes):
    return {LOG_PROBS: leaf(2, 3), MASK: torch.ones(2, 3), G: 2, C: 1.0} | changes


NOT_A_COUNT = "gradient_accumulation_steps must be an int of at least 1, got {}: " + (
    "it is the number of microbatches in one optimizer step."
)
NOT_A_DIVISOR = "normalize_constant must be a finite number above 0, got {}: " + (
    "it divides the masked sum."
)
NOT_0_OR_1 = "response_mask must contain only 0 and 1, got {} at row 1, token 3: " + (
    "1 marks a response token, 0 a masked one."
)
NOT_THE_SHAPE = "response_mask has shape {} but policy_log_probs has shape (2, 3): " + (
    "give one mask entry per token."
)
NOT_FLOATING = "policy_log_probs must be floating point, got {}: " + (
    "pass log-probabilities, for example log_softmax(logits), not token ids."
)
NOT_A_DIM = "dim must be from -2 to 1, each once, got {}: the tensor has 2 dimensions."
NO_DIM = "dim must be None, an int or a tuple of ints, got {}: the tensor has 2 dimensions."
NOT_2D = (
    "policy_log_probs must have shape (B, S), got {}: one row per sequence, one column per token."
)
NO_TOKEN = "policy_log_probs has shape {}, so it contains no token: " + (
    "give at least one sequence of one token."
)
NOT_DENSE = "{} must be a dense tensor, got torch.sparse_coo: call .to_dense()."

REFUSED = [
    # policy_log_probs
    (
        {LOG_PROBS: [[-0.5]]},
        TypeError,
        "policy_log_probs must be a torch.Tensor, got list: wrap it in torch.tensor(...).",
    ),
    ({LOG_PROBS: torch.ones(2, 3).long()}, TypeError, NOT_FLOATING.format("torch.int64")),
    ({LOG_PROBS: leaf(2, 3).cfloat()}, TypeError, NOT_FLOATING.format("torch.complex64")),
    (
        {LOG_PROBS: torch.ones(2, 3).to(torch.float8_e4m3fn)},
        TypeError,
        "policy_log_probs must be float64, float32, bfloat16 or float16, "
        "got torch.float8_e4m3fn: convert it with .float().",
    ),
    (
        {LOG_PROBS: torch.ones(2, 3).to_sparse()},
        TypeError,
        "policy_log_probs must be a dense tensor, got torch.sparse_coo: call .to_dense().",
    ),
    (
        {LOG_PROBS: torch.ones(2, 3, device="meta")},
        ValueError,
        "policy_log_probs is on the meta device, where tensors have a shape and no numbers: "
        "run the model on a real device.",
    ),
    ({LOG_PROBS: leaf(3)}, ValueError, NOT_2D.format("(3,)")),
    ({LOG_PROBS: leaf()}, ValueError, NOT_2D.format("()")),
    ({LOG_PROBS: leaf(2, 3, 1)}, ValueError, NOT_2D.format("(2, 3, 1)")),
    ({LOG_PROBS: leaf(0, 3), MASK: torch.ones(0, 3)}, ValueError, NO_TOKEN.format("(0, 3)")),
    ({LOG_PROBS: leaf(2, 0), MASK: torch.ones(2, 0)}, ValueError, NO_TOKEN.format("(2, 0)")),
    # response_mask
    (
        {MASK: [[1, 1, 0], [1, 1, 1]]},
        TypeError,
        "response_mask must be a torch.Tensor, got list: wrap it in torch.tensor(...).",
    ),
    (
        {MASK: torch.ones(2, 3).cfloat()},
        TypeError,
        "response_mask must be bool, integer or ordinary floating point, got torch.complex64: "
        "convert it with .bool().",
    ),
    (
        {MASK: torch.ones(2, 3).to_sparse()},
        TypeError,
        "response_mask must be a dense tensor, got torch.sparse_coo: call .to_dense().",
    ),
    ({MASK: torch.ones(2, 1)}, ValueError, NOT_THE_SHAPE.format("(2, 1)")),  # would broadcast
    ({MASK: torch.ones(1, 3)}, ValueError, NOT_THE_SHAPE.format("(1, 3)")),
    ({MASK: torch.ones(3)}, ValueError, NOT_THE_SHAPE.format("(3,)")),
    ({MASK: torch.tensor(True)}, ValueError, NOT_THE_SHAPE.format("()")),
    ({MASK: torch.ones(3, 2)}, ValueError, NOT_THE_SHAPE.format("(3, 2)")),
    ({MASK: torch.tensor([[0, 1, 2], [1, 1, 1]])}, ValueError, NOT_0_OR_1.format("2")),
    ({MASK: torch.tensor([[0, 1, -1], [3, 1, 1]])}, ValueError, NOT_0_OR_1.format("-1")),
    ({MASK: torch.tensor([[0, 1, 0.5], [1, 1, 1]])}, ValueError, NOT_0_OR_1.format("0.5")),
    ({MASK: torch.tensor([[0, 1, math.nan], [1, 1, 1]])}, ValueError, NOT_0_OR_1.format("nan")),
    ({MASK: torch.tensor([[0, 1, math.inf], [1, 1, 1]])}, ValueError, NOT_0_OR_1.format("inf")),
    (
        {MASK: torch.tensor([[0, 1, 0.9999999999], [1, 1, 1]], dtype=torch.float64)},
        ValueError,
        NOT_0_OR_1.format("0.9999999999"),
    ),
    ({MASK: torch.ones(2, 3).to_sparse()}, TypeError, NOT_DENSE.format(MASK)),
    # gradient_accumulation_steps
    ({G: 0}, ValueError, NOT_A_COUNT.format("0")),
    ({G: -1}, ValueError, NOT_A_COUNT.format("-1")),
    (
        {G: 2**63},
        ValueError,
        "gradient_accumulation_steps must be an int below 2**63, got 9223372036854775808: "
        "it is the number of microbatches in one optimizer step.",
    ),
    (
        {G: 10**60},
        ValueError,
        "gradient_accumulation_steps must be an int below 2**63, got an int of 200 bits: "
        "it is the number of microbatches in one optimizer step.",
    ),
    ({G: True}, TypeError, NOT_A_COUNT.format("bool True")),
    ({G: 2.0}, TypeError, NOT_A_COUNT.format("float 2.0")),
    ({G: "2"}, TypeError, NOT_A_COUNT.format("str '2'")),
    ({G: None}, TypeError, NOT_A_COUNT.format("NoneType None")),
    ({G: torch.tensor(2)}, TypeError, NOT_A_COUNT.format("Tensor tensor(2)")),
    # normalize_constant
    ({C: 0}, ValueError, NOT_A_DIVISOR.format("0")),
    ({C: 0.0}, ValueError, NOT_A_DIVISOR.format("0.0")),
    ({C: -1.0}, ValueError, NOT_A_DIVISOR.format("-1.0")),
    ({C: math.nan}, ValueError, NOT_A_DIVISOR.format("nan")),
    ({C: math.inf}, ValueError, NOT_A_DIVISOR.format("inf")),
    ({C: True}, TypeError, NOT_A_DIVISOR.format("bool True")),
    ({C: "1"}, TypeError, NOT_A_DIVISOR.format("str '1'")),
    ({C: "1" * 90}, TypeError, NOT_A_DIVISOR.format(f"str '{'1' * 12}...{'1' * 13}'")),
    ({C: 10**400}, ValueError, NOT_A_DIVISOR.format("an int of 1329 bits")),
    ({C: torch.tensor(2.0)}, TypeError, NOT_A_DIVISOR.format("Tensor tensor(2.)")),
]


@pytest.mark.parametrize("run", [sft_microbatch_train_step, trace_step])
@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED, ids=lambda x: str(x)[:60])
def test_refused_in_these_words_and_nothing_changed(run, changes, kind, message):
    arguments = good(**changes)
    log_probs = arguments[LOG_PROBS]
    watched = isinstance(log_probs, torch.Tensor) and log_probs.requires_grad and log_probs.is_leaf
    if watched:
        log_probs.grad = torch.full_like(log_probs, 5)
    with pytest.raises(kind) as refusal:
        run(**arguments)
    assert type(refusal.value) is kind and str(refusal.value) == message
    if watched:
        assert (log_probs.grad == 5).all()


def test_every_refusal_starts_from_arguments_that_are_fine():
    sft_microbatch_train_step(**good())
    trace_step(**good())


def test_a_mask_elsewhere_is_refused():
    with pytest.raises(ValueError) as refusal:
        sft_microbatch_train_step(**good(**{MASK: torch.ones(2, 3, device="meta")}))
    assert str(refusal.value) == (
        "response_mask is on meta but policy_log_probs is on cpu: "
        "move one of them to the other's device."
    )


NO_GRADIENT = (
    "policy_log_probs does not require grad: either gradients were switched off when it was "
    "computed (no_grad, inference_mode, detach), or no parameter that it was computed from "
    "requires grad (a frozen model; re-entrant checkpointing hides parameters too). "
    "Compute it with gradients, or pass a leaf made with requires_grad=True."
)
IDS = torch.tensor([[1, 2, 0], [0, 1, 1]])


def without_gradients(model):
    with torch.no_grad():
        return model(IDS)[..., 0]


def frozen(model):
    return model.requires_grad_(False)(IDS)[..., 0]


def checkpointed(model):
    """Token ids never require grad, so a re-entrant checkpoint thinks that nothing does."""
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad"):
        return checkpoint(model, IDS, use_reentrant=True)[..., 0]


@pytest.mark.parametrize(
    "make", [without_gradients, frozen, checkpointed, lambda model: model(IDS)[..., 0].detach()]
)
def test_log_probs_without_gradient_are_refused_by_the_step_alone(make):
    log_probs = make(nn.Embedding(3, 2))
    with pytest.raises(ValueError) as refusal:
        sft_microbatch_train_step(**good(**{LOG_PROBS: log_probs}))
    assert str(refusal.value) == NO_GRADIENT
    assert trace_step(**good(**{LOG_PROBS: log_probs})).num_tokens == 6


def test_a_second_step_on_one_forward_pass_is_refused_in_plain_words():
    weight = torch.ones(2, 3, requires_grad=True)
    log_probs = weight.log_softmax(1)
    sft_microbatch_train_step(**good(**{LOG_PROBS: log_probs}))
    with pytest.raises(RuntimeError) as refusal:
        sft_microbatch_train_step(**good(**{LOG_PROBS: log_probs}))
    assert str(refusal.value) == (
        "backward() has been through this forward pass before, or through a part of it: run the "
        "model again before each step, and use nothing again that an earlier forward pass computed."
    )


def test_another_error_of_backward_stays_as_it_is():
    weight = torch.ones(2, 3, requires_grad=True)
    output = weight.exp()
    log_probs = -output
    output.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sft_microbatch_train_step(**good(**{LOG_PROBS: log_probs}))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_step_where_gradients_are_switched_off_is_refused(off):
    arguments = good()
    with off(), pytest.raises(RuntimeError) as refusal:
        sft_microbatch_train_step(**arguments)
    assert str(refusal.value) == (
        "sft_microbatch_train_step calls backward(), but gradients are switched off here: "
        "call it outside torch.no_grad() and torch.inference_mode()."
    )
    assert arguments[LOG_PROBS].grad is None


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"tensor": [1.0]},
            TypeError,
            "tensor must be a torch.Tensor, got list: wrap it in torch.tensor(...).",
        ),
        (
            {"mask": torch.ones(2, 1)},
            ValueError,
            "mask has shape (2, 1) but tensor has shape (2, 3): give one mask entry per token.",
        ),
        (
            {"mask": torch.full((2, 3), 2)},
            ValueError,
            "mask must contain only 0 and 1, got 2 at row 1, token 1: "
            "1 marks a response token, 0 a masked one.",
        ),
        ({C: 0.0}, ValueError, NOT_A_DIVISOR.format("0.0")),
        ({"dim": 2}, ValueError, NOT_A_DIM.format("2")),
        ({"dim": -3}, ValueError, NOT_A_DIM.format("-3")),
        ({"dim": (0, -2)}, ValueError, NOT_A_DIM.format("(0, -2)")),
        ({"dim": True}, TypeError, NO_DIM.format("bool True")),
        ({"dim": 1.0}, TypeError, NO_DIM.format("float 1.0")),
        ({"dim": ()}, TypeError, NO_DIM.format("tuple ()")),
        (
            {"tensor": torch.ones(2, 3).to_sparse()},
            TypeError,
            "tensor must be a dense tensor, got torch.sparse_coo: call .to_dense().",
        ),
    ],
    ids=lambda x: str(x)[:60],
)
def test_masked_normalize_refuses_the_same_in_its_own_names(changes, kind, message):
    arguments = {"tensor": torch.ones(2, 3), "mask": torch.ones(2, 3)} | changes
    with pytest.raises(kind) as refusal:
        masked_normalize(**arguments)
    assert str(refusal.value) == message


def test_a_mask_comes_back_as_booleans():
    tensor = torch.zeros(1, 4)
    for dtype in (torch.bool, torch.uint8, torch.float32):
        mask = check_mask("mask", torch.tensor([[1, 0, 0, 1]], dtype=dtype), "tensor", tensor)
        assert mask.dtype == torch.bool and mask.tolist() == [[True, False, False, True]]


# ---------------------------------------------------------------- single numbers

COUNT = "x must be an int of at least 2, got {}: reason."
POSITIVE = "x must be a number above 0, got {}: reason."
FINITE = "x must be a finite number, got {}: reason."
FRACTION = "x must be a number from 0 to 1, got {}: reason."


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (check_count, 1, ValueError, COUNT.format("1")),
        (check_count, -3, ValueError, COUNT.format("-3")),
        (check_count, 2**63, ValueError, f"x must be an int below 2**63, got {2**63}: reason."),
        (check_count, True, TypeError, COUNT.format("bool True")),
        (check_count, 2.0, TypeError, COUNT.format("float 2.0")),
        (check_count, "2", TypeError, COUNT.format("str '2'")),
        (check_count, None, TypeError, COUNT.format("NoneType None")),
        (check_positive, 0, ValueError, POSITIVE.format("0")),
        (check_positive, -0.5, ValueError, POSITIVE.format("-0.5")),
        (check_positive, math.nan, ValueError, POSITIVE.format("nan")),
        (check_positive, 10**400, ValueError, POSITIVE.format("an int of 1329 bits")),
        (check_positive, True, TypeError, POSITIVE.format("bool True")),
        (check_positive, "1", TypeError, POSITIVE.format("str '1'")),
        (check_finite, math.nan, ValueError, FINITE.format("nan")),
        (check_finite, -math.inf, ValueError, FINITE.format("-inf")),
        (check_finite, 10**400, ValueError, FINITE.format("an int of 1329 bits")),
        (check_finite, "1", TypeError, FINITE.format("str '1'")),
        (check_fraction, -0.1, ValueError, FRACTION.format("-0.1")),
        (check_fraction, 1.5, ValueError, FRACTION.format("1.5")),
        (check_fraction, math.nan, ValueError, FRACTION.format("nan")),
        (check_fraction, False, TypeError, FRACTION.format("bool False")),
        (check_fraction, None, TypeError, FRACTION.format("NoneType None")),
    ],
)
def test_a_number_is_refused_word_for_word(check, value, error, message):
    options = {"least": 2} if check is check_count else {}
    with pytest.raises(error) as caught:
        check("x", value, "reason", **options)
    assert str(caught.value) == message


def test_a_count_may_have_an_upper_limit():
    check_count("x", 7, "reason", most=7)
    with pytest.raises(ValueError) as caught:
        check_count("x", 8000, "reason", most=7000)
    assert str(caught.value) == "x must be an int of at most 7,000, got 8000: reason."


def test_the_limits_of_each_kind_of_number_are_accepted():
    check_count("x", 1, "reason")
    check_count("x", 0, "reason", least=0)
    check_count("x", 2**63 - 1, "reason")
    for value in (5e-324, 1, math.inf):
        check_positive("x", value, "reason")
    for value in (-1.7e308, 0, 5):
        check_finite("x", value, "reason")
    for value in (0, 0.5, 1.0):
        check_fraction("x", value, "reason")


# ---------------------------------------------------------------- log-probs above 0

ONE = "1 log-prob is above 0 (row {}), but a log-prob is at most 0: this looks like {}."
SOME = "{} log-probs are above 0 (the first: row {}), but a log-prob is at most 0: these look like "
PROBABILITIES, LOGITS = "probabilities, so take their log", "logits, so take log_softmax"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[-0.5, -0.3], [-math.inf, -0.0]], ""),
        ([[math.nan, math.nan]], ""),
        ([[0.7, 0.9], [0.0, 1.0]], SOME.format(3, "1, token 1") + PROBABILITIES + "."),
        ([[0.0, math.nan], [0.25, math.nan]], ONE.format("2, token 1", PROBABILITIES)),
        ([[-3.0, -1.0], [-2.0, 0.5]], ONE.format("2, token 2", LOGITS)),
        ([[0.5, 1.5]], SOME.format(2, "1, token 1") + LOGITS + "."),
        ([[-1.0, math.inf, math.nan]], ONE.format("1, token 2", LOGITS)),
        ([[-1.0, 3e-6]], ""),  # a logit of 30 minus its logsumexp, in float32
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_log_probs_above_0_are_counted_and_placed(rows, sentence, dtype):
    assert above_zero(torch.tensor(rows, dtype=dtype, requires_grad=True)) == sentence


@pytest.mark.parametrize("seed", range(20))
def test_what_softmax_made_of_logits_is_told_from_the_logits(seed):
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(seed)) * 3
    labels = torch.zeros(2, 5, 1, dtype=torch.int64)

    def said(scores):
        return above_zero(scores.gather(2, labels)[..., 0])

    assert said(logits.log_softmax(2)) == said(logits - logits.logsumexp(2, keepdim=True)) == ""
    assert PROBABILITIES in said(logits.softmax(2))
    assert LOGITS in said(logits + 9)  # the same softmax
