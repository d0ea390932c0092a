"""What `sftviz check` can judge, by the word that chooses it."""

from sftviz.exercises.accumulation import ACCUMULATION
from sftviz.exercises.course import EXERCISES
from sftviz.exercises.log_probs import LOG_PROBS
from sftviz.exercises.step import STEP
from sftviz.exercises.subject import Subject

SUBJECTS = {"step": STEP, "log-probs": LOG_PROBS, "accumulation": ACCUMULATION}  # looked for
ALL: dict[str, Subject] = {  # if chosen by the word, or by the name of the function
    **SUBJECTS,
    **{name: each.subject for name, each in EXERCISES.items() if each.subject},
}
