"""From logits to their gradient, against the closed form, finite differences, cross_entropy."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz.log_probs import get_response_log_probs
from sftviz.logits import LogitsInputs, descend, trace_logits
from sftviz.step import sft_microbatch_train_step

B, S, V, G, C = 3, 4, 6, 5, 7.0
generator = torch.Generator().manual_seed(1)
LOGITS = torch.randn(B, S, V, generator=generator, dtype=torch.float64)
LABELS = torch.randint(V, (B, S), generator=generator)
MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])


def loss(logits):
    """The contract by way of cross_entropy, which shares no line with ours."""
    nll = cross_entropy(logits.flatten(0, 1), LABELS.flatten(), reduction="none")
    return (nll * MASK.flatten()).sum() / (C * G * G)


def test_the_loss_is_that_of_cross_entropy():
    trace = trace_logits(LOGITS, LABELS, MASK, G, C)
    assert trace.step.scaled_loss.item() == pytest.approx(loss(LOGITS).item(), rel=1e-12)
    assert trace.step.num_tokens == 7


def test_the_gradient_is_softmax_minus_one_hot_scaled():
    trace = trace_logits(LOGITS, LABELS, MASK, G, C)
    one_hot = torch.eye(V, dtype=torch.float64)[LABELS]
    closed = (LOGITS.softmax(-1) - one_hot) * MASK[..., None] / (C * G * G)
    torch.testing.assert_close(trace.logits_grad, closed, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(trace.probs, LOGITS.softmax(-1))


def test_the_gradient_is_that_of_finite_differences():
    trace, h = trace_logits(LOGITS, LABELS, MASK, G, C), 1e-6
    for place in [(0, 1, 2), (2, 0, 5), (1, 0, 0)]:
        nudge = torch.zeros_like(LOGITS)
        nudge[place] = h
        slope = (loss(LOGITS + nudge) - loss(LOGITS - nudge)).item() / (2 * h)
        assert trace.logits_grad[place].item() == pytest.approx(slope, abs=1e-8)


def test_the_gradient_at_the_log_probs_is_constant_where_that_at_the_logits_moves():
    near, far = (trace_logits(k * LOGITS, LABELS, MASK, G, C) for k in (1, 4))
    assert torch.equal(near.step.grad, far.step.grad)
    assert not torch.allclose(near.logits_grad, far.logits_grad)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_under_the_mask_are_never_used_just_as_in_a_training_loop(poison, dtype):
    poisoned = LOGITS.to(dtype).where(MASK[..., None] == 1, poison)
    trace = trace_logits(poisoned, LABELS, MASK, G, C)
    clean = trace_logits(LOGITS.to(dtype), LABELS, MASK, G, C)
    assert torch.equal(trace.logits_grad, clean.logits_grad)
    assert torch.equal(trace.step.scaled_loss, clean.step.scaled_loss)

    leaf = poisoned.clone().requires_grad_()
    result = get_response_log_probs(lambda _: leaf, torch.zeros(B, S).long(), LABELS)
    sft_microbatch_train_step(result["log_probs"], MASK, G, C)
    assert torch.equal(trace.logits_grad, leaf.grad)
    assert torch.equal(trace.step.policy_log_probs[MASK == 1], result["log_probs"][MASK == 1])


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_switched_off(off):
    with off():
        trace = trace_logits(LOGITS.clone(), LABELS.clone(), MASK.clone(), G, C)
    assert trace.logits_grad.abs().sum() > 0 and not trace.logits_grad.is_inference()


def test_the_caller_keeps_what_is_theirs():
    logits = LOGITS.clone().requires_grad_()
    trace = trace_logits(logits, LABELS, MASK, G, C)
    assert logits.grad is None and torch.equal(logits, LOGITS)
    assert not trace.logits.requires_grad and not trace.probs.requires_grad


SHAPE = "logits must be floating point of shape (B, S, V), got {}: " + (
    "one score per entry of the vocabulary, at each token."
)
LABEL = "labels must be int64 of shape (3, 4), got {}: one entry of the vocabulary per token."
RANGE = (
    "labels has {} at row 0, position 0: labels are indices of the vocabulary, from 0 to 5; "
    "where there is no label, give 0 and mask the token."
)


@pytest.mark.parametrize(
    ("logits", "labels", "kind", "message"),
    [
        (LOGITS[0], LABELS, ValueError, SHAPE.format("torch.float64 (4, 6)")),
        (LOGITS.long(), LABELS, ValueError, SHAPE.format("torch.int64 (3, 4, 6)")),
        (
            *(LOGITS.to(torch.float8_e5m2), LABELS, ValueError),
            SHAPE.format("torch.float8_e5m2 (3, 4, 6)"),
        ),
        (LOGITS[..., :0], LABELS, ValueError, SHAPE.format("torch.float64 (3, 4, 0)")),
        (LOGITS, LABELS[:, 1:], ValueError, LABEL.format("torch.int64 (3, 3)")),
        (LOGITS, LABELS.int(), ValueError, LABEL.format("torch.int32 (3, 4)")),
        (LOGITS, LABELS + 6, ValueError, RANGE.format(int(LABELS[0, 0]) + 6)),
        (LOGITS, LABELS.where(MASK == 1, -100), ValueError, RANGE.format("-100")),
        (
            *(LOGITS, [[1]], TypeError),
            "labels must be a torch.Tensor, got list: wrap it in torch.tensor(...).",
        ),
    ],
)
def test_refused_in_these_words(logits, labels, kind, message):
    with pytest.raises(kind) as refusal:
        trace_logits(logits, labels, MASK, G, C)
    assert type(refusal.value) is kind and str(refusal.value) == message


def test_a_step_of_descent_subtracts_the_gradient_times_the_learning_rate():
    inputs = LogitsInputs(LOGITS, LABELS, MASK, G, C)
    trace = inputs.trace()
    after = descend(inputs, trace, learning_rate=40.0)
    torch.testing.assert_close(after.logits, LOGITS - 40.0 * trace.logits_grad)
    assert torch.equal(after.logits[MASK == 0], LOGITS[MASK == 0])  # nothing moves under the mask
    assert after.trace().step.scaled_loss < trace.step.scaled_loss
    assert torch.equal(inputs.logits, LOGITS)
    assert after.labels.equal(LABELS) and after.gradient_accumulation_steps == G


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_learning_rate_is_above_zero(rate):
    inputs = LogitsInputs(LOGITS, LABELS, MASK, G, C)
    with pytest.raises(ValueError) as error:
        descend(inputs, inputs.trace(), rate)
    assert str(error.value) == (
        f"learning_rate must be a finite number above 0, got {rate}: "
        "SGD subtracts the gradient times this number."
    )
