"""From whatever a training loop has to the form of `NormalBatch`.

Read it in this order: `read.py` puts the steps together; `entries.py` and `collect.py` find the
tensors, `padding.py` what is padding and where documents end, `alignment.py` whether labels are
shifted, `marks.py` what a mask means, and `normal.py` brings all of it to one form.
"""
