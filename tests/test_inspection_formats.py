"""Formats of batches, recognised. The truth is in the conversations that they were made of."""

import random
from collections import UserDict
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pytest
import torch
from batch_writers import (
    EOS,
    PAD,
    WRITERS,
    Conversation,
    conversation,
    conversations,
    counted,
    cs336,
    fractions,
    hugging_face,
    megatron,
    normal_form,
    ones_are_masked,
    openrlhf,
    padded,
    torchtune,
    verl,
)

from sftviz.inspection.batch import Hints
from sftviz.inspection.formats.read import read_batch

HUGGING_FACE = (
    "input_ids with labels of −100, not shifted, as Hugging Face, TRL and axolotl have them"
)
CS336 = "input_ids with labels, shifted, and response_mask, as CS336 and sftviz have them"
MEGATRON = "tokens with labels, shifted, and loss_mask, as Megatron and NeMo have them"
STEP = "policy_log_probs and response_mask, as the step has them"
FORMATS = {  # what each writer's batches are taken for, and where labels agree with ids
    "hugging_face": (HUGGING_FACE, 0),
    "hugging_face_left": (HUGGING_FACE, 0),
    "pad_id_ignored": (HUGGING_FACE.replace("−100", "a token id"), 0),
    "trl_before_collation": (
        "input_ids and completion_mask and assistant_masks about the token itself, "
        "as TRL before collation has them",
        None,
    ),
    "trl_packed": (HUGGING_FACE, 0),
    "trl_padding_free": (HUGGING_FACE, 0),
    "axolotl_packed": (HUGGING_FACE, 0),
    "verl": ("input_ids and loss_mask about the token itself, as verl has them", None),
    "openrlhf": (
        "input_ids and loss_mask about the next token, as OpenRLHF and older versions of verl have "
        "them",
        None,
    ),
    "prime_rl": ("input_ids with target_ids, shifted, and loss_mask, as prime-rl has them", 1),
    "torchtitan": ("input with targets of −100, shifted, as torchtitan and CS336 have them", 1),
    "nanochat": ("inputs with targets of −1, shifted, as nanochat has them", 1),
    "cs336": (CS336, 1),
    "megatron": (MEGATRON, 1),
    "nemo": (MEGATRON, 1),
    "tinker": (
        "model_input with target_tokens, shifted, and weights, as Tinker and Fireworks have them",
        1,
    ),
    "torchtune": (
        "tokens with labels of −100, not shifted, and mask (1 = masked), as torchtune has them",
        0,
    ),
    "ones_are_masked": ("tokens and mask about the token itself (1 = masked)", None),
    "step": (STEP, None),
    "step_inputs": (STEP, None),
    "token_batch": (CS336, 1),
}
TABLE = {  # the stacks that have a format in common
    "Hugging Face": (
        "hugging_face",
        "hugging_face_left",
        "pad_id_ignored",
        "trl_before_collation",
        "trl_packed",
        "trl_padding_free",
        "axolotl_packed",
    ),
    "a mask beside ids": ("verl", "openrlhf"),
    "inputs and targets": ("prime_rl", "torchtitan", "nanochat", "cs336", "token_batch"),
    "Megatron": ("megatron", "nemo"),
    "weights": ("tinker",),
    "1 = masked": ("torchtune", "ones_are_masked"),
    "the step": ("step", "step_inputs"),
}
POOL = [conversation(random.Random(seed)) for seed in range(1000)]
ROWS = ("hugging_face", "pad_id_ignored", "verl", "openrlhf", "torchtitan", "torchtune", "tinker")
PACKED = ("trl_packed", "trl_padding_free", "axolotl_packed", "prime_rl", "megatron", "nemo")


def some(seed):
    return conversations(random.Random(seed))


def triples(batch):
    """(n, 3) of each token that counts: what is read, what is predicted, its weight."""
    mask = batch.response_mask
    return torch.stack(
        [each[mask].double() for each in (batch.tokens, batch.labels, batch.weights)]
    )


def test_every_writer_has_a_line_in_the_tables():
    assert set(FORMATS) == set(WRITERS) == {name for names in TABLE.values() for name in names}


