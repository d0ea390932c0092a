"""The tokens of a saved tokenizer, compared with what its own library says."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sftviz import token_texts
from sftviz.inspection.tokenizer_file import load_tokenizer

TEXTS = ["the sky is blue because light scatters", "short waves scatter more\n", "größer, 日本"]


@pytest.fixture
def folder(tmp_path):
    """A byte-level tokenizer with two special tokens, as transformers saves one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        show_progress=False,
        special_tokens=["<pad>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_the_tokens_are_those_of_the_library(folder):
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = load_tokenizer(folder)
    ids = range(library.get_vocab_size())
    assert list(map(ours.id_to_token, ids)) == list(map(library.id_to_token, ids))
    assert ours.get_vocab_size() == library.get_vocab_size()
    assert (ours.id_to_token(10**6), ours.token_to_id("no such")) == (None, None)
    text = "the sky größer, 日本<|end|>\n"
    written = library.encode(text).ids
    assert token_texts(ours, [written]) == token_texts(library, [written])
    assert (ours.pad_token_id, ours.eos_token_id) == (None, None)


def test_the_special_tokens_are_in_the_file_beside_it(folder):
    config = {"pad_token": "<pad>", "eos_token": {"content": "<|end|>", "lstrip": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ours = load_tokenizer(folder / "tokenizer.json")
    assert (ours.pad_token_id, ours.eos_token_id) == (0, 1)


def test_a_unigram_model_lists_its_tokens(tmp_path):
    saved = {"model": {"vocab": [["<unk>", 0.0], ["▁a", -1.5]]}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    assert load_tokenizer(tmp_path).tokens == {0: "<unk>", 1: "▁a"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "{} has no tokenizer.json: give the folder that tokenizer.save_pretrained(...) "
         "wrote."),
        ("{", "tokenizer.json is not JSON: Expecting property name enclosed in double quotes: "
         "line 1 column 2 (char 1)."),
        ("[]", "tokenizer.json contains a list, not an object."),
        ("{}", "tokenizer.json has no list of tokens: give the file that the tokenizers library "
         "writes."),
        ('{"model": {"vocab": {"a": "b"}}}', "tokenizer.json has no list of tokens: give the file "
         "that the tokenizers library writes."),
        ('{"model": {"vocab": []}}', "tokenizer.json has no tokens: give that of a trained "
         "tokenizer."),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_gets_a_sentence(tmp_path, text, said):
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == said.format(tmp_path.name)
