"""Wrong computations as values: what each computes, and what it is called.

Read it in this order: `mistake.py` is the value; `divisors.py`, `masks.py` and `backward.py` are
about one step, `accumulation.py` about windows of steps, `log_probs.py` about a model's output;
`telling.py` are batches on which no two of them do the same; `recognise.py` finds the mistakes that
give an answer. May import: `sftviz`, `torch`. May be imported by:
`exercises`, `predictions`, `hunt`.
"""

from sftviz.mistakes.accumulation import ACCUMULATION, accumulate_windows
from sftviz.mistakes.log_probs import LOG_PROBS
from sftviz.mistakes.mistake import Mistake
from sftviz.mistakes.recognise import STEP_MISTAKES, Recognition, recognise
from sftviz.mistakes.telling import TELLING, TELLING_TOKENS, TELLING_WINDOWS, tiny_model

MISTAKES = (*STEP_MISTAKES, *ACCUMULATION, *LOG_PROBS)

__all__ = [
    "MISTAKES",
    "TELLING",
    "TELLING_TOKENS",
    "TELLING_WINDOWS",
    "Mistake",
    "Recognition",
    "accumulate_windows",
    "recognise",
    "tiny_model",
]
