"""Questions of `03_scaling`: which divisor makes a window's gradient that of the full batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from sftviz.accumulation import AccumulationTrace, accumulate
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import number
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.predictions.course.pictures import value_table
from sftviz.predictions.question import Belief, Choice, Number, Option, Question
from sftviz.rules import MISTAKEN_SCALINGS, SCALINGS, SEQUENCE_MEAN, STEP, TOKEN_MEAN, Scaling
from sftviz.shares import gradient_shares
from sftviz.tokens import TokenBatch
from sftviz.views.shares import shares_table

NONE, DIVIDED_BY_G = SCALINGS[:2]
AVERAGED_AVERAGES = MISTAKEN_SCALINGS[0]
WINDOW = make_window(B=4, G=2)  # with 10 and 22 response tokens
_EXACT = 1e-5  # a smaller relative difference is float32 rounding


def _run(window: Sequence[TokenBatch], rule: Scaling, G: int | None = None) -> AccumulationTrace:
    return accumulate(BigramModel(vocab_size=8), window, rule, gradient_accumulation_steps=G)


def _is_exact(trace: AccumulationTrace) -> bool:
    return trace.distance < _EXACT


def _compared(traces: Sequence[AccumulationTrace]) -> Drawing:
    """By what each rule divided, and what came of it."""
    rows = {}
    for trace in traces:
        divisors = sorted({divisor for record in trace.microbatches for _, divisor in record.parts})
        name = "1" if trace.scaling is NONE else trace.scaling.name
        rows[f"÷ {name}"] = {
            "by": ", ".join(map(number, divisors)),
            "ratio": trace.ratio,
            "cosine": trace.cosine,
        }
    title = f"compared with the mean per {traces[0].scaling.per}; cosine 1: the same direction"
    return value_table(rows, title, "loss")


def _all(window: Sequence[TokenBatch], rules: Sequence[Scaling]) -> list[AccumulationTrace]:
    return [_run(window, rule) for rule in rules]


def _ratios(
    rules: Sequence[Scaling], sizes: Sequence[tuple[int, int]]
) -> Mapping[str, list[float]]:
    """Of each rule, the ratio in windows of several sizes (B, G)."""
    return {rule.name: [_run(make_window(*size), rule).ratio for size in sizes] for rule in rules}


def _ratio_table(rules: Sequence[Scaling], sizes: Sequence[tuple[int, int]]) -> Drawing:
    ratios = _ratios(rules, sizes)
    return value_table(
        {
            f"÷ {name}": dict(zip((f"{B}, {G}" for B, G in sizes), values, strict=True))
            for name, values in ratios.items()
        },
        "the length of the gradient, relative to the full batch's, at B, G",
    )


# The divisor that is needed

_SIZE = (5, 3)  # B, G


def _needed(B: int, G: int) -> float:
    """If nothing is divided, the gradient is as many times too long as one should divide by."""
    return _run(make_window(B, G), NONE).ratio


def _divisor(rule: Scaling, B: int, G: int) -> float:
    """What a rule divides by."""
    return _run(make_window(B, G), rule).microbatches[0].parts[0][1]


THE_DIVISOR = Question(
    name="the divisor",
    text=(
        "A window has G = 3 microbatches of B = 5 sequences. The negative masked sum of each "
        "microbatch is divided by one number, then comes backward(). By which number, so that the "
        "accumulated gradient is that of the mean over all sequences?"
    ),
    asks=(
        Number(
            "the divisor",
            lambda: _needed(*_SIZE),
            (
                Belief(
                    lambda: _divisor(DIVIDED_BY_G, *_SIZE),
                    "÷ G makes a mean over the microbatches. But each of them is a sum over its "
                    "5 sequences, so the gradient is 5 times too long.",
                ),
                Belief(
                    lambda: _divisor(STEP, *_SIZE),
                    "This is G², what the step divides by. In this window it makes the gradient "
                    "5/3 of what it should be: run the cell above with it.",
                ),
                Belief(
                    lambda: float(_SIZE[0]),
                    "÷ B makes a mean over the sequences of one microbatch, but three of these are "
                    "added up.",
                ),
                Belief(
                    lambda: float(_SIZE[0] ** 2),
                    "This is B². Among the windows that you have tried there is one with B = G, "
                    "and it fits many expressions: look at the others.",
                ),
                Belief(
                    lambda: float(sum(_SIZE)),
                    "This is B + G. It fits where B = G = 2, like many other expressions: look at "
                    "the other windows.",
                ),
                Belief(
                    lambda: float(_run(make_window(*_SIZE), STEP).num_tokens),
                    "This is the number of response tokens of the window. It gives the mean over "
                    "tokens, and here the mean over sequences is asked for.",
                ),
            ),
        ),
    ),
    why=(
        "There are B·G sequences in the window, and a mean over them divides their sum by B·G. "
        "Each microbatch's sum is divided by it, because a sum can be divided term by term."
    ),
    after=lambda width: _compared(_all(make_window(*_SIZE), SCALINGS[:4])),
    minutes=3.0,
)

# The step's own divisor

_SIZES = ((2, 2), (1, 4), (4, 2), (4, 4), (3, 2))


def _condition() -> int:
    """Which condition on B and G says exactly where ÷ G² gives the full batch's gradient."""
    is_exact = [_is_exact(_run(make_window(B, G), STEP)) for B, G in _SIZES]
    conditions = (
        [True for _ in _SIZES],
        [G > B for B, G in _SIZES],
        [B == G for B, G in _SIZES],
        [False for _ in _SIZES],
    )
    return conditions.index(is_exact)