@pytest.mark.parametrize("line", TABLE)
def test_2000_random_batches_of_each_format_are_recognised(line):
    rng = random.Random(line)
    found, expected = [], []
    for n in range(2000):
        name = TABLE[line][n % len(TABLE[line])]
        given = rng.sample(POOL, rng.randint(2, 4))
        reading = read_batch(WRITERS[name](given))
        assert (reading.format, reading.shift, reading.question) == (*FORMATS[name], ""), given
        assert reading.usual_shift == (None if name == "torchtune" else reading.shift)
        if line == "the step":
            found.append(reading.batch.weights.flatten())
            expected.append(normal_form(given)["weights"].flatten())
        else:
            found.append(triples(reading.batch).T)
            expected.append(counted(fractions(given) if name == "tinker" else given))
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ROWS)
def test_rows_have_the_normal_form_to_the_last_column(name):
    for seed in range(40):
        given = some(seed)
        batch = read_batch(WRITERS[name](given)).batch
        true = normal_form(fractions(given) if name == "tinker" else given)
        S = true["tokens"].shape[1]
        real = ~true["is_padding"]
        counts = true["weights"] > 0
        assert torch.equal(batch.weights[:, :S], true["weights"])
        assert not batch.weights[:, S:].any()
        assert torch.equal(batch.tokens[:, :S][real], true["tokens"][real])
        assert torch.equal(batch.labels[:, :S][counts], true["labels"][counts])
        if batch.is_padding is not None:
            assert torch.equal(batch.is_padding[:, :S], true["is_padding"])
            assert batch.is_padding[:, S:].all()
        follows = batch.next_tokens[:, :S]
        assert torch.equal(
            follows[counts & (follows >= 0)], true["labels"][counts & (follows >= 0)]
        )


@pytest.mark.parametrize("name", PACKED)
def test_documents_are_those_that_were_packed(name):
    for seed in range(40):
        given = some(seed)
        batch = read_batch(WRITERS[name](given)).batch
        inside = ~batch.is_border
        if batch.is_padding is not None:
            inside &= ~batch.is_padding
        documents = [
            batch.tokens[row][inside[row] & (batch.documents[row] == number)].tolist()
            for row in range(len(inside))
            for number in batch.documents[row][inside[row]].unique().tolist()
        ]
        assert documents == [each.ids[:-1] for each in given]
        is_cut = name in ("prime_rl", "nemo")  # shifted one by one, then packed
        borders = len(given) - len(inside)
        assert int(batch.is_border.sum()) == (0 if is_cut else borders)
        assert not batch.weights[batch.is_border].any()
        if is_cut:  # the label of a last token is not among the ids
            label = batch.labels[batch.next_tokens < 0]
            assert set(label.tolist()) <= {each.ids[-1] for each in given}


def test_left_padding_is_named_and_nothing_is_lost():
    given = some(3)
    reading = read_batch(hugging_face(given, left=True))
    assert any("of padding on the left: attention_mask is 0 there." in e for e in reading.evidence)
    assert torch.equal(triples(reading.batch).T, counted(given))
    real = padded([[True] * len(each.ids) for each in given], False, left=True)
    assert torch.equal(~reading.batch.is_padding, real[:, 1:])


class TensorDict:
    """Has keys, is not a mapping, and has no truth value."""

    def __init__(self, content):
        self.content = content

    def keys(self):
        return self.content.keys()

    def __getitem__(self, name):
        return self.content[name]

    def __bool__(self):
        raise RuntimeError("no truth value")


def as_fields(batch):
    return dataclass(type("Fields", (), {"__annotations__": dict.fromkeys(batch, object)}))(**batch)


def as_object(batch):
    return type("Object", (), batch)()


class Pair(NamedTuple):
    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor


CONTAINERS = {
    "a mapping": UserDict,
    "what has keys": TensorDict,
    "arrays": lambda batch: {name: value.numpy() for name, value in batch.items()},
    "arrays of the other byte order": lambda batch: {
        name: value.numpy().astype(">i4") for name, value in batch.items()
    },
    "lists": lambda batch: {name: value.tolist() for name, value in batch.items()},
    "lists of tensors": lambda batch: {name: list(value) for name, value in batch.items()},
    "tuples": lambda batch: {name: tuple(map(tuple, v.tolist())) for name, v in batch.items()},
    "examples": lambda batch: [
        {name: value[r].tolist() for name, value in batch.items()}
        for r in range(len(batch["labels"]))
    ],
    "examples of one row": lambda batch: [
        {name: value[r : r + 1] for name, value in batch.items()}
        for r in range(len(batch["labels"]))
    ],
    "a named tuple": lambda batch: Pair(**batch),
    "a dataclass": as_fields,
    "an object": as_object,
    "int32": lambda batch: {name: value.int() for name, value in batch.items()},
    "more than is known": lambda batch: batch | {"pixel_values": torch.ones(3, 2, 2), "id": "x"},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container):
    given = some(5)
    reading = read_batch(CONTAINERS[container](hugging_face(given)))
    assert (reading.format, reading.question) == (HUGGING_FACE, "")
    assert torch.equal(triples(reading.batch).T, counted(given))


