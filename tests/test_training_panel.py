"""A training that is watched: its measurements against plain torch, its picture, the panel."""

import asyncio
import itertools
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax
from torch.nn.utils import parameters_to_vector

from sftviz.drawing.scene import Trail
from sftviz.experiments.dates import (
    END,
    PAD,
    START,
    VOCABULARY,
    Pair,
    Written,
    conversation,
    encode,
)
from sftviz.experiments.training import Trainer, Window, prepare
from sftviz.experiments.transformer import TinyTransformer
from sftviz.experiments.watched import Answer, WatchedTraining
from sftviz.explorers.training import TrainingPanel
from sftviz.views.training import training_view

B, G = 3, 4
PAIRS = [Pair(f"{a}{b}→", f"{b}{a}"[: 1 + (a != b)]) for a, b in itertools.product("01234", "012")]
HELD_OUT = [Pair("33→", "3"), Pair("34→", "43"), Pair("4→", "41"), Pair("44→", "4")]


def trainer(mask_prompt=True, lr=1e-2):
    torch.manual_seed(0)
    model = TinyTransformer(context_length=8, width=8, heads=2, layers=1).double()
    data = prepare([conversation(pair) for pair in PAIRS], PAD, 8, 44, mask_prompt=mask_prompt)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return Trainer(model, optimizer, data, microbatch_size=B, gradient_accumulation_steps=G)


def watched(**options):
    return WatchedTraining(trainer(**options), HELD_OUT)


def weights(training):
    return parameters_to_vector(training.trainer.model.parameters()).detach().clone()


def alone(until, **options):
    """The weights of a training that nobody watches."""
    trained = trainer(**options)
    list(trained.run(until))
    return parameters_to_vector(trained.model.parameters()).detach()


# ---------------------------------------------------------------- what is measured


def test_the_held_out_loss_is_torchs_cross_entropy():
    training = watched()
    list(training.run(7))
    losses = []
    for pair in HELD_OUT:  # row by row, without padding or a mask
        prompt, response = [START, *encode(pair.prompt)], [*encode(pair.response), END]
        logits = training.trainer.model(torch.tensor([prompt + response[:-1]]))[0]
        target = torch.tensor(response)
        losses += cross_entropy(logits[-len(response) :], target, reduction="none").tolist()
    measured = training.snapshot().held_out[-1]
    assert measured.windows == 7
    assert measured.nll == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_the_log_probs_of_an_answer_are_those_of_a_forward_pass():
    training = watched()
    list(training.run(10))
    for answer in training.snapshot().held_out[-1].answers:
        tokens = [VOCABULARY.index(token) for token in answer.written.tokens]
        ids = [START, *encode(answer.pair.prompt)]
        for token, log_prob in zip(tokens, answer.written.log_probs, strict=True):
            expected = log_softmax(training.trainer.model(torch.tensor([ids]))[0, -1], dim=0)
            assert token == expected.argmax()
            assert log_prob == pytest.approx(expected[token].item(), rel=1e-5)
            ids.append(token)
        assert END not in tokens[:-1] and len(tokens) <= 3


@pytest.mark.parametrize(
    ("tokens", "is_right"),
    [
        (("4", "3", "<end>"), True),
        (("4", "3"), False),
        (("4", "3", "3"), False),
        (("4", "<end>"), False),
        (("3", "4", "<end>"), False),
    ],
)
def test_an_answer_is_right_if_it_is_the_response_and_ends(tokens, is_right):
    assert Answer(Pair("34→", "43"), Written(tokens, (0.0,) * len(tokens))).is_right is is_right


def test_response_tokens_are_counted_and_not_those_of_prompts():
    training = watched(mask_prompt=False)
    list(training.run(5))  # 60 rows: each of the 15 pairs four times
    seen = training.snapshot()
    assert seen.num_tokens == 4 * sum(len(pair.response) + 1 for pair in PAIRS)
    assert seen.num_tokens < sum(window.num_tokens for window in seen.history)