THE_STEPS_DIVISOR = Question(
    name="the step's divisor",
    text=(
        "sft_microbatch_train_step divides by G². In which windows does that give the gradient of "
        "the mean over the sequences?"
    ),
    asks=(
        Choice(
            "where ÷ G² is right",
            (
                Option(
                    "In all: the function was made for accumulation.",
                    "It can be used for accumulation, with any divisor. What is added up is a mean "
                    "only if the divisor is the number of what is added.",
                ),
                Option(
                    "Where the window is long: G > B.",
                    "There the divisor is too large and the gradient too short: it is B/G of what "
                    "it should be.",
                ),
                Option(
                    "Where B = G.",
                    "B·G sequences are added up, and G² is this number only if B is equal to G.",
                ),
                Option(
                    "In none: one division too many.",
                    "Try the cell above with G * G: in one of its windows the ratio is 1.",
                ),
            ),
            _condition,
        ),
    ),
    why=(
        "The gradient under ÷ G² is B/G times that of the mean over sequences. The worked example "
        "has B = G = 2, and that is where the two can't be told apart."
    ),
    after=lambda width: _ratio_table((STEP, SEQUENCE_MEAN), _SIZES),
)

# Which lines are flat

_ORDERED = ((2, 8), (2, 4), (2, 2), (4, 2), (8, 2))
_FOUR_RULES = SCALINGS[1:]


def _flat() -> int:
    """0: no rule is flat at 1; 1: only ÷ tokens; 2: ÷ B·G and ÷ tokens; 3: ÷ G and others."""
    flat = {
        name
        for name, ratios in _ratios(_FOUR_RULES, _ORDERED).items()
        if max(ratios) - min(ratios) < _EXACT
    }
    return [set(), {"tokens"}, {"B·G", "tokens"}, {"G", "B·G"}].index(flat)


FLAT = Question(
    name="a flat line",
    text=(
        "The rules are ÷ G, ÷ G², ÷ B·G and ÷ N, the response tokens of the window; the windows go "
        "from B = 2, G = 8 to B = 8, G = 2. The first three are compared with the mean over "
        "sequences, ÷ N with the mean over tokens. Which of them have the same ratio in every "
        "window?"
    ),
    asks=(
        Choice(
            "flat",
            (
                Option(
                    "None: with another window everything changes.",
                    "The full batch's gradient changes with the window too. If one divides by the "
                    "number of what is added up, the two change together.",
                ),
                Option(
                    "Only ÷ N, because the rows have different lengths.",
                    "Rows of different lengths matter to a mean over tokens. A mean over sequences "
                    "takes the sum of each row, long or short, and counts the rows.",
                ),
                Option(
                    "÷ B·G and ÷ N.",
                    "Each divides by the number of what its mean is over.",
                ),
                Option(
                    "÷ G and ÷ B·G, which have no square.",
                    "÷ G is B times too long, and B is 2, 4 or 8 here.",
                ),
            ),
            _flat,
        ),
    ),
    why=(
        "÷ B·G and ÷ N have the length 1 in every window. ÷ G is B times as long, and ÷ G² is B/G "
        "times as long, which is 1 in one of the five."
    ),
    after=lambda width: _ratio_table(_FOUR_RULES, _ORDERED),
)

# The mean over tokens

_CANDIDATES = (
    replace(AVERAGED_AVERAGES, name="n·G"),  # n: the tokens of the microbatch
    replace(SEQUENCE_MEAN, per="token"),
    replace(TOKEN_MEAN, name="N"),
)


def _exact_per_token() -> int:
    return [_is_exact(_run(WINDOW, rule)) for rule in _CANDIDATES].index(True)


