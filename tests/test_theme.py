"""Colours that can be read, by the formula of WCAG 2.2; meaning that does not rest on them."""

import itertools
import re

import pytest

from sftviz.drawing.theme import TONES, paint
from sftviz.views.parts import TONES as QUANTITIES
from sftviz.views.step import TOKEN_FIELDS

MODES = ("light", "dark")
VALUES = {*QUANTITIES.values(), "masked", "lit"}  # the tones whose frames hold a value


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_formula_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


def test_every_colour_is_written_out_or_none():
    for tone, mode in itertools.product(TONES, MODES):
        for colour in vars(paint(tone, mode)).values():
            assert re.fullmatch(r"none|#[0-9a-f]{6}", colour), (tone, mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_ink_can_be_read_on_all_that_it_stands_on(mode):
    under = [paint("card", mode).fill, paint("ground", mode).fill]
    dim = {}
    for tone in TONES:
        colour = paint(tone, mode)
        if colour.ink == "none":
            continue
        for fill in [colour.fill] if colour.fill != "none" else under:
            if contrast(colour.ink, fill) < 4.5:
                dim[tone] = contrast(colour.ink, fill)
    assert dim == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_quantitys_name_can_be_read_outside_its_frame_too(mode):
    """In formulas and captions a name stands in its tone on the bare card."""
    card = paint("card", mode).fill
    assert {t for t in VALUES if contrast(paint(t, mode).ink, card) < 4.5} == set()


@pytest.mark.parametrize("mode", MODES)
def test_the_edge_of_every_values_frame_can_be_seen(mode):
    card = paint("card", mode).fill
    assert {t for t in VALUES if contrast(paint(t, mode).edge, card) < 3} == set()


@pytest.mark.parametrize("mode", MODES)
def test_quantities_differ_in_colour(mode):
    inks = [paint(tone, mode).ink for tone in VALUES]
    assert len(set(inks)) == len(inks)


def test_masked_differs_from_every_other_value_without_colour():
    flanks = {tone: TONES[tone].flanks for tone in VALUES}
    assert flanks.pop("masked") == "░░" and "░" not in "".join(flanks.values())


def test_every_quantity_of_a_trace_has_a_tone():
    assert set(TOKEN_FIELDS) < set(QUANTITIES) and set(TONES) > VALUES


def test_a_live_colour_is_one_of_ours_in_light_and_in_dark():
    """Some of the page's colours among them could not be read together."""
    for tone, (light, dark) in {tone: (of.light, of.dark) for tone, of in TONES.items()}.items():
        for part in ("ink", "fill", "edge"):
            pair = getattr(light, part), getattr(dark, part)
            wanted = "none" if pair == ("none", "none") else f"light-dark({pair[0]},{pair[1]})"
            assert getattr(paint(tone, "live"), part) == wanted


def test_a_light_colour_stands_for_one_dark_colour():
    """So a chart, whose colours are literal, can be turned into a dark one. Badges are in none."""
    dark = {}
    for tone in TONES.keys() - {"badge", "lit"}:
        light = vars(paint(tone, "light"))
        for part, colour in light.items():
            dark.setdefault(colour, set()).add(getattr(paint(tone, "dark"), part))
    assert {colour: found for colour, found in dark.items() if len(found) > 1} == {}
