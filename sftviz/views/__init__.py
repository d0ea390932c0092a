"""Where computing and drawing meet: pure functions from a result to a picture of it.

May import: `sftviz`, `drawing`, `experiments`, `torch`, `matplotlib`. May be imported by:
`explorers`, `inspection`, `exercises`, `predictions`, `hunt`.
"""
