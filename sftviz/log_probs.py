"""From token ids to the tensors of the step: shifted labels, response mask, log-probs, entropy.

The logits of a language model are its largest tensor by far: (B, S, V), with V in the tens of
thousands. What is read from them here is read a few rows at a time. Needs torch alone.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.validate import check_tensor

IGNORE_INDEX = -100  # what torch and Hugging Face put where a label is not to be scored

Turn = tuple[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Token ids as a model is trained on them: position for position, what it reads, what it is to
    say next, and whether that belongs to a response."""

    input_ids: Tensor  # (B, S) int64
    labels: Tensor  # (B, S) int64, the token that comes next
    response_mask: Tensor  # (B, S) bool, about the labels

    @property
    def num_tokens(self) -> int:
        """How many response tokens there are."""
        return int(self.response_mask.sum())


def build_token_batch(
    conversations: Sequence[Sequence[Turn]],
    pad_id: int,
    context_length: int | None = None,
    *,
    truncate: bool = False,
    vocab_size: int | None = None,
) -> TokenBatch:
    """Shift, mask and pad conversations into one batch.

    The model reads every token but the last, and is to say every token but the first. So a row of
    n tokens takes n − 1 positions, and the mask belongs to the labels: it is 1 at the last token of
    a prompt, from which the first token of the response is predicted.

    Args:
        conversations: B of them, each a sequence of turns `(role, token_ids)`, the role "prompt" or
            "response". No turn is empty, and one turn at least is a response. The first token of a
            row has nothing before it and is never predicted, so that rows begin with a prompt, be
            it a start token alone.
        pad_id: fills shorter rows up on the right, in `input_ids` and `labels`; masked.
        context_length: how many positions the model has. None: as many as the longest row needs.
        truncate: cut what is longer than that off on the right, instead of refusing it. Every row
            must keep a response token; the end of a response that is cut in two is not learned.
        vocab_size: how many tokens the model knows; None: token ids are not held against it.

    Returns:
        A batch whose S is that of the longest row. Its `num_tokens` is the number of response
        tokens that went in, if each row begins with a prompt and nothing was cut off.

    Raises:
        TypeError, ValueError: with row and position, both counted from 0, if the data is at fault.

    Example:
        >>> batch = build_token_batch(
        ...     [
        ...         [("prompt", [1, 2]), ("response", [3, 4])],
        ...         [("prompt", [1]), ("response", [5])],
        ...     ],
        ...     pad_id=0,
        ... )
        >>> batch.input_ids
        tensor([[1, 2, 3],
                [1, 0, 0]])
        >>> batch.labels
        tensor([[2, 3, 4],
                [5, 0, 0]])
        >>> batch.response_mask.int()
        tensor([[0, 1, 1],
                [1, 0, 0]], dtype=torch.int32)
    """
    _check_count("context_length", context_length)
    _check_count("vocab_size", vocab_size)
    pad_id = _token_id("pad_id", pad_id, vocab_size)
    rows = [_flat(row, turns, vocab_size) for row, turns in enumerate(conversations)]
    if not rows:
        raise ValueError("conversations holds no row: give at least one conversation.")
    if context_length is not None:
        rows = [_fit(row, *flat, context_length, truncate) for row, flat in enumerate(rows)]
    S = max(len(token_ids) for token_ids, _ in rows) - 1

    def padded(row: list, filler: object) -> list:
        return row + [filler] * (S - len(row))

    # Shifted first, then padded: what a row looks like does not depend on its neighbours.
    return TokenBatch(
        input_ids=torch.tensor([padded(token_ids[:-1], pad_id) for token_ids, _ in rows]),
        labels=torch.tensor([padded(token_ids[1:], pad_id) for token_ids, _ in rows]),
        response_mask=torch.tensor([padded(in_response[1:], False) for _, in_response in rows]),
    )


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
    entropy = rows.new_empty(len(rows), dtype=_wide(rows))
    size = _block_rows(rows)
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
    scored = _LabelLogProbs.apply(logits.flatten(0, 1), labels.flatten().to(logits.device).long())
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


class _LabelLogProbs(torch.autograd.Function):
    """log softmax(logits)[label], row by row: (N, V) and (N,) to (N,).

    Written with torch's own operations, log_softmax would keep an output as large as the logits
    for its backward, and gather would make a gradient as large again before the one that is wanted:
    three times what the logits take. All of that can be had again from the logits, the highest of
    each row and the sum of its exponentials. So these are kept, and backward fills the one buffer
    that it returns. Both passes take a few rows at a time: what is computed in between is still in
    the processor's cache when it is needed. Exponentials are computed twice, and it is quicker for
    it: the time goes into moving memory.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:
        highest = logits.new_empty(len(logits), 1, dtype=_wide(logits))  # (N, 1)
        total = torch.empty_like(highest)  # (N, 1)
        for block, scratch, h, out in _in_blocks(logits, highest, total):
            h.copy_(block.amax(-1, keepdim=True))
            # log_softmax here and softmax below would be quicker than exp and sum, but less exact:
            # over 32,000 entries they are off by more than 2e-6 in float32.
            torch.sum(_exponentials(block, h, scratch), -1, keepdim=True, out=out)
        ctx.save_for_backward(logits, labels, highest, total)
        # Differences before logarithms: the logit less the logsumexp would lose its digits where
        # both are large. In float64, which costs nothing for N numbers, so that it is rounded once;
        # a Mac's GPU has none.
        exact = torch.float32 if logits.device.type == "mps" else torch.float64
        above = logits.gather(-1, _column(labels)).to(exact) - highest.to(exact)
        log_probs = (above - total.to(exact).log()).squeeze(-1)
        return log_probs.masked_fill_(labels == IGNORE_INDEX, 0).to(total.dtype)

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None]:
        """∂ log p[label] / ∂ logit[v] = (1 where v is the label) − softmax[v]."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the log-probs of get_response_log_probs can be differentiated once, and "
                "create_graph=True asks for more: use log_softmax and gather for that."
            )
        logits, labels, highest, total = ctx.saved_tensors
        upstream = grad_output.masked_fill(labels == IGNORE_INDEX, 0).unsqueeze(-1)  # (N, 1)
        grad = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)  # (N, V)
        rows = (logits, highest, total, _column(labels), upstream, grad)
        for block, scratch, h, t, column, g, out in _in_blocks(*rows):
            if not g.any():  # a stretch of prompt or padding: the step never asked about it
                out.zero_()
                continue
            _exponentials(block, h, scratch).scatter_add_(-1, column, -t)  # total · (p − 1)
            out.copy_(scratch.mul_(-g / t))  # rounded once, if out is narrower
            # The logits of a masked token may be NaN, and NaN * 0 is NaN.
            out.index_fill_(0, (g == 0).squeeze(-1).nonzero().squeeze(-1), 0)
        return grad, None


