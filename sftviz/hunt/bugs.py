"""Bugs as values: each changes some lines of `loop.py`, and the changed code is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import ModuleType

from sftviz.mistakes import MISTAKES
from sftviz.validate import brief

_SOURCE = (files("sftviz.hunt") / "loop.py").read_text("utf-8")
_KNOWN = {mistake.name: mistake for mistake in MISTAKES}


@dataclass(frozen=True)
class Bug:
    """What is wrong with a run, and which lines of `loop.py` are others."""

    name: str  # if it is one of `sftviz.mistakes`: its name
    symptom: str  # how such a run looks
    right: str  # lines of `loop.py`
    wrong: str  # what stands there instead
    cause: str
    remedy: str
    seen: str = ""  # who has shipped it, if that is known

    @property
    def loop(self) -> ModuleType:
        """`loop.py` with this bug in it."""
        return _load(self.right, self.wrong)


@cache
def _load(right: str, wrong: str) -> ModuleType:
    if right and _SOURCE.count(right) != 1:
        raise ValueError(f"these lines are {_SOURCE.count(right)} times in loop.py:\n{right}")
    module = ModuleType("sftviz.hunt.changed_loop")
    exec(compile(_SOURCE.replace(right, wrong), "loop.py", "exec"), vars(module))
    return module


def _known(name: str, symptom: str, right: str, wrong: str, cause: str = "") -> Bug:
    """A bug that is one of the mistakes."""
    mistake = _KNOWN[name]
    return Bug(name, symptom, right, wrong, cause or mistake.cause, mistake.remedy, mistake.seen)


HEALTHY = Bug("healthy", "", right="", wrong="", cause="", remedy="")
NOTHING = Bug(
    "nothing is wrong",
    "Every curve follows the healthy run up to noise, and all answers are right.",
    right="    torch.manual_seed(0)",
    wrong="    torch.manual_seed(1)",
    cause="The code is that of the healthy run. Only the seed is another one.",
    remedy="Do not look for a cause of what is noise.",
)

# By case. A letter says nothing about the bug; later ones are harder to find.
CASES: dict[str, Bug] = {
    "A": _known(
        "sign kept",
        "The logged loss is negative and falls for ever, while the loss per token rises.",
        right="        loss = -masked_sum / (window_tokens / G)",
        wrong="        loss = masked_sum / (window_tokens / G)",
    ),
    "B": Bug(
        "end token left out",
        "The answers begin right and do not end.",
        right="    responses = [[*encode(pair.response), END] for pair in pairs]",
        wrong="    responses = [encode(pair.response) for pair in pairs]",
        cause="The responses in the data end without <end>, so the model never learns to stop.",
        remedy="Append the end token to each response, and let it count.",
    ),
    "C": _known(
        "G times too large",
        "The logged loss and the length of the gradient are G times those of the healthy run. "
        "AdamW learns all the same.",
        right="        scaled_loss = loss / G",
        wrong="        scaled_loss = loss",
    ),
    "D": _known(
        "backward on a fresh leaf",
        "The loss stays where it was, and the gradient is 0.",
        right="        masked_sum = torch.where(batch.response_mask, log_probs, 0).sum()",
        wrong="        log_probs = log_probs.detach().requires_grad_()\n"
        "        masked_sum = torch.where(batch.response_mask, log_probs, 0).sum()",
    ),
    "E": _known(
        "mask one too late",
        "The first token of an answer is arbitrary, and the rest is right.",
        right="        response_mask=in_response[:, 1:],",
        wrong="        response_mask=in_response[:, :-1],",
    ),
    "F": NOTHING,
    "G": _known(
        "no shift",
        "The logged loss is soon 0, the loss per token is above ln V, and an answer repeats the "
        "token before it.",
        right="        labels=tokens[:, 1:],",
        wrong="        labels=tokens[:, :-1],",
    ),
    "H": Bug(
        "optimizer of a copy",
        "The loss stays where it was, although there is a gradient.",
        right="    optimizer = AdamW(model.parameters(), lr=1e-2)",
        wrong="    parameters = [each.detach().clone() for each in model.parameters()]\n"
        "    optimizer = AdamW(parameters, lr=1e-2)",
        cause="The optimizer was made of copies of the parameters, so it never changes the model.",
        remedy="Make the optimizer last, of the parameters of the model that is trained.",
    ),
    "I": _known(
        "prompt counted",
        "The logged loss falls slowly and stays far above the loss per token.",
        right="    in_response = (position >= starts) & (position < ends)",
        wrong="    in_response = (position >= 1) & (position < ends)",
    ),
    "J": Bug(
        "the same window again",
        "The logged loss is soon 0. The loss per token, of rows that were to be trained on, rises.",
        right="    return [prepare(pairs) for pairs in window_pairs(number)]",
        wrong="    return [prepare(pairs) for pairs in window_pairs(1)]",
        cause="Each window has the rows of the first one, as with next(iter(loader)).",
        remedy="Make one iterator before the loop, and take the next window from it.",
    ),
    "K": _known(
        "shifted twice",
        "The logged loss falls to 0, the loss per token is above ln V, and the answers leave out "
        "tokens.",
        right="        input_ids=tokens[:, :-1],\n"
        "        labels=tokens[:, 1:],\n"
        "        response_mask=in_response[:, 1:],",
        wrong="        input_ids=tokens[:, :-2],\n"
        "        labels=tokens[:, 2:],\n"
        "        response_mask=in_response[:, 2:],",
    ),
    "L": _known(
        "zero_grad after each microbatch",
        "Long answers are learned, short ones are not: only the last microbatch of a window "
        "counts, and it has the long ones.",
        right="    optimizer.zero_grad()\n    for batch in microbatches:",
        wrong="    for batch in microbatches:\n        optimizer.zero_grad()",
    ),
    "M": _known(
        "÷G twice",
        "The logged loss and the length of the gradient are those of the healthy run, divided by "
        "G. AdamW learns all the same.",
        right="        scaled_loss = loss / G",
        wrong="        scaled_loss = loss / G / G",
        cause="The mean over the window's tokens is divided by G once more.",
    ),
    "N": _known(
        "backward on the unscaled loss",
        "The logged loss is right, and the gradient is G times as long as that of the healthy run.",
        right="        scaled_loss.backward()",
        wrong="        loss.backward()",
    ),
    "O": _known(
        "padding counted",
        "The model learns. The logged loss is below the loss per token, because padding is easy.",
        right="    in_response = (position >= starts) & (position < ends)",
        wrong="    in_response = position >= starts",
    ),
    "P": _known(
        "zero_grad forgotten",
        "The model learns more slowly, and the gradient stays long while the loss falls.",
        right="    optimizer.zero_grad()\n",
        wrong="",
    ),
    "Q": _known(
        "mean of means",
        "The model learns. The logged loss is not the loss per token: microbatches with few tokens "
        "have too much weight.",
        right="        loss = -masked_sum / (window_tokens / G)",
        wrong="        loss = -masked_sum / batch.num_tokens",
    ),
}


def find_bug(case: str, among: Mapping[str, Bug] = CASES) -> Bug:
    """The bug of a case.

    Raises:
        ValueError: there is no such case.
    """
    if case not in among:
        raise ValueError(f"case must be one of {', '.join(among)}, got {brief(case)}.")
    return among[case]
