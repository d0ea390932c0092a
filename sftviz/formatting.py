"""How a number and a token are written, everywhere: in a cell, a formula, a caption, a terminal."""

import unicodedata

from wcwidth import clip
from wcwidth import width as cells

MINUS = "\N{MINUS SIGN}"
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_PICTURES = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\n": "↵", "\t": "⇥"}
_BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_RIGHT_TO_LEFT = {"R", "AL"}


def number(value: float) -> str:
    """Write a number: a count in full, anything else with at most four significant digits.

    >>> number(0.7000000476837158), number(-2.8), number(-0.0), number(-69058.3), number(1.5e-7)
    ('0.7', '−2.8', '0', '−69060', '1.5e−7')
    """
    if isinstance(value, int):
        text = str(value)
    else:
        text = f"{value:.4g}"
        mantissa, e, exponent = text.partition("e")
        if e:  # a large number is rounded as well, but written out: −69060, not −6.906e4
            text = f"{float(text):.0f}" if 0 < int(exponent) < 7 else f"{mantissa}e{int(exponent)}"
    return "0" if text == "-0" else text.replace("-", MINUS)


def token_label(token: str, width: int) -> str:
    """Write a token in at most `width` cells, with what can't be seen made visible.

    A leading space and control characters get a picture, what would reorder the line is replaced,
    right-to-left text is isolated from its neighbours, and what is too long is clipped.

    >>> token_label(" the", 8), token_label("a\\nb", 8), token_label("interpretability", 8)
    ('␣the', 'a↵b', 'interpr…')
    """
    core = token.strip(" ")
    before = len(token) - len(token.lstrip(" "))
    after = len(token) - before - len(core)
    text = "␣" * before + "".join(map(_visible, core)) + "␣" * after
    if cells(text) > width:
        text = clip(text, 0, width - 1, control_codes="ignore").rstrip() + "…"
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        text = f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"
    return text


def _visible(char: str) -> str:
    # Cs is half a character, Zl and Zp break lines, and XML has no U+FFFE or U+FFFF.
    if char in _PICTURES:
        return _PICTURES[char]
    breaks = unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in "\ufeff\ufffe\uffff"
    moves = unicodedata.bidirectional(char) in _BIDI_CONTROLS
    return UNPRINTABLE if breaks or moves else char
