"""The gradient of a window of G microbatches under a scaling rule, and of the full batch.

Every rule is run: after each `backward()`, `.grad` is recorded. For comparison, the gradient of the
same rows as one batch is computed: accumulation should give the same. Needs torch alone.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sftviz.log_probs import get_response_log_probs
from sftviz.rules import (
    STEP,
    Counts,
    Divisor,
    Gradient,
    Per,
    Scaling,
    cosine,
    count_window,
    distance,
    find_scaling,
    ratio,
)
from sftviz.step import masked_normalize, sft_microbatch_train_step
from sftviz.tokens import TokenBatch
from sftviz.validate import brief, check_constant, check_count


@dataclass(frozen=True, eq=False)
class MicrobatchRecord:
    """One microbatch of a window: what it added to `.grad`, and `.grad` afterwards."""

    index: int
    num_tokens: int
    row_sums: Tensor  # (B,)
    masked_sum: Tensor  # (), of all rows
    divisor: Divisor
    scaled_loss: Tensor  # (), backward() was called on it
    microbatch_grad: Gradient  # what its backward() added
    grad: Gradient  # .grad after it

    @property
    def parts(self) -> tuple[tuple[float, float], ...]:
        """What is divided by what: the masked sum by the divisor, or each row's by its own."""
        if isinstance(self.divisor, Sequence):
            return tuple(zip(self.row_sums.tolist(), self.divisor, strict=True))
        return ((self.masked_sum.item(), self.divisor),)


@dataclass(frozen=True, eq=False)
class AccumulationTrace:
    """One window under one rule, microbatch by microbatch, and the full-batch gradient."""

    scaling: Scaling
    gradient_accumulation_steps: int
    normalize_constant: float
    num_tokens: int  # response tokens of the window
    microbatches: tuple[MicrobatchRecord, ...]
    full_batch_grad: Gradient
    leftover: Gradient | None  # what was in `.grad` before the window, if not cleared
    parameters: Gradient  # before the optimizer's step

    @property
    def grad(self) -> Gradient:
        """The accumulated gradient: what the optimizer would use."""
        return self.microbatches[-1].grad

    @property
    def ratio(self) -> float:
        """The length of the accumulated gradient relative to the full-batch gradient."""
        return ratio(self.grad, self.full_batch_grad)

    @property
    def cosine(self) -> float:
        """1 if the accumulated gradient has the direction of the full-batch gradient."""
        return cosine(self.grad, self.full_batch_grad)

    @property
    def distance(self) -> float:
        """The length of the difference of both, relative to the full-batch gradient."""
        return distance(self.grad, self.full_batch_grad)


