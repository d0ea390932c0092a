"""Wrong computations as values: what each computes, and what it is called.

Read it in this order: `mistake.py` is the value; `divisors.py`, `masks.py` and `backward.py` are
about one step, `accumulation.py` about windows of steps, `log_probs.py` about a model's output;
`telling.py` are batches on which no two of them do the same, `changes.py` makes others;
`recognise.py` finds the mistakes that give an answer, `survivors.py` those that pass a test;
`step_tests.py` has some tests, `written_test.py` writes one as a file. May import: `sftviz`,
`torch`. May be imported by: `views`, `exercises`, `predictions`, `hunt`, `explorers`.
"""

from sftviz.mistakes.accumulation import ACCUMULATION, accumulate_windows
from sftviz.mistakes.log_probs import LOG_PROBS
from sftviz.mistakes.mistake import Mistake
from sftviz.mistakes.recognise import STEP_MISTAKES, Recognition, recognise
from sftviz.mistakes.step_tests import STEP_TESTS
from sftviz.mistakes.survivors import StepTest, Survivors
from sftviz.mistakes.telling import TELLING, TELLING_TOKENS, TELLING_WINDOWS, tiny_model
from sftviz.mistakes.written_test import write_test

MISTAKES = (*STEP_MISTAKES, *ACCUMULATION, *LOG_PROBS)

__all__ = [
    "ACCUMULATION",
    "LOG_PROBS",
    "MISTAKES",
    "STEP_MISTAKES",
    "STEP_TESTS",
    "TELLING",
    "TELLING_TOKENS",
    "TELLING_WINDOWS",
    "Mistake",
    "Recognition",
    "StepTest",
    "Survivors",
    "accumulate_windows",
    "recognise",
    "tiny_model",
    "write_test",
]
