"""The questions of the first four notebooks: what is true is computed, and each error is met.

The truths are compared with what is worked out here by hand or by plain torch.
"""

import math
import re
from pathlib import Path

import pytest
import torch
from nbformat import v4

from sftviz.drawing.formatting import number
from sftviz.examples import WORKED_EXAMPLE
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.predictions.course import masks, scaling, step
from sftviz.predictions.question import Bits, Choice, Number
from sftviz.views.parts import NARROWEST, WIDTH

QUESTIONS = [*step.STEP_QUESTIONS, *masks.MASK_QUESTIONS, *scaling.SCALING_QUESTIONS]
ASKS = [(question, ask) for question in QUESTIONS for ask in question.asks]
BY_NAME = {question.name: question for question in QUESTIONS}

# Worked out without the package: of each ask the number, the place of the option, or the bits.
BY_HAND = {
    "one more token": [0],  # (0.5 + 0.3 + 0.8 + 0.2 + 1.8)/4 = 0.9 is more than 0.7
    "one worse token": [2],
    "another G": [-1 / 16],
    "NaN under the mask": [1, 0],
    "without the minus": [1],
    "a fourth row": [0],
    "almost certain": [2],
    "a second call": [-2 / 16],
    "computed by a model": [2],
    "one bit a row": [2],
    "the mask": [[[0, 0, 1, 1, 0, 0]]],
    "the mask of the inputs": [2, 0],
    "padding with the end token": [2],
    "knows nothing": [-math.log(7)],
    "no shift": [2],
    "rows of the table": [[[0, 0, 0, 1, 1, 1, 1]]],
    "without an error": [2],
    "the divisor": [5 * 3],
    "the step's divisor": [2],
    "the mean over tokens": [2],
    "a flat line": [2],
    "a better test": [1],  # 12, 9, 8, 7, 256 and 16: only 2^G is 4²
    "whose token": [1, 1],
    "mean of means": [2],
    "the last window": [8 / 12],
}


def test_the_names_are_unique_and_every_truth_is_known_by_hand():
    assert len(BY_NAME) == len(QUESTIONS) == 25
    assert {name: len(answers) for name, answers in BY_HAND.items()} == {
        question.name: len(question.asks) for question in QUESTIONS
    }


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_computed_is_what_is_worked_out_by_hand(name):
    for ask, answer in zip(BY_NAME[name].asks, BY_HAND[name], strict=True):
        match ask:
            case Number():
                assert ask.value() == pytest.approx(answer, rel=1e-5)
            case Choice():
                assert ask.value() == answer
            case Bits():
                assert (ask.value() != 0).int().tolist() == answer


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_question_asks_is_short_and_is_explained_by_a_picture(question):
    assert question.text.endswith("?") and question.text.count("?") <= 4
    assert question.why.endswith(".")
    sentences = question.why.replace("·", "").count(". ") + 1
    assert sentences <= 2, question.why
    assert len(question.name) <= 30
    for width in (NARROWEST, WIDTH):
        for draw in filter(None, (question.before, question.after)):
            drawing = draw(width)
            assert drawing.page.width <= width and drawing.alt


@pytest.mark.parametrize(("question", "ask"), ASKS, ids=lambda value: getattr(value, "label", ""))
def test_what_people_believe_is_computed_differs_from_the_truth_and_is_met(question, ask):
    match ask:
        case Number(beliefs=beliefs):
            truth, believed = ask.value(), [belief.value() for belief in beliefs]
            assert math.isfinite(truth)
            assert all(map(math.isfinite, believed)) and len(believed) >= 2
            values = [f"{value:.3g}" for value in (truth, *believed)]  # as a person would type it
            assert len(set(values)) == len(values)
            assert all(belief.because.endswith(".") for belief in beliefs)
            assert number(truth) not in question.text
        case Choice(options=options):
            assert 0 <= ask.value() < len(options)
            assert len({option.text for option in options}) == len(options) >= 2
            assert all(option.reply.endswith(".") for option in options)
        case Bits(tokens=tokens, beliefs=beliefs):
            masks_ = [ask.value(), *(mask() for mask, _ in beliefs)]
            shape = (len(tokens), len(tokens[0]))
            assert all(tuple(mask.shape) == shape for mask in masks_)
            rows = [str((mask != 0).tolist()) for mask in masks_]
            assert len(set(rows)) == len(rows) >= 3
            assert all(because.endswith(".") for _, because in beliefs)


def test_the_right_option_is_not_always_at_the_same_place():
    places = [ask.value() for _, ask in ASKS if isinstance(ask, Choice)]
    assert len(set(places)) >= 3 and max(map(places.count, places)) < 0.6 * len(places)


# Some truths once more, by plain torch.


