"""The bridge to torch's own cross-entropy: the same sum, the same mean, the same gradient."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz.log_probs import get_response_log_probs
from sftviz.step import masked_normalize, sft_microbatch_train_step
from sftviz.tokens import mask_labels

B, S, V, G = 3, 5, 7, 2
MASK = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 1], [1, 1, 1, 1, 0]])


@pytest.fixture
def batch():
    """Logits (B, S, V) in float64, tokens that are read, and labels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(B, S, V, generator=generator, dtype=torch.float64) * 3
    ids = torch.randint(V, (B, S + 1), generator=generator)
    return logits, ids[:, :-1], ids[:, 1:].clone()


def log_probs_of(batch):
    logits, input_ids, labels = batch
    leaf = logits.clone().requires_grad_()
    return leaf, get_response_log_probs(lambda ids: leaf, input_ids, labels)["log_probs"]


def torchs(batch, reduction, divisor=1.0):
    """Torch's loss and its gradient at the logits."""
    logits, _, labels = batch
    leaf = logits.clone().requires_grad_()
    masked = mask_labels(labels, MASK)
    loss = cross_entropy(
        leaf.flatten(0, 1), masked.flatten(), ignore_index=-100, reduction=reduction
    )
    (loss / divisor).backward()
    return loss.detach(), leaf.grad


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_masked_sum_is_torchs_sum_with_the_opposite_sign(batch):
    leaf, log_probs = log_probs_of(batch)
    loss = -masked_normalize(tensor=log_probs, mask=MASK)
    loss.backward()
    expected, grad = torchs(batch, "sum")
    assert_same(loss.detach(), expected)
    assert_same(leaf.grad, grad)
    assert grad[MASK.bool()].any() and not leaf.grad[~MASK.bool()].any()


def test_torchs_mean_is_the_mean_over_tokens(batch):
    leaf, log_probs = log_probs_of(batch)
    num_tokens = MASK.sum().item()
    assert num_tokens not in (B, B * S)
    loss = -masked_normalize(tensor=log_probs, mask=MASK, normalize_constant=num_tokens)
    loss.backward()
    expected, grad = torchs(batch, "mean")
    assert_same(loss.detach(), expected)
    assert_same(leaf.grad, grad)


def test_the_step_is_torchs_sum_divided_by_g_twice(batch):
    leaf, log_probs = log_probs_of(batch)
    loss, _ = sft_microbatch_train_step(log_probs, MASK, G)
    expected, grad = torchs(batch, "sum", divisor=G**2)
    assert_same(loss, expected / G**2)
    assert_same(leaf.grad, grad)


def test_the_log_probs_of_masked_labels_need_no_mask(batch):
    """Where the label is −100 the log-prob is 0, so the plain sum is the masked sum."""
    logits, input_ids, labels = batch
    masked = mask_labels(labels, MASK)
    log_probs = get_response_log_probs(lambda ids: logits, input_ids, masked)["log_probs"]
    expected, _ = torchs(batch, "sum")
    assert_same(-log_probs.sum(), expected)


def test_labels_are_masked_and_read_back(batch):
    _, _, labels = batch
    before = labels.clone()
    masked = mask_labels(labels.int(), MASK.double())
    assert masked.dtype == torch.int64 and torch.equal(masked != -100, MASK.bool())
    assert torch.equal(masked[MASK.bool()], labels[MASK.bool()]) and torch.equal(labels, before)
    assert mask_labels(labels, MASK, ignore_index=-1).min() == -1


@pytest.mark.parametrize(
    ("labels", "mask", "error", "sentence"),
    [
        (
            torch.ones(1, 2),
            torch.ones(1, 2),
            TypeError,
            "labels must contain integers, got torch.float32: pass token ids.",
        ),
        (
            torch.ones(1, 2).int(),
            torch.ones(1, 3),
            ValueError,
            "response_mask has shape (1, 3) but labels has shape (1, 2): "
            "give one mask entry per token.",
        ),
        (
            torch.ones(1, 2).int(),
            torch.tensor([[1, 0.5]]),
            ValueError,
            "response_mask must contain only 0 and 1, got 0.5 at row 1, token 2: "
            "1 marks a response token, 0 a masked one.",
        ),
    ],
)
def test_what_can_not_be_masked_is_refused_in_a_sentence(labels, mask, error, sentence):
    with pytest.raises(error) as caught:
        mask_labels(labels, mask)
    assert str(caught.value) == sentence
