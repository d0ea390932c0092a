"""Right functions, and wrong ones, in other words than the package's: each is judged as what it is.

Nothing here uses the package to compute.
"""

import operator
from functools import partial, reduce, wraps
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sftviz.exercises.check import check
from sftviz.exercises.subjects import SUBJECTS

WRITTEN = []  # (subject, name of the mistake or None, function)


def writes(subject, mistake=None):
    def add(function):
        WRITTEN.append((subject, mistake, function))
        return function

    return add


right_step = writes("step")
right_log_probs = writes("log-probs")
right_accumulation = writes("accumulation")


def wide(tensor):
    """At least float32: a sum in bfloat16 is one of the mistakes."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def finish(total, mask, G):
    """The last lines of a step whose masked sum is computed."""
    loss = -total / G / G
    loss.backward()
    return loss.detach(), {"num_tokens": int((mask != 0).sum()), "masked_sum": total.detach()}


# ---------------------------------------------------------------- the step, right


@right_step
def einsum(policy_log_probs, response_mask, gradient_accumulation_steps, normalize_constant=1.0):
    kept = wide(policy_log_probs).masked_fill(response_mask == 0, 0)
    total = torch.einsum("bs,bs->", kept, torch.ones_like(kept)) / normalize_constant
    return finish(total, response_mask, gradient_accumulation_steps)


@right_step
def loops(lp, mask, G, c=1.0):
    total = torch.zeros(())
    for row, flags in zip(wide(lp), mask.tolist(), strict=True):
        for value, counts in zip(row, flags, strict=True):
            if counts:
                total = total + value / c
    return finish(total, mask, G)


@right_step
def single_precision(lp, mask, G, c):
    return finish(torch.where(mask > 0, lp, torch.zeros(())).float().sum() / c, mask, G)


@right_step
def double_precision(lp, mask, G, c):
    return finish(torch.where(mask == 1, lp.double(), 0.0).sum().div(c), mask, G)


@right_step
def other_order(normalize_constant, gradient_accumulation_steps, response_mask, policy_log_probs):
    return loops(policy_log_probs, response_mask, gradient_accumulation_steps, normalize_constant)


@right_step
def keywords_only(
    *, normalize_constant, response_mask, gradient_accumulation_steps, policy_log_probs
):
    return loops(policy_log_probs, response_mask, gradient_accumulation_steps, normalize_constant)


@right_step
def in_place_on_a_copy(lp, mask, G, c):
    mine = wide(lp).clone()
    mine[~mask.bool()] = 0
    total = mine.sum().div_(c)
    loss = total.neg().div(G).div(G)
    loss.backward()
    return [loss.detach(), {"num_tokens": mask.sum(), "masked_sum": total.item(), "more": 1}]


@right_step
def indices(lp, mask, G, c):
    rows, columns = mask.nonzero(as_tuple=True)
    total = wide(lp)[rows, columns].sum() / c
    torch.autograd.backward([-total / G**2])
    return (-total / G**2).detach(), {"num_tokens": len(rows), "masked_sum": total.detach()}


@right_step
def masked_select(lp, mask, G, c):
    chosen = torch.masked_select(lp, mask.bool())
    loss = chosen.sum(dtype=torch.float64) * (-1 / (c * G * G))
    loss.backward()
    total = -loss.detach() * G * G
    return loss.detach(), {"num_tokens": chosen.numel(), "masked_sum": total}


@right_step
def gather(lp, mask, G, c):
    places = mask.flatten().bool().nonzero().squeeze(1)
    return finish(wide(lp).flatten().gather(0, places).sum() / c, mask, G)


@right_step
def cumsum(lp, mask, G, c):
    kept = torch.where(mask.bool(), wide(lp), 0)
    return finish(kept.flatten().cumsum(0)[-1] / c, mask, G)


@right_step
def matmul(lp, mask, G, c):
    kept = torch.where(mask.bool(), wide(lp), 0)
    return finish((kept @ kept.new_ones(kept.shape[1], 1)).sum() / c, mask, G)


@right_step
def dot(lp, mask, G, c):
    kept = wide(lp).nan_to_num(0.0, 0.0, 0.0).flatten()
    return finish(torch.dot(kept, mask.flatten().to(kept)) / c, mask, G)


@right_step
def comprehension(lp, mask, G, c):
    sums = [row[flags].sum() for row, flags in zip(wide(lp), mask.bool(), strict=True)]
    return finish(sum(sums) / c, mask, G)


@right_step
def scatter(lp, mask, G, c):
    rows = mask.nonzero()[:, 0]
    sums = wide(lp).new_zeros(len(lp)).index_add(0, rows, wide(lp)[mask.bool()])
    return finish(sums.sum() / c, mask, G)


@right_step
def stacked(lp, mask, G, c):
    kept = torch.stack([torch.where(m.bool(), x, 0) for x, m in zip(lp, mask, strict=True)])
    return finish(kept.double().sum(1).sum() / c, mask, G)


@right_step
def mapped(lp, mask, G, c):
    row_sums = torch.vmap(lambda x, m: torch.where(m, x, 0).sum())(wide(lp), mask.bool())
    return finish(row_sums.sum() / c, mask, G)


@right_step
def reduced(lp, mask, G, c):
    return finish(reduce(operator.add, wide(lp)[mask.bool()].unbind()) / c, mask, G)


@right_step
def mean_times_count(lp, mask, G, c):
    kept = torch.where(mask.bool(), wide(lp), 0)
    return finish(kept.mean() * kept.numel() / c, mask, G)


@right_step
def linear(lp, mask, G, c):
    kept = torch.where(mask.bool(), wide(lp), 0).flatten()
    return finish(F.linear(kept, torch.full_like(kept, 1 / c)).squeeze(), mask, G)


@right_step
def each_token_divided_first(lp, mask, G, c):
    losses = torch.where(mask.bool(), wide(lp), 0) / -(c * G * G)
    losses.sum().backward()
    total = -losses.detach().sum() * G**2
    return losses.sum().detach(), {"num_tokens": mask.sum().item(), "masked_sum": total}


@right_step
def each_token_has_its_own_backward(lp, mask, G, c):
    total = 0.0
    for x in wide(lp)[mask.bool()] / c:
        (-x / G / G).backward(retain_graph=True)
        total += x.item()
    loss = torch.tensor(-total / G / G)
    return loss, {"num_tokens": int(mask.sum()), "masked_sum": torch.tensor(total)}


@right_step
def gradient_by_hand(lp, mask, G, c):
    is_response = mask.bool()
    lp.backward(-is_response.to(lp) / (c * G * G))
    total = lp.detach()[is_response].double().sum() / c
    return -total / (G * G), {"num_tokens": mask.bool().sum(), "masked_sum": total}


class _InNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, lp, mask):
        ctx.save_for_backward(mask)
        ctx.dtype = lp.dtype
        x, m = lp.detach().double().numpy(), mask.numpy() != 0
        return torch.tensor(np.where(m, x, 0.0).sum())

    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved_tensors
        return (mask.double() * grad).to(ctx.dtype), None


@right_step
def numpy(lp, mask, G, c):
    return finish(_InNumpy.apply(lp, mask) / c, mask, G)


class Step:
    def __init__(self, reduction):
        self.reduction = reduction

    def __call__(self, lp, mask, G, c=1.0):
        chosen = wide(lp)[mask.bool()]
        return finish(getattr(chosen, self.reduction)() / c, mask, G)


right_step(Step("sum"))
writes("step", "token mean ÷G²")(Step("mean"))


def general(power, lp, mask, G, c=1.0):
    total = wide(lp)[mask.bool()].sum() / c
    loss = -total / G**power
    loss.backward()
    return loss.detach(), {"num_tokens": int(mask.sum()), "masked_sum": total.detach()}


right_step(partial(general, 2))
writes("step", "÷G")(partial(general, 1))
writes("step", "÷G³")(partial(general, 3))
writes("step", "not divided")(partial(general, 0))


def logged(function):
    @wraps(function)
    def inner(*arguments):
        print("called")
        return function(*arguments)

    return inner


class Result(NamedTuple):
    loss: torch.Tensor
    metadata: dict


@right_step
@logged
def decorated(log_probs, is_response, steps, constant):
    def masked_normalize():
        return wide(log_probs).where(is_response != 0, 0).sum(-1).sum() / constant

    return Result(*finish(masked_normalize(), is_response, steps))


# ---------------------------------------------------------------- the step, wrong


def normalized(lp, mask, c):
    return wide(lp)[mask.bool()].sum() / c


@writes("step", "÷B·G")
def batch_mean(lp, mask, G, c):
    rows = torch.where(mask.bool(), wide(lp), 0).sum(-1) / c
    loss = -rows.mean() / G
    loss.backward()
    return loss.detach(), {"num_tokens": mask.sum(), "masked_sum": rows.sum().detach()}


@writes("step", "÷B")
def batch_mean_alone(lp, mask, G, c):
    rows = torch.einsum("bs->b", torch.where(mask.bool(), wide(lp), 0)) / c
    (-rows.mean()).backward()
    return -rows.mean().detach(), {"num_tokens": mask.sum(), "masked_sum": rows.sum().detach()}


@writes("step", "averaged averages")
def mean_over_tokens_then_G(lp, mask, G, c):
    chosen = wide(lp)[mask.bool()] / c
    loss = -chosen.mean() / G
    loss.backward()
    return loss.detach(), {"num_tokens": len(chosen), "masked_sum": chosen.sum().detach()}


@writes("step", "dense mean")
def mean_over_everything(lp, mask, G, c):
    kept = torch.where(mask.bool(), wide(lp), 0) / c
    loss = kept.mean().neg() / G
    loss.backward()
    return loss.detach(), {"num_tokens": mask.sum(), "masked_sum": kept.sum().detach()}


@writes("step", "÷2G")
def doubled(lp, mask, G, c):
    total = normalized(lp, mask, c)
    loss = -total / (G + G)
    loss.backward()
    return loss.detach(), {"num_tokens": mask.sum(), "masked_sum": total.detach()}


@writes("step", "c left out")
def constant_forgotten(lp, mask, G, normalize_constant):
    return finish(wide(lp).masked_fill(~mask.bool(), 0.0).sum(), mask, G)


@writes("step", "c twice")
def constant_in_each_token_too(lp, mask, G, c):
    return finish((wide(lp) / c)[mask.bool()].sum() / c, mask, G)


@writes("step", "c multiplied")
def constant_as_weight(lp, mask, G, c):
    return finish((wide(lp) * c)[mask.bool()].sum(), mask, G)


@writes("step", "mask ignored")
def everything(lp, mask, G, c):
    total = wide(lp).sum() / c
    loss = -total / G / G
    loss.backward()
    return loss.detach(), {"num_tokens": lp.numel(), "masked_sum": total.detach()}


@writes("step", "mask inverted")
def masked_fill_the_wrong_way(lp, mask, G, c):
    total = wide(lp).masked_fill(mask.bool(), 0).sum() / c
    loss = -total / G**2
    loss.backward()
    return loss.detach(), {"num_tokens": (mask == 0).sum(), "masked_sum": total.detach()}


@writes("step", "multiplied with NaN")
def product(lp, mask, G, c):
    return finish((wide(lp) * mask).sum() / c, mask, G)


@writes("step", "multiplied with NaN")
def product_by_einsum(lp, mask, G, c):
    return finish(torch.einsum("bs,bs->", wide(lp), mask.to(wide(lp))) / c, mask, G)


@writes("step", "mask one too late")
def rolled_mask(lp, mask, G, c):
    late = torch.zeros_like(mask.bool())
    late[:, 1:] = mask[:, :-1].bool()
    return finish(wide(lp)[late].sum() / c, late, G)


@writes("step", "first row's mask")
def mask_of_the_first_row(lp, mask, G, c):
    first = mask[0].bool().repeat(len(mask), 1)
    return finish(wide(lp)[first].sum() / c, first, G)


@writes("step", "sign kept")
def positive(lp, mask, G, c):
    total = normalized(lp, mask, c)
    loss = total / G / G
    loss.backward()
    return loss.detach(), {"num_tokens": mask.sum(), "masked_sum": total.detach()}


@writes("step", "backward not called")
def lazy(lp, mask, G, c):
    total = normalized(lp, mask, c)
    return -total / G / G, {"num_tokens": mask.sum(), "masked_sum": total.detach()}


@writes("step", "backward twice")
def keen(lp, mask, G, c):
    result = finish(normalized(lp, mask, c), mask, G)
    finish(normalized(lp, mask, c), mask, G)
    return result


@writes("step", "backward on a fresh leaf")
def another_tensor(lp, mask, G, c):
    mine = torch.tensor(wide(lp).tolist(), dtype=torch.float64, requires_grad=True)
    return finish(mine[mask.bool()].sum() / c, mask, G)


@writes("step", "backward on the unscaled loss")
def backward_too_early(lp, mask, G, c):
    total = normalized(lp, mask, c)
    loss = -total / G
    loss.backward()
    return loss.detach() / G, {"num_tokens": mask.sum(), "masked_sum": total.detach()}


@writes("step", "loss returned unscaled")
def loss_before_the_last_line(lp, mask, G, c):
    metadata = finish(normalized(lp, mask, c), mask, G)[1]
    return -metadata["masked_sum"] / G, metadata


@writes("step", "loss returned attached")
def graph_kept(lp, mask, G, c):
    total = normalized(lp, mask, c)
    loss = -total / G / G
    loss.backward()
    return loss, {"num_tokens": mask.sum(), "masked_sum": total.detach()}


@writes("step", "gradient cleared in the step")
def tidy(lp, mask, G, c):
    if lp.grad is not None:
        lp.grad.zero_()
    return finish(normalized(lp, mask, c), mask, G)


@writes("step", "rows counted")
def counts_rows(lp, mask, G, c):
    loss, metadata = finish(normalized(lp, mask, c), mask, G)
    return loss, metadata | {"num_tokens": mask.size(0)}


@writes("step", "masked_sum without c")
def reports_the_raw_sum(lp, mask, G, c):
    loss, metadata = finish(normalized(lp, mask, c), mask, G)
    return loss, metadata | {"masked_sum": wide(lp)[mask.bool()].detach().sum()}


# ---------------------------------------------------------------- log-probs


def look_up(log_p, labels):
    found = log_p.take_along_dim(labels.clamp_min(0)[..., None], -1)[..., 0]
    return found.masked_fill(labels == -100, 0)


@right_log_probs
def cross_entropy(model, input_ids, labels):
    logits = model(input_ids=input_ids).logits
    return {"log_probs": -F.cross_entropy(logits.mT, labels, reduction="none")}


@right_log_probs
def nll_loss(model, input_ids, labels, return_token_entropy=False):
    log_p = F.log_softmax(model(input_ids), 2).flatten(0, 1)
    losses = F.nll_loss(log_p, labels.flatten(), ignore_index=-100, reduction="none")
    return {"log_probs": -losses.view_as(labels)}


@right_log_probs
def logsumexp(model, x, y):
    logits = model(x)
    chosen = logits.gather(-1, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (chosen - logits.logsumexp(-1)) * (y != -100)


@right_log_probs
def one_hot(model, x, y):
    log_p = model(x).log_softmax(-1)
    hot = F.one_hot(y.clamp(min=0), log_p.shape[-1]) * (y != -100)[..., None]
    return torch.einsum("bsv,bsv->bs", log_p, hot.to(log_p))


@right_log_probs
def log_prob_loops(model, x, y):
    rows = []
    for ids, labels in zip(x, y, strict=True):
        log_p = torch.log_softmax(model(ids[None])[0], dim=-1)
        zero = log_p[0, 0] * 0
        rows.append(
            torch.stack([zero if v < 0 else log_p[s, v] for s, v in enumerate(labels.tolist())])
        )
    return torch.stack(rows)


@right_log_probs
def advanced_indices(model, x, y):
    log_p = model(x).float().log_softmax(-1)
    B, S = y.shape
    found = log_p[torch.arange(B)[:, None], torch.arange(S), y.clamp(min=0)]
    return torch.where(y == -100, 0, found)


@right_log_probs
def categorical(model, x, y):
    prediction = torch.distributions.Categorical(logits=model(x).logits)
    return {"log_probs": prediction.log_prob(y.clamp(min=0)).where(y >= 0, 0)}


@right_log_probs
def stable_by_hand(labels, input_ids, model):
    logits = model(input_ids)
    shifted = logits - logits.amax(-1, keepdim=True)
    return look_up(shifted - shifted.exp().sum(-1, keepdim=True).log(), labels)


@writes("log-probs", "probabilities")
def exponentials(model, x, y):
    return look_up(model(x).log_softmax(-1).exp(), y)


@writes("log-probs", "logits")
def raw(model, x, y):
    return look_up(model(x).logits, y)


@writes("log-probs", "negative log-probs")
def losses(model, x, y):
    return F.cross_entropy(model(x).mT, y, reduction="none")


@writes("log-probs", "no shift")
def unshifted(model, x, y):
    return look_up(model(x).log_softmax(-1), x)


@writes("log-probs", "normalized over positions")
def wrong_dimension(model, x, y):
    return look_up(F.log_softmax(model(x), dim=-2), y)


@writes("log-probs", "log-probs detached")
@torch.no_grad()
def without_gradient(model, x, y):
    return look_up(model(x).log_softmax(-1), y)


@writes("log-probs", "sampling temperature left in")
def warm(model, x, y):
    return look_up((model(x) * (1 / 0.7)).log_softmax(-1), y)


# ---------------------------------------------------------------- accumulation


def token_losses(model, batch):
    losses = F.cross_entropy(model(batch.input_ids).mT, batch.labels, reduction="none")
    return losses[batch.response_mask]


def windows(microbatches, G):
    return [microbatches[at : at + G] for at in range(0, len(microbatches), G)]


@right_accumulation
def functional(model, microbatches, G):
    found = []
    for window in windows(microbatches, G):
        losses = torch.cat([token_losses(model, batch) for batch in window])
        (gradient,) = torch.autograd.grad(losses.mean(), [model.weight])
        found.append({"weight": gradient})
    return found


@right_accumulation
def counted_before(model, microbatches, gradient_accumulation_steps):
    steps, G = [], gradient_accumulation_steps
    for index, batch in enumerate(microbatches):
        first = index - index % G
        tokens = sum(int(each.response_mask.sum()) for each in microbatches[first : first + G])
        (token_losses(model, batch).sum() / tokens).backward()
        if (index + 1) % G == 0 or index + 1 == len(microbatches):
            steps.append({name: p.grad.clone() for name, p in model.named_parameters()})
            model.zero_grad(set_to_none=False)
    return steps


@right_accumulation
def divided_at_the_end(model, microbatches, G):
    steps = []
    for window in windows(microbatches, G):
        model.weight.grad = None
        tokens = 0
        for batch in window:
            token_losses(model, batch).sum().backward()
            tokens += batch.num_tokens
        steps.append({"weight": model.weight.grad / tokens})
    return steps


@right_accumulation
def weighted_means(model, microbatches, G):
    def step(window):
        total = sum(batch.num_tokens for batch in window)
        for batch in window:
            (token_losses(model, batch).mean() * (batch.num_tokens / total)).backward()
        gradient, model.weight.grad = model.weight.grad, None
        return {"weight": gradient}

    return tuple(map(step, windows(microbatches, G)))


@right_accumulation
def through_log_softmax_and_products(model, microbatches, G):
    steps = []
    for window in windows(microbatches, G):
        hot = [F.one_hot(b.labels, 7) * b.response_mask[..., None] for b in window]
        sums = [
            (model(b.input_ids).log_softmax(-1) * h).sum() for b, h in zip(window, hot, strict=True)
        ]
        loss = -sum(sums) / sum(h.sum() for h in hot)
        model.zero_grad()
        loss.backward()
        steps.append({"weight": model.weight.grad})
    return steps


@writes("accumulation", "mean of means")
def averages(model, microbatches, G):
    steps = []
    for window in windows(microbatches, G):
        loss = torch.stack([token_losses(model, batch).mean() for batch in window]).mean()
        steps.append({"weight": torch.autograd.grad(loss, model.weight)[0]})
    return steps


@writes("accumulation", "leftover window dropped")
def drop_last(model, microbatches, G):
    return functional(model, microbatches[: len(microbatches) // G * G], G)


@writes("accumulation", "zero_grad forgotten")
def never_cleared(model, microbatches, G):
    steps = []
    for gradient in functional(model, microbatches, G):
        before = steps[-1]["weight"] if steps else 0
        steps.append({"weight": before + gradient["weight"]})
    return steps


@writes("accumulation", "÷G forgotten")
def sum_of_means(model, microbatches, G):
    return [
        {"weight": torch.autograd.grad(sum(token_losses(model, b).mean() for b in w), p)[0]}
        for w in windows(microbatches, G)
        for p in [model.weight]
    ]


@writes("accumulation", "mean over tokens forgotten")
def sum_of_sums(model, microbatches, G):
    return [
        {"weight": torch.autograd.grad(sum(token_losses(model, b).sum() for b in w), p)[0]}
        for w in windows(microbatches, G)
        for p in [model.weight]
    ]


def name(value):
    return getattr(value, "__name__", type(value).__name__) if callable(value) else None


@pytest.mark.parametrize(("subject", "mistake", "function"), WRITTEN, ids=name)
def test_other_words_are_judged_as_what_they_compute(subject, mistake, function):
    verdict = check(SUBJECTS[subject], function)
    outcome = "correct" if mistake is None else "wrong"
    assert (verdict.outcome, verdict.mistake) == (outcome, mistake), verdict
    if mistake is None:
        assert verdict.wrong == () and "loses digits" not in verdict.message


def test_there_are_enough_of_both():
    wrong = {(subject, mistake) for subject, mistake, _ in WRITTEN if mistake}
    right = [function for _, mistake, function in WRITTEN if mistake is None]
    assert len(right) >= 40 and len(wrong) >= 20
