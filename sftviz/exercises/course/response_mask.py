"""Exercise: the mask, from the lengths of the prompts and of the rows."""

import torch
from torch import Tensor

from sftviz.exercises.exercise import exercise, wrong
from sftviz.exercises.subject import Trial


def response_mask(prompt_lengths: Tensor, lengths: Tensor, T: int) -> Tensor:
    """Mark the tokens of the responses.

    prompt_lengths: (B,) int, the number of tokens of each prompt.
    lengths: (B,) int, prompt and response together; the rest of a row is padding.
    T: the number of tokens of every row, padding included.
    Returns (B, T) bool: True where a token belongs to the response.
    """
    position = torch.arange(T)
    return (position >= prompt_lengths[:, None]) & (position < lengths[:, None])


EXERCISE = exercise(
    response_mask,
    title="Mask from lengths",
    minutes=4,
    goal="A row is a prompt, then a response, then padding. Make the mask that is True at the "
    "tokens of the response only. (It is about tokens; the shift comes next.)",
    hints=(
        "A token is in the response if its position is at least the prompt's length and below the "
        "row's length. <code>torch.arange(T)</code> has the positions.",
        "Positions have the shape (T,), lengths (B,). With <code>lengths[:, None]</code>, which is "
        "(B, 1), a comparison gives (B, T).",
        "Connect the two comparisons with <code>&amp;</code>, and put each into parentheses.",
    ),
    trials=(
        Trial((torch.tensor([2, 1, 4]), torch.tensor([5, 6, 5]), 10)),
        Trial((torch.tensor([1, 3]), torch.tensor([4, 4]), 4), "no row has padding"),
    ),
    mistakes=(
        wrong("prompt counted", lambda prompts, lengths, T: torch.arange(T) < lengths[:, None]),
        wrong("padding counted", lambda prompts, lengths, T: torch.arange(T) >= prompts[:, None]),
        wrong("mask inverted", lambda *arguments: ~response_mask(*arguments)),
        wrong(
            "first row's mask",
            lambda prompts, lengths, T: response_mask(prompts[:1], lengths[:1], T).expand(
                len(lengths), T
            ),
        ),
        wrong(
            "first response token lost",
            lambda prompts, lengths, T: response_mask(prompts + 1, lengths, T),
            "The mask begins one token after the first token of the response.",
            "Positions are counted from 0, so the response begins at position prompt_lengths.",
        ),
        wrong(
            "one padding token counted",
            lambda prompts, lengths, T: response_mask(prompts, lengths + 1, T),
            "The mask is True at the first token of the padding too.",
            "Positions are counted from 0, so the last token is at position lengths − 1.",
        ),
        wrong(
            "prompt added to lengths",
            lambda prompts, lengths, T: response_mask(prompts, prompts + lengths, T),
            "The prompt is added to lengths, which contain it already.",
            "The response ends where lengths says.",
        ),
    ),
)
