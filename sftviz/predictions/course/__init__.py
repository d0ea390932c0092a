"""The questions of the course: one module for each notebook, which has them in this order."""

from sftviz.predictions.course import accumulation, batches, training

QUESTIONS = {
    question.name: question
    for module in (accumulation, training, batches)
    for question in module.QUESTIONS
}
