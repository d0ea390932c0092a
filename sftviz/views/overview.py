"""A whole batch at one glance: bars for all of its tokens, and a lens around what is shown below.

The bar of a token that counts is as high as its surprise, −log-prob; masked tokens are hatched.
Tokens that share a bar have the height of the highest, so none that is surprising is lost.
"""

from collections.abc import Sequence
from math import ceil
from textwrap import wrap
from typing import NamedTuple

import torch
from torch import Tensor

from sftviz.drawing.formatting import count_of, number
from sftviz.drawing.scene import (
    HIGHEST,
    SIGN,
    Align,
    Column,
    Node,
    Outline,
    Row,
    Span,
    Stack,
    Strip,
    Text,
)
from sftviz.validate import brief, place
from sftviz.views.focus import Place, first, wrong

LINES = 16  # at most, for all rows
_ROWS = 4  # of bars on a line, at most
_BARS = 3  # in a cell, at most, if a row has a line of its own
_LEAST = 2.0**-4  # nats: less is as low
_CELLS = 3  # for a token, at most
_EVEN = HIGHEST // 2  # the height of tokens that count, if there are no log-probs
_HEIGHTS = (
    "The higher a bar, the more surprising the token: a step up is twice −log-prob, "
    "the highest is 8 or more."
)


class Lens(NamedTuple):
    """The part of a batch that is shown below its overview."""

    row: int  # the first one
    rows: int
    column: int  # the first one
    columns: int

    def __str__(self) -> str:
        """What is in it, counted from 1: `tokens 162–172, rows 1–2`."""
        return f"{_span('token', self.column, self.columns)}, {_span('row', self.row, self.rows)}"


def asked(name: str, wish: int | range | slice | None, count: int, default: int) -> tuple[int, int]:
    """The first row or column that an argument asks to show, and how many at most.

    Raises:
        TypeError, ValueError: it is not an int, a range or a slice of what there is.

    >>> asked("columns", slice(160, 172), count=188, default=0)
    (160, 12)
    """
    match wish:
        case None:
            return default, count
        case slice(step=None | 1):
            wanted = range(count)[wish]
        case range(step=1):
            wanted = wish
        case range() | slice():
            raise ValueError(f"{name} must be side by side, got {wish}: give them without a step.")
        case int() if type(wish) is int:
            wanted = range(wish, wish + 1)
        case _:
            raise TypeError(
                f"{name} must be an int, a range or a slice, got {brief(wish)}: give the first of "
                f"the {name} to show, counted from 0."
            )
    if not wanted or wanted[0] < 0 or wanted[-1] >= count:
        raise ValueError(
            f"{name} must be from 0 to {count - 1}, got {brief(wish)}: "
            f"the batch has {count_of(count, name.removesuffix('s'))}."
        )
    return wanted[0], count if type(wish) is int else len(wanted)


