"""How numbers and tokens are written everywhere: in cells, formulas, captions, the terminal."""

import unicodedata
from collections.abc import Iterator

from wcwidth import iter_graphemes
from wcwidth import width as cells

MINUS = "\N{MINUS SIGN}"
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_PICTURES = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\n": "↵", "\t": "⇥"}
_BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_RIGHT_TO_LEFT = {"R", "AL"}


def number(value: float) -> str:
    """Write a number: an int in full, a float with at most four significant digits.

    >>> number(0.7000000476837158), number(-2.8), number(-0.0), number(-69058.3), number(1.5e-7)
    ('0.7', '−2.8', '0', '−69060', '1.5e−7')
    """
    if isinstance(value, int):
        text = str(int(value))  # a bool is 0 or 1
    else:
        text = f"{value:.4g}"
        mantissa, e, exponent = text.partition("e")
        if e:  # large numbers are rounded too, but written in full: −69060, not −6.906e4
            text = f"{float(text):.0f}" if 0 < int(exponent) < 7 else f"{mantissa}e{int(exponent)}"
    return "0" if text == "-0" else text.replace("-", MINUS)


def percent(share: float) -> str:
    """Write a share of 1 in percent.

    >>> percent(0.5), percent(11 / 112)
    ('50 %', '9.821 %')
    """
    return f"{number(100 * share)} %"


def rounded(value: float) -> float:
    """The value of what `number` writes."""
    return float(number(value).replace(MINUS, "-"))


def relation(computed: float, written: str) -> str:
    """The sign between a formula and its value: `=`, or `≈` if their digits differ.

    Numbers are shown with four digits, so a result that is computed from the shown numbers may
    differ from the result that is shown.

    >>> relation(1.4 / 3, "0.4667"), relation(1519 / 3, "506.2")
    ('=', '≈')
    """
    return "=" if number(computed) == written else "≈"


def count_of(count: int, noun: str, ending: str = "s") -> str:
    """A count and its noun: `1 token`, `2 tokens`."""
    return f"{count} {noun}{'' if count == 1 else ending}"


def text_width(text: str) -> int:
    """The number of cells that a text takes: Chinese characters take two, accents none."""
    return len(text) if text.isascii() else cells(text)


def token_label(token: str, width: int) -> str:
    """Write a token in at most `width` cells, and make its invisible characters visible.

    Leading spaces and control characters are replaced by symbols. A combining mark without a letter
    is put on a circle. Characters that would reorder the line are replaced, and right-to-left text
    is isolated from its neighbours. What is too long is cut.

    >>> token_label(" the", 8), token_label("a\\nb", 8), token_label("interpretability", 8)
    ('␣the', 'a↵b', 'interpr…')
    """
    if token.isalnum() and token.isascii() and len(token) <= width:
        return token  # nothing below changes such a token
    core = token.strip(" ")
    before = len(token) - len(token.lstrip(" "))
    after = len(token) - before - len(core)
    text = "␣" * before + "".join(map(_visible, core)) + "␣" * after
    if text and unicodedata.category(text[0]).startswith("M"):
        text = "◌" + text
    # A character that has another width beside its neighbour than alone would shift the rest.
    if cells(f" {text} ") != sum(map(cells, graphemes(text))) + 2:
        text = "".join(UNPRINTABLE if _combines(char) else char for char in text)
    if cells(text) > width:
        text = _clip(text, width - 1).rstrip() + "…"
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        text = f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"
    return text


def graphemes(text: str) -> Iterator[str]:
    """Split a text into pieces that each take cells of their own, where it may be cut.

    A grapheme without a width, such as a Myanmar vowel sign, stays with its neighbour.

    >>> list(graphemes("a\u0301日")) == ["a\u0301", "日"]
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


def _combines(char: str) -> bool:
    return unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf", "Cn"}


def _clip(text: str, width: int) -> str:
    clipped = ""
    for piece in graphemes(text):
        if cells(clipped + piece) > width:
            break
        clipped += piece
    return clipped


def _visible(char: str) -> str:
    # Cs is half a character, Zl and Zp break lines, and XML does not allow U+FFFE and U+FFFF.
    if char in _PICTURES:
        return _PICTURES[char]
    breaks = unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in "\ufeff\ufffe\uffff"
    moves = unicodedata.bidirectional(char) in _BIDI_CONTROLS
    return UNPRINTABLE if breaks or moves else char
