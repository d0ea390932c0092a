"""The log-probabilities of labels, as an autograd function that keeps the logits alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

IGNORE_INDEX = -100  # what torch and Hugging Face put where a label is not to be scored


class LabelLogProbs(torch.autograd.Function):
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
        highest = logits.new_empty(len(logits), 1, dtype=wide(logits))  # (N, 1)
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


def wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def block_rows(logits: Tensor) -> int:
    # A 64th of the rows: scratch space is a few percent of the logits, whatever their dtype. Small
    # logits are not worth cutting up.
    N, V = logits.shape
    return max(N // 64, 2**16 // V, 1)


def _in_blocks(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Logits and what goes with their rows, a few rows at a time; second comes scratch space for
    what is computed of them, the same memory every time."""
    size = block_rows(logits)
    scratch = torch.empty(size, logits.shape[-1], dtype=wide(logits), device=logits.device)
    for block, *rest in zip(*(each.split(size) for each in (logits, *others)), strict=True):
        yield block, scratch[: len(block)], *rest


def _column(labels: Tensor) -> Tensor:
    return labels.clamp(min=0).unsqueeze(-1)  # (N, 1); what is not scored looks up token 0
