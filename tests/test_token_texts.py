"""Texts of token ids: a real byte-level tokenizer, and stand-ins with the methods of others."""

from types import MappingProxyType

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sftviz.drawing.formatting import token_label
from sftviz.token_texts import SpecialIds, special_ids, token_texts

SENTENCES = ["The cat sat on the mat.\n", "the café on the mat\tis a cat's", "日本 in the café"]
END, PAD, NAME = "<|end|>", "<pad>", "<é>"


def train(model, trainer, **parts):
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(SENTENCES, trainer(special_tokens=[END, PAD], vocab_size=330))
    tokenizer.add_special_tokens([NAME])
    return tokenizer


@pytest.fixture(scope="module")
def byte_level():
    def trainer(**options):
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False, **options)

    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return train(models.BPE(), trainer, pre_tokenizer=pre_tokenizer, decoder=decoders.ByteLevel())


@pytest.fixture(scope="module")
def word_pieces():
    def trainer(**options):
        return trainers.WordPieceTrainer(show_progress=False, **options)

    return train(models.WordPiece(), trainer, pre_tokenizer=pre_tokenizers.Whitespace())


def test_a_byte_level_tokenizer_is_read_back(byte_level):
    text = "the café\n\tsat on the 日本 mat" + END + NAME
    ids = byte_level.encode(text).ids
    (texts,) = token_texts(byte_level, [ids])
    assert "".join(texts).startswith("the café\n\tsat on the ")
    assert " cat" in token_texts(byte_level, [byte_level.encode("a cat").ids])[0]
    assert texts[-2:] == (END, NAME)  # special tokens are not changed
    assert len(texts) == len(ids) and not set("ĠĊĉ") & set("".join(texts))


def test_bytes_that_are_no_character_are_numbered(byte_level):
    ids = [byte_level.token_to_id(char) for char in ("æ", "Ĺ", "Ġ", "Ċ", "A")]
    assert token_texts(byte_level, [ids]) == (("<0xE6>", "<0x97>", " ", "\n", "A"),)


def test_bytes_are_recognised_without_a_space_among_them(byte_level):
    (texts,) = token_texts(byte_level, [byte_level.encode("é").ids])
    assert "".join(texts) in ("é", "<0xC3><0xA9>")
    vocabulary = byte_level.get_vocab()
    merged = {**vocabulary, "Ã©": 5000}
    assert token_texts(merged, [[5000]]) == (("é",),)
    listed = sorted(vocabulary, key=vocabulary.__getitem__)
    assert token_texts([*listed, "Ã©"], [[len(listed)]]) == (("é",),)


def test_pictures_make_spaces_and_line_breaks_visible(byte_level):
    (texts,) = token_texts(byte_level, [byte_level.encode(" mat\n\t").ids])
    assert "".join(token_label(text, 11) for text in texts) == "␣mat↵⇥"


def test_word_pieces_stay_as_they_are(word_pieces):
    encoded = word_pieces.encode("the café mats")
    assert token_texts(word_pieces, [encoded.ids]) == (tuple(encoded.tokens),)
    assert "##" in "".join(encoded.tokens)


def test_letters_of_maltese_do_not_make_a_vocabulary_one_of_bytes():
    assert token_texts(["▁Ġwann", "▁Ċentru", "é"], [[0, 1, 2]]) == ((" Ġwann", " Ċentru", "é"),)
    letters = [*map(chr, range(0x100, 0x144)), "▁", "é"]
    assert token_texts(letters, [[len(letters) - 1]]) == (("é",),)


def test_ids_that_are_not_there(byte_level):
    ids = torch.tensor([[-100, 10**6, 2**40], [-1, 0, 1]])
    expected = (("", "[1000000]", "[1099511627776]"), ("", END, PAD))
    assert token_texts(byte_level, ids) == expected


class Asked:
    """A stand-in that counts what it is asked."""

    def __init__(self):
        self.asked = []

    def answer(self, token):
        self.asked.append(token)
        return self.pieces[token]


class Transformers(Asked):
    pieces = ("<s>", "Ġcat", "ĉ", "<|x y|>")
    added_tokens_decoder = MappingProxyType({0: "<s>", 3: "<|x y|>"})
    pad_token_id, eos_token_id, vocab_size = None, [2, 0], 2

    def __len__(self):
        return 4

    def convert_ids_to_tokens(self, token):
        return self.answer(token) if token < 4 else None


class SentencePiece(Asked):
    pieces = ("<unk>", "▁cat", "<0x0A>", "▁▁")

    def id_to_piece(self, token):
        return self.answer(token)

    def pad_id(self):
        return -1

    def eos_id(self):
        return 0

    def vocab_size(self):
        return 4


class OldSentencePiece(Asked):
    pieces = SentencePiece.pieces

    def IdToPiece(self, token):
        return self.answer(token)


class Tiktoken(Asked):
    pieces = (b" cat", b"\xe6\x97", b"\n", b"<|endoftext|>")
    n_vocab = 4
    eot_token = 3

    def decode_single_token_bytes(self, token):
        return self.answer(token)

    def decode(self, tokens):
        raise AssertionError("bytes are asked for")


