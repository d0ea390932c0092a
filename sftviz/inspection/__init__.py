"""Somebody's own batch: which format it has, what is wrong with it, and how it looks.

Read it in this order: `batch.py` is the form that every batch is brought to, `formats.py` brings it
there, in steps of which each is a file (`entries.py`, `collect.py`, `padding.py`, `alignment.py`,
`marks.py`, `normal.py`), `findings.py` lists what is looked for, and `inspection.py` puts all of it
together. May import: `sftviz`, `drawing`, `views`, `torch`. May be imported by: `explorers`.
"""
