"""The small batches of the course."""

import torch

from sftviz.inputs import StepInputs
from sftviz.logits import LogitsInputs

NAN = float("nan")

WORKED_EXAMPLE = StepInputs(
    policy_log_probs=[[-0.5, -0.3, -0.8, -0.2], [-0.4, -0.6, -0.3, -0.5]],
    response_mask=torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]]),
    gradient_accumulation_steps=2,
    # "Why?" is a turn of the user, between two turns of the model: the one masked token.
    tokens=(("Yes", ".", "Why?", "Because"), ("The", "sky", "is", "blue")),
)

PRESETS = {
    "worked example": WORKED_EXAMPLE,
    "B = 3, G = 4": StepInputs(
        policy_log_probs=[
            [-1.2, -0.4, -0.1, -0.7],
            [-2.1, -0.9, -0.3, -0.2],
            [-0.6, -1.5, -0.8, -0.4],
        ],
        response_mask=torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 0]]),
        gradient_accumulation_steps=4,
        tokens=(
            ("Hi", "Hello", "there", "!"),
            ("One", "plus one?", "Two", "."),
            ("Bye", "See", "you", "<pad>"),
        ),
    ),
    "long prompt": StepInputs(
        policy_log_probs=[
            [-3.2, -1.1, -2.4, -0.6, -1.9, -0.3, -0.1],
            [-2.8, -0.7, -3.1, -1.4, -0.9, -0.2, -0.4],
        ],
        response_mask=torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1]]),
        gradient_accumulation_steps=2,
        tokens=(
            ("What", "is", "two", "plus", "two?", "Four", "."),
            ("Name", "the", "largest", "ocean", ".", "Pacific", "."),
        ),
    ),
    "padding": StepInputs(
        policy_log_probs=[[-0.9, -0.2, -0.5, -0.1, -0.3], [-1.4, -0.6, -9.2, -9.2, -9.2]],
        response_mask=torch.tensor([[0, 1, 1, 1, 1], [0, 1, 0, 0, 0]]),
        gradient_accumulation_steps=2,
        tokens=(("Hi", "How", "are", "you", "?"), ("Bye", "!", "<pad>", "<pad>", "<pad>")),
    ),
    "several turns": StepInputs(
        policy_log_probs=[[-1.1, -0.4, -0.2, -2.3, -1.7, -0.5, -0.3]],
        response_mask=torch.tensor([[0, 1, 1, 0, 0, 1, 1]]),
        gradient_accumulation_steps=2,
        tokens=(("Hi", "Hello", "!", "Who", "?", "Me", "."),),
    ),
    "all masked": StepInputs(
        policy_log_probs=[[-0.5, -0.3, -0.8], [-0.4, -0.6, -0.3]],
        response_mask=torch.zeros(2, 3),
        gradient_accumulation_steps=2,
    ),
    "NaN under the mask": StepInputs(
        policy_log_probs=[[NAN, -0.3, -0.8], [-0.4, NAN, -float("inf")]],
        response_mask=torch.tensor([[0, 1, 1], [1, 0, 0]]),
        gradient_accumulation_steps=2,
    ),
}

# After "the" comes "cat", and so on; the first label belongs to the prompt.
FIVE_WORDS = LogitsInputs(
    logits=torch.tensor(
        [
            [0.1, 2.0, 0.3, -0.5, 1.2],
            [-1.0, 0.2, 2.5, 0.4, 0.1],
            [0.5, -0.8, 0.3, 1.0, 0.6],
            [1.5, 0.0, -0.4, 0.2, 1.1],
        ]
    )[None],
    labels=torch.tensor([[1, 2, 3, 4]]),
    response_mask=torch.tensor([[0, 1, 1, 1]]),
    gradient_accumulation_steps=2,
    vocabulary=("the", "cat", "sat", "on", "mat"),
)
