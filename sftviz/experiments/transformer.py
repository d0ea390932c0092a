"""A small causal transformer, made of torch's own parts."""

import torch
from torch import Tensor, nn

from sftviz.experiments.dates import CONTEXT_LENGTH, VOCABULARY


class TinyTransformer(nn.Module):
    """A causal language model made of torch's own parts; about 110,000 parameters.

    It has no dropout: the same seed and the same data give the same model, and a training that was
    interrupted can go on as if it had not been.
    """

    def __init__(
        self,
        vocab_size: int = len(VOCABULARY),
        context_length: int = CONTEXT_LENGTH,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context_length, width)
        block = nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        # "Encoder" is torch's name for a stack of blocks; the mask below is what makes it causal.
        self.blocks = nn.TransformerEncoder(
            block, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, vocab_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (B, S, V) of the token that follows each of `input_ids` (B, S).

        Padding belongs on the right: what comes after a token can't reach it.
        """
        S = input_ids.shape[1]
        if self.context_length < S:
            raise ValueError(
                f"input_ids has {S} positions, but the model was made for {self.context_length}: "
                "cut the text, or make the model with a longer context_length."
            )
        later = torch.ones(S, S, dtype=torch.bool, device=input_ids.device).triu(1)  # (S, S)
        x = self.tokens(input_ids) + self.positions.weight[:S]  # (B, S, width)
        return self.head(self.blocks(x, mask=later, is_causal=True))
