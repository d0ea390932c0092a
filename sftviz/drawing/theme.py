"""How each tone looks: its ink, fill and edge in light and in dark, and its brackets in text.

A tone is a meaning, such as "masked" or "gradient". Colours are named only here. Every ink has a
contrast of at least 4.5 : 1 against its own fill and against the background, every edge of a
value's frame 3 : 1. No meaning depends on colour alone: masked values are hatched, `░` in text.
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


def _tone(light: str, dark: str, flanks: str = "[]") -> Tone:
    """A tone from its ink, fill and edge in light and in dark; `-` is none."""
    paints = [Paint(*colours.replace("-", "none").split()) for colours in (light, dark)]
    return Tone(*paints, flanks)


TONES = {
    "ink": _tone("#1f2937 - -", "#e6e8eb - -"),
    "title": _tone("#111827 - -", "#f4f5f7 - -"),
    "muted": _tone("#596273 - #8791a0", "#a8b0bd - #7d8797"),
    "code": _tone("#596273 - -", "#a8b0bd - -"),
    "card": _tone("#1f2937 #ffffff #d8dee6", "#e6e8eb #1b1f25 #3a424e"),
    "badge": _tone("#ffffff #1f2937 #1f2937", "#111827 #dfe3e8 #dfe3e8", "()"),
    "entry": _tone("#1f2937 #ffffff #858f9d", "#e6e8eb #1b1f25 #78828f", "  "),
    "response": _tone("#0a559b #e1effb #3a80bf", "#b9dcfb #12314d #5b9fd8"),
    "masked": _tone("#596273 #f3f4f6 #858f9d", "#a8b0bd #22272e #78828f", "░░"),
    "knob": _tone("#08693f #dff4e8 #2b9567", "#a5e6c6 #11392a #4fb98a"),
    "masked_sum": _tone("#5a2fae #eee8fb #8468cb", "#d6c8fb #2f2352 #9d85de"),
    "loss": _tone("#824a00 #fdf0d3 #b0770f", "#f6d693 #3f2e0c #c9983a"),
    "scaled_loss": _tone("#9c2f0c #fde6dc #d2602c", "#fbc2a8 #482012 #dd7a4d"),
    "gradient": _tone("#951a6f #fbe5f3 #c24a9b", "#f7bfe2 #461a39 #d673b5"),
    "ground": _tone("- #f6f8fa -", "- #14171b -"),
    "hatch": _tone("- - #ccd2da", "- - #3d4550"),
    # The tones of an overview: bars, what to look at, and the frame around what is shown below.
    "bar": _tone("- #3a80bf -", "- #5b9fd8 -"),
    "sign": _tone("#9c2f0c - #d2602c", "#fbc2a8 - #dd7a4d"),
    "lens": _tone("- - #111827", "- - #f4f5f7"),
    # Questions and answers: sentences, what is said to a wrong answer, a cell to be filled.
    "prose": _tone("#1f2937 - -", "#e6e8eb - -"),
    "reply": _tone("#9c2f0c - -", "#fbc2a8 - -"),
    "asked": _tone("#1f2937 #ffffff #1f2937", "#e6e8eb #1b1f25 #e6e8eb"),
    # A value that has just changed in a live drawing. Last, so that it overrides the other tones.
    "lit": _tone("#8a4b00 #ffe066 #a67c00", "#ffd43b #5c4800 #c9a227"),
}


OVERVIEW_TONES = ("bar", "sign", "lens")
QUESTION_TONES = ("prose", "reply", "asked")
SENTENCES = ("title", "prose", "reply")  # not in columns of cells, so in letters of unequal width


def paint(tone: str, mode: Mode) -> Paint:
    """The colours of a tone in a mode; in "live" they follow the page's light or dark."""
    if mode != "live":
        return getattr(TONES[tone], mode)
    return Paint(**{part: _live(tone, part) for part in ("ink", "fill", "edge")})


def _live(tone: str, part: str) -> str:
    light, dark = (getattr(paint(tone, mode), part) for mode in ("light", "dark"))
    # Not the front end's own colours: half of the inks would be on a ground that they were not
    # chosen for.
    return "none" if light == dark == "none" else f"light-dark({light},{dark})"
