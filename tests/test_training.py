"""The training loop equals one written by hand; it can be interrupted and resumed; and it learns.

Windows are compared with a loop that is written here with torch's own cross-entropy.
"""

import itertools
import math
import signal
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from sftviz.experiments.dates import PAD, VOCABULARY, Pair, complete, conversation, date_pairs
from sftviz.experiments.optimizers import RECIPES, Recipe, optimizer_divergence
from sftviz.experiments.training import Trainer, TrainingData, Window, prepare, visiting_order
from sftviz.experiments.transformer import TinyTransformer

B, G, C = 3, 4, 0.5
V = len(VOCABULARY)
PAIRS = [Pair(f"{a}{b}→", f"{b}{a}") for a, b in itertools.product("0123456789", repeat=2)]
UNEVEN = [Pair(pair.prompt, pair.response[: 1 + i % 2]) for i, pair in enumerate(PAIRS[:25])]


def tiny(width=8):
    torch.manual_seed(0)
    return TinyTransformer(context_length=8, width=width, heads=2, layers=1)


def data_of(pairs, **options):
    return prepare([conversation(pair) for pair in pairs], PAD, 8, V, **options)


DATA = data_of(UNEVEN)


def trainer_of(model, optimizer=None, data=DATA, **options):
    options = {
        "microbatch_size": B,
        "gradient_accumulation_steps": G,
        "normalize_constant": C,
    } | options
    return Trainer(model, optimizer or torch.optim.AdamW(model.parameters()), data, **options)


def run(trainer, until):
    return list(trainer.run(until))


def weights(model):
    return parameters_to_vector(model.parameters()).detach().clone()


def losses_by_hand(model, data, rows):
    """The sum and the mean over response tokens, by torch's own cross-entropy."""
    labels = data.tokens.labels[rows].masked_fill(~data.loss_mask[rows], -100).flatten()
    logits = model(data.tokens.input_ids[rows]).flatten(0, 1)
    return [nn.functional.cross_entropy(logits, labels, reduction=r) for r in ("sum", "mean")]


# ---------------------------------------------------------------- the data


def test_response_tokens_count_in_the_loss():
    data = data_of([Pair("12→", "3"), Pair("1→", "45")])
    assert torch.equal(data.loss_mask, data.tokens.response_mask)
    assert data.loss_mask.tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]


def test_without_the_prompt_mask_all_tokens_but_padding_count():
    pairs = [Pair("12→", "3"), Pair("1→", "4")]
    data = data_of(pairs, mask_prompt=False)
    assert data.loss_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert torch.equal(data.tokens.response_mask, data_of(pairs).loss_mask)
    assert torch.equal(data.tokens.input_ids, data_of(pairs).tokens.input_ids)


GOOD = [("prompt", [1, 2]), ("response", [3])]


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ([("prompt", [1, 2]), ("response", [3] * 8)], "row 2, position 8: the row needs 9"),
        ([], "row 2, position 0: the row is empty"),
        ([("prompt", [1, 2]), ("response", [])], "row 2, position 2: a response has no token"),
        ([("prompt", [1, 2])], "row 2, position 2: the row ends without a response"),
        ([("prompt", [1, 2]), ("response", [3, V])], "row 2, position 3: a token id must be from"),
    ],
)
@pytest.mark.parametrize("mask_prompt", [True, False])
def test_bad_rows_are_refused_with_row_and_position(bad, place, mask_prompt):
    with pytest.raises(ValueError, match=place):
        prepare([GOOD, GOOD, bad, GOOD], PAD, 8, V, mask_prompt)


# ---------------------------------------------------------------- the loop


