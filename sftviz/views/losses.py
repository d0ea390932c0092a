"""What a loss means: `scaled_loss`, nats a token, perplexity and probability, each from the others.

`scaled_loss` depends on the number of tokens, on G and on c. The other three do not, so they can be
compared between batches: they are the same loss in three units.
"""

import math
from collections.abc import Sequence

import torch

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Card, Cell, Column, Text
from sftviz.step import StepTrace
from sftviz.validate import check_finite, check_positive
from sftviz.views.parts import TONES, table

_TONES = {
    "scaled_loss": TONES["scaled_loss"],
    "nats a token": TONES["loss"],
    "perplexity": TONES["masked_sum"],
    "probability": TONES["policy_log_probs"],
}
_CELL = 13  # what 1.234e−100 and the longest name need
_IMPOSSIBLE = "impossible"  # a probability above 1


def loss_table(
    trace: StepTrace,
    *,
    scaled_loss: Sequence[float] = (),
    nats: Sequence[float] = (),
    perplexity: Sequence[float] = (),
    probability: Sequence[float] = (),
) -> Drawing:
    """Convert the loss of a microbatch, and other losses that it could have, into four units.

    Nats a token: the mean of the negative log-probs of the response tokens. Perplexity: exp of it.
    Probability: 1 ÷ perplexity, the geometric mean of the probabilities that the model gave to the
    response tokens.

    Args:
        trace: a run of the step. Its loss is in the first line, and its num_tokens, G and c are
            those of every line.
        scaled_loss, nats, perplexity, probability: a line for each number, in the unit of its name.

    Raises:
        TypeError, ValueError: a loss is not a finite number, a perplexity or a probability is not
            above 0, or no token counts.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> print(loss_table(WORKED_EXAMPLE.trace(), perplexity=[10]))
    ╭─────────────────────────────────────────────────────────────────────────────╮
    │                 scaled_loss   nats a token  perplexity    probability       │
    │ this batch      [        0.7] [        0.4] [      1.492] [     0.6703]     │
    │ from perplexity [       4.03] [      2.303] [         10] [        0.1]     │
    │ nats a token = scaled_loss · G² · c ÷ num_tokens = scaled_loss · 2² · 1 ÷ 7 │
    ╰─────────────────────────────────────────────────────────────────────────────╯
    """
    if trace.num_tokens == 0:
        raise ValueError(
            "no token counts in this trace, so there is no loss per token: give a batch with a "
            "response token."
        )
    for loss in (*scaled_loss, *nats):
        check_finite("every entry of scaled_loss and nats", loss, "it is a loss")
    for loss in (*perplexity, *probability):
        check_positive("every entry of perplexity and probability", loss, "its logarithm is a loss")
    G, c, N = trace.gradient_accumulation_steps, trace.normalize_constant, trace.num_tokens
    in_nats = [
        ("this batch", trace.scaled_loss.item() * G**2 * c / N),
        *(("from scaled_loss", loss * G**2 * c / N) for loss in scaled_loss),
        *(("from nats", loss) for loss in nats),
        *(("from perplexity", math.log(loss)) for loss in perplexity),
        *(("from probability", -math.log(loss)) for loss in probability),
    ]
    rows = [[Text(""), *(Text(name, tone) for name, tone in _TONES.items()), Text("")]]
    words = []
    for row, (origin, loss) in enumerate(in_nats):
        # torch's exp: math.exp raises OverflowError instead of returning inf
        powers = torch.tensor([loss, -loss], dtype=torch.float64).exp().tolist()
        units = map(number, (loss * N / (G**2 * c), loss, *powers))
        cells = [
            Cell(text, _CELL, tone, f"{name}[{row}]")
            for (name, tone), text in zip(_TONES.items(), units, strict=True)
        ]
        rows.append([Text(origin, "muted"), *cells, Text(_IMPOSSIBLE if loss < 0 else "", "muted")])
        words.append(f"{cells[0].text} is {cells[1].text} nats a token")
    names = "nats a token = scaled_loss · G² · c ÷ num_tokens"
    formula = f"{names} = scaled_loss · {G}² · {number(c)} ÷ {N}"
    alt = f"Conversion of losses, {formula}: a scaled_loss of {'; of '.join(words)}."
    return Drawing(Card(Column((table(rows, gap=1), Text(formula, "muted")))), alt)