def test_rows_of_different_lengths():
    given = some(6)
    nested = {
        name: torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        for name, rows in {
            "input_ids": [torch.tensor(each.ids) for each in given],
            "loss_mask": [torch.tensor(each.weights) for each in given],
        }.items()
    }
    lists = {name: [row.tolist() for row in value.unbind()] for name, value in nested.items()}
    for batch in (nested, lists):
        reading = read_batch(batch)
        assert reading.format == FORMATS["verl"][0]
        assert torch.equal(triples(reading.batch).T, counted(given))
        assert torch.equal(reading.batch.is_padding, normal_form(given)["is_padding"])


def test_one_row():
    ids = [1, 3, 6, 7, 4, 8, 9, 2]
    for batch in (
        {"input_ids": ids, "labels": [-100] * 5 + ids[5:]},
        {"inputs": torch.tensor(ids[:-1]), "targets": torch.tensor([-1] * 4 + ids[5:])},
        {"tokens": np.array(ids), "labels": [[-100] * 5 + ids[5:]], "mask": [1] * 5 + [0] * 3},
    ):
        batch = read_batch(batch).batch
        assert batch.tokens.tolist() == [ids[:-1]]
        assert batch.response_mask.tolist() == [[False] * 4 + [True] * 3]


def test_nothing_is_changed_and_nothing_copied_that_can_be_used():
    for name, writer in WRITERS.items():
        batch = writer(some(7))
        if isinstance(batch, dict):
            before = {key: value.clone() for key, value in batch.items()}
            reading = read_batch(batch)
            assert all(torch.equal(batch[key], before[key]) for key in before), name
            if reading.batch.tokens is not None:
                ids = batch.get("input_ids", batch.get("tokens"))
                assert reading.batch.tokens.data_ptr() == ids.data_ptr(), name


@pytest.mark.parametrize("hints", [Hints(), Hints(eos_token_id=(2, 9), pad_token_id=PAD)])
def test_what_is_made_is_on_the_device_of_the_batch(hints):
    for name, writer in WRITERS.items():
        batch = writer(some(7))
        if isinstance(batch, list):  # of lists, which have no device
            continue
        with torch.device("meta"):  # what says no device is made there
            reading = read_batch(batch, hints)
        tensors = [getattr(reading.batch, field.name) for field in fields(reading.batch)]
        assert all(each is None or each.device.type == "cpu" for each in tensors), name


def test_a_mask_that_requires_grad_is_read_without_a_warning():
    mask = torch.tensor([[0.0, 0.5, 1.0]], requires_grad=True)
    batch = read_batch({"input_ids": [[5, 6, 7]], "loss_mask": mask}).batch
    assert batch.weights.tolist() == [[0.5, 1.0]] and not batch.weights.requires_grad


def test_log_probs_keep_their_graph():
    log_probs = torch.full((2, 3), -0.5, requires_grad=True)
    reading = read_batch({"policy_log_probs": log_probs, "response_mask": torch.ones(2, 3)})
    assert reading.log_probs is log_probs
    assert read_batch(hugging_face(some(1))).log_probs is None


def test_labels_that_are_shifted_too_often_or_never():
    ids = torch.arange(6, 26).view(2, 10)
    ones = torch.ones(2, 10).long()
    marked = ids.where(torch.arange(10) > 4, -100)
    for times, first in ((0, 4), (1, 4), (2, 4)):
        labels = torch.cat((marked[:, times:], torch.full((2, times), -100)), 1)
        reading = read_batch({"input_ids": ids, "labels": labels, "attention_mask": ones})
        assert (reading.shift, reading.usual_shift) == (times, 0)
        if times < 2:  # the normal form follows the numbers
            batch = reading.batch
            assert batch.response_mask[0].nonzero()[0].item() == first
            assert torch.equal(
                batch.labels[batch.response_mask], batch.next_tokens[batch.response_mask]
            )
    never = read_batch({"input_ids": ids, "labels": ids, "response_mask": marked > 0})
    assert (never.shift, never.usual_shift) == (0, 1)
    assert torch.equal(never.batch.labels, ids[:, 1:])
    assert torch.equal(never.batch.response_mask, marked[:, 1:] > 0)


