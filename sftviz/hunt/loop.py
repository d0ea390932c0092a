"""A training run as plain code, from texts to weights. A bug is a change of some of these lines."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer

from sftviz.experiments.dates import END, PAD, START, Pair, encode
from sftviz.experiments.transformer import TinyTransformer
from sftviz.hunt.rows import window_pairs
from sftviz.tokens import TokenBatch


def prepare(pairs: Sequence[Pair]) -> TokenBatch:
    """Make a microbatch of prompts and responses."""
    prompts = [[START, *encode(pair.prompt)] for pair in pairs]
    responses = [[*encode(pair.response), END] for pair in pairs]
    rows = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    length = max(map(len, rows))
    tokens = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])  # (B, S + 1)
    starts = torch.tensor([[len(prompt)] for prompt in prompts])  # (B, 1)
    ends = torch.tensor([[len(row)] for row in rows])  # (B, 1)
    position = torch.arange(length)  # (S + 1,)
    in_response = (position >= starts) & (position < ends)  # (B, S + 1)
    return TokenBatch(
        input_ids=tokens[:, :-1],
        labels=tokens[:, 1:],
        response_mask=in_response[:, 1:],
    )


def load_window(number: int) -> list[TokenBatch]:
    """The microbatches of a window, which is counted from 1."""
    return [prepare(pairs) for pairs in window_pairs(number)]


def start() -> tuple[nn.Module, Optimizer]:
    """A new model and its optimizer."""
    torch.manual_seed(0)
    model = TinyTransformer(width=48, layers=1)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    return model, optimizer


def train_window(
    model: nn.Module,
    optimizer: Optimizer,
    microbatches: Sequence[TokenBatch],
    max_grad_norm: float = math.inf,
) -> tuple[float, float]:
    """Train one window; return the loss for the log, and the length of the gradient."""
    G = len(microbatches)
    window_tokens = sum(batch.num_tokens for batch in microbatches)
    logged = 0.0
    optimizer.zero_grad()
    for batch in microbatches:
        log_p = model(batch.input_ids).log_softmax(-1)  # (B, S, V)
        log_probs = log_p.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)  # (B, S)
        masked_sum = torch.where(batch.response_mask, log_probs, 0).sum()
        loss = -masked_sum / (window_tokens / G)
        scaled_loss = loss / G
        scaled_loss.backward()
        logged += scaled_loss.item()
    grad_norm = clip_grad_norm_(model.parameters(), max_grad_norm).item()
    optimizer.step()
    return logged, grad_norm
