"""How numbers and tokens are written: tables, and what holds for any of them."""

import math
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth
from wcwidth import width as cells

from sftviz.drawing.formatting import (
    count_of,
    graphemes,
    number,
    relation,
    rounded,
    token_label,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-0, "0"),
        (7, "7"),
        (65536, "65536"),  # a count is written in full
        (-45752, "−45752"),
        (0.7000000476837158, "0.7"),  # what float32 makes of 0.7
        (-2.799999952316284, "−2.8"),
        (-0.25, "−0.25"),
        (-0.0625, "−0.0625"),
        (-0.015625, "−0.01562"),
        (1.0, "1"),
        (42.0, "42"),
        (0.1 + 0.2, "0.3"),
        (-69058.3, "−69060"),
        (-49693.2, "−49690"),
        (99999.5, "100000"),
        (1234567.0, "1235000"),
        (9999999.0, "1e7"),
        (-6.02e23, "−6.02e23"),
        (0.00012345, "0.0001234"),
        (1.5e-7, "1.5e−7"),
        (-1.526e-05, "−1.526e−5"),
        (5e-324, "4.941e−324"),
        (math.inf, "inf"),
        (-math.inf, "−inf"),
        (math.nan, "nan"),
    ],
)
def test_a_number_is_written(value, written):
    assert number(value) == written


@given(st.floats() | st.integers())
@example(-1e-320)
def test_any_number_is_short_and_has_no_minus_zero(value):
    text = number(value)
    assert "-" not in text and text not in ("−0", "−0.0") and "e+" not in text
    if isinstance(value, float):
        assert len(text) <= 11 and sum(char.isdigit() for char in text.split("e")[0]) <= 8
        if math.isfinite(value) and value:
            assert abs(Decimal(text.replace("−", "-")) / Decimal(value) - 1) < 6e-4


@pytest.mark.parametrize(
    ("token", "width", "label"),
    [
        ("the", 8, "the"),
        ("", 8, ""),
        (" the", 8, "␣the"),
        ("  ", 8, "␣␣"),
        (" a b ", 8, "␣a b␣"),
        ("a\nb\tc\r", 8, "a↵b⇥c␍"),
        ("\x00\x1b\x7f\x85", 8, "␀␛��"),
        ("exactly8", 8, "exactly8"),
        ("interpretability", 8, "interpr…"),
        ("x" * 10_000, 5, "xxxx…"),
        ("<script>", 9, "<script>"),  # escaping is a backend's business
        ("a&b", 8, "a&b"),
        ("日本語", 6, "日本語"),
        ("日本語テ", 7, "日本語…"),
        ("日本語テ", 6, "日本…"),  # half a character is none
        ("👩‍👩‍👧‍👦", 4, "👩‍👩‍👧‍👦"),
        ("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 3, "👩‍👩‍👧‍👦…"),
        ("🇬🇧", 2, "🇬🇧"),
        ("e\u0301", 1, "e\u0301"),
        ("\u0301", 8, "◌\u0301"),  # a mark that a tokenizer cut off its letter
        ("\u093f\u0928", 8, "◌\u093f\u0928"),
        ("aaaa\u1087b", 5, "aaa…"),  # a vowel sign that has no width alone widens its letter
        ("a\u200db", 8, "a�b"),  # joins what is no emoji: no two programs agree how wide that is
        ("שבת", 8, "\u2068שבת\u2069"),
        ("مرحبا", 4, "\u2068مرح…\u2069"),
        ("a\u202eb\u2066c\u2069", 8, "a�b�c�"),  # would turn the line around
        ("\ud800", 8, "�"),  # half a character, which no file could hold
        ("\ufffe\uffff\ufeff", 8, "���"),
        ("a\u2028b\u2029", 8, "a�b�"),
    ],
)
def test_a_token_is_written(token, width, label):
    assert token_label(token, width) == label


# Whatever may be in a token: surrogates, marks without letters, joiners with nothing to join. (What
# this Python's Unicode does not know yet is left out: wcwidth may know more, or less.)
ANY_TEXT = st.text(
    st.characters(exclude_categories=("Cn",))
    | st.characters(categories=("Mn", "Mc", "Me", "Cf", "Sk"))
    | st.sampled_from("\u200d\ufe0f\u0301\u202e\u2066\u1100\u1161🇬🏽👩שم日\x1b[ "),
    max_size=12,
)


@given(ANY_TEXT, st.integers(1, 12))
@settings(max_examples=500)
@example("\x1b[31mred\x1b[0m", 6)
@example("\u202e", 1)
@example("日", 1)
def test_any_label_fits_and_can_be_printed(token, width):
    label = token_label(token, width)
    assert cells(label) <= width
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in label)
    label.encode("utf-8")
    opened = [unicodedata.bidirectional(char) for char in label]
    assert opened.count("FSI") == opened.count("PDI") <= 1
    assert not {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI"} & set(opened)


@given(ANY_TEXT, ANY_TEXT, st.integers(1, 12))
@settings(max_examples=300)
@example("0\u1087", "\u1087", 6)
@example("\u0e01\u200d", "\u0915\u094d", 6)
def test_any_label_is_as_wide_beside_another_as_alone(token, other, width):
    labels = token_label(token, width), token_label(other, width)
    assert cells(" {} {} ".format(*labels)) == sum(map(cells, labels)) + 3


@given(ANY_TEXT)
def test_any_label_is_the_sum_of_its_graphemes(token):
    label = token_label(token, 8)
    assert "".join(graphemes(label)) == label
    assert sum(map(cells, graphemes(label))) == cells(label)


def test_the_width_asked_for_is_that_of_a_terminal():
    """wcswidth is the C library's older question, answered apart from the one the code asks."""
    for token in ("interpretability", "日本語テキスト", " the", "שבת"):
        assert wcswidth(token_label(token, 5)) <= 5


def test_a_relation_is_an_equality_only_to_the_digits_that_are_shown():
    assert relation(0.46666, "0.4667") == "="
    assert relation(506.33, "506.2") == "≈"
    assert relation(math.nan, "nan") == relation(-math.inf, "−inf") == "="
    assert rounded(2.71828) == 2.718 and rounded(-1.5e-7) == -1.5e-7 and rounded(12345) == 12345


def test_a_count_has_its_noun():
    assert [count_of(n, "token") for n in (0, 1, 2)] == ["0 tokens", "1 token", "2 tokens"]
    assert count_of(2, "microbatch", "es") == "2 microbatches"