@pytest.mark.parametrize("ignore", [-1, -100, -7, 0, 2, 40_000])
def test_any_ignore_index_is_found(ignore):
    for seed in range(40):
        given = some(seed)
        batch = hugging_face(given)
        labels = batch["labels"].where(batch["labels"] >= 0, ignore)
        reading = read_batch(batch | {"labels": labels})
        named = str(ignore).replace("-", "−") if ignore < 0 else "a token id"
        assert f"labels of {named}," in reading.format
        expected = counted(given)
        assert torch.equal(triples(reading.batch).T, expected[expected[:, 1] != ignore])
        assert set(reading.batch.labels[reading.batch.weights == 0].tolist()) == {-100}


def test_hints_override_what_the_numbers_say():
    given = some(8)
    batch = hugging_face(given)
    reading = read_batch(batch, Hints(shifted=True))
    assert torch.equal(reading.batch.labels, batch["labels"])
    assert torch.equal(reading.batch.tokens, batch["input_ids"])
    assert (reading.shift, reading.usual_shift) == (0, 0)

    reading = read_batch(cs336(given), Hints(shifted=False))
    assert torch.equal(reading.batch.labels, cs336(given)["labels"][:, 1:])

    mask = verl(given)["loss_mask"]
    reading = read_batch(verl(given), Hints(mask_about="label"))
    assert torch.equal(reading.batch.weights, mask[:, :-1].float())
    mask = openrlhf(given)["loss_mask"]
    reading = read_batch(openrlhf(given), Hints(mask_about="token"))
    assert torch.equal(reading.batch.weights, mask[:, 1:])

    mask = ones_are_masked(given)["mask"]
    reading = read_batch(ones_are_masked(given), Hints(mask_marks="counted"))
    assert torch.equal(reading.batch.weights, mask[:, 1:].float())
    mask = verl(given)["loss_mask"]
    reading = read_batch(verl(given), Hints(mask_marks="masked", mask_about="token"))
    assert torch.equal(reading.batch.weights, 1 - mask[:, 1:].float())

    reading = read_batch(hugging_face(given), Hints(ignore_index=2))
    assert (reading.batch.labels == -100).sum() >= len(given)
    assert 2 not in reading.batch.labels

    reading = read_batch(cs336(given), Hints(pad_token_id=PAD))
    assert torch.equal(reading.batch.is_padding, normal_form(given)["is_padding"])


@pytest.mark.parametrize(
    ("hints", "text"),
    [
        ({"shifted": "yes"}, "shifted must be True, False or None, got 'yes'."),
        ({"mask_about": "ids"}, "mask_about must be 'token', 'label' or None, got 'ids'."),
        ({"mask_marks": 1}, "mask_marks must be 'counted', 'masked' or None, got 1."),
    ],
)
def test_a_hint_has_one_of_two_values(hints, text):
    with pytest.raises(ValueError) as error:
        Hints(**hints)
    assert str(error.value) == text


IDS = torch.tensor([[5, 6, 7, 8], [9, 5, 8, 7]])
MARKS_QUESTION = (
    "A 1 in mask may mark what counts or what does not: read as what counts; "
    'give mask_marks="counted" or mask_marks="masked".'
)
QUESTIONS = [
    (
        {"tokens": IDS, "labels": torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])},
        "Labels may be those of the same column or of the next: read as those of the same; "
        "give shifted=True or shifted=False.",
    ),
    (
        {"input_ids": IDS},
        "Nothing says which tokens count: read as if all do; give labels or a loss_mask.",
    ),
    ({"tokens": IDS, "mask": torch.tensor([[0, 1, 1, 0], [1, 0, 1, 1]])}, MARKS_QUESTION),
    (
        {"input_ids": IDS[:1], "loss_mask": torch.tensor([[0, 1, 1, 0]])},
        "loss_mask may be about the token of its column or about the next one, which is predicted "
        'there: read as about the next one; give mask_about="token" or mask_about="label".',
    ),
    (
        {
            "input_ids": IDS,
            "labels": IDS.where(torch.tensor([False, False, True, True]), -100),
            "attention_mask": torch.ones(2, 4).long(),
            "loss_mask": torch.tensor([[1, 1, 0, 0]]).expand(2, 4),
        },
        "loss_mask marks what counts by its name, but it is 1 exactly where the label is "
        'ignored, at 8 of 8 tokens: read by its name; give mask_marks="masked" if 1 is meant to '
        "mark what does not.",
    ),
]


