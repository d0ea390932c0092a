"""Questions about accumulation: what is in `.grad` at each moment of a window."""

from functools import partial

import torch
from torch import Tensor
from torch.optim import SGD

from sftviz.accumulation import AccumulationTrace, accumulate
from sftviz.drawing.drawing import Drawing
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.log_probs import get_response_log_probs
from sftviz.predictions.course.pictures import value_table
from sftviz.predictions.question import Belief, Choice, Number, Option, Question
from sftviz.rules import Gradient, cosine, ratio
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch
from sftviz.views.parts import TONES
from sftviz.views.tokens import shift_view

_B, _G, _V = 2, 4, 4
_ROW = 1  # of the table of logits: token 1 was read


def _model() -> BigramModel:
    return BigramModel(_V, dtype=torch.float64)


_window = partial(make_window, B=_B, G=_G, vocab_size=_V)  # of the notebook's first picture


def _trace(windows_before: int = 0) -> AccumulationTrace:
    """The window under ÷ G², after equal windows whose gradient was not cleared."""
    trace = accumulate(_model(), _window(), "G²")
    for _ in range(windows_before):
        trace = accumulate(_model(), _window(), "G²", leftover=trace.grad)
    return trace


def _backward(model: BigramModel, batch: TokenBatch, c: float = 1.0) -> None:
    """Call the step on a microbatch, as a loop does."""
    log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
    sft_microbatch_train_step(log_probs, batch.response_mask, _G, c)


# The second backward().


def _alone(index: int) -> Tensor:
    """A row of the gradient that one of the microbatches leaves if it runs alone, (V,)."""
    batch = _window()[index]
    trace = accumulate(_model(), [batch], "G²", gradient_accumulation_steps=_G)
    return trace.grad["table"][_ROW]


def _both() -> Tensor:
    return _trace().microbatches[1].grad["table"][_ROW]  # (V,)


def _entries(width: int, with_both: bool) -> Drawing:
    rows = {f"microbatch {index + 1} alone": _alone(index) for index in (0, 1)}
    if with_both:
        rows["one after the other"] = _both()
    entries = {
        name: {f"entry {place}": row[place - 1].item() for place in (1, 2)}
        for name, row in rows.items()
    }
    return value_table(entries, "what they leave in .grad")


_SECOND = Question(
    name="the second backward()",
    text="Here are the entries for token 1 in .grad, once after microbatch 1 alone, and once "
    "after microbatch 2 alone. Now the two run one after the other, without zero_grad() between "
    "them. What is in entry 1 then?",
    asks=(
        Number(
            "entry 1",
            lambda: _both()[0].item(),
            (
                Belief(
                    lambda: _alone(1)[0].item(),
                    "This is the entry of microbatch 2 alone, as if backward() replaced what is in "
                    ".grad. It adds to it.",
                ),
                Belief(
                    lambda: _alone(0)[0].item(),
                    "This is the entry of microbatch 1 alone. Each backward() adds to .grad, not "
                    "only the first.",
                ),
                Belief(
                    lambda: ((_alone(0) + _alone(1)) / 2)[0].item(),
                    "This is the mean of both. backward() takes no mean: it adds. That is why the "
                    "loss has to be divided before it is called.",
                ),
            ),
        ),
    ),
    why="backward() adds the new gradient to what is in .grad. It neither replaces nor averages.",
    before=partial(_entries, with_both=False),
    after=partial(_entries, with_both=True),
)


# The rows of the table.


def _touched() -> int:
    batch = _window()[0]
    mask = batch.response_mask
    rows = _trace().microbatches[0].microbatch_grad["table"].abs().sum(1).nonzero().flatten()
    candidates = (torch.arange(_V), batch.input_ids, batch.labels[mask], batch.input_ids[mask])
    return [set(tokens.flatten().tolist()) for tokens in candidates].index(set(rows.tolist()))


_ROWS = Question(
    name="which rows of .grad",
    text="The table has one row of logits for each token that may be read. After microbatch 1 the "
    "rows of tokens 1 and 2 have a gradient, and those of tokens 0 and 3 are 0. Which rows does a "
    "microbatch change?",
    asks=(
        Choice(
            "rows that change",
            (
                Option(
                    "all rows",
                    "Then no row would be 0. Logits that are not read have no part "
                    "in the loss, so their gradient is 0.",
                ),
                Option(
                    "the rows of all tokens that are read, those of the prompt too",
                    "Token 3 is read, in the prompt, and its row is 0: what is predicted after "
                    "it is masked.",
                ),
                Option(
                    "the rows of the response tokens",
                    "Token 3 is a response token, and its row is 0. A response token is "
                    "predicted by the logits at the token before it.",
                ),
                Option(
                    "the rows of the tokens just before a response token",
                    "These logits predict the response tokens, and no other logits have a part "
                    "in the loss.",
                ),
            ),
            _touched,
        ),
    ),
    why="The logits that predict a response token are those at the token before it: that is the "
    "shift of 02, seen from the parameters.",
    after=lambda width: shift_view(_window()[0], width=width),
)


# The end of the window.


def _end_of_window() -> list[Tensor | None]:
    """`.grad` before the optimizer's step, after it, and after zero_grad()."""
    model = _model()
    optimizer = SGD(model.parameters(), lr=0.1)
    for batch in _window():
        _backward(model, batch)
    moments = [model.table.grad.clone()]
    for act in (optimizer.step, optimizer.zero_grad):
        act()
        moments.append(None if model.table.grad is None else model.table.grad.clone())
    return moments


