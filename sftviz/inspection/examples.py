"""Small batches to look at: one that is right, and five that are each wrong in one way.

All have the form that Hugging Face, TRL and axolotl feed to a model, and were made from the same
three conversations.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

TOKENS = (
    *("<pad>", "<end>", "<user>", "<model>", "?", ".", "!", "Why", " is", " the", " sky", " blue"),
    *("Light", " scatters", "How", " are", " you", "Fine", " Say", " hi", "Hi", " there"),
)

_CONVERSATIONS = (
    (("<user>", "Why", " is", " the", " sky", " blue", "?", "<model>"),
     ("Light", " scatters", ".", "<end>")),
    (("<user>", "How", " are", " you", "?", "<model>"), ("Fine", ".", "<end>")),
    (("<user>", " Say", " hi", ".", "<model>"), ("Hi", " there", "!", "<end>")),
)  # fmt: skip
_LENGTH = 12


def _healthy() -> dict[str, Tensor]:
    batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "attention_mask": []}
    for prompt, response in _CONVERSATIONS:
        read, written = (list(map(TOKENS.index, part)) for part in (prompt, response))
        padding = _LENGTH - len(read) - len(written)
        batch["input_ids"].append([*read, *written, *[0] * padding])
        batch["labels"].append([*[-100] * len(read), *written, *[-100] * padding])
        batch["attention_mask"].append([*[1] * (_LENGTH - padding), *[0] * padding])
    return {name: torch.tensor(rows) for name, rows in batch.items()}


HEALTHY = MappingProxyType(_healthy())


def _puzzles() -> dict[str, Mapping[str, Tensor]]:
    ids, labels, attention_mask = HEALTHY.values()  # (B, S)
    is_pad = attention_mask == 0
    # Packed: all rows in one, with the length of each.
    ids_in_row, labels_in_row = ids[~is_pad], labels[~is_pad]
    is_off = torch.roll(labels_in_row != -100, 1)
    packed = {
        "input_ids": ids_in_row[None],
        "labels": ids_in_row.where(is_off, -100)[None],
        "seq_lengths": attention_mask.sum(1),
    }

    def on_the_left(rows: Tensor) -> Tensor:
        pairs = zip(rows, is_pad.sum(1).tolist(), strict=True)
        return torch.stack([torch.roll(row, padding) for row, padding in pairs])

    return {
        "A": {**HEALTHY, "labels": labels.where(labels != TOKENS.index("<end>"), -100)},
        "B": {**HEALTHY, "labels": labels.where(~is_pad, ids)},
        "C": {**HEALTHY, "labels": torch.roll(labels, -1, 1)},
        "D": {"input_ids": on_the_left(ids), "labels": on_the_left(labels)},
        "E": packed,
    }


PUZZLES = MappingProxyType(_puzzles())
