"""Questions about several ranks, made from what `run_ranks` has measured."""

from collections.abc import Mapping

import torch

from sftviz.drawing.drawing import Drawing
from sftviz.experiments.ranks import RankedRule, RankReport
from sftviz.predictions.course.pictures import value_table
from sftviz.predictions.question import Belief, Choice, Number, Option, Question
from sftviz.shares import gradient_shares
from sftviz.views.parts import TONES

_EXACT = 1e-6  # a smaller difference is rounding


def device_questions(report: RankReport) -> Mapping[str, Question]:
    """The questions of the notebook by their names.

    Args:
        report: from `run_ranks`; each truth is read from it.

    Example:
        >>> from sftviz.experiments.ranks import RankedRule
        >>> rule = RankedRule("tokens", per="token", ratio=0.5, cosine=1.0, distance=0.5)
        >>> report = RankReport(2, 3, 4, (130, 184), (rule,), 1, 4, 0.0)
        >>> list(device_questions(report))
        ['all-reduces', 'ranks and ÷G²', 'ranks and tokens', 'own tokens']
    """
    makers = (_all_reduces, _step_rule, _token_rule, _own_tokens)
    questions = [make(report) for make in makers]
    return {question.name: question for question in questions}


def _all_reduces(report: RankReport) -> Question:
    G, W = report.gradient_accumulation_steps, report.ranks
    return Question(
        name="all-reduces",
        text=f"{W} ranks, G = {G}, and each microbatch but the last is inside no_sync(). How many "
        "all-reduces are there in one window? And how many if no_sync() is forgotten?",
        asks=(
            Number(
                "with no_sync()",
                lambda: report.all_reduces,
                (
                    Belief(
                        lambda: report.all_reduces_without_no_sync,
                        "This is one for each microbatch. Inside no_sync() a rank only adds to its "
                        "own .grad, and nothing is communicated.",
                    ),
                    Belief(
                        lambda: 0,
                        "Then the ranks would never exchange a gradient, and their models would "
                        "drift apart. The last microbatch is outside no_sync().",
                    ),
                    Belief(
                        lambda: W,
                        "An all-reduce is one operation in which all ranks take part, not one for "
                        "each rank.",
                    ),
                ),
            ),
            Number(
                "without no_sync()",
                lambda: report.all_reduces_without_no_sync,
                (
                    Belief(
                        lambda: report.all_reduces,
                        "DDP does not know where a window ends: it averages in every backward(), "
                        "unless no_sync() forbids it.",
                    ),
                    Belief(
                        lambda: report.all_reduces_without_no_sync * W,
                        "An all-reduce is one operation in which all ranks take part. So it is one "
                        "for each microbatch, not for each microbatch and rank.",
                    ),
                ),
            ),
        ),
        why="DDP communicates in every backward() that is outside no_sync(), once if the model is "
        "small. Forgetting no_sync() costs time only: the gradient is the same, up to rounding.",
        after=lambda width: value_table(
            {
                "with no_sync()": {"all-reduces": report.all_reduces},
                "without": {"all-reduces": report.all_reduces_without_no_sync},
            },
            "counted in one window",
        ),
    )


def _step_rule(report: RankReport) -> Question:
    W, B, G = report.ranks, report.microbatch_size, report.gradient_accumulation_steps
    return Question(
        name="ranks and ÷G²",
        text=f"On one device, ÷ G² has the ratio B/G to the mean over sequences. Here B = {B} and "
        f"G = {G}, and the gradients of {W} ranks are averaged. What is the ratio to the mean over "
        f"all {W * B * G} sequences?",
        asks=(
            Number(
                "ratio",
                lambda: _rule(report, "G²").ratio,
                (
                    Belief(
                        lambda: B / G / W,
                        "This is divided by W once more. The mean over all sequences has W times "
                        "as many sequences, so the division by W belongs to it.",
                    ),
                    Belief(
                        lambda: B / G * W,
                        "This would be so if DDP added the gradients of the ranks. It averages "
                        "them.",
                    ),
                    Belief(lambda: 1, "÷ G² is the mean only where B = G, as found in 03."),
                ),
            ),
        ),
        why="Averaging ranks with equally many sequences is what a mean over all of them needs. So "
        "ratios to the mean over sequences are those of one device.",
        after=lambda width: _table(report, "G²", "B·G"),
    )


