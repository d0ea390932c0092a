"""What a tokenizer says about token ids: their texts, and which of them are special.

There is no common interface of tokenizers, so each is used by what it can do: those of transformers
and tokenizers, sentencepiece, tiktoken, anything with `decode`, and plain lists and dictionaries.
None of these libraries is imported. Needs torch alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sftviz.validate import brief, check_ids

Lookup = Callable[[int], str | bytes | None]

# What is asked for a token, in this order: the first methods have its spelling in the vocabulary,
# the last one has only its text, which may lack a leading space.
_METHODS = (
    "convert_ids_to_tokens",  # transformers
    "id_to_token",  # tokenizers
    "id_to_piece",  # sentencepiece
    "IdToPiece",
    "decode_single_token_bytes",  # tiktoken
    "decode",
)
_WORD_START = "▁"  # for a space, in sentencepiece
_NO_BYTE = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8, after decoding it
# How a byte-level tokenizer spells bytes: printable ones of Latin-1 as they are, the others as
# U+0100 and so on. https://github.com/openai/gpt-2/blob/master/src/encoder.py
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_MOVED = {chr(256 + index): byte for index, byte in enumerate(_OTHERS)}
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | _MOVED


class SpecialIds(NamedTuple):
    """What is known of a tokenizer's special tokens. None: it does not say."""

    pad_id: int | None
    eos_ids: tuple[int, ...] | None
    vocab_size: int | None  # the number of ids, with those of added tokens


def token_texts(tokenizer: Any, ids: Any) -> tuple[tuple[str, ...], ...]:
    """The text of each token, with its spaces and line breaks as they are.

    Pictures make these visible: a leading space is drawn as `␣`, a line break as `↵`. A byte that
    is only a part of a character is written as `<0xE6>`. An id that the tokenizer does not have is
    written as `[50300]`, and a negative one, such as the label −100, is an empty text.

    Args:
        tokenizer: an object with `convert_ids_to_tokens`, `id_to_token`, `id_to_piece`,
            `decode_single_token_bytes` or `decode`; or a sequence of strings, one per id; or a
            dictionary from ids to strings or from strings to ids. Each id is looked up once. None:
            the ids themselves are the texts.
        ids: (B, S) integers: a tensor, an array or lists.

    Returns:
        B rows of S strings.

    Raises:
        TypeError: the tokenizer has none of these, or fails, or does not return text; or the ids
            are not integers.
        ValueError: the ids do not have shape (B, S).

    Example:
        >>> token_texts({0: "<s>", 1: "the", 2: "▁cat", 3: "<0x0A>"}, [[0, 1, 2], [3, 4, -100]])
        (('<s>', 'the', ' cat'), ('<0x0A>', '[4]', ''))
        >>> token_texts(["Ġthe", "ĠcafÃ©", "Ã", "Ċ"], [[0, 1, 2, 3]])  # spelt in bytes, as in GPT-2
        ((' the', ' café', '<0xC3>', '\\n'),)
    """
    rows = _check_rows(ids).tolist()
    look_up = _find_lookup(tokenizer)
    unique = sorted({token for row in rows for token in row if token >= 0})
    spelt = {token: _spelling(tokenizer, look_up, token) for token in unique}
    added = _added(tokenizer)
    plain = [text for token, text in spelt.items() if isinstance(text, str) and token not in added]
    in_bytes = _is_in_bytes(tokenizer, plain)

    def text(token: int) -> str:
        match spelt[token]:
            case None:
                return f"[{token}]"
            case bytes(raw):
                return _decode(raw)
            case spelling if token in added:
                return spelling
            case spelling if in_bytes and _BYTES.keys() >= set(spelling):
                return _decode(bytes(_BYTES[char] for char in spelling))
            case spelling:
                return spelling if in_bytes else spelling.replace(_WORD_START, " ")

    texts = {token: text(token) for token in unique}
    return tuple(tuple(texts.get(token, "") for token in row) for row in rows)


def special_ids(tokenizer: Any) -> SpecialIds:
    """The padding, the end tokens and the number of ids, as far as the tokenizer says.

    Example:
        >>> class Tokenizer:
        ...     pad_token_id, eos_token_id, vocab_size = 0, 2, 32000
        >>> special_ids(Tokenizer())
        SpecialIds(pad_id=0, eos_ids=(2,), vocab_size=32000)
        >>> special_ids(["<end>", "a", "b"])
        SpecialIds(pad_id=None, eos_ids=None, vocab_size=3)
    """
    if isinstance(tokenizer, Mapping):
        sizes = [token + 1 for token in _by_id(tokenizer)]
        return SpecialIds(None, None, max(sizes, default=None))
    padding = _read(tokenizer, "padding")  # of tokenizers: a dictionary, if it is switched on
    pads = [*_ids(tokenizer, "pad_token_id", "pad_id")]
    if isinstance(padding, Mapping):
        pads += [token for token in [padding.get("pad_id")] if _is_id(token)]
    ends = [*_ids(tokenizer, "eos_token_id", "eos_token_ids", "eos_id", "eot_token")]
    sizes = [*_ids(tokenizer, "__len__", "get_vocab_size", "vocab_size", "n_vocab")]
    return SpecialIds(
        pads[0] if pads else None,
        tuple(dict.fromkeys(ends)) or None,
        max(sizes, default=None) or None,
    )


