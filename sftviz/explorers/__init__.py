"""Live pictures with controls, one file per subject. An explorer has one state.

May import: `sftviz`, `mistakes`, `drawing`, `experiments`, `views`, `live`, `exercises`,
`inspection`, `predictions`, `torch`, `ipywidgets`, `traitlets`. May be imported by: nobody else.
"""