@pytest.mark.parametrize(("batch", "question"), QUESTIONS)
def test_where_two_readings_fit_both_are_named(batch, question):
    assert read_batch(batch).question == question


def test_an_inverted_mask_is_read_by_its_name_and_asked_about():
    batch = verl(some(4))
    size = int((batch["attention_mask"] == 0).sum())
    inverted = batch | {"loss_mask": 1 - batch["loss_mask"]}
    reading = read_batch(inverted)
    assert torch.equal(reading.batch.weights, inverted["loss_mask"][:, 1:].float())
    assert reading.question == (
        f"loss_mask marks what counts by its name, but it is 1 at most of {size} tokens of "
        'padding: read by its name; give mask_marks="masked" if 1 is meant to mark what does not.'
    )
    # A mask that counts the padding too is not inverted.
    excess = batch | {"loss_mask": batch["loss_mask"].where(batch["attention_mask"] == 1, 1)}
    reading = read_batch(excess)
    assert reading.question == ""
    assert torch.equal(reading.batch.weights, excess["loss_mask"][:, 1:].float())


def test_a_known_end_token_decides():
    batch = {"input_ids": IDS[:1], "loss_mask": torch.tensor([[0, 1, 1, 0]])}
    about_label = read_batch(batch, Hints(eos_token_id=8))
    assert about_label.question == "" and about_label.batch.weights.tolist() == [[0, 1, 1]]
    about_token = read_batch(batch, Hints(eos_token_id=(7, 99)))
    assert about_token.question == "" and about_token.batch.weights.tolist() == [[1, 1, 0]]
    batch = {"tokens": IDS[:1], "mask": torch.tensor([[1, 0, 1, 1]])}
    assert read_batch(batch, Hints(eos_token_id=6)).batch.weights.tolist() == [[1, 0, 0]]


def test_evidence_has_the_numbers():
    given = [conversation(random.Random(2)), conversation(random.Random(3))]
    batch = megatron(given)
    n, ends = batch["tokens"].numel(), len(given) - 1
    assert read_batch(batch).evidence == (
        f"All {n - 1 - ends} labels equal the input one column later.",
        "2 documents in 1 row: cu_seqlens says where documents end.",
        "Not used: max_seqlen.",
    )
    batch = torchtune(given)
    total, marked = sum(len(each.ids) for each in given), int(counted(given).shape[0])
    fill = 2 * max(len(each.ids) for each in given) - total
    assert read_batch(batch).evidence == (
        f"In labels, {total - marked} entries are −100.",
        f"All {marked} labels that count equal the input of the same column.",
        f"mask is 1 exactly where the label is ignored, at {total} of {total} tokens.",
        f"{fill} tokens of padding on the right: rows differ in length.",
        "A place is where a token is read: what is predicted there is one column later.",
    )


def test_packed_rows_by_any_tensor_that_says_so():
    ids = torch.arange(6, 20).view(2, 7)
    expected = [[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]  # of what is predicted
    for name, value in {
        "cu_seqlens": torch.tensor([[0, 3, 7], [0, 4, 7]]),
        "cu_seq_lens_q": torch.tensor([0, 3, 7, 11, 14]),
        "seq_lengths": [[3, 4], [4, 3]],
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 0, 1, 2]]),
        "attention_mask": torch.tensor([[1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 2, 2, 2]]),
    }.items():
        batch = read_batch({"input_ids": ids, "labels": ids, name: value}).batch
        assert batch.documents.tolist() == expected, name
        assert batch.is_border.nonzero().tolist() == [[0, 2], [1, 3]], name


