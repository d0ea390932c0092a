"""The questions of the course, one module for each notebook."""

from sftviz.predictions.course.masks import MASK_QUESTIONS
from sftviz.predictions.course.scaling import SCALING_QUESTIONS
from sftviz.predictions.course.step import STEP_QUESTIONS

QUESTIONS = {
    question.name: question for question in (*STEP_QUESTIONS, *MASK_QUESTIONS, *SCALING_QUESTIONS)
}
