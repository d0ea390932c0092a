"""What a learner writes is run, compared with the right function, and answered.

Read it in this order: `subject.py` is what is judged, as a value, and shows how to add one;
`runs.py` calls a function and looks at what it did; `pair.py` puts the right run beside it;
`check.py` finds the mistake, `explain.py` and `errors.py` put it into words; `verdict.py` is that
answer and its picture. `step.py`, `log_probs.py` and `accumulation.py` are subjects. `process.py`
judges a file that nobody has read yet, within the limits of `limits.py`; `command.py` is for a
terminal. `exercise.py` is an exercise as a value, `course/` has those of the course, and
`check_test.py` judges a test that a learner writes. `order.py` is a problem whose lines are to be
put in order; `loop_order.py` and `orders.py` are such problems. May import: `sftviz`, `mistakes`,
`drawing`, `views`, `experiments`, `torch`. May be imported by: `explorers`.
"""