def test_padding_is_recognised_by_ids_where_nothing_else_says_so():
    # Padded, then shifted: in the second row, the only padding is the label of the last column.
    rows = [Conversation(list(range(6, 6 + n)), [0.0] * 2 + [1.0] * (n - 2)) for n in (8, 7, 3, 4)]
    assert torch.equal(read_batch(cs336(rows)).batch.is_padding, normal_form(rows)["is_padding"])

    # The padding is the end token. The first one counts, so it is none.
    for writer, column in ((hugging_face, "input_ids"), (cs336, "labels")):
        given = some(9)
        batch = writer(given)
        batch.pop("attention_mask", None)
        is_padding = normal_form(given)["is_padding"]
        batch["input_ids"] = batch["input_ids"].where(batch["input_ids"] != PAD, EOS)
        if column == "labels":
            batch["labels"] = batch["labels"].where(batch["labels"] != PAD, EOS)
        found = read_batch(batch).batch
        assert torch.equal(found.is_padding, is_padding)
        assert torch.equal(triples(found).T, counted(given))
        assert (found.next_tokens == found.labels)[found.response_mask].sum() >= len(given)

    # One row that ends with one token again and again: padding, unless that counts.
    ids = torch.tensor([[6, 7, 8, 9, 9, 9], [6, 7, 8, 5, 4, 3]])
    text = {"input_ids": ids, "labels": ids.where(torch.arange(6) > 1, -100)}
    assert read_batch(text).batch.is_padding is None
    padding = {"input_ids": ids, "labels": ids.where(torch.arange(6) < 4, -100)}
    assert read_batch(padding).batch.is_padding.int().tolist() == [[0, 0, 0, 1, 1], [0] * 5]

    # Positions that are 0 again and again at the end.
    positions = torch.tensor([[0, 1, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5]])
    batch = read_batch({"input_ids": ids, "labels": ids, "position_ids": positions}).batch
    assert batch.is_padding.int().tolist() == [[0, 0, 0, 1, 1], [0] * 5]
    assert batch.documents.tolist() == [[0, 1, 1, 1, 1], [0] * 5]


def test_documents_beside_padding():
    ids = torch.arange(6, 13)[None]
    ends = {"input_ids": ids, "labels": ids, "cu_seqlens": torch.tensor([0, 3, 5])}
    batch = read_batch(ends).batch
    assert batch.is_padding.tolist() == [[False] * 4 + [True] * 2]
    assert batch.documents.tolist() == [[0, 0, 1, 1, 1, 1]]
    left = {  # positions of padding are 0 too
        "input_ids": ids,
        "loss_mask": torch.ones(1, 7),
        "attention_mask": torch.tensor([[0, 0, 0, 1, 1, 1, 1]]),
        "position_ids": torch.tensor([[0, 0, 0, 0, 1, 2, 3]]),
    }
    assert read_batch(left).batch.documents.tolist() == [[0] * 6]
    assert not read_batch(left).batch.is_border.any()


def test_a_mask_about_tokens_beside_shifted_labels():
    ids = torch.arange(6, 14)[None]
    counts = torch.tensor([[0, 0, 0, 1, 1, 0, 1, 1]])
    labels = torch.cat((ids[:, 1:].where(counts[:, 1:] > 0, -100), torch.tensor([[-100]])), 1)
    for mask in (counts, torch.cat((counts[:, 1:], torch.tensor([[0]])), 1)):
        reading = read_batch({"input_ids": ids, "labels": labels, "loss_mask": mask})
        assert reading.batch.weights.tolist() == [[0, 0, 1, 1, 0, 1, 1, 0]]
        assert ("about the token itself" in reading.format) == (mask is counts)


def test_an_attention_mask_of_pairs_is_not_used():
    causal = torch.ones(4, 4).tril().bool()
    batch = {"tokens": IDS, "labels": IDS, "mask": causal.expand(2, 4, 4)}
    assert read_batch(batch).evidence[-1] == "Not used: mask."
    batch = {"input_ids": IDS, "labels": IDS, "attention_mask": causal.expand(2, 1, 4, 4)}
    assert read_batch(batch).evidence[-1] == "Not used: attention_mask."


