"""Live pictures with controls, one file a subject. An explorer holds a state and nothing else.

May import: `sftviz`, `drawing`, `views`, `live`, `experiments`, `torch`, `ipywidgets`, `traitlets`.
May be imported by: nobody else.
"""