def accumulate(
    model: nn.Module,
    microbatches: Sequence[TokenBatch],
    scaling: Scaling | str,
    normalize_constant: float = 1.0,
    gradient_accumulation_steps: int | None = None,
    leftover: Gradient | None = None,
) -> AccumulationTrace:
    """Run a window of microbatches through a model, and record `.grad` after each.

    It runs on a copy of the model, in evaluation mode: the caller's parameters, gradients and
    buffers do not change, and dropout does not make runs differ.

    Args:
        model: a torch module that `get_response_log_probs` accepts, with parameters. A function is
            not enough: it can't be copied with what it uses, and has no named parameters.
        microbatches: the microbatches of one window, in order. They may differ in rows and length.
        scaling: a rule, or the name of one in `ALL_SCALINGS`.
        normalize_constant: divides every masked sum, also that of the full batch.
        gradient_accumulation_steps: G. None: the number of microbatches. At the end of the data, a
            window can have fewer microbatches than G.
        leftover: what is in `.grad` when the window begins: the `grad` of the trace before, if
            zero_grad was forgotten.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value, or does not fit.

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> from sftviz.rules import SCALINGS
        >>> model, window = BigramModel(vocab_size=8), make_window(B=4, G=2)
        >>> for scaling in SCALINGS:
        ...     trace = accumulate(model, window, scaling)
        ...     print(f"÷ {scaling.name:6} {trace.ratio:.4f} of the mean per {scaling.per}")
        ÷ none   8.0000 of the mean per sequence
        ÷ G      4.0000 of the mean per sequence
        ÷ G²     2.0000 of the mean per sequence
        ÷ B·G    1.0000 of the mean per sequence
        ÷ tokens 1.0000 of the mean per token
    """
    scaling = find_scaling(scaling)
    window_tokens = _check_window(microbatches)
    check_constant(normalize_constant)
    G = len(microbatches) if gradient_accumulation_steps is None else gradient_accumulation_steps
    reason = "a window has at most G microbatches"
    check_count("gradient_accumulation_steps", G, reason, least=len(microbatches))
    counted = count_window([batch.response_mask != 0 for batch in microbatches], G)
    with torch.inference_mode(False), torch.enable_grad():
        copy, parameters = _copy(model, leftover)
        before = _record(parameters, parameters)
        added: dict[str, Tensor] = {}
        for name, parameter in parameters.items():  # called before the gradient is added to .grad
            parameter.register_hook(lambda grad, name=name: added.update({name: grad}))
        records = []
        for index, (batch, counts) in enumerate(zip(microbatches, counted, strict=True)):
            added.clear()
            log_probs = get_response_log_probs(copy, batch.input_ids, batch.labels)["log_probs"]
            masked = log_probs, batch.response_mask
            masked_sum, scaled_loss = backward(*masked, scaling, counts, normalize_constant)
            records.append(
                MicrobatchRecord(
                    index=index,
                    num_tokens=counts.num_tokens,
                    row_sums=_row_sums(*masked, normalize_constant).detach(),
                    masked_sum=masked_sum,
                    divisor=scaling.divisor(counts),
                    scaled_loss=scaled_loss,
                    microbatch_grad=_record(parameters, added),
                    grad=_record(parameters),
                )
            )
    return AccumulationTrace(
        scaling=scaling,
        gradient_accumulation_steps=G,
        normalize_constant=float(normalize_constant),
        num_tokens=window_tokens,
        microbatches=tuple(records),
        full_batch_grad=full_batch_gradient(model, microbatches, scaling.per, normalize_constant),
        leftover=leftover,
        parameters=before,
    )