NOT_A_MAPPING = (
    "batch must be a mapping of tensors, arrays or lists, or an object that has them, got {}: "
    'give what your collator makes, for example {{"input_ids": …, "labels": …}}.'
)
NOT_EXAMPLES = (
    "batch must be a mapping of tensors, arrays or lists, or a list of mappings of one example "
    'each, got {}: give what your collator makes, for example {{"input_ids": …, "labels": …}}.'
)
NOTHING_KNOWN = (
    "batch has {} and nothing that says which tokens there are: "
    "give input_ids, labels, loss_mask or policy_log_probs by name."
)
NO_ROWS = (
    "{} must have shape (B, S) with at least one token, got {}: "
    "one row per sequence, one column per token."
)
NO_NUMBERS = "input_ids must be rows of numbers, got {}: write them as [[0, 1], [1, 1]]."
NO_VALUES = (
    "input_ids must be a tensor, an array or lists of numbers, got {}: give one entry per token."
)
NO_IDS = "input_ids must contain integers, got {}: pass token ids."
NO_MASK = (
    "response_mask must contain 0 and 1, or fractions between them, got {}: "
    "it says how much each token counts."
)
NO_WEIGHTS = (
    "weights must contain finite numbers of at least 0, got {}: it says how much each token counts."
)
NO_FIT = "{} does not fit 2 rows of 4 tokens: it says that documents end at {}."
ONES = torch.ones(2, 4)
REFUSED = [
    (None, TypeError, NOT_A_MAPPING.format("NoneType")),
    ("text", TypeError, NOT_A_MAPPING.format("str 'text'")),
    (3.5, TypeError, NOT_A_MAPPING.format("float 3.5")),
    (object(), TypeError, NOT_A_MAPPING.format("object")),
    (dict, TypeError, NOT_A_MAPPING.format("type")),
    (IDS, TypeError, NOT_A_MAPPING.format("a Tensor of shape (2, 4)")),
    (
        {},
        ValueError,
        'batch is empty: give what your collator makes, for example {"input_ids": …, "labels": …}.',
    ),
    ([], TypeError, NOT_EXAMPLES.format("[]")),
    ([1, 2, 3], TypeError, NOT_EXAMPLES.format("[1, 2, 3]")),
    (
        [{"input_ids": [1, 2]}, None],
        TypeError,
        NOT_EXAMPLES.format("[{'input_ids': [1, 2]}, None]"),
    ),
    ({"image": 1, 2: 3}, ValueError, NOTHING_KNOWN.format("'image', 2")),
    ({"attention_mask": IDS}, ValueError, NOTHING_KNOWN.format("'attention_mask'")),
    ({"batch": {"input_ids": IDS}}, ValueError, NOTHING_KNOWN.format("'batch'")),
    (
        [{"input_ids": [1, 2]}, {"labels": [1, 2]}],
        ValueError,
        "example 2 and example 1 do not have the same names, one lacks input_ids, labels: "
        "give every example the same names.",
    ),
    (
        {"input_ids": IDS, "labels": IDS[:, :3]},
        ValueError,
        "labels has shape (2, 3) but input_ids has shape (2, 4): give one entry per token.",
    ),
    (
        {"input_ids": [[1, 2], [3, 4, 5]], "labels": [[1, 2, 3], [4, 5]]},
        ValueError,
        "labels has 3 entries in row 1 but input_ids has 2: give one entry per token.",
    ),
    (
        {"input_ids": IDS, "response_mask": torch.ones(2, 4, 4)},
        ValueError,
        NO_ROWS.format("response_mask", "(2, 4, 4)"),
    ),
    ({"input_ids": IDS[None]}, ValueError, NO_ROWS.format("input_ids", "(1, 2, 4)")),
    ({"input_ids": torch.tensor(5)}, ValueError, NO_ROWS.format("input_ids", "()")),
    ({"input_ids": IDS[:0]}, ValueError, NO_ROWS.format("input_ids", "(0, 4)")),
    ({"input_ids": [[], []]}, ValueError, NO_ROWS.format("input_ids", "(2, 0)")),
    ({"input_ids": IDS.float()}, TypeError, NO_IDS.format("torch.float32")),
    ({"input_ids": [[1.0, 2.0]]}, TypeError, NO_IDS.format("torch.float32")),
    ({"input_ids": IDS > 5}, TypeError, NO_IDS.format("torch.bool")),
    ({"input_ids": 5}, TypeError, NO_VALUES.format("int 5")),
    ({"input_ids": "text"}, TypeError, NO_VALUES.format("str 'text'")),
    ({"input_ids": {"a": 1}}, TypeError, NO_VALUES.format("dict {'a': 1}")),
    (
        {"input_ids": [[1, 2], [3, "b"]]},
        ValueError,
        NO_NUMBERS.format("str 'b' at row 2, token 2"),
    ),
    (
        {"input_ids": np.array([[1, None]])},
        ValueError,
        NO_NUMBERS.format("NoneType None at row 1, token 2"),
    ),
    (
        {"input_ids": [1, 2**70]},
        ValueError,
        "input_ids must be rows of numbers, got [1, 1180591620717411303424]: "
        "give one number per token.",
    ),
    (
        {"input_ids": [[1, 2], 3]},
        ValueError,
        "input_ids must be rows of numbers, got a row of shape ().",
    ),
    (
        {"input_ids": IDS.to("meta")},
        ValueError,
        "input_ids is on the meta device, where tensors have a shape and no numbers: "
        "give the batch that the model is trained on.",
    ),
    (
        {"input_ids": IDS.to_sparse()},
        TypeError,
        "input_ids must be a dense tensor, got torch.sparse_coo: call .to_dense().",
    ),
    (
        {"input_ids": [[1], [2]]},
        ValueError,
        "input_ids has one column, whose token nothing predicts: give rows of at least two tokens, "
        "or shifted=True if there are labels of the next token.",
    ),
    (
        {"input_ids": IDS, "weights": ONES * float("nan")},
        ValueError,
        NO_WEIGHTS.format("nan at row 1, token 1"),
    ),
    ({"input_ids": IDS, "weights": -IDS}, ValueError, NO_WEIGHTS.format("-5 at row 1, token 1")),
    (
        {"input_ids": IDS, "weights": ONES / torch.tensor([1, 1, 0, 1])},
        ValueError,
        NO_WEIGHTS.format("inf at row 1, token 3"),
    ),
    (
        {"input_ids": IDS, "response_mask": [[0, 1, 1, 1], [0, 1, 2, 1]]},
        ValueError,
        NO_MASK.format("2 at row 2, token 3"),
    ),
    (
        {"input_ids": IDS, "response_mask": ONES.cfloat()},
        TypeError,
        "response_mask must be bool, integer or ordinary floating point, got torch.complex64: "
        "convert it with .bool().",
    ),
    (
        {"policy_log_probs": IDS, "response_mask": ONES},
        TypeError,
        "policy_log_probs must be floating point, got torch.int64: "
        "pass log-probabilities, for example log_softmax(logits), not token ids.",
    ),
    (
        {"input_ids": IDS, "position_ids": ONES},
        TypeError,
        "position_ids must contain integers, got torch.float32: it counts tokens.",
    ),
    (
        {"input_ids": IDS, "cu_seqlens": torch.tensor([0, 5, 2])},
        ValueError,
        NO_FIT.format("cu_seqlens", "0, 5, 2"),
    ),
    (
        {"input_ids": IDS, "seq_lengths": torch.tensor([[4, 5]])},
        ValueError,
        NO_FIT.format("seq_lengths", "4, 5"),
    ),
]


