"""The questions of the course, one module for each notebook."""

from sftviz.predictions.question import Question

QUESTIONS: dict[str, Question] = {}  # by name