def _exponentials(logits: Tensor, highest: Tensor, out: Tensor) -> Tensor:
    # Copied first: an operation on two dtypes would make a wide copy of its own.
    return out.copy_(logits).sub_(highest).exp_()


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _block_rows(logits: Tensor) -> int:
    # A 64th of the rows: scratch space is a few percent of the logits, whatever their dtype. Small
    # logits are not worth cutting up.
    N, V = logits.shape
    return max(N // 64, 2**16 // V, 1)


def _in_blocks(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Logits and what goes with their rows, a few rows at a time; second comes scratch space for
    what is computed of them, the same memory every time."""
    size = _block_rows(logits)
    scratch = torch.empty(size, logits.shape[-1], dtype=_wide(logits), device=logits.device)
    for block, *rest in zip(*(each.split(size) for each in (logits, *others)), strict=True):
        yield block, scratch[: len(block)], *rest


def _column(labels: Tensor) -> Tensor:
    return labels.clamp(min=0).unsqueeze(-1)  # (N, 1); what is not scored looks up token 0


def _entropy(logits: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits, -1, dtype=_wide(logits))
    p = log_p.exp()
    # 0 · ln 0 counts as 0; replacing the factor, not the product, keeps the gradient finite too.
    # And 0 − x, not −x, is 0 for a token that is certain.
    return 0 - (p * log_p.where(p > 0, 0)).sum(-1)


def _flat(row: int, turns: Sequence[Turn], vocab_size: int | None) -> tuple[list[int], list[bool]]:
    """All token ids of a conversation, and beside each whether it belongs to a response."""
    token_ids: list[int] = []
    in_response: list[bool] = []
    for turn, pair in enumerate(turns):
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or not hasattr(pair[1], "__len__"):
            raise TypeError(
                f"row {row}, turn {turn} must be a pair (role, token_ids), got {pair!r}: "
                'a conversation looks like [("prompt", [1, 2]), ("response", [3])].'
            )
        role, ids = pair
        place = f"row {row}, position {len(token_ids)}"
        if role not in ("prompt", "response"):
            raise ValueError(
                f"{place}: a turn's role must be 'prompt' or 'response', got {role!r}: "
                "what the model is to learn to say is a response, all else is prompt."
            )
        if len(ids) == 0:
            raise ValueError(
                f"{place}: a {role} has no token: leave out what is empty, and end a response "
                "with an end token."
            )
        for token in ids:
            place = f"row {row}, position {len(token_ids)}: a token id"
            token_ids.append(_token_id(place, token, vocab_size))
            in_response.append(role == "response")
    if not token_ids:
        raise ValueError(f"row {row}, position 0: the row is empty: leave it out.")
    if not any(in_response[1:]):
        raise ValueError(
            f"row {row}, position {len(token_ids)}: the row ends without a response token that "
            "could be predicted from what is before it: add one, or leave the row out."
        )
    return token_ids, in_response


def _fit(
    row: int,
    token_ids: list[int],
    in_response: list[bool],
    context_length: int,
    truncate: bool,
) -> tuple[list[int], list[bool]]:
    """A row as it is, if it takes no more than context_length positions; else cut or refused."""
    room = context_length + 1  # the last token is only ever a label
    if len(token_ids) <= room:
        return token_ids, in_response
    if not truncate:
        raise ValueError(
            f"row {row}, position {context_length}: the row takes {len(token_ids) - 1} positions, "
            f"context_length is {context_length}: shorten it, or pass truncate=True to cut it off."
        )
    if not any(in_response[1:room]):
        raise ValueError(
            f"row {row}, position {in_response.index(True, 1)}: the response begins beyond "
            f"context_length {context_length}, and truncation would leave nothing of it: "
            "shorten the prompt, or leave the row out."
        )
    return token_ids[:room], in_response[:room]


def _token_id(name: str, value: object, vocab_size: int | None) -> int:
    """An int from what stands for one, NumPy's and torch's integers included."""
    try:
        if isinstance(value, bool):
            raise TypeError
        token = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an int, got {type(value).__name__} {value!r}: tokenize the text first."
        ) from None
    if token < 0 or (vocab_size is not None and token >= vocab_size):
        wanted = "at least 0" if vocab_size is None else f"from 0 to {vocab_size - 1}"
        raise ValueError(f"{name} must be {wanted}, got {token}: use the model's own tokenizer.")
    return token


def _check_count(name: str, value: int | None) -> None:
    if value is not None and (type(value) is not int or value < 1):
        error = ValueError if type(value) is int else TypeError
        raise error(f"{name} must be None or an int of at least 1, got {value!r}.")


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
