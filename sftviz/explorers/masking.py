"""A conversation of one's own, and what goes wrong between its turns and its gradient."""

from dataclasses import dataclass

import ipywidgets

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text as Line
from sftviz.experiments.masks import learn
from sftviz.explorers.base import Explorer, Field
from sftviz.explorers.controls import NARROW, STYLE, button, code_button, toggle
from sftviz.masking import RIGHT, WAYS, Masking, Text, build, find_way
from sftviz.views.masking import masking_view


@dataclass(frozen=True)
class MaskingSetting:
    """A conversation of two turns, and the way in which it is built."""

    prompt: str = "2 +2="
    response: str = "4 ."
    way: str = RIGHT.name
    trained: bool = False  # a model is trained so, which takes a second or two

    def __post_init__(self) -> None:
        if not isinstance(self.trained, bool):
            came = self.trained
            raise TypeError(f"trained must be True or False, got {type(came).__name__} {came!r}.")

    def trace(self) -> Masking:
        """Build the conversation, and run the step on it."""
        return build(Text.of(self.prompt, self.response), find_way(self.way))


class MaskExplorer(Explorer):
    """From the turns of a conversation to the tokens that get a gradient; and what goes wrong.

    Write a conversation, choose what goes wrong, and see which tokens are lost and which are
    gained. "train a model so" trains a small one on dates, with rows that are built in the same
    way, and shows its answers. The state is a `MaskingSetting`; `way` is one of
    `sftviz.masking.WAYS`.

    Raises:
        ValueError: a turn has no word, or there is no such way; a `TraitError` if a field is set
            later.

    Example:
        >>> explorer = MaskExplorer(way="mask about the token read")
        >>> [explorer.trace.text.tokens[place] for place in explorer.trace.lost]
        ['4']
    """

    prompt = Field()
    response = Field()
    way = Field()
    trained = Field()

    def __init__(self, **setting: object) -> None:
        super().__init__(MaskingSetting(**setting))
        self.assemble(
            {
                "way": ipywidgets.Dropdown(
                    options=[way.name for way in WAYS],
                    description="what goes wrong",
                    style=STYLE,
                    layout=NARROW,
                ),
                "prompt": _words("prompt"),
                "response": _words("response"),
                "trained": toggle("train a model so", "a small one, on dates; it takes seconds"),
                "reset": button("reset"),
                "code": code_button(),
            }
        )

    def first(self, state: MaskingSetting) -> tuple[int, ...]:
        return (0, 0)

    def draw(self, state: MaskingSetting, trace: Masking, width: int, lens: object) -> Drawing:
        return masking_view(trace, width, learn(state.way) if state.trained else None)

    def read(
        self, state: MaskingSetting, trace: Masking, selected: tuple[int, ...]
    ) -> dict[str, Line]:
        return {
            "count": Line(str(trace.num_tokens), "response"),
            "lost": Line(str(len(trace.lost)), "scaled_loss"),
            "gained": Line(str(len(trace.gained)), "scaled_loss"),
        }

    def show_controls(self) -> None:
        for name in ("way", "prompt", "response", "trained"):
            self.controls[name].value = getattr(self.state, name)


def _words(name: str) -> ipywidgets.Text:
    return ipywidgets.Text(description=name, style=STYLE, layout={"width": "min(100%, 16em)"})
