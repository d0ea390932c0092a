"""A language model with a single parameter table, and windows of random tokens to run it on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sftviz.tokens import TokenBatch, build_token_batch
from sftviz.validate import MOST_ROWS, check_count, check_fraction


class BigramModel(nn.Module):
    """A table of logits, (V, V): one row for each token that is read.

    Args:
        vocab_size: V.
        seed: of the random logits, at least 0; the same logits in every dtype, up to rounding.

    Raises:
        TypeError, ValueError: vocab_size or seed is not a count.

    Example:
        >>> BigramModel(vocab_size=8)(torch.tensor([[1, 2, 3]])).shape  # (B, S) to (B, S, V)
        torch.Size([1, 3, 8])
    """

    def __init__(
        self, vocab_size: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        check_count("vocab_size", vocab_size, "it is the number of tokens that the model knows")
        check_count("seed", seed, "it seeds a random number generator", least=0)
        generator = torch.Generator().manual_seed(seed)
        # A generator draws other numbers in another dtype: draw in one, then convert.
        table = torch.randn(vocab_size, vocab_size, generator=generator, dtype=torch.float64)
        self.table = nn.Parameter(table.to(dtype))  # (V, V)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (B, S, V) of the token that follows each of `input_ids` (B, S)."""
        return self.table[input_ids]


def make_window(
    B: int,
    G: int,
    lengths: Sequence[int] | None = None,
    *,
    unevenness: float = 1.0,
    vocab_size: int = 8,
    seed: int = 0,
) -> tuple[TokenBatch, ...]:
    """Make G microbatches of B rows, with random tokens and prompts of two tokens.

    Args:
        B, G: rows of a microbatch, and microbatches of the window; B·G is at most 2²⁰.
        lengths: the number of response tokens of each row. Fewer than B·G numbers make a window at
            the end of the data, whose last microbatch has fewer rows or is missing.
        unevenness: from 0 to 1, used if no lengths are given. 0: four response tokens in every row;
            1: from one in the first row to seven in the last, if there are enough rows.
        vocab_size: V, at least 2; token 0 is the padding.
        seed: of the random tokens, at least 0.

    Raises:
        TypeError, ValueError: a number is out of range, or there are not 1 to B·G lengths.

    Example:
        >>> [batch.num_tokens for batch in make_window(B=2, G=4)]
        [3, 7, 9, 13]
    """
    check_count("B", B, "it is the number of rows of a microbatch")
    check_count("G", G, "it is the number of microbatches of the window")
    check_count("B·G", B * G, "every row of the window is made", most=MOST_ROWS)
    check_fraction("unevenness", unevenness, "1 is the largest difference between the rows")
    check_count("vocab_size", vocab_size, "token 0 is the padding", least=2)
    check_count("seed", seed, "it seeds a random number generator", least=0)
    if lengths is None:
        rows = B * G
        lengths = [round(4 + 3 * unevenness * ((2 * row + 1) / rows - 1)) for row in range(rows)]
    if not 1 <= len(lengths) <= B * G:
        raise ValueError(
            f"lengths must hold 1 to B·G = {B * G} numbers, got {len(lengths)}: one for each row."
        )
    for n in lengths:
        check_count("every entry of lengths", n, "it is the number of response tokens of a row")
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(1, vocab_size, (count,), generator=generator).tolist()

    rows = [[("prompt", tokens(2)), ("response", tokens(length))] for length in lengths]
    return tuple(build_token_batch(rows[i : i + B], pad_id=0) for i in range(0, len(rows), B))
