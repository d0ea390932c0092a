"""Live pictures with controls, one file per subject. An explorer has one state.

May import: `sftviz`, `drawing`, `views`, `live`, `inspection`, `experiments`, `predictions`,
`torch`, `ipywidgets`, `traitlets`. May be imported by: nobody else.
"""
