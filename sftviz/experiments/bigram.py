"""A language model so small that its whole gradient can be seen, and random windows for it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sftviz.tokens import TokenBatch, build_token_batch


class BigramModel(nn.Module):
    """The smallest language model: a table of logits, one row for each token that may come before.

    Its gradient is a (V, V) table too, small enough to be seen whole, and shared by all rows and
    positions, as a model's parameters are.
    """

    def __init__(
        self, vocab_size: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(vocab_size, vocab_size, generator=generator, dtype=dtype)
        self.table = nn.Parameter(table)  # (V, V)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.table[input_ids]  # (B, S) -> (B, S, V)


def make_window(
    B: int,
    G: int,
    lengths: Sequence[int] | None = None,
    *,
    unevenness: float = 1.0,
    vocab_size: int = 8,
    seed: int = 0,
) -> tuple[TokenBatch, ...]:
    """Make G microbatches of B rows, of random tokens after a prompt of two.

    Args:
        B: rows of a microbatch.
        G: microbatches of the window.
        lengths: how many response tokens each row has. B·G of them, or fewer for a window that the
            data ran out in: then the last microbatch is short, or missing.
        unevenness: where no lengths are given, how far they are apart. 0: four tokens in every
            row; 1: from one in the first to seven in the last, with rows enough. Four is the mean.
        vocab_size: V; token 0 is the padding.
        seed: of the tokens.

    Example:
        >>> [batch.num_tokens for batch in make_window(B=2, G=4)]
        [3, 7, 9, 13]
        >>> [batch.num_tokens for batch in make_window(B=2, G=4, unevenness=0)]
        [8, 8, 8, 8]
        >>> [len(batch.labels) for batch in make_window(B=4, G=3, lengths=[3] * 10)]
        [4, 4, 2]
    """
    if B < 1 or G < 1:
        raise ValueError(f"B and G must be at least 1, got {B} and {G}.")
    if not 0 <= unevenness <= 1:
        raise ValueError(f"unevenness must be from 0 to 1, got {unevenness:g}.")
    if lengths is None:
        rows = B * G
        lengths = [round(4 + 3 * unevenness * ((2 * row + 1) / rows - 1)) for row in range(rows)]
    if not 1 <= len(lengths) <= B * G:
        raise ValueError(
            f"lengths must hold 1 to B·G = {B * G} numbers, got {len(lengths)}: one for each row."
        )
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(1, vocab_size, (count,), generator=generator).tolist()

    rows = [[("prompt", tokens(2)), ("response", tokens(length))] for length in lengths]
    return tuple(
        build_token_batch(rows[start : start + B], pad_id=0) for start in range(0, len(rows), B)
    )
