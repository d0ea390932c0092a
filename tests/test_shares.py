"""Whose gradient is it: the rule that weighs each example equally, and the shares of a window.

The closed forms stand here alone: the package reads every share from autograd.
"""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz.accumulation import accumulate, full_batch_gradient
from sftviz.experiments import rank_process
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.rules import EXAMPLE_MEAN, Counts, Scaling
from sftviz.shares import gradient_shares
from sftviz.tokens import TokenBatch

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
