"""Wrong computations as values: what each computes, and what it is called.

Read it in this order: `mistake.py` is the value; `divisors.py`, `masks.py` and `backward.py` are
about one step, `accumulation.py` about windows of steps, `log_probs.py` about a model's output;
`telling.py` are batches on which no two of them do the same; `recognise.py` finds the mistakes that
give an answer. May import: `sftviz`, `torch`. May be imported by: no other room.
"""

from sftviz.mistakes.accumulation import ACCUMULATION
from sftviz.mistakes.backward import BACKWARDS, DTYPES, RETURNS, SIGNS
from sftviz.mistakes.divisors import CONSTANTS, DIVISORS
from sftviz.mistakes.log_probs import LOG_PROBS
from sftviz.mistakes.masks import MASKS
from sftviz.mistakes.mistake import Mistake
from sftviz.mistakes.telling import TELLING

STEP_MISTAKES = (*DIVISORS, *CONSTANTS, *MASKS, *SIGNS, *DTYPES, *BACKWARDS, *RETURNS)
MISTAKES = (*STEP_MISTAKES, *ACCUMULATION, *LOG_PROBS)

__all__ = ["MISTAKES", "TELLING", "Mistake"]