class Characters(Asked):
    pieces = ("a", " ", "\n", "Ġ")

    def decode(self, tokens):
        return "".join(map(self.answer, tokens))

    @property
    def eot_token(self):
        raise KeyError("<|endoftext|>")


TEXTS = {
    Transformers: ("<s>", " cat", "\t", "<|x y|>"),
    SentencePiece: ("<unk>", " cat", "<0x0A>", "  "),
    OldSentencePiece: ("<unk>", " cat", "<0x0A>", "  "),
    Tiktoken: (" cat", "<0xE6><0x97>", "\n", "<|endoftext|>"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_tokenizer_is_used_by_what_it_can_do_and_asked_once_per_id(kind):
    tokenizer = kind()
    ids = torch.tensor([[0, 1, 2, 3, 4], [3, 3, 1, 0, -100]])
    a, b, c, d = TEXTS[kind]
    assert token_texts(tokenizer, ids) == ((a, b, c, d, "[4]"), (d, d, b, a, ""))
    assert tokenizer.asked[:4] == [0, 1, 2, 3]
    assert tokenizer.asked[4:] in ([], [4])  # once each


def test_a_tokenizer_that_can_only_decode():
    assert token_texts(Characters(), [[0, 1, 2]]) == (("a", " ", "\n"),)


def test_a_list_and_dictionaries_are_tokenizers_too():
    expected = (("b", "a", "[2]"),)
    for tokenizer in (["a", "b"], ("a", "b"), {0: "a", 1: "b"}, {"a": 0, "b": 1}):
        assert token_texts(tokenizer, [[1, 0, 2]]) == expected
    assert token_texts({}, [[0]]) == (("[0]",),)


class Broken:
    def id_to_token(self, token):
        raise RuntimeError("no model is loaded")


class Numbers:
    def id_to_token(self, token):
        return 1.5


REFUSED = {
    "a tokenizer that fails": (
        (Broken(), [[7]]),
        TypeError,
        "the tokenizer (Broken) failed at the id 7: RuntimeError: no model is loaded. "
        "Pass one that has this id's text, or the texts.",
    ),
    "a tokenizer of numbers": (
        (Numbers(), [[7]]),
        TypeError,
        "the tokenizer (Numbers) must return text for the id 7, got float 1.5: "
        "pass one that returns strings.",
    ),
    "no tokenizer": (
        (3, [[7]]),
        TypeError,
        "tokenizer must have one of the methods convert_ids_to_tokens, id_to_token, id_to_piece, "
        "IdToPiece, decode_single_token_bytes, decode, or be a sequence or dictionary of strings, "
        "got int: pass the tokenizer itself.",
    ),
    "the name of a tokenizer": (
        ("gpt2", [[7]]),
        TypeError,
        "tokenizer must have one of the methods convert_ids_to_tokens, id_to_token, id_to_piece, "
        "IdToPiece, decode_single_token_bytes, decode, or be a sequence or dictionary of strings, "
        "got str: pass the tokenizer itself.",
    ),
    "ids that are text": (
        (["a"], [["a"]]),
        TypeError,
        "ids must be rows of integers, all of the same length, got [['a']]: pass token ids (B, S).",
    ),
    "rows of two lengths": (
        (["a"], [[0], [0, 0]]),
        TypeError,
        "ids must be rows of integers, all of the same length, got [[0], [0, 0]]: "
        "pass token ids (B, S).",
    ),
    "ids as floats": (
        (["a"], [[0.0]]),
        TypeError,
        "ids must contain integers, got torch.float32: pass token ids.",
    ),
    "one row": (
        (["a"], [0, 0]),
        ValueError,
        "ids must have shape (B, S) with at least one token, got (2,): "
        "one row per sequence, one column per token.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_text_is_refused_in_a_sentence(case):
    arguments, error, sentence = REFUSED[case]
    with pytest.raises(error) as caught:
        token_texts(*arguments)
    assert str(caught.value) == sentence


# ---------------------------------------------------------------- special tokens


def test_what_a_real_tokenizer_says_of_its_special_tokens(byte_level):
    size = byte_level.get_vocab_size()
    assert special_ids(byte_level) == SpecialIds(None, None, size)
    padded = Tokenizer.from_str(byte_level.to_str())
    padded.enable_padding(pad_id=1, pad_token=PAD)
    assert special_ids(padded) == SpecialIds(1, None, size)


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (Transformers(), (None, (2, 0), 4)),  # with the added tokens, which vocab_size leaves out
        (SentencePiece(), (None, (0,), 4)),
        (Tiktoken(), (None, (3,), 4)),
        (Characters(), (None, None, None)),
        (["a", "b"], (None, None, 2)),
        ({"a": 7}, (None, None, 8)),
        ({}, (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_special_tokens_are_known_where_a_tokenizer_says_so(tokenizer, expected):
    assert special_ids(tokenizer) == expected
