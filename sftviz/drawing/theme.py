"""How each tone looks: its ink, fill and edge in light and in dark, and its brackets in text.

A tone is a meaning, such as "masked" or "gradient". Colours are named only here. Every ink has a
contrast of at least 4.5 : 1 against its own fill and against the background, every edge of a
value's frame 3 : 1 against the background. No meaning depends on colour alone: masked values are
also hatched, and in text they are between `░` and `░`. Needs the standard library alone.
"""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["light", "dark", "live"]


@dataclass(frozen=True)
class Paint:
    """CSS colours of the letters, of the area behind them, and of the line around it."""

    ink: str
    fill: str
    edge: str


@dataclass(frozen=True)
class Tone:
    """How one meaning looks. `flanks` are left and right of a value in a text drawing."""

    light: Paint
    dark: Paint
    flanks: str = "[]"


TONES = {
    "ink": Tone(Paint("#1f2937", "none", "none"), Paint("#e6e8eb", "none", "none")),
    "title": Tone(Paint("#111827", "none", "none"), Paint("#f4f5f7", "none", "none")),
    "muted": Tone(Paint("#596273", "none", "#8791a0"), Paint("#a8b0bd", "none", "#7d8797")),
    "code": Tone(Paint("#596273", "none", "none"), Paint("#a8b0bd", "none", "none")),
    "card": Tone(Paint("#1f2937", "#ffffff", "#d8dee6"), Paint("#e6e8eb", "#1b1f25", "#3a424e")),
    "badge": Tone(
        Paint("#ffffff", "#1f2937", "#1f2937"), Paint("#111827", "#dfe3e8", "#dfe3e8"), "()"
    ),
    "entry": Tone(
        Paint("#1f2937", "#ffffff", "#858f9d"), Paint("#e6e8eb", "#1b1f25", "#78828f"), "  "
    ),
    "response": Tone(
        Paint("#0a559b", "#e1effb", "#3a80bf"), Paint("#b9dcfb", "#12314d", "#5b9fd8")
    ),
    "masked": Tone(
        Paint("#596273", "#f3f4f6", "#858f9d"), Paint("#a8b0bd", "#22272e", "#78828f"), "░░"
    ),
    "knob": Tone(Paint("#08693f", "#dff4e8", "#2b9567"), Paint("#a5e6c6", "#11392a", "#4fb98a")),
    "masked_sum": Tone(
        Paint("#5a2fae", "#eee8fb", "#8468cb"), Paint("#d6c8fb", "#2f2352", "#9d85de")
    ),
    "loss": Tone(Paint("#824a00", "#fdf0d3", "#b0770f"), Paint("#f6d693", "#3f2e0c", "#c9983a")),
    "scaled_loss": Tone(
        Paint("#9c2f0c", "#fde6dc", "#d2602c"), Paint("#fbc2a8", "#482012", "#dd7a4d")
    ),
    "gradient": Tone(
        Paint("#951a6f", "#fbe5f3", "#c24a9b"), Paint("#f7bfe2", "#461a39", "#d673b5")
    ),
    "ground": Tone(Paint("none", "#f6f8fa", "none"), Paint("none", "#14171b", "none")),
    "hatch": Tone(Paint("none", "none", "#ccd2da"), Paint("none", "none", "#3d4550")),
    # A value that has just changed in a live drawing. Last, so that it overrides the other tones.
    "lit": Tone(Paint("#8a4b00", "#ffe066", "#a67c00"), Paint("#ffd43b", "#5c4800", "#c9a227")),
}
# The front end's own colours, for a live drawing.
_FRONT_END = {
    ("ink", "ink"): "--jp-content-font-color1",
    ("title", "ink"): "--jp-content-font-color1",
    ("ground", "fill"): "--jp-layout-color0",
    ("card", "fill"): "--jp-layout-color1",
    ("card", "edge"): "--jp-border-color2",
}


def paint(tone: str, mode: Mode) -> Paint:
    """The colours of a tone in a mode; in "live" they follow the front end's light or dark."""
    if mode != "live":
        return getattr(TONES[tone], mode)
    return Paint(**{part: _live(tone, part) for part in ("ink", "fill", "edge")})


def _live(tone: str, part: str) -> str:
    light, dark = (getattr(paint(tone, mode), part) for mode in ("light", "dark"))
    colour = "none" if light == dark == "none" else f"light-dark({light},{dark})"
    variable = _FRONT_END.get((tone, part))
    return f"var({variable},{colour})" if variable else colour
