"""What a model's logits say about the labels: their log-probabilities, and the entropy.

The idea is two lines, `log_softmax` and `gather`: see `label_log_probs.py`. Needs torch alone.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from sftviz.label_log_probs import IGNORE_INDEX, block_rows, label_log_probs, wide
from sftviz.validate import FLOATS, check_floating, check_ids, check_range, check_tensor


def compute_entropy(logits: Tensor) -> Tensor:
    """The entropy of the model's prediction at each token, in nats: −Σ p ln p over the vocabulary.

    Args:
        logits: (..., V) floating point. −inf is a probability of 0.

    Returns:
        (...), at least float32, differentiable: 0 if one entry is certain, ln V if all are equal.

    Raises:
        TypeError, ValueError: not a floating point tensor, or without a last dimension.

    Example:
        >>> compute_entropy(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0]]))
        tensor([1.3863, 0.0000])
    """
    check_floating("logits", logits, "pass the model's output")
    if logits.ndim == 0 or logits.numel() == 0:
        raise ValueError(
            f"logits must have shape (..., V), got {tuple(logits.shape)}: "
            "the last dimension has one score per entry of the vocabulary."
        )
    if torch.is_grad_enabled() and logits.requires_grad:
        return _entropy(logits)  # autograd keeps all intermediates anyway
    rows = logits.reshape(-1, logits.shape[-1])  # (N, V)
    entropy = rows.new_empty(len(rows), dtype=wide(rows))
    size = block_rows(rows)
    for block, out in zip(rows.split(size), entropy.split(size), strict=True):
        out.copy_(_entropy(block))
    return entropy.reshape(logits.shape[:-1])


def get_response_log_probs(
    model: Callable[..., object],
    input_ids: Tensor,
    labels: Tensor,
    return_token_entropy: bool = False,
    *,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> dict[str, Tensor]:
    """Run a model, and look up the log-probability of each label.

    The labels of the prompt are looked up too: the response mask is applied later, by the step.

    A causal model sees everything to the left. It needs neither an attention mask nor position ids
    for rows that are padded on the right. It needs them for padding on the left, which is read as a
    part of the prompt otherwise; and for rows of several documents, which read each other
    otherwise. Without them the log-probs are those of other texts, and nothing looks wrong.

    Args:
        model: called with `input_ids`, and with the keywords `attention_mask` and `position_ids` if
            they are given; returns logits (B, S, V), or an object with `.logits`, as Hugging Face's
            causal language models do.
        input_ids: (B, S) integer.
        labels: (B, S) integer, the next token at each position; −100: no label here.
        return_token_entropy: whether to compute the entropy at each position too.
        attention_mask: about `input_ids`, not about the labels; usually (B, S) with 0 at padding.
        position_ids: (B, S); for padding on the left `(attention_mask.cumsum(1) - 1).clamp(min=0)`.

    Returns:
        log_probs: (B, S) in nats, at least float32. Exactly 0, with gradient 0, where the label is
            −100. Can be differentiated once.
        token_entropy: (B, S), at least float32, without gradient; only on request.

    Raises:
        TypeError, ValueError: an argument has the wrong type or shape, or an id is out of range;
            the message has its row and position.

    Warns:
        UserWarning: the labels are those of the same position, or of two positions further on.

    Example:
        >>> model = torch.nn.Embedding.from_pretrained(torch.eye(3))  # V = 3, one row a token
        >>> input_ids, labels = torch.tensor([[0, 1]]), torch.tensor([[1, 1]])
        >>> get_response_log_probs(model, input_ids, labels)["log_probs"]
        tensor([[-1.5514, -0.5514]])
    """
    input_ids = check_ids("input_ids", input_ids)
    labels = check_ids("labels", labels).to(input_ids.device)
    if labels.shape != input_ids.shape:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} but input_ids has shape "
            f"{tuple(input_ids.shape)}: give one label per position, the next token."
        )
    check_range("input_ids", input_ids, input_ids < 0, "token ids count from 0")
    _warn_of_shift(input_ids, labels)
    given = {"attention_mask": attention_mask, "position_ids": position_ids}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        _check_extra(name, value, input_ids)
    output = _run(model, input_ids, given)
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    logits = _check_logits(logits, input_ids)
    V = logits.shape[-1]
    check_range(
        "labels",
        labels,
        ((labels < 0) | (labels >= V)) & (labels != IGNORE_INDEX),
        f"the model knows the tokens 0 to {V - 1}, and {IGNORE_INDEX} means no label",
    )
    result = {"log_probs": label_log_probs(logits, labels)}
    if return_token_entropy:
        with torch.no_grad():
            result["token_entropy"] = compute_entropy(logits)
    return result


def _warn_of_shift(input_ids: Tensor, labels: Tensor) -> None:
    """Warn if the labels seem not to be shifted, or to be shifted twice."""
    end = labels.shape[1] - 2
    compared = labels[:, :end]  # the same columns for every shift
    is_label = compared != IGNORE_INDEX

    def fits(shift: int) -> bool:
        """Whether every label is the token `shift` positions further on."""
        return not ((compared != input_ids[:, shift : shift + end]) & is_label).any()

    # Labels that do not fit are not yet an error: if rows were shifted first and padded then, the
    # last label of a shorter row does not. A single label that fits elsewhere may be an accident.
    if fits(1) or is_label.sum() < 2:
        return
    if fits(0):
        found = "equal to input_ids, as if they were not shifted"
    elif fits(2):
        found = "two tokens ahead of input_ids, as if they were shifted twice"
    else:
        return
    advice = "pass input_ids = tokens[:, :-1] and labels = tokens[:, 1:]"
    warnings.warn(f"labels are {found}: {advice}.", stacklevel=3)


def _check_extra(name: str, value: Tensor, input_ids: Tensor) -> None:
    check_tensor(name, value)
    S = input_ids.shape[1]
    if value.shape[-1:] != (S,):
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} but input_ids has shape "
            f"{tuple(input_ids.shape)}: give one entry per token that is read."
        )


def _run(model: Callable[..., object], input_ids: Tensor, given: dict[str, Tensor]) -> object:
    try:
        return model(input_ids, **given)
    except IndexError as error:  # torch's message has neither the id nor its place
        S = input_ids.shape[1]
        row, position = divmod(int(input_ids.argmax()), S)
        raise ValueError(
            f"the model has no such index ({error}): the largest of input_ids is "
            f"{input_ids[row, position].item()}, at row {row}, position {position}, and there are "
            f"{S} positions: compare these with its vocabulary and its context length."
        ) from error


def _entropy(logits: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits, -1, dtype=wide(logits))
    p = log_p.exp()
    # 0 · ln 0 counts as 0. Replacing the factor, not the product, keeps the gradient finite too.
    # 0 − x, not −x: the entropy of a certain prediction is 0, not −0.
    return 0 - (p * log_p.where(p > 0, 0)).sum(-1)


def _check_logits(logits: object, input_ids: Tensor) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dtype not in FLOATS:
        came = logits.dtype if isinstance(logits, Tensor) else "neither"
        raise TypeError(
            f"the model must return floating point logits, or an object with .logits, got {came}: "
            "wrap it in a function that does."
        )
    if logits.ndim != 3 or logits.shape[:2] != input_ids.shape or logits.shape[2] == 0:
        raise ValueError(
            f"the model returned logits of shape {tuple(logits.shape)} for input_ids of shape "
            f"{tuple(input_ids.shape)}: it must return (B, S, V), one score per vocabulary entry."
        )
    return logits
