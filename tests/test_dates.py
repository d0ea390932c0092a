"""The task is consistent; the model is causal; completion is greedy."""

from datetime import datetime

import pytest
import torch
from torch import nn

from sftviz.experiments.dates import (
    CONTEXT_LENGTH,
    END,
    PAD,
    START,
    VOCABULARY,
    Pair,
    complete,
    conversation,
    date_pairs,
    decode,
    encode,
    exact_match,
)
from sftviz.experiments.transformer import TinyTransformer
from sftviz.tokens import build_token_batch

TRAIN, HELD_OUT = date_pairs()
FORMATS = ("%d %B %Y→", "%B %d, %Y→", "%d.%m.%Y→")


def read(prompt):
    """The format of a prompt and its date, parsed by the standard library."""
    for form in FORMATS:
        try:
            return form, datetime.strptime(prompt, form).date()
        except ValueError:
            continue
    raise AssertionError(prompt)


class Chain(nn.Module):
    """A model that predicts for each token the one that `follows` names, otherwise <end>."""

    def __init__(self, **follows):
        super().__init__()
        self.follows = {encode(before)[0]: after for before, after in follows.items()}
        self.rows = 0

    def forward(self, input_ids):
        self.rows = max(self.rows, len(input_ids))
        after = [[self.follows.get(i, END) for i in row] for row in input_ids.tolist()]
        return nn.functional.one_hot(torch.tensor(after), len(VOCABULARY)).float()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TinyTransformer(width=16, heads=2, layers=2)


# ---------------------------------------------------------------- the task


def test_every_response_is_the_date_of_its_prompt():
    for pair in (*TRAIN, *HELD_OUT):
        assert read(pair.prompt)[1].isoformat() == pair.response


def test_no_held_out_date_is_in_the_training_pairs_in_any_format():
    dates = [read(pair.prompt)[1] for pair in (*TRAIN, *HELD_OUT)]
    assert len(dates) == len(set(dates))
    assert len(TRAIN) == 2610 and len(HELD_OUT) == 434


@pytest.mark.parametrize("pairs", [TRAIN, HELD_OUT])
def test_training_and_held_out_pairs_have_every_format_month_and_day(pairs):
    found = [read(pair.prompt) for pair in pairs]
    share = [sum(form == each for form, _ in found) / len(found) for each in FORMATS]
    assert share == pytest.approx([1 / 3] * 3, abs=0.01)
    assert {day.month for _, day in found} == set(range(1, 13))
    assert {day.day for _, day in found} == set(range(1, 32))


def test_every_pair_fits_and_is_one_token_a_character():
    batch = build_token_batch(
        [conversation(pair) for pair in (*TRAIN, *HELD_OUT)],
        PAD,
        CONTEXT_LENGTH,
        vocab_size=len(VOCABULARY),
    )
    assert batch.num_tokens == 11 * (len(TRAIN) + len(HELD_OUT))  # ten characters and <end>
    assert decode(encode("7 March 1987→")) == "7 March 1987→"
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert decode([START, PAD, END]) == "<start><pad><end>"


def test_an_unknown_character_is_refused_with_its_position():
    with pytest.raises(ValueError, match=r"'7/3' has '/' at position 1, which is not in the"):
        encode("7/3")


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("training", [True, False])  # torch has a separate implementation for each
def test_later_tokens_do_not_change_earlier_logits(model, training):
    model.train(training)
    token_ids = torch.tensor([[START, 5, 6, 7, 8, 9]])
    changed = token_ids.clone()
    changed[0, 4:] = PAD
    with torch.set_grad_enabled(training):
        before, after = model(token_ids), model(changed)
        alone = model(token_ids[:, :4])
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert torch.allclose(before[:, :4], alone, atol=1e-5)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-5)


def test_earlier_tokens_change_later_logits(model):
    one, other = model(torch.tensor([[START, 5, 6, 7], [START, 9, 6, 7]]))
    assert not torch.allclose(one[-1], other[-1], atol=1e-5)


def test_more_positions_than_the_context_length_are_refused(model):
    with pytest.raises(ValueError, match="has 33 positions, but the model has 32: shorten"):
        model(torch.ones(1, 33, dtype=torch.int64))


SIZES = ["vocab_size", "context_length", "width", "heads", "layers"]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_sizes_of_a_model_must_be_counts(name, bad, error):
    with pytest.raises(error, match=f"{name} must be an int of at least 1, got "):
        TinyTransformer(**{name: bad})


def test_the_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 10 and 4: each"):
        TinyTransformer(width=10, heads=4)


# ---------------------------------------------------------------- completions


def test_a_completion_ends_at_the_end_token():
    chain = Chain(**{"→": encode("1")[0], "1": encode("2")[0], "2": encode("3")[0]})
    assert complete(chain, ["7→", "2", "", "1 January 1900→"]) == ["123", "3", "", "123"]
    assert complete(chain, ["7→"], max_tokens=2) == ["12"]
    assert complete(chain, []) == []


def test_a_completion_without_an_end_token_stops_at_max_tokens():
    assert complete(Chain(**{"→": encode("1")[0], "1": encode("1")[0]}), ["→"], 5) == ["11111"]


def test_many_prompts_are_completed_in_parts_with_the_same_result(model):
    prompts = [pair.prompt for pair in TRAIN[:130]]
    chain = Chain(**{"→": encode("9")[0]})
    assert complete(chain, prompts) == ["9"] * 130 and chain.rows <= 64
    together = complete(model, prompts[:6], max_tokens=4)
    assert together == [complete(model, [prompt], max_tokens=4)[0] for prompt in prompts[:6]]


def test_exact_match_counts_responses_without_a_mistake():
    chain = Chain(**{"→": encode("1")[0], "1": encode("2")[0]})
    pairs = [Pair("7→", "12"), Pair("8→", "13"), Pair("9→", "1"), Pair("5→", "123")]
    assert exact_match(chain, pairs) == 0.25
    # The right characters without an end token are a mistake.
    endless = Chain(**{"→": encode("1")[0], "1": encode("1")[0]})
    assert exact_match(endless, [Pair("7→", "11")]) == 0


def test_an_untrained_model_has_no_exact_match():
    torch.manual_seed(0)
    assert exact_match(TinyTransformer(), HELD_OUT[:32]) == 0


@pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (3.0, TypeError), (True, TypeError)])
def test_max_tokens_must_be_a_count(model, bad, error):
    with pytest.raises(error, match="max_tokens must be an int of at least 1, got "):
        complete(model, ["7→"], max_tokens=bad)


def test_exact_match_of_no_pairs_is_refused(model):
    with pytest.raises(ValueError, match="pairs is empty, so there is no share: give at least one"):
        exact_match(model, [])
