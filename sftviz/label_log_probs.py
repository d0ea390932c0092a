"""The log-probabilities of labels, in little memory: an autograd function.

It computes what these two lines compute:

    log_probs = torch.log_softmax(logits, -1)                            # (N, V)
    label_log_probs = log_probs.gather(-1, labels.unsqueeze(-1))[:, 0]   # (N,)

There, log_softmax keeps an output as large as the logits for its backward pass, and gather makes a
gradient as large before the one that is returned: three times the memory of the logits, which are
the largest tensor of a language model. Here the logits are kept, and per row its maximum and the
sum of its exponentials. Both passes work on a few rows at a time, so intermediate results are still
in the processor's cache. Exponentials are computed twice, which is faster all the same: most of the
time goes into moving memory. `benchmarks/log_probs.py` measures it. Needs torch alone.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

IGNORE_INDEX = -100  # the label of a position without a label, in torch and Hugging Face


def label_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """The log-probability of each label, at least float32: (B, S, V) and (B, S) to (B, S).

    Exactly 0, with gradient 0, where the label is −100. Where the gradient that arrives is 0, so is
    that of the logits, even if they are NaN.
    """
    scored = LabelLogProbs.apply(logits.flatten(0, 1), labels.flatten().to(logits.device))
    return scored.unflatten(0, labels.shape)


class LabelLogProbs(torch.autograd.Function):
    """log softmax(logits)[label] for each row: (N, V) and (N,) to (N,)."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:
        highest = logits.new_empty(len(logits), 1, dtype=wide(logits))  # (N, 1)
        total = torch.empty_like(highest)  # (N, 1)
        for block, scratch, h, out in _in_blocks(logits, highest, total):
            h.copy_(block.amax(-1, keepdim=True))
            # log_softmax here and softmax below would be faster than exp and sum, but less exact:
            # with 32,000 entries their error is above 2e-6 in float32.
            torch.sum(_exponentials(block, h, scratch), -1, keepdim=True, out=out)
        ctx.save_for_backward(logits, labels, highest, total)
        # Subtract before taking the logarithm: logit − logsumexp loses digits if both are large.
        # In float64, which costs nothing for N numbers, so that the result is rounded once. A Mac's
        # GPU has no float64.
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
            if not g.any():  # only prompt or padding
                out.zero_()
                continue
            _exponentials(block, h, scratch).scatter_add_(-1, column, -t)  # total · (p − 1)
            out.copy_(scratch.mul_(-g / t))  # rounded once, if out is narrower
            # The logits of a masked token may be NaN, and NaN * 0 is NaN.
            out.index_fill_(0, (g == 0).squeeze(-1).nonzero().squeeze(-1), 0)
        return grad, None


def _exponentials(logits: Tensor, highest: Tensor, out: Tensor) -> Tensor:
    # Copy first: an operation on two dtypes would allocate another wide copy.
    return out.copy_(logits).sub_(highest).exp_()


def wide(logits: Tensor) -> torch.dtype:
    """The dtype to compute in: at least float32."""
    return torch.promote_types(logits.dtype, torch.float32)


def block_rows(logits: Tensor) -> int:
    """The number of rows to work on at a time."""
    # A 64th of the rows: scratch memory is a few percent of the logits, in any dtype. Small logits
    # are one block.
    N, V = logits.shape
    return max(N // 64, 2**16 // V, 1)


def _in_blocks(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Logits, scratch memory, and other tensors with one entry per row, a few rows at a time. The
    scratch memory is the same for every block."""
    size = block_rows(logits)
    scratch = torch.empty(size, logits.shape[-1], dtype=wide(logits), device=logits.device)
    for block, *rest in zip(*(each.split(size) for each in (logits, *others)), strict=True):
        yield block, scratch[: len(block)], *rest


def _column(labels: Tensor) -> Tensor:
    return labels.clamp(min=0).unsqueeze(-1)  # (N, 1); a row without a label looks up token 0