def _became(moment: int) -> int:
    """The place of what `.grad` is at a moment: as before the step, zeros, or None."""
    grads = _end_of_window()
    if (grad := grads[moment]) is None:
        return 2
    return 0 if torch.equal(grad, grads[0]) else 1


def _moments(width: int) -> Drawing:
    names = ("before", "after optimizer.step()", "after zero_grad()")
    grads = zip(names, _end_of_window(), strict=True)
    rows = {
        name: {"length": "None" if grad is None else grad.norm().item()} for name, grad in grads
    }
    return value_table(rows, "what is in .grad")


_END = Question(
    name=".grad at the end",
    text="The four microbatches have run. Now the loop calls optimizer.step(), and then "
    "optimizer.zero_grad(). What is in .grad after each of the two?",
    asks=(
        Choice(
            "after optimizer.step()",
            (
                Option(
                    "the same gradient as before",
                    "The step reads .grad and changes the parameters. It leaves .grad as it is.",
                ),
                Option(
                    "zeros",
                    "The step reads .grad and does not clear it. If nobody else does, "
                    "the next window adds to this gradient.",
                ),
                Option(
                    "None",
                    "The step reads .grad and does not remove it. If nobody else does, "
                    "the next window adds to this gradient.",
                ),
            ),
            lambda: _became(1),
        ),
        Choice(
            "after zero_grad()",
            (
                Option("the same gradient as before", "Clearing .grad is what zero_grad() is for."),
                Option(
                    "zeros",
                    "That was so in old versions of torch, and is with "
                    "set_to_none=False. Code that reads .grad here must expect None.",
                ),
                Option(
                    "None",
                    "An optimizer skips a parameter without a gradient. With zeros, "
                    "weight decay and momentum would still move it.",
                ),
            ),
            lambda: _became(2),
        ),
    ),
    why="Only zero_grad() clears .grad, and since torch 2 it sets it to None.",
    after=_moments,
)


# zero_grad() was forgotten.

_FORGOTTEN = Question(
    name="no zero_grad()",
    text="The window of the picture above ends with ratio B/G = 0.5. Now zero_grad() is "
    "forgotten, and the same window runs a second time, with the same weights. What is the ratio "
    "at its end?",
    asks=(
        Number(
            "ratio of the second window",
            lambda: _trace(windows_before=1).ratio,
            (
                Belief(
                    lambda: _trace().ratio,
                    "This is the ratio of a window that begins without a gradient. Here .grad "
                    "begins with the gradient of the window before.",
                ),
                Belief(
                    lambda: _trace().ratio / 2,
                    "This would be the mean over both windows. backward() adds and takes no mean.",
                ),
                Belief(
                    lambda: _trace(windows_before=1).ratio / _trace().ratio,
                    "This is how many times as long as without the mistake. The ratio compares "
                    "with the full batch: it was 0.5, so it is twice that.",
                ),
            ),
        ),
    ),
    why="The gradients of both windows are in .grad, so the ratio of 0.5 doubles: two mistakes "
    "together look right. In the third window it is 1.5: check more than one window.",
    after=lambda width: value_table(
        {
            f"window {number + 1}": {"ratio": _trace(windows_before=number).ratio}
            for number in range(4)
        },
        "at the end, without zero_grad()",
        TONES["ratio"],
    ),
)


# zero_grad() in the wrong place.


def _cleared() -> Gradient:
    """What the optimizer gets under ÷ B·G if zero_grad() comes before each backward()."""
    model = _model()
    for batch in _window():
        model.zero_grad()
        _backward(model, batch, c=_B / _G)
    return {"table": model.table.grad}


def _what_is_left() -> int:
    trace = accumulate(_model(), _window(), "B·G")
    full, last = trace.full_batch_grad["table"], trace.microbatches[-1].microbatch_grad["table"]
    candidates = (full, full / _G, last, torch.zeros_like(full))
    return [torch.allclose(_cleared()["table"], each) for each in candidates].index(True)


def _compared(width: int) -> Drawing:
    trace = accumulate(_model(), _window(), "B·G")
    grads = {"once a window": trace.grad, "before each backward()": _cleared()}
    full = trace.full_batch_grad
    return value_table(
        {name: {"ratio": ratio(g, full), "cosine": cosine(g, full)} for name, g in grads.items()},
        "by where zero_grad() is called",
        TONES["ratio"],
    )


_IN_THE_LOOP = Question(
    name="zero_grad() in the loop",
    text="To be safe, somebody calls zero_grad() before each backward(). The microbatches are "
    "divided by B·G, which was found to be exact. What does the optimizer get at the end of the "
    "window?",
    asks=(
        Choice(
            "in .grad at the end",
            (
                Option(
                    "the gradient of the full batch",
                    "It would be, if the gradients of the microbatches before were still there. "
                    "Each zero_grad() throws them away. Call it once a window.",
                ),
                Option(
                    "the gradient of the full batch, G times too short",
                    "It is too short, but that is not all: the rows of the other microbatches have "
                    "no part in it. Call zero_grad() once a window.",
                ),
                Option(
                    "the gradient of the last microbatch",
                    "All others were computed and thrown away.",
                ),
                Option(
                    "nothing",
                    "After the last zero_grad() there is one more backward(), and what that leaves "
                    "is still there.",
                ),
            ),
            _what_is_left,
        ),
    ),
    why="No error, and a loss that looks as usual: only the gradient is too short and points "
    "elsewhere. Ratio and cosine show it.",
    after=_compared,
)

ACCUMULATION_QUESTIONS = (_SECOND, _ROWS, _END, _IN_THE_LOOP, _FORGOTTEN)