def test_it_measures_every_few_windows_and_at_the_end():
    training = WatchedTraining(trainer(), HELD_OUT, every=3)
    list(training.run(7))
    assert [at.windows for at in training.snapshot().held_out] == [0, 3, 6, 7]


def test_many_pairs_are_measured_on_a_part_that_is_evenly_spaced():
    training = WatchedTraining(trainer(), [*HELD_OUT, *PAIRS * 9])  # 139
    assert len(training._data.tokens.labels) == 47


def test_measuring_changes_no_weight_and_no_mode():
    training = watched()
    training.trainer.model.eval()
    training._measure()
    assert not training.trainer.model.training
    list(training.run(11))
    assert torch.equal(weights(training), alone(11))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": []}, "held_out is empty, so nothing can be measured: give at least a pair."),
        (
            {"held_out": HELD_OUT, "every": 0},
            "every must be an int of at least 1, got 0: it is the number of windows between two "
            "measurements.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        WatchedTraining(trainer(), **options)


# ---------------------------------------------------------------- the picture


def both(until=8):
    trainings = {"prompt masked": watched(), "prompt learned": watched(mask_prompt=False)}
    for training in trainings.values():
        list(training.run(until))
    return {name: training.snapshot() for name, training in trainings.items()}


@pytest.mark.parametrize("width", [48, 60, 112])
@pytest.mark.parametrize("until", [8, 150, 1000])
def test_the_picture_fits_its_width_and_has_every_number(until, width):
    now = both()
    drawing = training_view(now, until, width)
    assert drawing.scene.width <= width
    for seen in now.values():
        for value in (seen.history[-1].nll, seen.held_out[-1].nll, seen.history[-1].grad_norm):
            assert f"{value:.4g}" in drawing.text and f"{value:.4g}" in drawing.alt
    assert f"8 of {until}" in drawing.text and "held-out loss" in drawing.alt


def test_the_curves_go_through_the_losses():
    now = both()
    page = training_view(now, 8).page
    curves = [shape for _, _, shape in page.marks if isinstance(shape, Trail)]
    curves = [shape for shape in curves if shape.height > 1]
    base, *curves = curves
    zero = base.points[0][1]
    lines = []
    for seen in now.values():
        lines.append([(window.number - 1, window.nll) for window in seen.history])
        lines.append([(at.windows, at.nll) for at in seen.held_out])
    per_nat = (zero - curves[0].points[0][1]) / lines[0][0][1]
    for line, curve in zip(lines, curves, strict=True):
        assert [x - 0.1 for x, _ in curve.points] == pytest.approx([steps for steps, _ in line])
        assert [(zero - y) / per_nat for _, y in curve.points] == pytest.approx(
            [loss for _, loss in line]
        )


@pytest.mark.parametrize(
    ("nll", "ticks"),
    [
        (0.3, ["1", "0.8", "0.6", "0.4", "0.2", "0"]),
        (2.0, ["2", "1.6", "1.2", "0.8", "0.4", "0"]),
        (2.1, ["2.5", "2", "1.5", "1", "0.5", "0"]),
        (4.1, ["5", "4", "3", "2", "1", "0"]),
        (5.1, ["10", "8", "6", "4", "2", "0"]),
        (201.0, ["250", "200", "150", "100", "50", "0"]),
    ],
)
def test_the_axis_has_round_numbers_where_the_curve_has_these_losses(nll, ticks):
    seen = both()["prompt masked"]
    history = (Window(1, 1.0, nll, 3, 2.0), Window(2, 1.0, float(ticks[1]), 3, 2.0))
    held_out = tuple(replace(at, nll=0.1) for at in seen.held_out)
    drawing = training_view({"a": replace(seen, history=history, held_out=held_out)}, 8)
    lines = drawing.text.splitlines()
    at = {line.split()[1]: row for row, line in enumerate(lines[3:14], 3) if line[4].isdigit()}
    assert list(at) == ticks and set(np.diff([*at.values()])) == {2}
    curve = [shape for _, _, shape in drawing.page.marks if isinstance(shape, Trail)][1]
    assert curve.points[1][1] == pytest.approx(at[ticks[1]] - 3 + 0.5)  # the middle of its line


@pytest.mark.parametrize(("width", "is_beside"), [(77, False), (90, True), (112, True)])
def test_the_answers_are_beside_the_curves_if_there_is_room(width, is_beside):
    drawing = training_view({"one": both()["prompt masked"]}, 150, width)
    assert ("Answers" in drawing.text.splitlines()[1]) is is_beside
    assert drawing.scene.width <= width


def test_a_panel_shows_its_own_windows_when_another_trains_on():
    masked = watched()
    panel = TrainingPanel({"a": masked}, until=7)
    drawing = panel.run()
    TrainingPanel({"a": masked}, until=14).run()
    assert panel.drawing.text == drawing.text
    assert TrainingPanel({"a": watched_from(5)}, until=2).drawing.alt.startswith(
        "a, 5 of 5 windows"
    )


def watched_from(windows):
    """A training that nobody has watched from the start."""
    trained = trainer()
    list(trained.run(windows))
    return WatchedTraining(trained, HELD_OUT)


def test_the_bars_of_an_answer_are_its_log_probs():
    seen = {"one": both()["prompt masked"]}
    drawing = training_view(seen, 8)
    strips = [shape for _, _, shape in drawing.page.marks if type(shape).__name__ == "Strip"]
    answers = seen["one"].held_out[-1].answers
    for answer, strip in zip(answers, strips[1:], strict=True):
        levels = [max(1, min(8, math.ceil(-value * 2))) for value in answer.written.log_probs]
        assert list(strip.rows[0]) == levels
        verdict = "right" if answer.is_right else "wrong"
        assert f"{answer.pair.prompt}{answer.written.text} ({verdict})" in drawing.alt


def test_the_time_left_is_not_in_the_description():
    now = both()
    timed = training_view(now, 20, seconds_left=3.2)
    assert "about 4 seconds left" in timed.text
    assert timed.alt == training_view(now, 20).alt and "second" not in timed.alt


def test_a_training_that_diverged_is_drawn():
    seen = both()["prompt masked"]
    last = seen.held_out[-1]
    answer = last.answers[0]
    written = type(answer.written)(("1",), (math.nan,))
    broken = type(last)(8, math.nan, (type(answer)(answer.pair, written),))
    history = (Window(1, 1.0, math.nan, 3, 2.0),)
    drawing = training_view({"a": type(seen)(history, 3, (broken,)), "b": seen}, 8)
    assert "nan" in drawing.text and "!" in drawing.text


def test_a_third_training_is_refused():
    message = "trainings must be one or two, got 0: more curves than four can't be told apart."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        training_view({}, 8)


# ---------------------------------------------------------------- the panel


def panel_of(until=12):
    return TrainingPanel({"a": watched(), "b": watched(mask_prompt=False)}, until)


def test_in_the_calling_cell_it_ends_as_a_training_without_a_panel():
    panel = panel_of()
    assert panel.controls["train"].description == "train"
    panel.run(until=5)
    still = panel.run(until=12)
    assert torch.equal(weights(panel.trainings["a"]), alone(12))
    assert torch.equal(weights(panel.trainings["b"]), alone(12, mask_prompt=False))
    assert still.alt == panel.drawing.alt == panel.live.alt
    assert still.alt in panel._repr_html_() and "left" not in panel.drawing.text
    assert panel.controls["train"].description == "trained" and panel.controls["train"].disabled


def in_a_thread(function, *arguments):
    """Call it where no event loop runs: the tests of a browser leave one in their thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


async def until_windows(panel, count):
    while sum(len(training.trainer.history) for training in panel.trainings.values()) < count:
        await asyncio.sleep(0)


def test_in_the_background_stopped_and_gone_on_it_ends_with_the_same_weights(shown_errors):
    async def train():
        panel = panel_of()
        start = panel.controls["train"]
        start.click()
        assert start.description == "stop"
        await until_windows(panel, 5)
        start.click()
        assert start.description == "train"
        await asyncio.sleep(0.05)
        counts = [len(training.trainer.history) for training in panel.trainings.values()]
        assert counts == [3, 2]
        for _ in range(3):  # stop and go on: one task still
            start.click()
        await until_windows(panel, 24)
        await asyncio.sleep(0.05)
        assert start.description == "trained"
        return panel

    panel = in_a_thread(asyncio.run, train())
    assert torch.equal(weights(panel.trainings["a"]), alone(12))
    assert torch.equal(weights(panel.trainings["b"]), alone(12, mask_prompt=False))
    assert panel.live.svg == panel_after_run().live.svg


def panel_after_run():
    panel = panel_of()
    panel.run()
    return panel


def test_run_takes_over_from_the_background():
    async def train():
        panel = panel_of()
        panel.start()
        await until_windows(panel, 3)
        panel.run()
        await asyncio.sleep(0.05)
        return panel

    panel = in_a_thread(asyncio.run, train())
    assert [len(training.trainer.history) for training in panel.trainings.values()] == [12, 12]
    assert torch.equal(weights(panel.trainings["a"]), alone(12))


def test_an_error_in_the_background_is_shown_and_it_stops():
    async def train():
        panel = TrainingPanel({"a": watched()}, 12)
        panel.start()
        await until_windows(panel, 2)
        with torch.no_grad():
            panel.trainings["a"].trainer.model.head.weight[0, 0] = math.nan
        await asyncio.sleep(0.1)
        return panel

    panel = in_a_thread(asyncio.run, train())
    assert "is nan, so the optimizer was not stepped" in panel.live.error["message"]
    assert panel.controls["train"].description == "train"


def test_a_closed_panel_trains_no_more():
    async def train():
        panel = panel_of(1000)
        panel.start()
        await until_windows(panel, 2)
        panel.close()
        before = [len(training.trainer.history) for training in panel.trainings.values()]
        await asyncio.sleep(0.05)
        assert [len(each.trainer.history) for each in panel.trainings.values()] == before

    in_a_thread(asyncio.run, train())


def test_an_interrupted_cell_can_be_run_again():
    panel = panel_of()
    step = panel.trainings["b"].trainer.optimizer.step

    def interrupt():
        panel.trainings["b"].trainer.optimizer.step = step
        raise KeyboardInterrupt

    panel.trainings["b"].trainer.optimizer.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        panel.run()
    assert panel.controls["train"].description == "train"
    panel.run()
    assert torch.equal(weights(panel.trainings["b"]), alone(12, mask_prompt=False))


def test_without_an_event_loop_the_button_says_what_to_do():
    panel = in_a_thread(panel_of)
    panel.controls["train"].click()
    assert panel.live.error["message"] == (
        "this panel was made where no event loop runs, so it can't train in the background: "
        "call run()."
    )
    assert panel.controls["train"].description == "train"


def test_a_page_that_asks_whether_the_kernel_is_there_gets_an_answer():
    panel = panel_of()
    panel.live.edits = {"id": 0.5, "generation": 0, "values": {}}
    assert panel.live.acknowledged == 0.5


def test_a_wrong_number_of_windows_is_refused():
    message = "until must be an int of at least 1, got 0: it is the number of windows of each"
    for make in (lambda: TrainingPanel({"a": watched()}, 0), lambda: panel_of().run(0)):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_model_of_another_vocabulary_is_refused_by_torch():
    model = nn.Embedding(10, 10)
    data = prepare([[("prompt", [5]), ("response", [6])]], 0, 8, vocab_size=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    small = Trainer(model, optimizer, data, microbatch_size=1, gradient_accumulation_steps=1)
    with pytest.raises(IndexError):
        WatchedTraining(small, HELD_OUT)
