"""Exercise: what is read, what is to be predicted, and the mask about that."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from sftviz.exercises.exercise import exercise, wrong
from sftviz.exercises.subject import Trial

_TOKENS = torch.tensor([[5, 6, 3, 4, 9, 0], [7, 2, 8, 1, 0, 0], [4, 4, 1, 6, 2, 3]])
_MASK = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 0, 1]]).bool()


def shift(tokens: Tensor, in_response: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make what the model reads, and what it must predict.

    tokens: (B, T) int. in_response: (B, T) bool, True at the tokens of the response.
    Returns input_ids, labels and response_mask, each (B, T − 1). The label of a position
    is the next token; response_mask is True where the label belongs to the response.
    """
    return tokens[:, :-1], tokens[:, 1:], in_response[:, 1:]


EXERCISE = exercise(
    shift,
    title="The shift",
    minutes=4,
    goal="At each position a language model predicts the next token. Make the tokens that it "
    "reads, the labels that it must predict, and the mask that belongs to the labels.",
    hints=(
        "Write down a row of four tokens, a b c d. What is to be predicted after a? After c? Is "
        "there a position at which d is read and something is to be predicted?",
        "The model reads all tokens but the last: <code>tokens[:, :-1]</code>.",
        "The labels are all tokens but the first. The mask says which labels count, so it is cut "
        "in the same way.",
    ),
    returns=("input_ids", "labels", "response_mask"),
    trials=(Trial((_TOKENS, _MASK)), Trial((_TOKENS[:2, :4], _MASK[:2, :4]))),
    mistakes=(
        wrong("no shift", lambda tokens, mask: (tokens[:, :-1], tokens[:, :-1], mask[:, :-1])),
        wrong(
            "shifted twice",
            lambda tokens, mask: (tokens[:, :-1], *(pad(x[:, 2:], (0, 1)) for x in (tokens, mask))),
        ),
        wrong(
            "mask one too late",
            lambda tokens, mask: (tokens[:, :-1], tokens[:, 1:], mask[:, :-1]),
            "The mask is about the tokens that are read, so it is one position too late.",
            "Shift the mask as the labels are shifted.",
        ),
        wrong(
            "input and labels exchanged",
            lambda tokens, mask: (tokens[:, 1:], tokens[:, :-1], mask[:, :-1]),
            "The model reads what it must predict, and predicts the token before.",
            "It reads all tokens but the last, and predicts all tokens but the first.",
        ),
        wrong(
            "rolled",
            lambda tokens, mask: (tokens, tokens.roll(-1, 1), mask.roll(-1, 1)),
            "At the last position, roll puts the first token of the row: it does not come next.",
            "Cut one token off, so that T − 1 positions are left.",
        ),
        wrong(
            "first token never read",
            lambda tokens, mask: (tokens[:, 1:], tokens[:, 1:], mask[:, 1:]),
            "All three begin at the second token, so the label is the token that is read.",
            "input_ids begin with the first token, and end before the last.",
        ),
    ),
)
