"""The questions of notebooks 04 to 07: their truths, compared with computations of another kind."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.dates import VOCABULARY, conversation, date_pairs
from sftviz.experiments.optimizers import RECIPES, Divergence
from sftviz.experiments.ranks import RankedRule, RankReport
from sftviz.experiments.training import Window, visiting_order
from sftviz.experiments.transformer import TinyTransformer
from sftviz.inspection.examples import PUZZLES, TOKENS
from sftviz.mistakes import ACCUMULATION
from sftviz.predictions.course import QUESTIONS, accumulation, batches, losses, training
from sftviz.predictions.course.devices import device_questions
from sftviz.predictions.course.training import (
    empty_prompt_question,
    mask_question,
    optimizer_question,
)
from sftviz.predictions.question import Choice, Number, Question
from sftviz.predictions.reply import reply
from sftviz.tokens import build_token_batch, mask_labels


def history(*nll: float) -> list[Window]:
    return [Window(25 * i, 1.0, loss, 1, 1.0) for i, loss in enumerate(nll, start=1)]


def divergence(optimizer: str, factor: float, difference: float) -> Divergence:
    return Divergence(optimizer, 2, factor, difference, 1.0, 1.0, 0.0, 0.0)


REPORT = RankReport(  # as measured by run_ranks(2); tests/test_ranks.py runs it
    ranks=2,
    microbatch_size=3,
    gradient_accumulation_steps=4,
    tokens=(130, 184),
    rules=(
        RankedRule("G²", "sequence", 0.75, 1.0, 0.25),
        RankedRule("B·G", "sequence", 1.0, 1.0, 0.0),
        RankedRule("own tokens", "token", 1.021, 0.996, 0.0945),
        RankedRule("tokens", "token", 0.5, 1.0, 0.5),
        RankedRule("tokens/W", "token", 1.0, 1.0, 0.0),
    ),
    all_reduces=1,
    all_reduces_without_no_sync=4,
    rank_difference=0.0,
)
RECORDS = [
    *(divergence(name, 1.0, 0.0) for name in RECIPES),
    *(divergence(name, 0.125, 0.0002 if name == "AdamW" else 0.3) for name in RECIPES),
]
MEASURED = (
    *device_questions(REPORT).values(),
    mask_question(history(1.7, 0.03), history(1.8, 0.4), (0.96, 0.27)),
    empty_prompt_question("", "22 June 2002→2002-07-21"),
    optimizer_question(RECORDS),
)
STORED = (
    *accumulation.ACCUMULATION_QUESTIONS,
    *training.TRAINING_QUESTIONS,
    *batches.BATCH_QUESTIONS,
    *losses.LOSS_QUESTIONS,
)
ALL = (*STORED, *MEASURED)


def truths(question: Question) -> list[float]:
    return [ask.value() for ask in question.asks]


def chosen(question: Question) -> list[str]:
    """The texts of the right options."""
    return [ask.options[ask.value()].text for ask in question.asks]


def sentences(text: str) -> list[str]:
    return re.findall(r"[^.?!]+(?:[.?!](?=\w)[^.?!]*)*[.?!]", text.replace(" .grad", " grad"))


by_question = pytest.mark.parametrize("question", ALL, ids=lambda question: question.name)


def test_there_are_enough_and_none_is_asked_twice():
    assert len(ALL) == len({question.name for question in ALL}) >= 17
    assert all(QUESTIONS[question.name] is question for question in STORED)
    for text in ("name", "text", "why"):
        assert len({getattr(question, text) for question in ALL}) == len(ALL)


@by_question
def test_a_question_asks_and_its_answer_is_short(question):
    assert question.text.endswith("?") and "`" not in question.text + question.why
    assert 1 <= len(sentences(question.why)) <= 2
    assert len(sentences(question.text)) <= 4


@by_question
def test_the_right_answer_is_right_and_each_wrong_one_is_met(question):
    for ask in question.asks:
        truth = ask.value()
        match ask:
            case Number():
                assert reply(ask, str(truth)).is_right
                for belief in ask.beliefs:
                    met = reply(ask, f"{belief.value():.4g}")
                    assert not met.is_right and belief.because in met.message
            case Choice():
                assert len({option.text for option in ask.options}) == len(ask.options)
                for place, option in enumerate(ask.options):
                    met = reply(ask, place)
                    assert met.is_right == (place == truth)
                    assert met.is_right or len(met.message) > 20, option.text


@by_question
@pytest.mark.parametrize("width", [48, 96])
def test_its_pictures_fit_the_page(question, width):
    for draw in filter(None, (question.before, question.after)):
        drawing = draw(width)
        assert drawing.page.width <= width and drawing.alt


# 04


def test_what_the_second_backward_leaves_is_the_sum_of_both():
    model = BigramModel(4, dtype=torch.float64)
    for batch in make_window(B=2, G=4, vocab_size=4)[:2]:
        labels = mask_labels(batch.labels, batch.response_mask)
        (cross_entropy(model(batch.input_ids).mT, labels, reduction="sum") / 16).backward()
    assert truths(accumulation.ACCUMULATION_QUESTIONS[0]) == [
        pytest.approx(model.table.grad[1, 0].item())
    ]


def test_the_rows_that_change_are_those_that_the_question_names():
    _, rows, *_ = accumulation.ACCUMULATION_QUESTIONS
    (batch, *_) = make_window(B=2, G=4, vocab_size=4)
    table = torch.zeros(4, 4, requires_grad=True)
    log_probs = table[batch.input_ids].log_softmax(-1).gather(-1, batch.labels[..., None])
    log_probs[..., 0][batch.response_mask].sum().backward()
    changed = table.grad.any(1).nonzero().flatten().tolist()
    assert changed == [1, 2] and "rows of tokens 1 and 2" in rows.text
    assert chosen(rows) == ["the rows of the tokens just before a response token"]


def test_what_is_in_grad_at_the_end_of_a_window():
    assert chosen(accumulation.ACCUMULATION_QUESTIONS[2]) == ["the same gradient as before", "None"]


def test_two_mistakes_together_look_right():
    assert truths(QUESTIONS["no zero_grad()"]) == [pytest.approx(2 * 2 / 4)]  # two windows of B/G


def test_zero_grad_in_the_loop_leaves_the_last_microbatch():
    (mistake,) = (m for m in ACCUMULATION if m.name == "zero_grad after each microbatch")
    question = QUESTIONS["zero_grad() in the loop"]
    assert chosen(question) == ["the gradient of the last microbatch"]
    window = make_window(B=2, G=4, vocab_size=4)
    (found,) = mistake.run(BigramModel(4, dtype=torch.float64), window, 4)  # ÷ tokens
    tokens = sum(batch.num_tokens for batch in window)
    assert torch.allclose(found["table"] * tokens, accumulation._cleared()["table"] * 2 * 4)


# 05


def test_random_weights_are_a_little_worse_than_equal_probabilities():
    before, two_logs, _ = training.TRAINING_QUESTIONS
    rows = visiting_order(2610, number=1, window_size=64, seed=0)[:16].tolist()
    batch = build_token_batch([conversation(date_pairs()[0][row]) for row in rows], pad_id=0)
    torch.manual_seed(0)
    labels = mask_labels(batch.labels, batch.response_mask)
    loss = cross_entropy(TinyTransformer()(batch.input_ids).mT, labels).item()
    assert 3.8 < loss < 4.5
    assert chosen(before) == ["a little above 3.8"] and chosen(two_logs) == ["both have the same"]
    assert f"{loss:.4g}" in before.after(96).text and f"{loss:.4g}" in two_logs.after(96).text
    assert f"ln {len(VOCABULARY)} = {math.log(len(VOCABULARY)):.1f}" in before.text


def test_a_question_leaves_the_random_numbers_of_a_notebook_as_they_are():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    truths(training.TRAINING_QUESTIONS[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_prompts_known_by_heart_still_cost_the_choice_among_them():
    question = training.TRAINING_QUESTIONS[2]
    rows = len(date_pairs()[0])
    assert f"{rows:,}" in question.text and f"ln {rows:,} = {math.log(rows):.1f}" in question.why
    assert f"{math.log(3 * 73_049):.1f} nats" in question.why
    assert f"{64 * math.log(rows) / 16:.2f}" in question.after(96).text
    untaught = 64 * math.log(44) * (64_075 - 28_710) / rows / 16  # prompt tokens, as 05 counts them
    assert f"{untaught:.4g}" in question.after(96).text
    assert chosen(question) == ["above 0: the prompt can't be known in advance"]


@pytest.mark.parametrize(("right", "place"), [((0.9, 0.2), 0), ((0.2, 0.9), 1), ((0.5, 0.52), 2)])
def test_which_training_teaches_more_is_read_from_what_was_measured(right, place):
    question = mask_question(history(1.7, 0.035), history(1.8, 0.372), right)
    assert truths(question) == [place]
    drawn = question.after(96).text
    assert "0.035" in drawn and "0.372" in drawn and f"{right[1]:.0%}"[:-1] in drawn


@pytest.mark.parametrize(("text", "place"), [("5 May→1905", 0), ("1905", 1), ("", 2)])
def test_what_is_written_without_a_prompt_is_what_was_written(text, place):
    question = empty_prompt_question("9", text)
    assert truths(question) == [place] and (text or "(nothing)") in question.after(96).text


def test_an_optimizer_reacts_if_the_weights_differ():
    question = optimizer_question(RECORDS)
    assert [ask.label for ask in question.asks] == list(RECIPES)
    assert truths(question) == [0, 1, 1, 1, 1]
    assert "0.02 %" in question.after(96).text


# 06


def test_what_ranks_do_is_read_from_the_report():
    found = [truths(question) for question in device_questions(REPORT).values()]
    assert found == [[1, 4], [0.75], [0.5], [2]]
    turned = replace(REPORT, tokens=(184, 130), all_reduces=2)
    (with_no_sync, _), *_, (own,) = map(truths, device_questions(turned).values())
    assert (with_no_sync, own) == (2, 2)  # still the rank with fewer


@pytest.mark.parametrize(("cosine", "distance", "place"), [(1.0, 0.0, 0), (1.0, 0.5, 1)])
def test_what_own_tokens_do_is_read_from_what_was_measured(cosine, distance, place):
    rule = RankedRule("own tokens", "token", 1.0, cosine, distance)
    others = [each for each in REPORT.rules if each.rule != rule.rule]
    question = device_questions(replace(REPORT, rules=(rule, *others)))["own tokens"]
    assert truths(question) == [place]


# 07


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("A", "responses end, but their end token is masked"),
        ("B", "padding counts"),
        ("C", "labels are shifted already"),
        ("D", "padding is seen by the tokens after it"),
        ("E", "a conversation is predicted from another one"),
    ],
)
def test_what_is_wrong_with_a_batch_is_what_the_inspection_finds(letter, text):
    question = QUESTIONS[f"batch {letter}"]
    assert chosen(question) == [text]
    assert not question.asks[0].options[question.asks[0].value()].reply


def test_what_is_said_of_the_batches_is_so():
    """The replies to wrong options, read from the numbers."""
    for letter, batch in PUZZLES.items():
        ids, labels = batch["input_ids"], batch["labels"]
        counts = labels != -100
        if letter != "A":
            assert (labels == TOKENS.index("<end>")).any(1).all()
        if letter != "B":
            assert not counts[ids == 0].any()
        if letter != "C":
            assert (ids[counts] == labels[counts]).all()
        if letter != "D":
            assert not (ids[:, 0] == 0).any()
        if "attention_mask" in batch:
            assert (batch["attention_mask"] == (ids != 0)).all()
        assert (len(ids) == 3) == (letter != "E")
    (read, labels) = (PUZZLES["E"][name][0] for name in ("input_ids", "labels"))
    assert (labels[1:] == TOKENS.index("<user>")).sum() == 2  # of the next conversations
    answers = (read == TOKENS.index("<model>")).nonzero().flatten() + 1
    assert (labels[answers] == -100).all()


def test_a_good_model_is_worse_than_guessing_where_labels_are_shifted_twice():
    question = QUESTIONS["a good model on batch C"]
    assert chosen(question) == ["clearly above 3.1"]
    assert f"V = {len(TOKENS)} tokens, and ln 22 = {math.log(len(TOKENS)):.1f}" in question.text
    # What never followed in n rows has a probability of 0.01 / (n + 0.22).
    assert math.log(22) < batches._loss("C") < math.log((3 + 0.22) / 0.01)
    assert batches._loss() < 1


def test_a_token_of_3_weighs_as_much_as_8_of_24():
    assert truths(QUESTIONS["a token's weight"]) == [pytest.approx((1 / 3) / (1 / 24))]


# 09


def test_the_truths_about_other_losses_are_worked_out_by_hand():
    assert chosen(losses.A_RARE_TOKEN) == ["It becomes smaller: the token counts less."]
    assert truths(losses.A_SHORT_RESPONSE) == [pytest.approx((1 / 1) / (1 / 2))]
    assert chosen(losses.THE_STRONGEST_PUSH) == ["0.5"]  # of p·(1 − p)
    assert truths(losses.WHERE_SMOOTHING_ENDS) == [pytest.approx(0.9 + 0.1 / 5, abs=1e-5)]
