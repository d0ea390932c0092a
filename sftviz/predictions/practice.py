"""Endless questions about small fresh batches, harder as one gets them right.

Everything follows from a seed. Batches are drawn until the right number has two digits, and the
common mistakes give other numbers, all different.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from random import Random

import torch

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.inputs import StepInputs
from sftviz.mistakes import STEP_MISTAKES, Mistake
from sftviz.mistakes.recognise import run_on
from sftviz.predictions.question import Ask, Belief, Choice, Number, Option, Question
from sftviz.step import sft_microbatch_train_step
from sftviz.validate import check_count
from sftviz.views.batch import given_batch
from sftviz.views.step import key_formula, step_flow

Sizes = Sequence[tuple[int, int, float]]  # B, G, c
Numbers = Callable[[StepInputs], Iterator[float]]  # the right one, and then the others

_PLAIN: Sizes = [(B, G, 1.0) for B in (2, 3) for G in (2, 3, 4, 5) if B != G]
_WITH_C: Sizes = [
    (B, G, c) for B in (2, 3) for G in (2, 3, 4, 5, 10) for c in (2.0, 4.0, 5.0, 10.0) if B != G
]
_BY_NAME = {mistake.name: mistake for mistake in STEP_MISTAKES}
_OF_MASK = ("mask ignored", "mask inverted", "mask one too early", "mask one too late")
_OF_G = ("sign kept", "not divided", "÷G", "÷B·G", "÷G³")
_OF_C = ("c left out", "c twice", "c multiplied")
_APART = 0.05  # relative: numbers that differ by more are different in their first two digits
_MASKED_SUM = "masked_sum is the sum of the log-probs where the mask is 1, divided by c."


@dataclass(frozen=True)
class Session:
    """A place in a practice: the question that is asked there follows from it.

    Raises:
        TypeError, ValueError: a number is not a count, or there is no such level.

    Example:
        >>> session = Session(seed=1)
        >>> session.question().text
        'What is masked_sum?'
        >>> session.next(was_right=True)
        Session(seed=1, number=2, level=2)
    """

    seed: int = 0
    number: int = 1
    level: int = 1

    def __post_init__(self) -> None:
        check_count("seed", self.seed, "it seeds a random number generator", least=0)
        check_count("number", self.number, "it is the number of a question")
        check_count("level", self.level, "it is how hard a question is", most=len(LEVELS))

    def question(self) -> Question:
        """The question: the same each time."""
        draw = Random(f"{self.seed} {self.number} {self.level}")
        return LEVELS[self.level - 1](draw, f"practice {self.seed}, question {self.number}")

    def next(self, was_right: bool) -> "Session":
        """The question after this one: a level higher if the answer was right."""
        level = min(self.level + was_right, len(LEVELS))
        return replace(self, number=self.number + 1, level=level)


def _one_number(
    quantity: str, why: str, sizes: Sizes, names: Sequence[str], draw: Random, name: str, S: int = 4
) -> Question:
    """A quantity of the step."""
    mistakes = [_BY_NAME[each] for each in names]

    def numbers(inputs: StepInputs) -> Iterator[float]:
        yield _right(inputs, quantity)
        yield from (_wrong(mistake, inputs, quantity) for mistake in mistakes)

    inputs = _find(draw, sizes, S, numbers)
    beliefs = tuple(
        Belief(partial(_wrong, mistake, inputs, quantity), f"{mistake.cause} {mistake.remedy}")
        for mistake in mistakes
    )
    label = "grad at a response token" if quantity == "grad" else quantity
    ask = Number(label, partial(_right, inputs, quantity), beliefs, inputs, quantity)
    return _question(name, f"What is {label}?", ask, why, inputs)


def _second_call(draw: Random, name: str, S: int = 4) -> Question:
    """What is in `.grad` after the step was called two times."""
    mistakes = [_BY_NAME[each] for each in ("÷G", "÷B·G", "not divided", "c left out", "c twice")]

    def numbers(inputs: StepInputs) -> Iterator[float]:
        yield _accumulated(inputs, 2)
        yield from (_accumulated(inputs, calls) for calls in (0, 1))
        yield from (_accumulated(inputs, 2, mistake.run) for mistake in mistakes)

    inputs = _find(draw, _WITH_C, S, numbers)
    beliefs = (
        Belief(partial(_accumulated, inputs, 1), "This is the gradient of one call alone."),
        Belief(partial(_accumulated, inputs, 0), "Nothing has cleared .grad."),
        *(
            Belief(
                partial(_accumulated, inputs, 2, mistake.run),
                f'Two calls with the mistake "{mistake.name}" leave this. {mistake.cause}',
            )
            for mistake in mistakes
        ),
    )
    ask = Number("grad at a response token", partial(_accumulated, inputs, 2), beliefs)
    text = (
        "The step is called with this batch, and then with the same batch again. Nothing calls "
        "zero_grad() in between. What is in policy_log_probs.grad at a response token?"
    )
    why = "backward() adds to .grad: after two calls it is twice −1 ÷ (G² · c)."
    return _question(name, text, ask, why, inputs)


def _doubled(draw: Random, name: str, S: int = 4) -> Question:
    """The scaled loss, when G becomes twice as large."""

    def numbers(inputs: StepInputs) -> Iterator[float]:
        yield _right(_double(inputs), "scaled_loss")
        before = _right(inputs, "scaled_loss")
        yield from (before / 2, before, before * 2, before * 4)

    inputs = _find(draw, [*_PLAIN, *_WITH_C], S, numbers)
    before, after = _right(inputs, "scaled_loss"), _double(inputs)
    beliefs = (
        Belief(lambda: before / 2, "This divides by 2 once: G divides two times."),
        Belief(lambda: before, "This is scaled_loss before the change: G divides it."),
        Belief(lambda: before * 2, "This is multiplied by 2: G divides."),
        Belief(lambda: before * 4, "This is multiplied by 4: G divides."),
    )
    ask = Number(
        "scaled_loss", partial(_right, after, "scaled_loss"), beliefs, after, "scaled_loss"
    )
    G = inputs.gradient_accumulation_steps
    text = (
        f"Here scaled_loss is {number(before)}. G is doubled to {2 * G}, and nothing else changes. "
        "What is scaled_loss now?"
    )
    why = "scaled_loss is divided by G twice: with twice the G it is a quarter."
    return _question(name, text, ask, why, inputs, after)


def _which_mistake(draw: Random, name: str, S: int = 4) -> Question:
    """What somebody did whose loss is wrong, or right."""
    wrong = [_BY_NAME[each] for each in draw.sample((*_OF_MASK, *_OF_G, *_OF_C), 3)]

    def numbers(inputs: StepInputs) -> Iterator[float]:
        yield _right(inputs, "scaled_loss")
        yield from (_wrong(mistake, inputs, "scaled_loss") for mistake in wrong)

    inputs = _find(draw, _WITH_C, S, numbers)
    values = list(numbers(inputs))
    options = [
        Option("Nothing is wrong.", f"The right scaled_loss is {number(values[0])}."),
        *(
            Option(mistake.cause, f"That gives {number(value)}. {mistake.remedy}")
            for mistake, value in zip(wrong, values[1:], strict=True)
        ),
    ]
    order = draw.sample(range(len(options)), len(options))
    place = draw.randrange(len(options))
    said = number(values[order[place]])
    ask = Choice("what happened", tuple(options[at] for at in order), lambda: place)
    text = f"Somebody's step returns scaled_loss = {said} for this batch. What is wrong?"
    why = "The step divides the masked sum by c and by G²."
    return _question(name, text, ask, why, inputs)


def _anything(draw: Random, name: str) -> Question:
    """One of the harder questions, about longer rows."""
    return draw.choice(LEVELS[2:-1])(draw, name, S=6)


LEVELS: tuple[Callable[..., Question], ...] = (
    partial(_one_number, "masked_sum", _MASKED_SUM, [(1, 3, 1.0)], _OF_MASK),
    partial(
        _one_number,
        "scaled_loss",
        "scaled_loss is −masked_sum ÷ G ÷ G: the step divides by G twice.",
        _PLAIN,
        (*_OF_MASK[:2], *_OF_G),
    ),
    partial(
        _one_number,
        "scaled_loss",
        f"{_MASKED_SUM} scaled_loss is −masked_sum ÷ G ÷ G.",
        _WITH_C,
        (*_OF_MASK[:2], *_OF_G, *_OF_C),
    ),
    partial(
        _one_number,
        "grad",
        "The gradient is −1 ÷ (G² · c) at every response token: log-probs have no part in it.",
        _WITH_C,
        (*_OF_G, *_OF_C[:2]),
    ),
    _second_call,
    _doubled,
    _which_mistake,
    _anything,
)


def _question(
    name: str, text: str, ask: Ask, why: str, given: StepInputs, shown: StepInputs | None = None
) -> Question:
    def after(width: int) -> Drawing:
        trace = (shown or given).trace()
        short = key_formula(trace)
        return short if short.page.width <= width else step_flow(trace, width=width)

    return Question(name, text, (ask,), why, partial(given_batch, given), after)


def _find(draw: Random, sizes: Sizes, S: int, numbers: Numbers) -> StepInputs:
    """Draw batches until the right number is short and all numbers are different."""
    while True:
        inputs = _batch(draw, *draw.choice(sizes), S)
        right, *wrong = numbers(inputs)
        if _is_short(right) and all(
            abs(a - b) > _APART * max(abs(a), abs(b)) for a, b in combinations((right, *wrong), 2)
        ):
            return inputs


def _batch(draw: Random, B: int, G: int, c: float, S: int) -> StepInputs:
    """A prompt, a response and padding in each row; log-probs of one digit."""
    log_probs = [[-draw.randint(1, 9) / 10 for _ in range(S)] for _ in range(B)]
    mask = []
    for _ in range(B):
        prompt = draw.randint(1, S // 2)
        response = draw.randint(1, S - prompt)
        mask.append([0] * prompt + [1] * response + [0] * (S - prompt - response))
    return StepInputs(torch.tensor(log_probs, dtype=torch.float64), mask, G, c)


def _is_short(value: float) -> bool:
    """Whether a number has two digits at most, and not many zeros before them."""
    return abs(value) >= 0.01 and abs(float(f"{value:.2g}") - value) < 1e-9


def _right(inputs: StepInputs, quantity: str) -> float:
    trace = inputs.trace()
    if quantity == "grad":
        return trace.grad[trace.response_mask][0].item()
    return getattr(trace, quantity).item()


def _wrong(mistake: Mistake, inputs: StepInputs, quantity: str) -> float:
    value = (run_on(mistake, inputs) or {})[quantity]
    return value[inputs.response_mask != 0][0].item() if quantity == "grad" else value.item()


def _accumulated(
    inputs: StepInputs, calls: int, step: Callable[..., object] = sft_microbatch_train_step
) -> float:
    """What is in `.grad` at a response token after some calls."""
    leaf = inputs.policy_log_probs.clone().requires_grad_()
    leaf.grad = torch.zeros_like(leaf)
    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(calls):
            G, c = inputs.gradient_accumulation_steps, inputs.normalize_constant
            step(leaf, inputs.response_mask, G, c)
    return leaf.grad[inputs.response_mask != 0][0].item()


def _double(inputs: StepInputs) -> StepInputs:
    return replace(inputs, gradient_accumulation_steps=2 * inputs.gradient_accumulation_steps)
