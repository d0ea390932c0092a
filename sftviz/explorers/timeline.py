"""An explorer of what happens moment by moment: play it, or drag the slider of moments."""

import ipywidgets

from sftviz.explorers.base import Explorer, Field
from sftviz.explorers.controls import STYLE


class Timeline(Explorer):
    """Its state has `moments`, how many there are, and `over`, how many of them are over.

    It also has a field `reached`, which is the moment that is shown. None: the end, also when the
    number of moments changes.
    """

    reached = Field()

    def moment_controls(self) -> dict[str, ipywidgets.DOMWidget]:
        """A button that plays the moments, and their slider."""
        play = ipywidgets.Play(interval=900, show_repeat=False)
        moments = ipywidgets.IntSlider(description="moment", style=STYLE)
        self._links.append(ipywidgets.jslink((play, "value"), (moments, "value")))
        return {"play": play, "reached": moments}

    def show_controls(self) -> None:
        for name in ("play", "reached"):
            self.controls[name].max = self.state.moments
        self.controls["reached"].value = self.state.over

    def on_control(self, name: str, value: object = None) -> None:
        match name:
            case "play":  # it moves the slider of moments
                pass
            case "reached":
                if is_end := value == self.state.moments:
                    # It would stop a beat later, and until then undo what a person does.
                    self.controls["play"].playing = False
                self.reached = None if is_end else value
            case _:
                super().on_control(name, value)
