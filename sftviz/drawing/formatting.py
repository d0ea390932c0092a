"""How a number and a token are written, everywhere: in a cell, a formula, a caption, a terminal."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from wcwidth import iter_graphemes
from wcwidth import width as cells

MINUS = "\N{MINUS SIGN}"
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_PICTURES = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\n": "↵", "\t": "⇥"}
_BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_RIGHT_TO_LEFT = {"R", "AL"}


# A redraw of a live picture changes few numbers, and no token: the others are not written again.
@lru_cache(maxsize=4096, typed=True)
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


@lru_cache(maxsize=4096)
def token_label(token: str, width: int) -> str:
    """Write a token in at most `width` cells, with what can't be seen made visible.

    A leading space and control characters get a picture, a mark without a letter gets one to stand
    on, what would reorder the line is replaced, right-to-left text is isolated from its neighbours,
    and what is too long is clipped.

    >>> token_label(" the", 8), token_label("a\\nb", 8), token_label("interpretability", 8)
    ('␣the', 'a↵b', 'interpr…')
    """
    core = token.strip(" ")
    before = len(token) - len(token.lstrip(" "))
    after = len(token) - before - len(core)
    text = "␣" * before + "".join(map(_visible, core)) + "␣" * after
    if text and unicodedata.category(text[0]).startswith("M"):
        text = "◌" + text
    # What measures otherwise beside a neighbour than alone would push that neighbour out of line.
    if cells(f" {text} ") != sum(map(cells, pieces(text))) + 2:
        text = "".join(UNPRINTABLE if _combines(char) else char for char in text)
    if cells(text) > width:
        text = _clip(text, width - 1).rstrip() + "…"
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        text = f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"
    return text


def _combines(char: str) -> bool:
    return unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf", "Cn"}


def pieces(text: str) -> Iterator[str]:
    """Split a text where it may be cut, so that each piece takes up cells of its own.

    What has no width alone stays with its neighbour: a Myanmar vowel sign widens the letter before
    it, an isolate opens before the first letter.

    >>> list(pieces("a\u0301日")) == ["a\u0301", "日"]
    True
    """
    piece = ""
    for grapheme in iter_graphemes(text):
        if cells(piece) and cells(grapheme):
            yield piece
            piece = ""
        piece += grapheme
    if piece:
        yield piece


def _clip(text: str, width: int) -> str:
    clipped = ""
    for piece in pieces(text):
        if cells(clipped + piece) > width:
            break
        clipped += piece
    return clipped


def _visible(char: str) -> str:
    # Cs is half a character, Zl and Zp break lines, and XML has no U+FFFE or U+FFFF.
    if char in _PICTURES:
        return _PICTURES[char]
    breaks = unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in "\ufeff\ufffe\uffff"
    moves = unicodedata.bidirectional(char) in _BIDI_CONTROLS
    return UNPRINTABLE if breaks or moves else char
