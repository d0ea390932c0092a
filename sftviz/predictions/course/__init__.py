"""The questions of the course, one module for each notebook.

Those that need a trained model or several ranks are made in a notebook, of what it has measured:
see `training.py` and `devices.py`.
"""

from sftviz.predictions.course.accumulation import ACCUMULATION_QUESTIONS
from sftviz.predictions.course.batches import BATCH_QUESTIONS
from sftviz.predictions.course.losses import LOSS_QUESTIONS
from sftviz.predictions.course.masks import MASK_QUESTIONS
from sftviz.predictions.course.scaling import SCALING_QUESTIONS
from sftviz.predictions.course.step import STEP_QUESTIONS
from sftviz.predictions.course.training import TRAINING_QUESTIONS

QUESTIONS = {
    question.name: question
    for question in (
        *STEP_QUESTIONS,
        *MASK_QUESTIONS,
        *SCALING_QUESTIONS,
        *ACCUMULATION_QUESTIONS,
        *TRAINING_QUESTIONS,
        *BATCH_QUESTIONS,
        *LOSS_QUESTIONS,
    )
}
