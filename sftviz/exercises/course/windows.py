"""Windows of microbatches that exercises are run on."""

import torch

from sftviz.tokens import TokenBatch


def microbatch(rows: int, mask: list[int], start: int) -> TokenBatch:
    """A microbatch of rows with the same mask, and tokens from 0 to 6 that depend on `start`."""
    S = len(mask)
    tokens = (torch.arange(rows * (S + 1)) * 3 + start).reshape(rows, S + 1) % 7
    return TokenBatch(tokens[:, :-1], tokens[:, 1:], torch.tensor([mask] * rows).bool())


# Each microbatch has as many rows as the others, and another number of response tokens.
WINDOW = [microbatch(2, [0, 1, 1, 1], 1), microbatch(2, [0, 0, 1], 2), microbatch(2, [1, 1], 5)]
PAIR = [microbatch(3, [0, 0, 0, 1], 6), microbatch(3, [0, 1, 1, 0, 1], 4)]
