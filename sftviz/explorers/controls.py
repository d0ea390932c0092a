"""The controls that several explorers have: stock ipywidgets, made here and kept up to date."""

import math
import sys

import ipywidgets

LARGEST = sys.float_info.max
# What a control with a description calls its tooltip: in ipywidgets 8, and in 7, which Colab has.
TOOLTIP = "tooltip" if hasattr(ipywidgets.DOMWidget, "tooltip") else "description_tooltip"
STYLE = {"description_width": "initial"}
NARROW = {"width": "max-content", "max_width": "100%"}
SPACED = NARROW | {"margin": "2px 12px 2px 2px"}


def count_slider(name: str, quantity: str, least: int = 1, most: int = 16) -> ipywidgets.IntSlider:
    """A slider for a count such as G."""
    return ipywidgets.IntSlider(
        min=least, max=most, description=name, style=STYLE, **{TOOLTIP: quantity}
    )


def show_count(slider: ipywidgets.IntSlider, count: int) -> None:
    """Move a slider to a count; its range grows if necessary."""
    slider.min = min(slider.min, count)
    slider.max = max(slider.max, count)
    slider.value = count


def button(label: str) -> ipywidgets.Button:
    """A button that is no wider than its label."""
    return ipywidgets.Button(description=label, layout=NARROW)


def code_button() -> ipywidgets.ToggleButton:
    """The button that shows the state as code."""
    return toggle("as code", "Python that makes this state")


def toggle(label: str, tooltip: str) -> ipywidgets.ToggleButton:
    """A button that stays pressed, no wider than its label."""
    return ipywidgets.ToggleButton(description=label, tooltip=tooltip, layout=NARROW)


def checkbox(label: str) -> ipywidgets.Checkbox:
    """A checkbox that is no wider than its label."""
    return ipywidgets.Checkbox(description=label, indent=False, layout=SPACED)


def number_box(quantity: str) -> ipywidgets.BoundedFloatText:
    """A box for the entry of a tensor that was selected last; see `show_number`."""
    # Not a slider: the front end's slider rounds a value, and sends it back as a change.
    layout = {"width": "min(100% - 4px, 21em)"}
    return ipywidgets.BoundedFloatText(
        min=-LARGEST, max=LARGEST, style=STYLE, layout=layout, **{TOOLTIP: quantity}
    )


def show_number(box: ipywidgets.BoundedFloatText, name: str, value: float) -> None:
    """Show an entry and its name in a box. The box is hidden if the value is NaN or infinite."""
    box.description = name
    box.layout.visibility = "visible" if math.isfinite(value) else "hidden"
    if math.isfinite(value):
        box.value = float(f"{value:.6g}")
