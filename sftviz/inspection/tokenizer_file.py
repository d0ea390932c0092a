"""The tokens of a tokenizer that was saved in a folder, read without its library.

Only the list of tokens is needed to show ids as text, and both files are JSON: `tokenizer.json` as
the `tokenizers` library writes it, and `tokenizer_config.json`, where transformers writes which
tokens are special.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class SavedTokenizer:
    """The tokens of a tokenizer by id, and which of them are special.

    The methods have the names that they have in the `tokenizers` library.
    """

    tokens: Mapping[int, str]
    added: Mapping[int, str]  # those that are spelt as text, such as special ones
    pad_token_id: int | None = None
    eos_token_id: int | None = None

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: token_id for token_id, token in self.tokens.items()}

    def id_to_token(self, token_id: int) -> str | None:
        """The spelling of a token; None if there is no such id."""
        return self.tokens.get(token_id)

    def token_to_id(self, token: str) -> int | None:
        """The id of a spelling; None if there is no such token."""
        return self._ids.get(token)

    def get_added_tokens_decoder(self) -> Mapping[int, str]:
        """The added tokens by id."""
        return self.added

    def get_vocab_size(self) -> int:
        """The number of ids, from 0 to the largest."""
        return max(self.tokens) + 1


def load_tokenizer(folder: str | Path) -> SavedTokenizer:
    """Read the tokens from a folder that a tokenizer was saved in.

    Raises:
        OSError: a file can't be read.
        ValueError: there is no `tokenizer.json`, or it has no list of tokens.
    """
    folder = Path(folder)
    path = folder if folder.suffix == ".json" else folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(
            f"{folder.name} has no tokenizer.json: give the folder that "
            "tokenizer.save_pretrained(...) wrote."
        )
    saved = _read(path)
    try:
        listed = saved["model"]["vocab"]
        # Byte-pair models have {token: id}, unigram models a list of [token, score].
        pairs = listed.items() if isinstance(listed, dict) else _numbered(listed)
        tokens = {int(token_id): str(token) for token, token_id in pairs}
        added = {int(each["id"]): str(each["content"]) for each in saved.get("added_tokens", ())}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path.name} has no list of tokens: give the file that the tokenizers library writes."
        ) from error
    tokens |= added
    if not tokens:
        raise ValueError(f"{path.name} has no tokens: give that of a trained tokenizer.")
    config = path.with_name("tokenizer_config.json")
    special = _read(config) if config.exists() else {}
    saved_tokenizer = SavedTokenizer(tokens, added)
    pad, end = (
        saved_tokenizer.token_to_id(_text(special.get(name))) for name in ("pad_token", "eos_token")
    )
    return replace(saved_tokenizer, pad_token_id=pad, eos_token_id=end)


def _numbered(listed: Sequence[Sequence]) -> list[tuple[str, int]]:
    return [(token, token_id) for token_id, (token, _) in enumerate(listed)]


def _text(token: object) -> str:
    """A special token is a string, or an object with its content; null if there is none."""
    return str(token.get("content") if isinstance(token, dict) else token)


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path.name} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} contains a {type(content).__name__}, not an object.")
    return content
