"""What can be wrong with a batch: one function per mistake.

`find.py` lists the checks, `finding.py` is what a check returns, `subject.py` what it knows. The
checks are in `labels.py` (is it the next token?), `counting.py` (which tokens count?),
`documents.py` (what is in a row?), `numbers.py` (the log-probs) and `scale.py` (what is divided by
what?). A new one is a function there.
"""