def overview(
    response_mask: Tensor,
    policy_log_probs: Tensor | None,
    width: int,
    lens: Lens | None = None,
    signs: Sequence[Place] = (),
) -> Node:
    """All tokens of a batch on at most 16 lines, with the number of those that count on each.

    Args:
        response_mask: (B, S) bool, True where a token counts.
        policy_log_probs: (B, S) floating point. None: all bars have one height.
        width: in cells, 44 or more.
        lens: what is shown below; it gets a frame.
        signs: tokens to look at, (row, token). A log-prob that counts and is NaN, infinite or above
            0 has a sign in any case.

    >>> from sftviz.drawing.text import draw
    >>> mask = torch.tensor([[False, True, True, True], [False, True, True, False]])
    >>> log_probs = torch.tensor([[-9.0, -0.1, -3.0, -9.0], [-1.0, -0.3, float("nan"), -0.5]])
    >>> print(draw(overview(mask, log_probs, 60, Lens(row=0, rows=2, column=1, columns=2))))
    2 rows of 4 tokens; 5 of 8 count. The higher a bar, the more
    surprising the token: a step up is twice −log-prob, the
    highest is 8 or more. Hatched (░): masked.
    ! nan at row 2, token 3
    row 1▸░░░▁▁▁▆▆▆███  3
    row 2▸░░░▃▃▃!!!░░░  2
             └────┘ tokens 2–3, rows 1–2
    """
    B, S = response_mask.shape
    mask = response_mask.cpu()
    log_probs = None if policy_log_probs is None else policy_log_probs.detach().cpu().double()
    levels, notice = _levels(mask, log_probs, signs)
    merged = -(-B // (LINES * _ROWS))  # rows that share their bars
    rows = -(-B // (LINES * merged)) * merged  # rows on a line
    firsts = range(0, B, rows)
    labels = [_span("row", at, min(rows, B - at)) for at in firsts]
    counted = mask.sum(1).tolist()  # of each row
    counts = [f"{sum(counted[at : at + rows]):,}" for at in firsts]
    names, totals = (max(map(len, texts)) for texts in (labels, counts))
    room = min(width - names - totals - 3, _CELLS * S)
    tokens = -(-S // (room * _BARS if rows == 1 else room))  # that share a bar
    bars = _highest(levels, merged, tokens)
    strips: Node = _strips(bars, room, rows // merged)
    is_in_lens = [False] * len(firsts)
    if lens is not None:
        last = lens.row + lens.rows
        is_in_lens = [at < last and lens.row < at + rows for at in firsts]
        outline = Outline(
            room,
            len(firsts),
            Span(lens.row, lens.rows, B, merged, len(firsts) * rows // merged),
            Span(lens.column, lens.columns, S, tokens, len(bars[0])),
            "lens",
        )
        strips = Stack((strips, outline))
    picture = Row(
        (
            Column(tuple(Text(f"{label:<{names}}", "muted") for label in labels)),
            Column(tuple(Text("▸" if is_in else " ") for is_in in is_in_lens)),
            strips,
            Column(tuple(Align(Text(count, "response"), totals + 2, "right") for count in counts)),
        )
    )
    about = _about(mask.shape, sum(counted), rows, log_probs is not None)
    return Column(
        (
            *(Text(line, "muted") for line in wrap(about, width)),
            *(Text(line, "sign") for line in wrap(notice, width)),
            picture,
            *([] if lens is None else [_below(lens, outline, names + 1, width)]),
        )
    )


def _about(shape: tuple[int, int], count: int, rows: int, has_log_probs: bool) -> str:
    """What the bars mean."""
    B, S = shape
    parts = [
        f"{count_of(B, 'row')} of {count_of(S, 'token')}; "
        f"{count:,} of {B * S:,} {'counts' if count == 1 else 'count'}.",
        _HEIGHTS if has_log_probs else "A bar is a token that counts.",
        "Hatched (░): masked.",
        f"Each line is {rows} rows." if rows > 1 else "",
    ]
    return " ".join(filter(None, parts))


def _below(lens: Lens, outline: Outline, left: int, width: int) -> Node:
    """What the lens shows, beside the bracket that is below it in a text drawing."""
    start, _, end, _ = outline.box
    text = Text(str(lens), "title")
    if left + ceil(end) + 1 + text.width <= width:
        return Align(text, left + ceil(end) + 1 + text.width, "right")
    if text.width + 1 <= left + int(start):
        return Align(text, left + int(start) - 1, "right")
    return Column((Text(""), text))


def _levels(mask: Tensor, log_probs: Tensor | None, signs: Sequence[Place]) -> tuple[Tensor, str]:
    """The level of each token in a strip, (B, S), and a sentence about those with a sign."""
    levels, places = mask * _EVEN, list(signs)
    if log_probs is not None:
        # The exponent grows by one each time the surprise doubles; at 8 it is 4.
        exponents = (-log_probs).clamp(min=_LEAST).frexp().exponent
        levels = torch.where(mask, (exponents + 4).clamp(1, HIGHEST), 0)
        looks_wrong = wrong(log_probs, mask)
        places = [place for flags in looks_wrong for place in first(flags)] + places
        for flags in looks_wrong:
            levels[flags] = SIGN
    for row, column in signs:
        levels[row, column] = SIGN
    if not places:
        return levels, ""
    more = int((levels == SIGN).sum()) - 1
    log_prob = "" if log_probs is None else f"{number(log_probs[places[0]].item())} at "
    return levels, f"! {log_prob}{place(*places[0])}" + (f", and {more} more" if more else "")


def _highest(levels: Tensor, rows: int, tokens: int) -> list[list[int]]:
    """The highest of the levels of some rows and some tokens that share a bar."""
    B, S = levels.shape
    padding = (0, -S % tokens, 0, -B % rows)
    padded = torch.nn.functional.pad(levels, padding)
    return padded.unflatten(1, (-1, tokens)).unflatten(0, (-1, rows)).amax((1, 3)).tolist()


def _strips(bars: list[list[int]], width: int, rows: int) -> Column:
    """Some rows of bars on each line."""
    every = [*map(bytes, bars), *[b""] * (-len(bars) % rows)]
    lines = [tuple(every[at : at + rows]) for at in range(0, len(every), rows)]
    return Column(tuple(Strip(width, line) for line in lines))


def _span(name: str, first: int, count: int) -> str:
    """`row 1`, or `rows 1–4`."""
    return f"{name} {first + 1}" if count == 1 else f"{name}s {first + 1}–{first + count}"
