"""Somebody's own batch: which format it has, what is wrong with it, and how it looks.

Read it in this order: `batch.py` is the form that every batch is brought to, `formats/` brings it
there, `checks/` says what is wrong with it, `inspection.py` puts all of it together, `picture.py`,
`report.py` and `command.py` show it. May import: `sftviz`, `drawing`, `views`, `torch`. May be
imported by: `explorers`.
"""
