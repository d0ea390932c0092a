"""What a learner writes is run, compared with the right step, and answered.

Read it in this order: `trials.py` is what a function is run on, and what is seen of a run;
`judge.py` compares the runs and says what is wrong; `verdict.py` is that answer and its picture;
`process.py` does the same with a file that nobody has read yet; `command.py` is for a terminal;
`order.py` is a problem whose lines are to be put in order, `loop_order.py` and `orders.py` are such
problems. May import: `sftviz`, `mistakes`, `drawing`, `views`, `experiments`, `torch`. May be
imported by: `explorers`.
"""
