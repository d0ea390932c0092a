"""Small batches that the course keeps coming back to."""

import torch

from sftviz.batch import Batch

WORKED_EXAMPLE = Batch(
    policy_log_probs=torch.tensor([[-0.5, -0.3, -0.8, -0.2], [-0.4, -0.6, -0.3, -0.5]]),
    response_mask=torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]]),
    gradient_accumulation_steps=2,
    # "Why?" is the user's turn in the middle of the model's: the one token that is masked.
    tokens=(("Yes", ".", "Why?", "Because"), ("The", "sky", "is", "blue")),
)
