"""What G microbatches make of a gradient, under the rules that people divide by.

Every rule is run: each microbatch goes through a model and `backward()`, and what is recorded is
what torch has in `.grad` afterwards. Beside it stands the gradient of the same rows as one batch,
in one backward pass, which is what accumulation is meant to come to. Needs torch alone.
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
    Gradient,
    Per,
    Scaling,
    cosine,
    distance,
    find_scaling,
    ratio,
)
from sftviz.step import masked_normalize, sft_microbatch_train_step
from sftviz.tokens import TokenBatch
from sftviz.validate import check_constant


@dataclass(frozen=True, eq=False)
class MicrobatchRecord:
    """One microbatch of a window: what it put in, and what torch held afterwards."""

    index: int
    num_tokens: int
    masked_sum: Tensor  # ()
    divisor: int
    scaled_loss: Tensor  # (), what backward() was called on
    microbatch_grad: Gradient  # what this backward() brought
    grad: Gradient  # .grad after it


@dataclass(frozen=True, eq=False)
class AccumulationTrace:
    """What one window left behind, tick by tick, and the full-batch gradient beside it."""

    scaling: Scaling
    gradient_accumulation_steps: int
    normalize_constant: float
    num_tokens: int  # response tokens of the window
    microbatches: tuple[MicrobatchRecord, ...]
    full_batch_grad: Gradient
    leftover: Gradient | None  # what was in `.grad` before the window, had nobody cleared it

    @property
    def grad(self) -> Gradient:
        """What the optimizer would step with."""
        return self.microbatches[-1].grad

    @property
    def ratio(self) -> float:
        """How much of the full-batch gradient there is in the accumulated one: 1 if all of it."""
        return ratio(self.grad, self.full_batch_grad)

    @property
    def cosine(self) -> float:
        """1 if the accumulated gradient points where the full-batch gradient does."""
        return cosine(self.grad, self.full_batch_grad)

    @property
    def distance(self) -> float:
        """How far the accumulated gradient is off, in lengths of the full-batch gradient."""
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

    All of it happens on a copy of the model, in evaluation mode: the caller's parameters, gradients
    and buffers stay as they are, and dropout does not make each run another one.

    Args:
        model: what `get_response_log_probs` takes, with parameters.
        microbatches: those of one window, in order. They may differ in rows and length.
        scaling: a rule, or the name of one in `SCALINGS` or `MISTAKEN_SCALINGS`.
        normalize_constant: divides every masked sum, also that of the full batch.
        gradient_accumulation_steps: G. None: as many as there are microbatches. Where the data ran
            out, a window has fewer microbatches than the G it is divided by.
        leftover: what is in `.grad` when the window begins: the `grad` of another trace, if
            zero_grad was forgotten.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or value, or does not fit.

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
    if type(G) is not int or len(microbatches) > G:
        error = ValueError if type(G) is int else TypeError
        raise error(
            f"gradient_accumulation_steps must be an int of at least {len(microbatches)}, the "
            f"number of microbatches, got {G!r}: a window has no more than G of them."
        )
    with torch.inference_mode(False), torch.enable_grad():
        copy, parameters = _copy(model, leftover)
        brought: dict[str, Tensor] = {}
        for name, parameter in parameters.items():  # sees what is about to be added to .grad
            parameter.register_hook(lambda grad, name=name: brought.update({name: grad}))
        records = []
        for index, batch in enumerate(microbatches):
            brought.clear()
            counts = Counts(len(batch.labels), G, batch.num_tokens, window_tokens)
            masked_sum, scaled_loss = _backward(copy, batch, scaling, counts, normalize_constant)
            records.append(
                MicrobatchRecord(
                    index=index,
                    num_tokens=counts.num_tokens,
                    masked_sum=masked_sum.detach(),
                    divisor=scaling.divisor(counts),
                    scaled_loss=scaled_loss.detach(),
                    microbatch_grad=_record(parameters, brought),
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
    )


def _backward(
    model: nn.Module, batch: TokenBatch, scaling: Scaling, counts: Counts, c: float
) -> tuple[Tensor, Tensor]:
    log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
    if scaling is STEP:
        scaled_loss, metadata = sft_microbatch_train_step(
            log_probs, batch.response_mask, counts.G, c
        )
        return metadata["masked_sum"], scaled_loss
    masked_sum = masked_normalize(tensor=log_probs, mask=batch.response_mask, normalize_constant=c)
    # A tensor's division: 0/0 is NaN, as it is for who takes the mean of no tokens.
    scaled_loss = -masked_sum / scaling.divisor(counts)
    scaled_loss.backward()
    return masked_sum, scaled_loss


def full_batch_gradient(
    model: nn.Module,
    microbatches: Sequence[TokenBatch],
    per: Per = "sequence",
    normalize_constant: float = 1.0,
) -> Gradient:
    """The gradient of all rows as one batch, in one backward pass: nothing is accumulated.

    Args:
        model: as for `accumulate`; a copy is used.
        microbatches: whose rows make up the batch.
        per: the mean over sequences of a sequence's sum, or the mean over response tokens.
        normalize_constant: divides it.

    Example:
        >>> from sftviz.experiments.bigram import BigramModel, make_window
        >>> window = make_window(B=2, G=3, lengths=[1, 1, 1, 1, 1, 1])
        >>> grad = full_batch_gradient(BigramModel(vocab_size=8), window, per="token")
        >>> grad["table"].shape
        torch.Size([8, 8])
    """
    window_tokens = _check_window(microbatches)
    check_constant(normalize_constant)
    total = {"sequence": sum(len(batch.labels) for batch in microbatches), "token": window_tokens}
    if per not in total:
        raise ValueError(f"per must be 'sequence' or 'token', got {per!r}.")
    with torch.inference_mode(False), torch.enable_grad():
        copy, parameters = _copy(model)
        batch = _one_batch(microbatches)
        log_probs = get_response_log_probs(copy, batch.input_ids, batch.labels)["log_probs"]
        masked_sum = masked_normalize(
            tensor=log_probs, mask=batch.response_mask, normalize_constant=normalize_constant
        )
        (-masked_sum / total[per]).backward()
    return _record(parameters)


def _copy(
    model: nn.Module, leftover: Gradient | None = None
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy to run on, and those of its parameters that are trained, with `.grad` as asked."""
    model = deepcopy(model).eval()
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    if not parameters:
        raise ValueError(
            "the model has no parameter that requires grad, so there is no gradient to accumulate: "
            "call requires_grad_() on what is to be trained."
        )
    if leftover is not None and set(leftover) != set(parameters):
        raise ValueError(
            f"leftover holds gradients of {', '.join(leftover) or 'nothing'}, but the model trains "
            f"{', '.join(parameters)}: pass the grad of a trace of the same model."
        )
    for name, parameter in parameters.items():
        parameter.grad = None if leftover is None else leftover[name].clone()
    return model, parameters


