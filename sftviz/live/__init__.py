"""A drawing in the page that can be clicked, dragged and typed into: one widget. No tensors.

May import: `drawing`, `anywidget`, `traitlets`. May be imported by: `explorers`.
"""