@pytest.mark.parametrize(("batch", "kind", "text"), REFUSED)
def test_what_is_no_batch_is_refused_with_one_sentence(batch, kind, text):
    with pytest.raises(kind) as error:
        read_batch(batch)
    assert str(error.value) == text


@pytest.mark.parametrize("seed", range(3))
def test_random_nonsense_never_ends_inside(seed):
    """Any values under any of the names: a reading, or a TypeError or ValueError."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    names = ("input_ids", "labels", "loss_mask", "mask", "attention_mask", "position_ids")
    names += ("cu_seqlens", "seq_lengths", "weights", "policy_log_probs", "targets", "tokens")
    values = (
        lambda: torch.randint(-3, 5, (2, 3)),
        lambda: torch.randint(0, 2, (2, 3)),
        lambda: torch.randint(0, 9, (2, 3)),
        lambda: torch.rand(2, 3),
        lambda: torch.rand(2, 3) > 0.5,
        lambda: torch.randint(0, 9, (rng.randint(0, 3),)),
        lambda: [[1, 2, 3], [4]],
        lambda: padded([[1, 2, 3], [0, 3]], 0),
        lambda: np.ones((2, 3), np.uint16),
        lambda: rng.choice([None, 3, "x", [], {}, [[]], ["x"], [None], [[1, True, 2]], object()]),
    )
    for _ in range(300):
        batch = {name: rng.choice(values)() for name in rng.sample(names, rng.randint(1, 5))}
        try:
            reading = read_batch(batch)
        except (TypeError, ValueError) as error:
            assert str(error).endswith("."), batch
            continue
        for field in fields(reading.batch):
            value = getattr(reading.batch, field.name)
            assert value is None or value.shape == reading.batch.weights.shape, (field.name, batch)


@pytest.mark.parametrize("shifted", [False, True])
def test_padding_that_counts_is_padding_if_its_id_ends_nothing(shifted):
    ids, counts = torch.tensor([[1, 5, 7, 2, 0, 0], [1, 5, 6, 7, 8, 2]]), torch.zeros(2, 6)
    counts[0, 3:5] = counts[1, 4:] = 1  # in row 1 one too late, so that a 0 counts
    batch = {"input_ids": ids, "loss_mask": counts}
    if shifted:
        counts = counts[:, 1:]
        batch = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "response_mask": counts}
    for eos, expected in ((2, True), (0, False), (None, False)):
        reading = read_batch(batch, Hints(pad_token_id=0, eos_token_id=eos))
        assert bool(reading.batch.is_padding[0, 3]) == expected
