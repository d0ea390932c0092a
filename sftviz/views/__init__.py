"""Where computing and drawing meet: pure functions from a result to a picture of it.

May import: `sftviz`, `mistakes`, `drawing`, `experiments`, `torch`, `matplotlib`. May be imported
by: `explorers`, `inspection`, `exercises`, `predictions`, `hunt`.
"""