def test_the_gradient_at_g_4_is_a_finite_difference():
    high, low = WORKED_EXAMPLE.policy_log_probs.double(), WORKED_EXAMPLE.policy_log_probs.double()
    high[0, 0] += 0.5
    low[0, 0] -= 0.5
    is_response = WORKED_EXAMPLE.response_mask != 0
    slope = -(high[is_response].sum() - low[is_response].sum()) / 4 / 4
    assert slope.item() == pytest.approx(BY_HAND["another G"][0])


def test_the_divisor_and_the_last_window_by_one_backward_pass():
    def grad(rows, divisor):
        model = BigramModel(vocab_size=8)
        for batch in rows:
            log_probs = model.table.log_softmax(1)[batch.input_ids, batch.labels]
            (-log_probs[batch.response_mask].sum() / divisor).backward()
        return model.table.grad

    window = make_window(B=5, G=3)
    rows = [make_window(B=15, G=1)[0]]
    torch.testing.assert_close(grad(window, BY_HAND["the divisor"][0]), grad(rows, 15))
    short, ratio = make_window(B=4, G=3)[:2], BY_HAND["the last window"][0]
    torch.testing.assert_close(grad(short, 12), grad(short, 8) * ratio)


def test_a_mistaken_mask_learns_and_loses_what_the_question_says():
    tokens = [1, 3, 3, 2, 6, 5, 2]  # <start> 2 | 2 <end> | Why? | 4 <end>
    is_response = [False, False, True, True, False, True, True]
    read, predicted = is_response[:-1], is_response[1:]
    lost = {tokens[i + 1] for i in range(6) if predicted[i] and not read[i]}
    learned = {tokens[i + 1] for i in range(6) if read[i] and not predicted[i]}
    words = masks.VOCABULARY
    assert ({words[i] for i in lost}, {words[i] for i in learned}) == ({"2", "4"}, {"Why?"})
    assert masks._FROM_INPUTS[1].tolist() == read


# The notebooks that ask them.

NOTEBOOKS = {
    path.stem: v4.reads(path.read_text("utf-8"))
    for path in sorted((Path(__file__).parent.parent / "notebooks").glob("0[0-3]_*.ipynb"))
}


def asked(notebook):
    """The questions of a notebook, in order."""
    sources = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return [BY_NAME[name] for name in re.findall(r'^Prediction\("(.+)"\)$', sources, re.M)]


def test_every_question_is_asked_once():
    names = [question.name for notebook in NOTEBOOKS.values() for question in asked(notebook)]
    assert sorted(names) == sorted(BY_NAME)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_ends_with_what_was_believed_and_one_way_on(name):
    *_, beliefs, last = NOTEBOOKS[name].cells
    assert beliefs.source.endswith("\nBeliefs()")
    (link,) = re.findall(r"^\*\*Next:\*\* \[.+\]\((\S+)\.ipynb\)\.$", last.source, re.M)
    following = {"00": "01_the_step", "01": "02_masks_and_log_probs"}
    following |= {"02": "03_scaling", "03": "04_accumulation"}
    assert link == following[name[:2]]
    assert sum(cell.source.count("**Next:**") for cell in NOTEBOOKS[name].cells) == 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_text_of_a_notebook_has_the_number_that_is_asked_for(name):
    notebook = NOTEBOOKS[name]
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
    shown = re.findall(r"-?\d+\.\d+", "\n".join(texts).replace("−", "-"))
    asks = [ask for question in asked(notebook) for ask in question.asks]
    for truth in [ask.value() for ask in asks if isinstance(ask, Number)]:
        assert [text for text in shown if math.isclose(float(text), truth, rel_tol=1e-3)] == []


@pytest.mark.parametrize("name", ["00_start_here", "01_the_step", "02_masks_and_log_probs"])
def test_the_divisor_of_a_mean_is_left_to_be_found(name):
    text = "\n".join(cell.source for cell in NOTEBOOKS[name].cells)
    assert not re.search(r"B\s*[·*]\s*G|B = G|average", text)


def test_the_conversations_of_the_questions_are_those_of_the_notebook():
    given = {}
    for cell in NOTEBOOKS["02_masks_and_log_probs"].cells:
        if re.match("(vocabulary|conversations) = ", cell.source):
            exec(cell.source, given)
    assert tuple(given["vocabulary"]) == masks.VOCABULARY
    assert given["conversations"] == masks.CONVERSATIONS


@pytest.mark.parametrize(
    ("divisor", "ratios"),
    [("G", [2, 3, 4]), ("G * G", [1, 0.75, 2]), ("B * G", [1, 1, 1])],
)
def test_the_divisor_can_be_found_in_the_cell_that_asks_for_it(divisor, ratios, capsys):
    code = [cell.source for cell in NOTEBOOKS["03_scaling"].cells if cell.cell_type == "code"]
    setup, attempt = code[:2]
    space = {}
    exec(setup, space)
    assert "divisor = G  #" in attempt
    exec(attempt.replace("divisor = G  #", f"divisor = {divisor}  #"), space)
    found = re.findall(r"ratio (\S+)", capsys.readouterr().out)
    assert found == [f"{ratio:.3f}" for ratio in ratios]
