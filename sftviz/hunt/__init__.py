"""The bug hunt: one bug at a time in a real training run, and what one sees of it.

Read it in this order: `rows.py` are the rows to train on, `loop.py` is the run as plain code,
`bugs.py` are changes of that code, `cases.py` runs it with one of them, `clues.py` shows what a run
gives away, `evidence.py` what the code and two tests say, and `question.py` asks who it was. May
import: `sftviz`, `experiments`, `mistakes`, `predictions`, `inspection`, `drawing`, `views`,
`torch`, `matplotlib`. May be imported by: nobody else.
"""

from sftviz.hunt.bugs import CASES, find_bug
from sftviz.hunt.cases import case_equivalence, run_case
from sftviz.hunt.clues import clues
from sftviz.hunt.question import hunt_question, line_up

__all__ = [
    "CASES",
    "case_equivalence",
    "clues",
    "find_bug",
    "hunt_question",
    "line_up",
    "run_case",
]