PER_TOKEN = Question(
    name="the mean over tokens",
    text=(
        "Now the mean over all response tokens is wanted instead of the mean over sequences. The "
        "window has G = 2 microbatches of 4 rows; the first has 10 response tokens, the second 22. "
        "By what is the sum of each microbatch divided?"
    ),
    asks=(
        Choice(
            "the divisors",
            (
                Option(
                    "The first by 10 · 2, the second by 22 · 2: its own tokens, and G.",
                    "This averages the means of the microbatches, as several trainers did. The "
                    "cosine below says that it is another gradient; a later question asks why.",
                ),
                Option(
                    "Both by 8: the number of rows.",
                    "That is the mean over sequences: a sum per row, long or short.",
                ),
                Option(
                    "Both by 32: the tokens of the whole window.",
                    "Every token counts 1/32, in whichever microbatch it is.",
                ),
            ),
            _exact_per_token,
        ),
    ),
    why=(
        "A mean over N tokens divides each of them by N, so N has to be that of the whole window: "
        "the microbatches are added up only afterwards."
    ),
    after=lambda width: _compared(_all(WINDOW, _CANDIDATES)),
)

# Survivors of a test

_EXPRESSIONS = {
    "B·G": lambda n: n.B * n.G,
    "B²": lambda n: n.B**2,
    "2·G": lambda n: 2 * n.G,
    "B + G": lambda n: n.B + n.G,
    "G^G": lambda n: n.G**n.G,
    "2^G": lambda n: 2**n.G,
}
_DIVISORS = tuple(Scaling(name, "", divisor) for name, divisor in _EXPRESSIONS.items())


def _survivors(B: int, G: int) -> set[str]:
    """The divisors that give the step's gradient in a window."""
    window = make_window(B, G)
    wanted = _run(window, STEP).grad["table"]
    return {
        rule.name
        for rule in _DIVISORS
        if torch.allclose(_run(window, rule).grad["table"], wanted, rtol=_EXACT, atol=1e-9)
    }


def _survivor_sets() -> int:
    return [set(), {"2^G"}, {"B·G", "2·G"}, {"B·G"}].index(_survivors(3, 4))


SURVIVORS = Question(
    name="a better test",
    text=(
        "A test with B = G = 2 compares a function with the right step. It lets six wrong divisors "
        "pass: B·G, B², 2·G, B + G, G^G and 2^G are all 4 there, like G². Now the test has B = 3 "
        "and G = 4. Which of the six still pass?"
    ),
    asks=(
        Choice(
            "still pass",
            (
                Option(
                    "none of them",
                    "B ≠ G is enough for most of them, but G = 4 has a coincidence of its own: "
                    "write down the six numbers.",
                ),
                Option(
                    "2^G",
                    "2⁴ and 4² are both 16. A test with G = 3 tells them apart.",
                ),
                Option(
                    "B·G and 2·G",
                    "B·G is 12 and 2·G is 8, and G² is 16: the test sees both.",
                ),
                Option(
                    "B·G: it is the right divisor.",
                    "It gives a mean over sequences, but the step is specified to divide by G², "
                    "and 12 is not 16.",
                ),
            ),
            _survivor_sets,
        ),
    ),
    why=(
        "A number that two formulas share can't tell them apart. With B = 5 and G = 3 none of the "
        "six is G², so the tests of this package use these sizes too."
    ),
    after=lambda width: _compared(_all(make_window(3, 4), (STEP, *_DIVISORS))),
)

# Whose token weighs more

_MASKS = tuple(batch.response_mask for batch in WINDOW)


def _heavier() -> int:
    """0: no token weighs more; 1: one of microbatch 1 does; 2: one of microbatch 2."""
    first, second = (
        shares[0].item() for shares in gradient_shares(_MASKS, AVERAGED_AVERAGES).per_token
    )
    return 0 if abs(first / second - 1) < _EXACT else 1 if first > second else 2


WHOSE_TOKEN = Question(
    name="whose token",
    text=(
        "A trainer takes the mean over the tokens of each microbatch, and averages these means "
        "over the window. Microbatch 1 has 10 response tokens, microbatch 2 has 22. A token of "
        "which of them has more weight in the gradient, and can another learning rate repair that?"
    ),
    asks=(
        Choice(
            "more weight",
            (
                Option(
                    "Neither: a mean is a mean.",
                    "Each of the two means has the same weight in the average, whether it is over "
                    "10 tokens or over 22. So the tokens have not.",
                ),
                Option(
                    "A token of microbatch 1, the short one.",
                    "It shares one half of the weight with 9 others, not with 21.",
                ),
                Option(
                    "A token of microbatch 2: more tokens have more weight.",
                    "In a sum, the long microbatch as a whole has more weight. Here both have the "
                    "same, so each of its 22 tokens has less.",
                ),
            ),
            _heavier,
        ),
        Choice(
            "another learning rate",
            (
                Option(
                    "repairs it",
                    "A learning rate makes the whole step longer or shorter. Here some tokens pull "
                    "too much and others too little, so the direction is another one.",
                ),
                Option(
                    "can't repair it",
                    "It changes the length of the step, and here the direction is wrong.",
                ),
            ),
            lambda: 0 if abs(_run(WINDOW, AVERAGED_AVERAGES).cosine - 1) < _EXACT else 1,
        ),
    ),
    why=(
        "Each microbatch gets one half of the gradient, so a token of the short one has 22/10 of "
        "the weight. The sum over tokens, divided by all of them, treats them alike."
    ),
    after=lambda width: shares_table(_MASKS, (TOKEN_MEAN, AVERAGED_AVERAGES), width),
)

