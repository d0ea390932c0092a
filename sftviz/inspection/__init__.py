"""Somebody's own batch: which format it has, what is wrong with it, and how it looks.

Read it in this order: `batch.py` is the form that every batch is brought to, `formats/` brings it
there, `checks/` says what is wrong with it, `judgement.py` is both as a value, `picture.py` and
`report.py` show that, and `inspection.py` puts all of it together. May import: `sftviz`, `drawing`,
`views`, `torch`. May be imported by: `predictions`, `hunt`, `explorers`.
"""
