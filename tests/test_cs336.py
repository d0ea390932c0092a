"""The adapters in docs/cs336.md, run as they stand there, on inputs of the sizes that the public
tests of CS336's assignment 5 use. What is expected is computed without this package."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

PAGE = (Path(__file__).parent.parent / "docs" / "cs336.md").read_text("utf-8")
ADAPTERS: dict[str, object] = {}
exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], ADAPTERS)
call = SimpleNamespace(**{k: v for k, v in ADAPTERS.items() if k.startswith("run_")})

B, S, V, G = 2, 10, 100, 2


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class WordTokenizer:
    """One id a word, in the order in which the words come."""

    pad_token_id = 0

    def __init__(self):
        self.ids = {"<pad>": 0}

    def encode(self, text):
        return [self.ids.setdefault(word, len(self.ids)) for word in text.split()]


def test_there_is_one_adapter_for_each_of_the_five_functions():
    assert sorted(vars(call)) == [
        "run_compute_entropy",
        "run_get_response_log_probs",
        "run_masked_normalize",
        "run_sft_microbatch_train_step",
        "run_tokenize_prompt_and_output",
    ]


def test_tokenize_prompt_and_output():
    texts = ["a cat sat", "a dog", "the cat and a dog sat"]  # 1 2 3, 1 4, 5 2 6 1 4 3
    batch = call.run_tokenize_prompt_and_output(
        prompt_strs=texts, output_strs=texts, tokenizer=WordTokenizer()
    )
    assert {name: tensor.int().tolist() for name, tensor in batch.items()} == {
        "input_ids": [
            [1, 2, 3, 1, 2, 3, 0, 0, 0, 0, 0],
            [1, 4, 1, 4, 0, 0, 0, 0, 0, 0, 0],
            [5, 2, 6, 1, 4, 3, 5, 2, 6, 1, 4],
        ],
        "labels": [
            [2, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0],
            [4, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0],
            [2, 6, 1, 4, 3, 5, 2, 6, 1, 4, 3],
        ],
        "response_mask": [
            [0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
            [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1],
        ],
    }


def log_softmax(row):
    total = math.fsum(math.exp(x) for x in row)
    return [x - math.log(total) for x in row]


def entropies(logits):
    rows = [[log_softmax(position) for position in row] for row in logits.tolist()]
    return [[-math.fsum(math.exp(x) * x for x in position) for position in row] for row in rows]


def test_compute_entropy():
    logits = random(B, S, V)
    expected = torch.tensor(entropies(logits))
    torch.testing.assert_close(call.run_compute_entropy(logits), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("with_entropy", [True, False])
def test_get_response_log_probs(with_entropy):
    table = random(V, V)
    embedding = nn.Embedding.from_pretrained(table)
    input_ids = torch.randint(V, (B, S), generator=torch.Generator().manual_seed(0))
    labels = torch.cat([input_ids[:, 1:], torch.zeros(B, 1).long()], 1)
    found = call.run_get_response_log_probs(
        model=lambda ids: SimpleNamespace(logits=embedding(ids)),
        input_ids=input_ids,
        labels=labels,
        return_token_entropy=with_entropy,
    )
    logits = table[input_ids]
    expected = {
        "log_probs": [
            [log_softmax(logits[b, s].tolist())[labels[b, s]] for s in range(S)] for b in range(B)
        ],
        "token_entropy": entropies(logits),
    }
    assert set(found) == ({*expected} if with_entropy else {"log_probs"})
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, torch.tensor(expected[name]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dim", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("c", [1.0, 42.0])
def test_masked_normalize(dim, c):
    tensor, mask = random(B, S, V), random(B, S, V, seed=1) > 0
    found = call.run_masked_normalize(tensor=tensor, mask=mask, dim=dim, normalize_constant=c)
    rows = tensor.flatten()[None] if dim is None else tensor.movedim(dim, -1).flatten(0, 1)
    bits = mask.flatten()[None] if dim is None else mask.movedim(dim, -1).flatten(0, 1)
    expected = [
        math.fsum(x for x, bit in zip(*both, strict=True) if bit) / c
        for both in zip(rows.tolist(), bits.tolist(), strict=True)
    ]
    assert found.flatten().tolist() == pytest.approx(expected, abs=2e-4)
    assert found.shape == tensor.sum(dim).shape


def divided(log_probs, mask, divisor):
    return -math.fsum(log_probs[mask].tolist()) / divisor


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("c", [1.0, 42.0])
def test_sft_microbatch_train_step(c, steps):
    log_probs, mask = random(B, S).requires_grad_(), random(B, S, seed=1) > 0
    for step in range(1, steps + 1):
        loss, _ = call.run_sft_microbatch_train_step(
            policy_log_probs=log_probs,
            response_mask=mask,
            gradient_accumulation_steps=G,
            normalize_constant=c,
        )
        assert loss.item() == pytest.approx(divided(log_probs, mask, G * G * c), rel=1e-5)
        expected = torch.where(mask, -step / (G * G * c), 0.0)  # it adds up
        torch.testing.assert_close(log_probs.grad, expected)


def test_the_sizes_of_the_public_tests_hide_the_mean_over_rows_and_those_of_the_page_do_not():
    for rows, G, c, same in ((2, 2, 42.0, True), (5, 3, 7.0, False)):
        log_probs, mask = random(rows, S).requires_grad_(), random(rows, S, seed=1) > 0
        loss, _ = call.run_sft_microbatch_train_step(log_probs, mask, G, c)
        mean_over_rows = divided(log_probs, mask, rows * G * c)
        assert (loss.item() == pytest.approx(mean_over_rows, rel=1e-5)) is same