@pytest.mark.parametrize("data", [DATA, data_of(UNEVEN, mask_prompt=False)])
def test_three_windows_equal_those_of_a_loop_written_by_hand(data):
    model, other = tiny().double(), tiny().double()
    trainer = trainer_of(model, torch.optim.SGD(model.parameters(), lr=0.1), data)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for window in run(trainer, until=3):
        scaled_loss = 0
        for rows in visiting_order(25, window.number, B * G, seed=0).split(B):
            loss = losses_by_hand(other, data, rows)[0] / (G * G * C)
            loss.backward()
            scaled_loss += loss.item()
        norm = torch.cat([p.grad.flatten() for p in other.parameters()]).norm().item()
        optimizer.step()
        optimizer.zero_grad()
        assert window.scaled_loss == pytest.approx(scaled_loss, rel=1e-9)
        assert window.grad_norm == pytest.approx(norm, rel=1e-9)
    assert torch.allclose(weights(model), weights(other), rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nll_is_the_mean_over_response_tokens_with_and_without_the_prompt_mask():
    rows = visiting_order(25, 1, B * G, seed=0)
    expected = losses_by_hand(tiny(), DATA, rows)[1].item()
    for mask_prompt in (True, False):
        data = data_of(UNEVEN, mask_prompt=mask_prompt)
        (window,) = run(trainer_of(tiny(), data=data), until=1)
        assert window.nll == pytest.approx(expected, rel=1e-5)
        assert window.num_tokens == int(data.loss_mask[rows].sum())
    assert expected == pytest.approx(math.log(V), abs=1)  # an untrained model


def test_a_long_gradient_is_clipped_and_its_length_before_that_is_recorded():
    model = tiny()
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    (window,) = run(trainer_of(model, optimizer, max_grad_norm=0.5), until=1)
    assert window.grad_norm > 1
    assert (weights(model) - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_every_row_is_visited_once_before_any_is_visited_again():
    for rows, size in [(7, 3), (5, 12), (4, 4), (1, 3)]:
        visited = torch.cat([visiting_order(rows, n, size, seed=3) for n in range(1, 1 + rows)])
        assert len(visited) == rows * size
        for epoch in visited.split(rows):
            assert sorted(epoch.tolist()) == list(range(rows))
    assert visiting_order(50, 1, 50, seed=0).tolist() != visiting_order(50, 2, 50, seed=0).tolist()
    assert visiting_order(50, 1, 50, seed=0).tolist() != visiting_order(50, 1, 50, seed=1).tolist()


def test_the_same_seeds_give_the_same_weights():
    first, again, other = tiny(), tiny(), tiny()
    histories = [
        run(trainer_of(model, seed=seed), until=4)
        for model, seed in ((first, 0), (again, 0), (other, 1))
    ]
    assert torch.equal(weights(first), weights(again)) and histories[0] == histories[1]
    assert not torch.equal(weights(first), weights(other))


BAD_COUNTS = [(0, ValueError), (2**63, ValueError), (1.0, TypeError), (True, TypeError)]
BAD_LENGTHS = [
    (0, ValueError),
    (-1.0, ValueError),
    (math.nan, ValueError),
    (10**400, ValueError),
    ("1", TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize(
    ("name", "bad", "error"),
    [
        *[("microbatch_size", *bad) for bad in BAD_COUNTS],
        *[("gradient_accumulation_steps", *bad) for bad in BAD_COUNTS],
        *[("seed", *bad) for bad in [(-1, ValueError), *BAD_COUNTS[1:]]],
        *[("max_grad_norm", *bad) for bad in BAD_LENGTHS],
        *[("normalize_constant", *bad) for bad in [*BAD_LENGTHS, (math.inf, ValueError)]],
    ],
)
def test_numbers_of_a_trainer_are_checked_before_training(name, bad, error):
    with pytest.raises(error, match=f"{name} must be "):
        trainer_of(tiny(), **{name: bad})


@pytest.mark.parametrize(
    ("bad", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError), (2**63, ValueError)]
)
def test_until_must_be_a_count_when_run_is_called(bad, error):
    with pytest.raises(error, match="until must be an int"):
        trainer_of(tiny()).run(until=bad)
    assert run(trainer_of(tiny()), until=0) == []


@pytest.mark.parametrize("name", ["context_length", "vocab_size"])
@pytest.mark.parametrize(("bad", "error"), BAD_COUNTS)
def test_numbers_of_prepare_are_checked(name, bad, error):
    sizes = {"context_length": 8, "vocab_size": V} | {name: bad}
    with pytest.raises(error, match=f"{name} must be an int"):
        prepare([GOOD], PAD, **sizes)


@pytest.mark.parametrize("place", range(4))
def test_numbers_of_a_visiting_order_are_checked(place):
    arguments = [7, 1, 3, 0]
    arguments[place] = -1
    with pytest.raises(ValueError, match=r"must be an int of at least [01], got -1: "):
        visiting_order(*arguments)
    assert len(visiting_order(7, 1, 3, seed=2**63 - 1)) == 3


def test_a_window_that_would_never_be_listed_is_refused():
    with pytest.raises(ValueError) as refusal:
        visiting_order(6, 1, 2**20 + 1, seed=0)
    assert str(refusal.value) == (
        "window_size must be an int of at most 1,048,576, got 1048577: "
        "it is the number of rows of a window."
    )
    assert len(visiting_order(10**5, 1, 2**20, seed=0)) == 2**20


@pytest.mark.parametrize("max_grad_norm", [math.inf, 1, 0.5])
def test_a_max_grad_norm_may_be_infinite_or_an_int(max_grad_norm):
    assert len(run(trainer_of(tiny(), max_grad_norm=max_grad_norm), until=1)) == 1


def has_gradient(model):
    return any(parameter.grad is not None for parameter in model.parameters())


def test_a_gradient_that_is_nan_stops_the_training_before_the_optimizer_step():
    model = tiny()
    trainer = trainer_of(model)
    run(trainer, until=2)
    before = weights(model)
    model.head.register_forward_hook(lambda module, inputs, logits: logits * torch.nan)
    with pytest.raises(FloatingPointError, match="the gradient of window 3 is nan, so the optim"):
        run(trainer, until=9)
    assert torch.equal(weights(model), before) and len(trainer.history) == 2
    assert not has_gradient(model)


def test_a_window_without_a_counted_token_is_refused_and_its_gradient_cleared():
    model = tiny()
    nothing = TrainingData(DATA.tokens, torch.zeros_like(DATA.loss_mask))
    trainer = trainer_of(model, data=nothing)
    before = weights(model)
    model.head.weight.grad = torch.ones_like(model.head.weight)  # left by somebody else
    with pytest.raises(ValueError) as refused:
        run(trainer, until=1)
    assert str(refused.value) == (
        "window 1 has no token that counts in the loss, in 12 rows, so the optimizer was not "
        "stepped: check the loss mask of the data."
    )
    assert torch.equal(weights(model), before) and trainer.history == []
    assert not has_gradient(model)


def test_the_loss_per_response_token_is_nan_in_a_window_without_response_tokens():
    tokens = DATA.tokens
    no_response = replace(tokens, response_mask=torch.zeros_like(tokens.response_mask))
    (window,) = run(trainer_of(tiny(), data=TrainingData(no_response, DATA.loss_mask)), until=1)
    assert math.isnan(window.nll) and window.num_tokens > 0 and window.scaled_loss > 0


# ---------------------------------------------------------------- interrupts


@pytest.fixture(scope="module")
def uninterrupted():
    model = tiny()
    trainer = trainer_of(model)
    run(trainer, until=5)
    return weights(model), trainer.history


def interrupt(*_):
    raise KeyboardInterrupt


def resumes_equal(trainer, uninterrupted):
    """Whether the resumed training ends with the weights of the uninterrupted one."""
    expected, history = uninterrupted
    done = len(trainer.history)
    assert trainer.history == history[:done]
    resumed = run(trainer, until=5)
    assert [window.number for window in resumed] == list(range(done + 1, 6))
    return trainer.history == history and torch.equal(weights(trainer.model), expected)


@pytest.mark.parametrize("microbatch", range(0, 5 * G, 3))
def test_an_interrupt_in_any_microbatch_loses_nothing(uninterrupted, microbatch):
    trainer = trainer_of(tiny())
    calls = itertools.count()
    hook = trainer.model.register_forward_hook(
        lambda *_: interrupt() if next(calls) == microbatch else None
    )
    with pytest.raises(KeyboardInterrupt):
        run(trainer, until=5)
    hook.remove()
    assert len(trainer.history) == microbatch // G
    assert resumes_equal(trainer, uninterrupted)


def test_an_interrupt_in_backward_loses_nothing(uninterrupted):
    trainer = trainer_of(tiny())
    hook = trainer.model.head.weight.register_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(trainer, until=5)
    hook.remove()
    assert resumes_equal(trainer, uninterrupted)


def test_an_interrupt_between_two_windows_loses_nothing(uninterrupted):
    trainer = trainer_of(tiny())
    with pytest.raises(KeyboardInterrupt):
        for window in trainer.run(until=5):
            if window.number == 2:
                interrupt()
    assert len(trainer.history) == 2 and resumes_equal(trainer, uninterrupted)


@pytest.mark.parametrize("when", ["register_step_pre_hook", "register_step_post_hook"])
def test_an_interrupt_is_delayed_until_the_optimizer_step_is_complete(uninterrupted, when):
    """An interrupted step would have changed only some of the weights."""
    trainer = trainer_of(tiny())
    handler = signal.getsignal(signal.SIGINT)
    hook = getattr(trainer.optimizer, when)(lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(trainer, until=5)
    hook.remove()
    assert len(trainer.history) == 1  # the window is complete and recorded
    assert signal.getsignal(signal.SIGINT) is handler
    assert resumes_equal(trainer, uninterrupted)


def test_running_a_finished_training_again_trains_nothing(uninterrupted):
    trainer = trainer_of(tiny())
    run(trainer, until=5)
    assert run(trainer, until=5) == run(trainer, until=3) == []
    assert resumes_equal(trainer, uninterrupted)


def test_training_works_in_another_thread(uninterrupted):
    trainer = trainer_of(tiny())
    thread = threading.Thread(target=run, args=(trainer, 5))
    thread.start()
    thread.join()
    assert resumes_equal(trainer, uninterrupted)


# ---------------------------------------------------------------- learning


def test_a_small_model_learns_to_swap_two_digits_that_it_has_not_seen():
    held_out = PAIRS[3::5]
    model = tiny(width=48)
    trainer = trainer_of(
        model,
        torch.optim.AdamW(model.parameters(), lr=1e-2),
        data_of([pair for pair in PAIRS if pair not in held_out]),
        microbatch_size=10,
        normalize_constant=1.0,
    )
    history = run(trainer, until=60)
    answers = complete(model, [pair.prompt for pair in held_out], max_tokens=3)
    right = sum(answer == pair.response for answer, pair in zip(answers, held_out, strict=True))
    assert history[0].nll > 3 and history[-1].nll < 0.3
    assert right > len(held_out) / 2  # by chance: one in a hundred


# ---------------------------------------------------------------- optimizers and the divisor


@pytest.mark.parametrize("s", [1 / 32, 1 / 8, 2.0, 0.75])
def test_adamw_of_a_scaled_gradient_is_adamw_with_another_eps(s):
    """AdamW(s·g, eps) is AdamW(g, eps/s): to the bit where s is a power of two."""
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    ends = []
    for scale, eps in ((s, 1e-3), (1.0, 1e-3 / s)):
        weight = nn.Parameter(torch.ones(7, dtype=torch.float64))
        optimizer = torch.optim.AdamW([weight], lr=0.1, eps=eps)
        for grad in grads:
            weight.grad = scale * grad
            optimizer.step()
        ends.append(weight.detach())
    assert torch.allclose(*ends, rtol=1e-12, atol=1e-14)
    assert not math.log2(s).is_integer() or torch.equal(*ends)


def test_one_large_microbatch_trains_like_its_microbatches():
    ends = []
    for microbatch_size, steps, constant in ((B, G, 1.0), (B * G, 1, float(G * G))):
        model = tiny().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = trainer_of(
            model,
            optimizer,
            microbatch_size=microbatch_size,
            gradient_accumulation_steps=steps,
            normalize_constant=constant,
        )
        run(trainer, until=3)
        ends.append(weights(model))
    assert torch.allclose(*ends, rtol=1e-10, atol=1e-13)


@pytest.fixture(scope="module")
def divergences():
    model = nn.Embedding(V, V)  # a bigram model
    torch.manual_seed(0)
    nn.init.normal_(model.weight, std=0.1)
    before = weights(model)
    data = prepare([conversation(pair) for pair in date_pairs()[0][:64]], PAD, 32, V)
    records = optimizer_divergence(model, data, steps=(2, 16), windows=20)
    assert torch.equal(weights(model), before) and model.weight.dtype == torch.float32
    return {(r.optimizer, r.gradient_accumulation_steps): r for r in records}


def test_nothing_differs_if_b_equals_g(divergences):
    for name in RECIPES:
        assert divergences[name, 2].difference == 0 and divergences[name, 2].factor == 1


def test_adamw_is_hardly_affected_by_the_factor_and_the_others_are(divergences):
    difference = {name: divergences[name, 16].difference for name in RECIPES}
    assert difference["AdamW"] < 1e-3
    assert difference["AdamW, clipped at 1"] > 10 * difference["AdamW"]
    for name in ("AdamW, eps 1e-2", "Adam with L2 decay", "SGD"):
        assert difference[name] > 0.1


def test_the_logged_loss_shows_the_factor_that_adamw_hides(divergences):
    record = divergences["AdamW", 16]
    assert record.factor == 0.125
    assert record.loss / record.mean_loss == pytest.approx(0.125, rel=1e-3)


def test_clipping_acts_more_often_under_the_mean(divergences):
    record = divergences["AdamW, clipped at 1", 16]
    assert record.mean_clipped == 1 and record.clipped < 0.5
    assert divergences["AdamW", 16].mean_clipped == 0


def test_the_difference_is_relative_to_the_change_under_the_mean():
    """A step of plain SGD is s times as long under ÷ G²: the distance is |1 − s|."""
    sgd = {"SGD": Recipe(lambda parameters: torch.optim.SGD(parameters, lr=0.1))}
    for record in optimizer_divergence(tiny(), DATA, sgd, steps=(1, 4, 8), windows=1):
        assert record.difference == pytest.approx(abs(1 - record.factor), rel=1e-9)
        assert record.loss == pytest.approx(record.factor * record.mean_loss, rel=1e-9)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"steps": (2, 0)}, "every entry of steps must be an int of at least 1, got 0: "),
        ({"microbatch_size": 0}, "microbatch_size must be an int of at least 1, got 0: "),
        ({"windows": 0}, "windows must be an int of at least 1, got 0: "),
    ],
)
def test_numbers_of_a_divergence_are_checked(numbers, message):
    with pytest.raises(ValueError, match=message):
        optimizer_divergence(tiny(), DATA, **numbers)


def test_a_window_is_a_value():
    window = Window(1, 2.0, 3.0, 4, 5.0)
    with pytest.raises(AttributeError):
        window.nll = 0.0
