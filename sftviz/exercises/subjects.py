"""What `sftviz check` can judge, by the word that chooses it."""

from sftviz.exercises.accumulation import ACCUMULATION
from sftviz.exercises.log_probs import LOG_PROBS
from sftviz.exercises.step import STEP

SUBJECTS = {"step": STEP, "log-probs": LOG_PROBS, "accumulation": ACCUMULATION}