def check_tokenizer(tokenizer: Any) -> None:
    """Check that `token_texts` can use a tokenizer.

    Raises:
        TypeError: it can't.
    """
    _find_lookup(tokenizer)


def _check_rows(ids: Any) -> Tensor:
    try:
        rows = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"ids must be rows of integers, all of the same length, got {brief(ids)}: "
            "pass token ids (B, S)."
        ) from None
    return check_ids("ids", rows)


def _find_lookup(tokenizer: Any) -> Lookup:
    """A function from an id to a spelling. It raises a LookupError for an unknown id."""
    if tokenizer is None:
        return str
    if isinstance(tokenizer, Mapping):
        return _by_id(tokenizer).__getitem__
    if isinstance(tokenizer, Sequence) and not isinstance(tokenizer, str | bytes):
        return tokenizer.__getitem__
    name = next((name for name in _METHODS if callable(getattr(tokenizer, name, None))), None)
    if name is None or isinstance(tokenizer, str | bytes):
        raise TypeError(
            f"tokenizer must have one of the methods {', '.join(_METHODS)}, or be a sequence or "
            f"dictionary of strings, got {type(tokenizer).__name__}: pass the tokenizer itself."
        )
    method = getattr(tokenizer, name)
    return (lambda token: method([token])) if name == "decode" else method


def _by_id(vocabulary: Mapping[Any, Any]) -> Mapping[int, str]:
    """A dictionary from ids to strings, also if it is one from strings to ids."""
    if all(isinstance(key, str | bytes) for key in vocabulary):
        return {token: spelling for spelling, token in vocabulary.items()}
    return vocabulary


def _spelling(tokenizer: Any, look_up: Lookup, token: int) -> str | bytes | None:
    """A token as the vocabulary has it; None if it has no such id."""
    try:
        spelling = look_up(token)
    except (LookupError, OverflowError):
        return None
    except Exception as error:
        raise TypeError(
            f"the tokenizer ({type(tokenizer).__name__}) failed at the id {token}: "
            f"{type(error).__name__}: {error}. Pass one that has this id's text, or the texts."
        ) from error
    if not isinstance(spelling, str | bytes | None):
        raise TypeError(
            f"the tokenizer ({type(tokenizer).__name__}) must return text for the id {token}, got "
            f"{type(spelling).__name__} {brief(spelling)}: pass one that returns strings."
        )
    return spelling


def _is_in_bytes(tokenizer: Any, spellings: Sequence[str]) -> bool:
    """Whether the vocabulary spells tokens in bytes: `Ġ` for a space, `Ã©` for é."""
    chars = {char for spelling in spellings for char in spelling}
    if chars & {"Ġ", "Ċ"} and chars <= _BYTES.keys():
        return True
    # All letters of such a vocabulary are needed: Ġ and Ċ alone are letters of Maltese too.
    known = _known(tokenizer, (*_MOVED, _WORD_START))
    return known >= _MOVED.keys() and _WORD_START not in known


def _known(tokenizer: Any, spellings: Iterable[str]) -> set[str]:
    """Those of some spellings that are in the vocabulary, as far as it can be asked."""
    if isinstance(tokenizer, Mapping):
        return set(spellings) & set(_by_id(tokenizer).values())
    if isinstance(tokenizer, Sequence):
        return set(spellings) & set(tokenizer)
    for name in ("token_to_id", "convert_tokens_to_ids"):
        with suppress(Exception):
            find = getattr(tokenizer, name)
            no_id = {None, find("\0")}  # in transformers, the id of the unknown token
            return {spelling for spelling in spellings if find(spelling) not in no_id}
    return set()


def _decode(raw: bytes) -> str:
    """UTF-8 as text, in which bytes that are no characters are numbers."""
    text = raw.decode("utf-8", "surrogateescape")
    return _NO_BYTE.sub(lambda match: f"<0x{ord(match[0]) - 0xDC00:02X}>", text)


def _added(tokenizer: Any) -> Mapping[int, Any]:
    """The tokens that were added to a vocabulary, such as special ones. They are spelt as text."""
    for name in ("added_tokens_decoder", "get_added_tokens_decoder"):
        if isinstance(found := _read(tokenizer, name), Mapping):
            return found
    return {}


def _ids(tokenizer: Any, *names: str) -> Iterator[int]:
    """The ids or sizes that some attributes have."""
    for name in names:
        value = _read(tokenizer, name)
        yield from filter(_is_id, value if isinstance(value, list | tuple) else [value])


def _is_id(value: object) -> bool:
    return type(value) is int and value >= 0  # sentencepiece: −1 is none


def _read(tokenizer: Any, name: str) -> Any:
    """The value of an attribute or of a method without arguments; None if it can't be read."""
    try:
        value = getattr(tokenizer, name)
        return value() if callable(value) else value
    except Exception:  # for example tiktoken's eot_token, where there is none
        return None
