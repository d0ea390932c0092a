"""Pictures in character cells, drawn as text, as SVG, or by matplotlib. No tensors.

May import: `wcwidth`, `matplotlib`. May be imported by: `views`, `live`, `explorers`, `inspection`,
`exercises`, `predictions`, `hunt`.
"""