def _record(
    parameters: Mapping[str, nn.Parameter], found: Mapping[str, Tensor] | None = None
) -> Gradient:
    """Copy what was found for each parameter, or else its `.grad`; 0 where there is nothing."""
    if found is None:
        found = {name: parameter.grad for name, parameter in parameters.items()}
    return {
        name: torch.zeros_like(parameter)
        if found.get(name) is None
        else found[name].detach().clone()
        for name, parameter in parameters.items()
    }


def _one_batch(microbatches: Sequence[TokenBatch]) -> TokenBatch:
    """All rows below one another, shorter ones filled up with token 0, which is masked."""
    S = max(batch.labels.shape[1] for batch in microbatches)

    def stacked(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(tensor, (0, S - tensor.shape[1])) for tensor in tensors])

    return TokenBatch(
        input_ids=stacked([batch.input_ids for batch in microbatches]),
        labels=stacked([batch.labels for batch in microbatches]),
        response_mask=stacked([batch.response_mask for batch in microbatches]),
    )


def _check_window(microbatches: Sequence[TokenBatch]) -> int:
    """Refuse a window that nothing can be learned from; return its number of response tokens."""
    window_tokens = sum(batch.num_tokens for batch in microbatches)
    if window_tokens == 0:
        raise ValueError(
            f"the window has no response token, in {len(microbatches)} microbatches: "
            "there is no gradient to compare; give it one at least."
        )
    return window_tokens