def after_step(trace: AccumulationTrace, learning_rate: float = 1.0) -> Gradient:
    """The parameters after `optimizer.step()` of SGD, which uses the accumulated gradient.

    Returns:
        One tensor per parameter, by its name.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> trace = accumulate(BigramModel(), make_window(B=3, G=2), "B·G")
        >>> moved = trace.parameters["table"] - after_step(trace)["table"]
        >>> torch.allclose(moved, trace.grad["table"], atol=1e-6)
        True
    """
    with torch.inference_mode(False):
        parameters = {name: nn.Parameter(at.clone()) for name, at in trace.parameters.items()}
        for name, parameter in parameters.items():
            parameter.grad = trace.grad[name].clone()
        torch.optim.SGD(parameters.values(), lr=learning_rate).step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def backward(
    log_probs: Tensor,
    response_mask: Tensor,
    scaling: Scaling,
    counts: Counts,
    normalize_constant: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Call `backward()` on the loss of a microbatch under a rule.

    Args:
        log_probs: (B, S), require grad.
        response_mask: (B, S), 0 and 1.
        scaling: a rule. For `STEP` it is `sft_microbatch_train_step` that runs.
        counts: what the rule's divisor is made of.
        normalize_constant: divides every sum.

    Returns:
        The masked sum and the scaled loss, both () and without gradient.

    Raises:
        ValueError: the rule has several divisors, but not one per row.
    """
    if scaling is STEP:
        loss, metadata = sft_microbatch_train_step(
            log_probs, response_mask, counts.G, normalize_constant
        )
        return metadata["masked_sum"], loss
    row_sums = _row_sums(log_probs, response_mask, normalize_constant)
    loss = -divide(row_sums, scaling.divisor(counts))
    loss.backward()
    return row_sums.sum().detach(), loss.detach() + 0  # 0, not -0, if there was no token


def divide(row_sums: Tensor, divisor: Divisor) -> Tensor:
    """Divide the sum of all rows by a divisor, or each row's by its own: (B,) to ().

    0/0 is NaN, like the mean of no tokens.

    >>> sums = torch.tensor([-4.0, -6.0])
    >>> divide(sums, 5), divide(sums, [4, 3])
    (tensor(-2.), tensor(-3.))
    """
    if not isinstance(divisor, Sequence):
        return row_sums.sum() / float(divisor)  # by a float, because torch refuses large ints
    if len(divisor) != len(row_sums):
        raise ValueError(
            f"the rule has {len(divisor)} divisors but the microbatch has {len(row_sums)} rows: "
            "return one number, or one per row."
        )
    return (row_sums / row_sums.new_tensor([float(each) for each in divisor])).sum()


def _row_sums(log_probs: Tensor, response_mask: Tensor, c: float) -> Tensor:
    """The masked sum of each row: (B, S) to (B,)."""
    return masked_normalize(tensor=log_probs, mask=response_mask, normalize_constant=c, dim=1)


def full_batch_gradient(
    model: nn.Module,
    microbatches: Sequence[TokenBatch],
    per: Per = "sequence",
    normalize_constant: float = 1.0,
) -> Gradient:
    """The gradient of all rows as one batch, in one backward pass: nothing is accumulated.

    Args:
        model: as for `accumulate`; a copy is used.
        microbatches: their rows are the batch.
        per: "sequence": the mean over sequences of a sequence's sum; "token": the mean over
            response tokens; "example": the mean over sequences of a sequence's mean over its
            tokens.
        normalize_constant: divides it.

    Returns:
        One tensor per parameter that requires grad, by its name.

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> window = make_window(B=2, G=3, lengths=[1, 1, 1, 1, 1, 1])
        >>> grad = full_batch_gradient(BigramModel(vocab_size=8), window, per="token")
        >>> grad["table"].shape
        torch.Size([8, 8])
    """
    window_tokens = _check_window(microbatches)
    check_constant(normalize_constant)
    row_tokens = [n for batch in microbatches for n in batch.response_mask.sum(1).tolist()]
    rows = len(row_tokens)
    divisors: dict[str, Divisor] = {
        "sequence": rows,
        "token": window_tokens,
        "example": [rows * tokens for tokens in row_tokens],
    }
    if per not in divisors:
        raise ValueError(f"per must be 'sequence', 'token' or 'example', got {brief(per)}.")
    with torch.inference_mode(False), torch.enable_grad():
        copy, parameters = _copy(model)
        batch = _one_batch(microbatches)
        log_probs = get_response_log_probs(copy, batch.input_ids, batch.labels)["log_probs"]
        row_sums = _row_sums(log_probs, batch.response_mask, normalize_constant)
        (-divide(row_sums, divisors[per])).backward()
    return _record(parameters)


def _copy(
    model: nn.Module, leftover: Gradient | None = None
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy of the model, and its parameters that require grad, with `leftover` in `.grad`."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}: a copy of it is run, "
            "and its named parameters are read. Write a module whose forward() calls your function."
        )
    model = deepcopy(model).eval()
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    if not parameters:
        raise ValueError(
            "the model has no parameter that requires grad, so there is no gradient to accumulate: "
            "call requires_grad_() on the parameters to train."
        )
    if leftover is not None and set(leftover) != set(parameters):
        raise ValueError(
            f"leftover has gradients of {', '.join(leftover) or 'nothing'}, but the parameters are "
            f"{', '.join(parameters)}: pass the grad of a trace of the same model."
        )
    for name, parameter in parameters.items():
        parameter.grad = None if leftover is None else leftover[name].clone()
    return model, parameters


def _record(
    parameters: Mapping[str, nn.Parameter], found: Mapping[str, Tensor | None] | None = None
) -> Gradient:
    """A copy of each parameter's entry in `found`, by default its `.grad`; 0 if there is none."""
    if found is None:
        found = {name: parameter.grad for name, parameter in parameters.items()}
    return {
        name: torch.zeros_like(parameter)
        if (entry := found.get(name)) is None
        else entry.detach().clone()
        for name, parameter in parameters.items()
    }


def _one_batch(microbatches: Sequence[TokenBatch]) -> TokenBatch:
    """All rows as one batch, shorter ones padded with token 0, which is masked."""
    S = max(batch.labels.shape[1] for batch in microbatches)

    def stacked(field: str) -> Tensor:
        tensors = [getattr(batch, field) for batch in microbatches]
        return torch.cat([pad(tensor, (0, S - tensor.shape[1])) for tensor in tensors])

    return TokenBatch(stacked("input_ids"), stacked("labels"), stacked("response_mask"))


def _check_window(microbatches: Sequence[TokenBatch]) -> int:
    """Check that a window has a response token; return the number of its response tokens."""
    window_tokens = sum(batch.num_tokens for batch in microbatches)
    if window_tokens == 0:
        raise ValueError(
            f"the window has no response token, in {len(microbatches)} microbatches: "
            "there is no gradient to compare; give at least one."
        )
    return window_tokens
