"""Each loss against torch's or the paper's formula, written once more here, in float64 with B ≠ G.

Nothing here uses a `Scaling`, a `Counts` of the package, or its picture's code.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz.losses import (
    DAPO,
    DFT,
    DR_GRPO,
    GRPO,
    LABEL_SMOOTHING,
    LOSSES,
    MEAN_OVER_TOKENS,
    PER_EXAMPLE,
    THE_STEP,
    Loss,
    LossInputs,
)
from sftviz.rules import count_window
from sftviz.step import trace_step

B, S, V, G = 3, 5, 7, 2
MASK = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 0, 0, 0]]) != 0  # 4, 2, 1 tokens
OTHER = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]) != 0  # 3, 5, 2 tokens
N, R = 4 + 2 + 1 + 3 + 5 + 2, 6
ADVANTAGES = (1.5, -0.5, -1.0)


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(B, S, V, dtype=torch.float64)


@pytest.fixture
def labels():
    torch.manual_seed(1)
    return torch.randint(V, (B, S)).where(MASK, -100)


def gradient(logits, compute):
    leaf = logits.clone().requires_grad_()
    value = compute(leaf)
    value.backward()
    return value.detach(), leaf.grad


def ours(loss: Loss, logits, labels, advantages=None):
    counts = count_window([MASK, OTHER], G)[0]
    return gradient(
        logits, lambda leaf: loss(leaf.log_softmax(-1), labels, MASK, counts, advantages)
    )


def by_hand(logits, labels, compute):
    """`compute` gets the log-probs of the labels as rows of their response tokens."""

    def run(leaf):
        picked = leaf.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return compute([row[bits] for row, bits in zip(picked, MASK, strict=True)])

    return gradient(logits, run)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_the_step_is_the_step(logits, labels):
    picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    trace = trace_step(picked, MASK, G)
    value, grad = ours(THE_STEP, logits, labels)
    torch.testing.assert_close(value, trace.scaled_loss)
    _, expected = gradient(logits, lambda leaf: (
        leaf.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0] * trace.grad
    ).sum())  # fmt: skip
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize(("loss", "epsilon"), [(MEAN_OVER_TOKENS, 0.0), (LABEL_SMOOTHING, 0.1)])
def test_torch_has_the_token_mean_and_label_smoothing(logits, labels, loss, epsilon):
    expected = gradient(
        logits,
        lambda leaf: (
            cross_entropy(
                leaf.flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=epsilon
            )
            / N
        ),
    )
    assert_same(ours(loss, logits, labels), expected)


def test_the_mean_over_a_window_of_one_microbatch_is_torchs_default(logits, labels):
    (counts,) = count_window([MASK], 1)
    found = gradient(
        logits, lambda leaf: LABEL_SMOOTHING(leaf.log_softmax(-1), labels, MASK, counts)
    )
    expected = gradient(
        logits, lambda x: cross_entropy(x.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    )
    assert_same(found, expected)


def test_one_weight_per_example_is_a_mean_of_means(logits, labels):
    expected = by_hand(logits, labels, lambda rows: -sum(row.mean() for row in rows) / R)
    assert_same(ours(PER_EXAMPLE, logits, labels), expected)


def test_dft_is_the_loss_of_its_paper(logits, labels):
    def compute(rows):
        return -sum((row.exp().detach() * row).sum() for row in rows) / N

    assert_same(ours(DFT, logits, labels), by_hand(logits, labels, compute))


def test_without_the_stop_dft_would_push_rare_tokens_the_other_way(logits, labels):
    _, stopped = ours(DFT, logits, labels)

    def compute(rows):
        return -sum((row.exp() * row).sum() for row in rows) / N

    _, through = by_hand(logits, labels, compute)
    probs = logits.softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    row, at = (MASK & (probs < 0.36)).nonzero()[0].tolist()  # below 1/e
    label = labels[row, at]
    assert stopped[row, at, label] < 0 < through[row, at, label]


@pytest.mark.parametrize("loss", [GRPO, DAPO, DR_GRPO], ids=lambda loss: loss.name)
def test_the_losses_with_advantages_are_those_of_their_papers(logits, labels, loss):
    def compute(rows):
        clipped = []
        for row, advantage in zip(rows, ADVANTAGES, strict=True):
            ratio = row.exp() / row.exp().detach()
            gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            clipped.append(gain)
        match loss.name:
            case "GRPO":
                return -sum(row.sum() / len(row) for row in clipped) / R
            case "DAPO":
                return -sum(row.sum() for row in clipped) / N
            case "Dr. GRPO":
                return -sum(row.sum() for row in clipped) / (R * 8)

    expected = by_hand(logits, labels, compute)
    assert_same(ours(loss, logits, labels, ADVANTAGES), expected)


@pytest.mark.parametrize(("loss", "plain"), [(GRPO, PER_EXAMPLE), (DAPO, MEAN_OVER_TOKENS)])
def test_with_advantages_of_1_their_gradient_is_that_of_a_known_divisor(
    logits, labels, loss, plain
):
    assert_same(ours(loss, logits, labels)[1:], ours(plain, logits, labels)[1:])


def test_the_constant_of_dr_grpo_is_the_steps_c(logits, labels):
    picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    trace = trace_step(picked, MASK, G, normalize_constant=R * 8 / G**2)
    log_probs = logits.log_softmax(-1).requires_grad_()
    DR_GRPO(log_probs, labels, MASK, count_window([MASK, OTHER], G)[0]).backward()
    found = log_probs.grad.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(found, trace.grad)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_masked_token_has_no_gradient_whatever_is_there(logits, labels, loss):
    _, grad = ours(loss, logits, labels)
    assert (grad[~MASK] == 0).all() and (grad[MASK] != 0).all()
    assert loss.source.startswith("https://") and len(loss.formula) <= 44


# A microbatch as log-probs.

LOG_PROBS = [
    [-9.0, -1.2, -0.4, -0.1, -2.5],
    [0.0, -9.0, -0.7, -0.05, -9.0],
    [-9.0, -3.0] + [0.0] * 3,
]
INPUTS = LossInputs(LOG_PROBS, MASK.int(), G, other_rows=(3, 5, 2), vocab_size=V)


def test_the_logits_give_the_log_probs_back():
    log_probs = INPUTS.logits().log_softmax(-1)[..., 0]
    wanted = torch.tensor(LOG_PROBS, dtype=torch.float32).double()
    torch.testing.assert_close(log_probs[MASK], wanted[MASK])


def test_the_weights_of_a_microbatch_are_worked_out_by_hand():
    p = torch.tensor(LOG_PROBS, dtype=torch.float32).double().exp()
    per_row = torch.tensor([[4.0], [2.0], [1.0]], dtype=torch.float64)
    expected = {
        "the step": 1 / G**2,
        "token mean": 1 / N,
        "one weight per example": 1 / (R * per_row),
        "DFT": p / N,
        "label smoothing": (0.9 + 0.1 / V) / N,
        "GRPO": 1 / (R * per_row),
        "DAPO": 1 / N,
        "Dr. GRPO": 1 / (R * 8),
    }
    traces = INPUTS.trace()
    assert [trace.loss.name for trace in traces] == list(expected)
    for trace in traces:
        weights = (0 * p + expected[trace.loss.name]).where(MASK, 0)
        torch.testing.assert_close(trace.weights, weights)
        torch.testing.assert_close(trace.weights.signbit(), torch.zeros_like(MASK))  # no −0


def test_a_finite_difference_at_a_log_prob_finds_the_weight_except_with_a_stop():
    moved = torch.tensor(LOG_PROBS, dtype=torch.float64)
    step = 1e-3
    moved[0, 1] += step
    there = LossInputs(moved, MASK.int(), G, other_rows=(3, 5, 2), vocab_size=V)
    for here, then in zip(INPUTS.trace(), there.trace(), strict=True):
        slope = -(then.value - here.value) / step
        if here.loss in (THE_STEP, MEAN_OVER_TOKENS, PER_EXAMPLE):
            assert slope == pytest.approx(here.weights[0, 1].item(), rel=1e-4)
        if here.loss is DFT:  # the value also moves with the weight that is stopped
            assert slope == pytest.approx((-1.2 + 1) * here.weights[0, 1].item(), rel=2e-2)


def test_only_dfts_weight_follows_a_log_prob():
    moved = torch.tensor(LOG_PROBS)
    moved[0, 1] = -4.0
    there = LossInputs(moved, MASK.int(), G, other_rows=(3, 5, 2), vocab_size=V)
    changed = {
        here.loss.name: (here.weights - then.weights).abs() > 1e-12
        for here, then in zip(INPUTS.trace(), there.trace(), strict=True)
    }
    assert changed.pop("DFT").nonzero().tolist() == [[0, 1]]
    assert not any(each.any() for each in changed.values())


def test_at_the_logit_learning_ends_at_another_probability():
    def at_logit(p):
        batch = LossInputs([[p.log().item()]], [[1]], vocab_size=V)
        losses = (MEAN_OVER_TOKENS, DFT, LABEL_SMOOTHING)
        return [trace.logits_grad.item() for trace in batch.trace(losses)]

    for p in torch.tensor([0.01, 0.3, 0.5, 0.95, 0.999], dtype=torch.float64):
        q = p.item()
        expected = [q - 1, q * (q - 1), q - (0.9 + 0.1 / V)]
        assert at_logit(p) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"policy_log_probs": [[0.0]]},
            "policy_log_probs must be finite and below 0 at response tokens: the other entries of "
            "the vocabulary share the probability that the label leaves.",
        ),
        (
            {"policy_log_probs": [[-float("inf")]]},
            "policy_log_probs must be finite and below 0 at response tokens: the other entries of "
            "the vocabulary share the probability that the label leaves.",
        ),
        (
            {"other_rows": (2, -1)},
            "every entry of other_rows must be an int of at least 0, got -1: it is the number of "
            "response tokens of a row.",
        ),
        (
            {"advantages": (float("nan"),)},
            "every entry of advantages must be a finite number, got nan: it is a factor of the "
            "term.",
        ),
        (
            {"advantages": (1.0, 2.0)},
            "advantages must have one number per row, which is 1, got 2.",
        ),
        (
            {"vocab_size": 1},
            "vocab_size must be an int of at least 2, got 1: it is a number of tokens.",
        ),
    ],
)
def test_what_can_not_be_run_is_refused(arguments, message):
    with pytest.raises(ValueError) as refusal:
        LossInputs(**{"policy_log_probs": [[-0.5]], "response_mask": [[1]], **arguments})
    assert str(refusal.value) == message