def _token_rule(report: RankReport) -> Question:
    W = report.ranks
    return Question(
        name="ranks and tokens",
        text="÷ tokens divides each sum by N, the response tokens of the whole window, on all "
        "ranks. What is its ratio to the mean over all tokens?",
        asks=(
            Number(
                "ratio",
                lambda: _rule(report, "tokens").ratio,
                (
                    Belief(
                        lambda: 1,
                        "It would be 1 if DDP added the gradients of the ranks. It averages them: "
                        "one division too many.",
                    ),
                    Belief(
                        lambda: W,
                        "Averaging makes the gradient shorter, not longer: multiply the loss by W "
                        "to correct it.",
                    ),
                ),
            ),
        ),
        why="The sum over all tokens ÷ N is the mean already, and DDP divides by W after that. "
        "÷ tokens/W corrects it: the loss is multiplied by W.",
        after=lambda width: _table(report, "tokens", "tokens/W"),
    )


def _own_tokens(report: RankReport) -> Question:
    few, many = min(report.tokens), max(report.tokens)
    return Question(
        name="own tokens",
        text=f"Now each rank divides by its own response tokens, {report.tokens[0]} on the first "
        f"and {report.tokens[-1]} on the last, and nobody has to add up counts. On one device that "
        "is the mean over tokens. What is it here?",
        asks=(
            Choice(
                "the gradient is",
                (
                    Option(
                        "the mean over tokens as well: DDP averages what are means already",
                        "This is the mean of means of 03, with ranks instead of microbatches. It "
                        "is the mean only if all are over equally many tokens.",
                    ),
                    Option(
                        f"1/{report.ranks} of that mean, which another learning rate corrects",
                        "An average of means keeps their length. What it changes is how much a "
                        "token weighs, and with it the direction.",
                    ),
                    Option(
                        f"another one: tokens on the rank with {few} weigh more",
                        "Every rank has the same part of the average, and here fewer tokens share "
                        "it.",
                    ),
                    Option(
                        f"another one: tokens on the rank with {many} weigh more",
                        "This rank has the larger sum, but it is divided by more tokens as well, "
                        "and every rank has the same part of the average.",
                    ),
                ),
                lambda: _averaged_means(report),
            ),
        ),
        why="The cosine is below 1, so the direction is wrong, and no learning rate corrects that. "
        "transformers #34242 and #34373 report this mistake.",
        after=lambda width: _table(report, "own tokens", "tokens/W"),
    )


def _rule(report: RankReport, name: str) -> RankedRule:
    return next(rule for rule in report.rules if rule.rule == name)


def _averaged_means(report: RankReport) -> int:
    """The place of the option that the measured gradient fits."""
    rule = _rule(report, "own tokens")
    if rule.distance < _EXACT:
        return 0
    if rule.cosine > 1 - _EXACT:
        return 1
    # An average over ranks has the shares of one over microbatches of their size.
    shares = gradient_shares([torch.ones(1, n) for n in report.tokens], "averaged averages")
    by_tokens = dict(zip(report.tokens, shares.per_token, strict=True))
    return 2 if by_tokens[min(report.tokens)] > by_tokens[max(report.tokens)] else 3


def _table(report: RankReport, *names: str) -> Drawing:
    rules = [_rule(report, name) for name in names]
    return value_table(
        {f"÷ {rule.rule}": {"ratio": rule.ratio, "cosine": rule.cosine} for rule in rules},
        f"compared with the mean per {rules[0].per}",
        TONES["ratio"],
    )
