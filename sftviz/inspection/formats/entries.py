"""From anything that contains a batch to what it has by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sftviz.validate import brief, listed

ROLES = {  # the names that each role has in one stack or another
    "ids": ("input_ids", "tokens", "inputs", "input_tokens", "input", "model_input"),
    "labels": ("labels", "targets", "target_ids", "target_tokens", "target"),
    "mask": (
        "response_mask",
        "loss_mask",
        "completion_mask",
        "assistant_masks",
        "assistant_mask",
        "weights",
        "loss_weights",
        "mask",
    ),
    "log_probs": ("policy_log_probs", "log_probs"),
    "attention": ("attention_mask",),
    "positions": ("position_ids", "positions", "input_pos"),
    "borders": ("cu_seqlens", "cu_seqlens_q", "cu_seq_lens_q"),
    "lengths": ("seq_lengths", "seq_lens"),
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
_EXAMPLE = 'for example {"input_ids": …, "labels": …}'


def read_entries(batch: Any) -> dict[str, Any]:
    """What a batch has by name, without what is None. Of several examples, a list for each name."""
    fields = getattr(batch, "_asdict", None)  # a named tuple
    if fields is not None:
        batch = fields()
    elif isinstance(batch, list | tuple):
        return _joined(batch)
    elif hasattr(batch, "keys") and not isinstance(batch, type):  # not all of these are mappings
        batch = {name: batch[name] for name in batch.keys()}  # noqa: SIM118
    else:
        known = [name for name in (*ROLE_OF, "loss_fn_inputs") if hasattr(batch, name)]
        if not known:
            raise TypeError(
                "batch must be a mapping of tensors, arrays or lists, or an object that has them, "
                f"got {described(batch)}: give what your collator makes, {_EXAMPLE}."
            )
        batch = {name: getattr(batch, name) for name in known}
    if not batch:
        raise ValueError(f"batch is empty: give what your collator makes, {_EXAMPLE}.")
    inner = batch.get("loss_fn_inputs")  # of a datum: what the loss needs lies one level deeper
    found = {**batch, **(inner if isinstance(inner, Mapping) else {})}
    found.pop("loss_fn_inputs", None)
    return {name: value for name, value in found.items() if value is not None}


def _joined(examples: Sequence[Any]) -> dict[str, Any]:
    """Examples before they are collated, or a pair of inputs and labels."""
    if isinstance(examples, tuple) and len(examples) == 2 and isinstance(examples[1], Tensor):
        inputs, targets = examples
        given = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
        return {**given, "targets": targets}
    if not examples or not all(isinstance(each, Mapping) or _has_names(each) for each in examples):
        raise TypeError(
            "batch must be a mapping of tensors, arrays or lists, or a list of mappings of one "
            f"example each, got {brief(examples)}: give what your collator makes, {_EXAMPLE}."
        )
    rows = [read_entries(each) for each in examples]
    for r, row in enumerate(rows):
        if differing := sorted(set(map(str, rows[0])) ^ set(map(str, row))):
            raise ValueError(
                f"example {r + 1} and example 1 do not have the same names, one lacks "
                f"{listed(differing)}: give every example the same names."
            )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _has_names(value: object) -> bool:
    return any(hasattr(value, name) for name in (*ROLE_OF, "loss_fn_inputs"))


def described(value: object) -> str:
    """What came instead of a batch or a tensor, in a message."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"a {kind} of shape {tuple(value.shape)}"
    is_plain = isinstance(value, str | bytes | int | float | list | tuple | dict | set)
    return f"{kind} {brief(value)}" if is_plain else kind