# Where the mean of means is right

_CASES = (
    make_window(B=2, G=16),  # long
    make_window(B=2, G=4, unevenness=0.0),  # even
    make_window(B=1, G=4),  # single rows
)


def _exact_where() -> int:
    """0: in none of the cases; 1: in the long one; 2: in the even one; 3: with single rows."""
    is_exact = [_is_exact(_run(window, AVERAGED_AVERAGES)) for window in _CASES]
    return [[], [0], [1], [2]].index([case for case in range(3) if is_exact[case]])


def _by_unevenness() -> dict[str, dict[str, float]]:
    """How far the mean of means is from the mean over tokens."""
    windows = {
        "all rows alike": make_window(B=1, G=16, unevenness=0.0),
        "a little uneven": make_window(B=1, G=16, unevenness=0.5),
        "uneven": make_window(B=1, G=16),
    }
    traces = {name: _run(window, AVERAGED_AVERAGES) for name, window in windows.items()}
    return {
        name: {"difference": round(trace.distance, 6), "cosine": trace.cosine}
        for name, trace in traces.items()
    }


MEAN_OF_MEANS = Question(
    name="mean of means",
    text=(
        "Sometimes the mean of the microbatches' means is the mean over all tokens after all. "
        "When is it?"
    ),
    asks=(
        Choice(
            "exact",
            (
                Option(
                    "Never.",
                    "Think of a window in which every row has the same length: there all tokens "
                    "are divided by the same number.",
                ),
                Option(
                    "In a long window: the differences average out.",
                    "A longer window has more short rows and more long ones, and in each of them "
                    "the tokens keep their wrong weight.",
                ),
                Option(
                    "If all microbatches have the same number of response tokens.",
                    "Then all tokens are divided by the same number.",
                ),
                Option(
                    "If each microbatch is one row (B = 1).",
                    "Rows differ in length too: with B = 1 a token of the shortest row has the "
                    "most weight.",
                ),
            ),
            _exact_where,
        ),
    ),
    why=(
        "The more the microbatches differ in length, the larger is the error; a test with rows of "
        "the same length never sees it. The difference is relative to the right gradient."
    ),
    after=lambda width: value_table(_by_unevenness(), "mean of means, G = 16 rows"),
)

# The last window

_SHORT = make_window(B=4, G=3)[:2]


def _short(rule: Scaling) -> float:
    return _run(_SHORT, rule, G=3).ratio


THE_LAST_WINDOW = Question(
    name="the last window",
    text=(
        "At the end of the data a window has only 2 microbatches, and the code still divides by "
        "B·G with the usual G = 3. How long is its gradient, relative to that of the mean over the "
        "sequences that are there?"
    ),
    asks=(
        Number(
            "the ratio",
            lambda: _short(SEQUENCE_MEAN),
            (
                Belief(
                    lambda: _run(_SHORT, SEQUENCE_MEAN).ratio,
                    "That would be so if G were counted: 2 in this window. A G that is a constant "
                    "of the program does not know what is missing.",
                ),
                Belief(
                    lambda: 1 / _short(SEQUENCE_MEAN),
                    "This is the other way round: the divisor is too large, so the gradient is too "
                    "short.",
                ),
                Belief(
                    lambda: 1 - _short(SEQUENCE_MEAN),
                    "This is the part that is missing.",
                ),
            ),
        ),
    ),
    why=(
        "8 sequences are added up and divided by 12. ÷ tokens counts what is there, so it is exact "
        "in the last window too."
    ),
    after=lambda width: value_table(
        {f"÷ {rule.name}": {"ratio": _short(rule)} for rule in (SEQUENCE_MEAN, TOKEN_MEAN)},
        "2 of 3 microbatches, each rule compared with its own mean",
        "loss",
    ),
)

SCALING_QUESTIONS = (
    THE_DIVISOR,
    THE_STEPS_DIVISOR,
    PER_TOKEN,
    FLAT,
    SURVIVORS,
    WHOSE_TOKEN,
    MEAN_OF_MEANS,
    THE_LAST_WINDOW,
)
