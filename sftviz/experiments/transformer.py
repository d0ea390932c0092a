"""A causal transformer that is small enough to train in seconds on a CPU."""

import torch
from torch import Tensor, nn

from sftviz.experiments.dates import CONTEXT_LENGTH, VOCABULARY
from sftviz.validate import check_count


class TinyTransformer(nn.Module):
    """A causal language model of torch's modules, without dropout; by default 107,820 parameters.

    Args:
        vocab_size: V.
        context_length: the largest number of positions that it reads; more raise ValueError.
        width: numbers in the vector of one token.
        heads: attention heads of a block.
        layers: blocks.

    Raises:
        TypeError, ValueError: a size is not an int of at least 1, or width % heads is not 0.

    Example:
        >>> model = TinyTransformer(vocab_size=10, context_length=8)
        >>> model(torch.tensor([[1, 2, 3]])).shape  # (B, S) to (B, S, V)
        torch.Size([1, 3, 10])
    """

    def __init__(
        self,
        vocab_size: int = len(VOCABULARY),  # the default sizes are those of the task in `dates`
        context_length: int = CONTEXT_LENGTH,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
    ) -> None:
        super().__init__()
        check_count("vocab_size", vocab_size, "it is the number of tokens that the model knows")
        check_count("context_length", context_length, "it is the number of positions of the model")
        check_count("width", width, "it is the size of a token's vector")
        check_count("heads", heads, "it is the number of attention heads of a block")
        check_count("layers", layers, "it is the number of blocks")
        if width % heads:
            raise ValueError(
                f"width must be a multiple of heads, got {width} and {heads}: each head has an "
                "equal part of a token's vector."
            )
        self.context_length = context_length
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context_length, width)
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        # "Encoder" is torch's name for a stack of blocks; the mask in `forward` makes it causal.
        self.blocks = nn.TransformerEncoder(
            block, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, vocab_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (B, S, V) of the token after each of `input_ids` (B, S), padded on the right."""
        S = input_ids.shape[1]
        if self.context_length < S:
            raise ValueError(
                f"input_ids has {S} positions, but the model has {self.context_length}: "
                "shorten the text, or make a model with a larger context_length."
            )
        later = torch.ones(S, S, dtype=torch.bool, device=input_ids.device).triu(1)  # (S, S)
        x = self.tokens(input_ids) + self.positions.weight[:S]  # (B, S, width)
        return self.head(self.blocks(x, mask=later, is_causal=True))
