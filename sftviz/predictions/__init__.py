"""Questions that a learner answers before seeing what is so.

Read it in this order: `question.py` is a question as a value; `reply.py` compares an answer with
what is computed, and finds what would have led to it; `record.py` is what was answered so far;
`lines.py` and `picture.py` draw a question and its answer; `course/` has the questions of the
notebooks; `practice.py` makes endless ones from a seed, and `command.py` asks them in a terminal.
May import: `sftviz`, `mistakes`, `drawing`, `experiments`, `views`, `inspection`, `torch`. May be
imported by: `hunt`, `explorers`.
"""
