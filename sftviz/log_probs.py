"""A model's log-probabilities of the labels, and its entropy."""

from collections.abc import Callable

import torch
from torch import Tensor

from sftviz.label_log_probs import IGNORE_INDEX, LabelLogProbs, block_rows, wide
from sftviz.validate import check_tensor


def compute_entropy(logits: Tensor) -> Tensor:
    """How undecided the model is about each token, in nats: −Σ p ln p over the vocabulary.

    Args:
        logits: (..., V) floating point. −inf rules a token out.

    Returns:
        (...), at least float32: 0 where one token has all the probability, ln V where all are
        equally likely. Differentiable.

    Raises:
        TypeError, ValueError: not a floating point tensor with a last dimension to sum over.

    Example:
        >>> compute_entropy(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0]]))
        tensor([1.3863, 0.0000])
    """
    check_tensor("logits", logits)
    if not logits.is_floating_point():
        raise TypeError(
            f"logits must be floating point, got {logits.dtype}: pass the model's output."
        )
    if logits.ndim == 0 or logits.numel() == 0:
        raise ValueError(
            f"logits must have shape (..., V), got {tuple(logits.shape)}: "
            "the last dimension holds one score a token of the vocabulary."
        )
    if torch.is_grad_enabled() and logits.requires_grad:
        return _entropy(logits)  # autograd keeps all of it anyway
    rows = logits.reshape(-1, logits.shape[-1])  # (N, V)
    entropy = rows.new_empty(len(rows), dtype=wide(rows))
    size = block_rows(rows)
    for block, out in zip(rows.split(size), entropy.split(size), strict=True):
        out.copy_(_entropy(block))
    return entropy.reshape(logits.shape[:-1])


def get_response_log_probs(
    model: Callable[[Tensor], object],
    input_ids: Tensor,
    labels: Tensor,
    return_token_entropy: bool = False,
) -> dict[str, Tensor]:
    """Run a model, and look up the log-probability that it gives to each label.

    All labels are scored, those of the prompt too: which of them count is said by the mask.

    Args:
        model: called with `input_ids`; returns logits (B, S, V), or an object whose `.logits` they
            are, as Hugging Face's causal language models do. It gets no attention mask: padding on
            the right comes after all that a causal model looks at.
        input_ids: (B, S) integer.
        labels: (B, S) integer, what comes next at each position. −100 marks one not to be scored.
        return_token_entropy: whether to compute the entropy at each position too.

    Returns:
        log_probs: (B, S) in nats, at least float32. Exactly 0, with gradient 0, where the label is
            −100. Can be differentiated once.
        token_entropy: (B, S), at least float32, without gradient; only if asked for.

    Raises:
        TypeError, ValueError: wrong type or shape, or an id out of range, with row and position.

    Example:
        >>> model = torch.nn.Embedding.from_pretrained(torch.eye(3))  # V = 3, one row a token
        >>> input_ids, labels = torch.tensor([[0, 1]]), torch.tensor([[1, 1]])
        >>> get_response_log_probs(model, input_ids, labels)["log_probs"]
        tensor([[-1.5514, -0.5514]])
    """
    _check_ids("input_ids", input_ids)
    _check_ids("labels", labels)
    if labels.shape != input_ids.shape:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} but input_ids has shape "
            f"{tuple(input_ids.shape)}: give one label a position, the token that comes next."
        )
    _check_range("input_ids", input_ids, input_ids < 0, "token ids count from 0")
    output = _run(model, input_ids)
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    _check_logits(logits, input_ids)
    V = logits.shape[-1]
    _check_range(
        "labels",
        labels,
        ((labels < 0) | (labels >= V)) & (labels != IGNORE_INDEX),
        f"the model knows the tokens 0 to {V - 1}, and {IGNORE_INDEX} is a label not to be scored",
    )
    scored = LabelLogProbs.apply(logits.flatten(0, 1), labels.flatten().to(logits.device).long())
    result = {"log_probs": scored.unflatten(0, labels.shape)}
    if return_token_entropy:
        with torch.no_grad():
            result["token_entropy"] = compute_entropy(logits)
    return result


def _run(model: Callable[[Tensor], object], input_ids: Tensor) -> object:
    try:
        return model(input_ids)
    except IndexError as error:  # which says neither what was looked up nor where
        S = input_ids.shape[1]
        row, position = divmod(int(input_ids.argmax()), S)
        raise ValueError(
            f"the model looked up what it does not have ({error}): input_ids goes up to "
            f"{input_ids[row, position].item()}, at row {row}, position {position}, and has "
            f"{S} positions: compare these with its vocabulary and its context length."
        ) from error


def _entropy(logits: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits, -1, dtype=wide(logits))
    p = log_p.exp()
    # 0 · ln 0 counts as 0; replacing the factor, not the product, keeps the gradient finite too.
    # And 0 − x, not −x, is 0 for a token that is certain.
    return 0 - (p * log_p.where(p > 0, 0)).sum(-1)


def _check_ids(name: str, ids: Tensor) -> None:
    check_tensor(name, ids)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, got {ids.dtype}: pass token ids.")
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"{name} must have shape (B, S) with at least one token, got {tuple(ids.shape)}: "
            "one row a sequence, one column a token."
        )


def _check_range(name: str, ids: Tensor, is_wrong: Tensor, reason: str) -> None:
    if is_wrong.any():
        row, position = is_wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{name} has {ids[row, position].item()} at row {row}, position {position}: {reason}."
        )


def _check_logits(logits: object, input_ids: Tensor) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        came = logits.dtype if isinstance(logits, Tensor) else "neither"
        raise TypeError(
            f"the model must return floating point logits, or an object with .logits, got {came}: "
            "wrap it in a function that does."
        )
    if logits.ndim != 3 or logits.shape[:2] != input_ids.shape or logits.shape[2] == 0:
        raise ValueError(
            f"the model returned logits of shape {tuple(logits.shape)} for input_ids of shape "
            f"{tuple(input_ids.shape)}: it must return (B, S, V), one score a token it knows."
        )
