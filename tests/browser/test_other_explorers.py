"""The explorers of logits and of accumulation where they are read, with kernels of their own."""

import re

import pytest
from playwright.sync_api import expect

from .touch import NOTEBOOK, barriers, cell, darken, drag, press_shortcuts

# What a picture is called, from now on.
LISTEN = """picture => {
    window.said = [];
    new MutationObserver(() => said.push(picture.ariaLabel)).observe(picture, { attributes: true });
}"""


# A training of a bigram model, which takes milliseconds a window.
TRAINING = """
import torch
from sftviz import TrainingPanel
from sftviz.experiments.dates import CONTEXT_LENGTH, PAD, VOCABULARY, conversation, date_pairs
from sftviz.experiments.training import Trainer, prepare
from sftviz.experiments.watched import WatchedTraining

train, held_out = date_pairs()
data = prepare([conversation(pair) for pair in train], PAD, CONTEXT_LENGTH, len(VOCABULARY))
model = torch.nn.Embedding(len(VOCABULARY), len(VOCABULARY))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
sizes = {"microbatch_size": 16, "gradient_accumulation_steps": 4}
trainer = Trainer(model, optimizer, data, **sizes)
TrainingPanel({"bigram": WatchedTraining(trainer, held_out)}, until=400)
"""


@pytest.fixture
def shown(lab, no_foreign_requests, notebook):
    """An explorer of this name, on the page of a notebook that has been run."""

    def show(name: str, source: str = "from sftviz import NAME\nNAME()"):
        page = lab.open(notebook(source.replace("NAME", name)))
        lab.run_all(page)
        return page.locator(".sftviz-explorer")

    return show


def leaves_the_notebook_alone(place, *targets) -> None:
    """Press what Jupyter does something at, at places in an explorer."""
    page = place.page
    before = page.evaluate(NOTEBOOK)
    for target in targets:
        target.focus()
        press_shortcuts(page)
        assert page.evaluate(NOTEBOOK) == before
    expect(page.locator(".jp-Dialog")).to_have_count(0)


def keeps_nobody_out(lab, place, name: str) -> None:
    """By axe, in light and in dark."""
    page = place.page
    assert barriers(page) == []
    lab.screenshot(page, f"{name}-light")
    darken(page)
    assert barriers(page) == []
    lab.screenshot(page, f"{name}-dark")


def test_a_logit_moves_its_own_gradient_and_not_that_of_the_log_prob(lab, shown):
    place = shown("LogitsExplorer")
    keys = ("logits_grad[0,1,2]", "grad[0,1]", "probs[0,1,2]")
    at_logit, at_log_prob, prob = (cell(place, key) for key in keys)
    before = [at_logit.text_content(), at_log_prob.text_content(), prob.text_content()]

    drag(cell(place, "logits[0,1,2]"), 100)
    expect(cell(place, "logits[0,1,2]")).to_have_text("3.5")  # the last of the hand's messages
    expect(at_logit).not_to_have_text(before[0])
    expect(prob).not_to_have_text(before[2])
    expect(at_log_prob).to_have_text(before[1])
    reset = place.get_by_role("button", name="reset")
    reset.press("Enter")
    expect(at_logit).to_have_text(before[0])

    step, undo = (place.get_by_role("button", name=name) for name in ("optimizer step", "undo"))
    expect(undo).to_be_disabled()
    for _ in range(3):
        step.press("Enter")
    expect(place.locator(".sftviz-picture")).to_contain_text("after 3 steps")
    expect(at_log_prob).to_have_text(before[1])
    for _ in range(3):
        undo.click()
    expect(undo).to_be_disabled()
    expect(at_logit).to_have_text(before[0])

    cell(place, "logits[0,1,2]").focus()
    for key in "+" * 30:
        place.page.keyboard.press(key)
    expect(prob).to_have_text("0.9832")  # of e^5.5 among e^−1, e^0.2, e^0.4 and e^0.1
    expect(at_log_prob).to_have_text(before[1])
    place.get_by_role("slider", name="G", exact=True).press("ArrowRight")
    expect(at_log_prob).not_to_have_text(before[1])
    cell(place, "response_mask[0,1]").press("Space")
    for key in keys[:2]:
        expect(cell(place, key)).to_have_text("0")

    leaves_the_notebook_alone(place, cell(place, "logits[0,1,2]"), reset)
    keeps_nobody_out(lab, place, "logits")


def test_a_window_is_scrubbed_played_and_changed(lab, shown):
    place = shown("AccumulationExplorer")
    moment = place.get_by_role("slider", name="moment", exact=True)
    play = place.get_by_role("button", name="play", exact=True)
    rule = place.get_by_role("combobox", name="divided by")
    forgot = place.get_by_role("checkbox", name="forgot zero_grad()")
    picture = place.locator(".sftviz-picture")
    expect(moment).to_have_attribute("aria-valuenow", "6.0")
    end = picture.get_attribute("aria-label")
    picture.evaluate(LISTEN)

    moment.press("Home")
    expect(picture).not_to_have_attribute("aria-label", end)
    play.click()
    expect(place.get_by_role("button", name="pause", exact=True)).to_be_visible()
    expect(picture).to_have_attribute("aria-label", end)
    expect(play).to_be_visible()
    said = place.page.evaluate("said")
    assert said[-1] == end and len(set(said)) > 2  # moment after moment, not straight to the end

    rule.select_option("B·G")
    expect(picture).not_to_have_attribute("aria-label", end)
    place.get_by_role("slider", name="G", exact=True).press("ArrowRight")
    expect(moment).to_have_attribute("aria-valuemax", "7.0")
    expect(cell(place, "ratio")).to_have_text("1")
    forgot.press("Space")
    expect(cell(place, "ratio")).to_have_text("2")

    leaves_the_notebook_alone(place, moment, play, rule)
    keeps_nobody_out(lab, place, "timeline")


def test_every_rule_follows_the_rows_of_a_microbatch(lab, shown):
    place = shown("DivisorExplorer")
    picture = place.locator(".sftviz-picture")
    expect(picture).to_contain_text("÷ G²: 0.75 times as long")
    rows = place.get_by_role("slider", name="B", exact=True)
    for _ in range(5):  # a burst: only the last value counts
        rows.press("ArrowRight")
    for _ in range(4):
        rows.press("ArrowLeft")
    expect(picture).to_contain_text("÷ G², ÷ B·G, ÷ tokens: arrives there")
    place.get_by_role("checkbox", name="the data ran out").press("Space")
    expect(picture).to_contain_text("0.75 times as long")
    keeps_nobody_out(lab, place, "divisor")


def test_a_conversation_of_ones_own_loses_its_first_word(lab, shown):
    place = shown("MaskExplorer")
    picture = place.locator(".sftviz-picture")
    place.get_by_role("textbox", name="response").fill("Paris .")
    expect(cell(place, "labels[0,2]")).to_have_text("Paris")
    place.get_by_role("combobox", name="what goes wrong").select_option("mask about the token read")
    expect(picture).to_contain_text("Never learned: “Paris”.")
    expect(cell(place, "response_mask[0,2]")).to_have_text("0")
    place.get_by_role("textbox", name="response").fill("")
    expect(place.get_by_role("alert")).to_contain_text("the response has no word")
    place.get_by_role("textbox", name="response").fill("Paris")
    expect(place.get_by_role("alert")).to_be_hidden()
    place.get_by_role("button", name="train a model so").press("Enter")
    expect(picture).to_contain_text("Trained so, a small model answers")
    cell(place, "labels[0,2]").focus()
    place.page.keyboard.press("ArrowDown")  # from the label to its bit
    expect(cell(place, "response_mask[0,2]")).to_be_focused()
    keeps_nobody_out(lab, place, "masks")


def test_only_dft_follows_a_log_prob(lab, shown):
    place = shown("LossesExplorer")
    log_prob = cell(place, "policy_log_probs[1,1]")
    dft, mean = cell(place, "DFT[1,1]"), cell(place, "token_mean[1,1]")
    expect(dft).to_have_text("0.04966")  # e^−0.7 / 10
    log_prob.focus()
    for _ in range(8):  # a burst: only the last value counts
        place.page.keyboard.press("-")
    expect(log_prob).to_have_text("−1.5")
    expect(dft).to_have_text("0.02231")  # e^−1.5 / 10
    expect(mean).to_have_text("0.1")
    drag(log_prob, 400)
    expect(log_prob).to_have_text("−0.01")  # it can't become 0
    place.get_by_role("button", name="reset").press("Enter")
    expect(dft).to_have_text("0.04966")
    keeps_nobody_out(lab, place, "losses")


def test_ranks_are_played_changed_and_started(lab, shown):
    place = shown("RanksExplorer")
    picture = place.locator(".sftviz-picture")
    moment = place.get_by_role("slider", name="moment", exact=True)
    rule = place.get_by_role("combobox", name="divided by")
    expect(moment).to_have_attribute("aria-valuenow", "6.0")
    expect(cell(place, "ratio")).to_have_text("1")
    end = picture.get_attribute("aria-label")
    picture.evaluate(LISTEN)
    moment.press("Home")
    expect(picture).to_contain_text(".grad is None on every rank")
    place.get_by_role("button", name="play", exact=True).click()
    expect(picture).to_have_attribute("aria-label", end)
    assert len(set(place.page.evaluate("said"))) > 2  # moment after moment

    rule.select_option("tokens")
    expect(cell(place, "ratio")).to_have_text("0.5")
    ranks = place.get_by_role("slider", name="W", exact=True)
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):  # a burst: only the last value counts
        ranks.press(key)
    expect(cell(place, "ratio")).to_have_text("0.3333")
    moment.press("ArrowLeft")
    expect(picture).to_contain_text("The all-reduce: an average")
    moment.press("ArrowLeft")
    expect(picture).to_contain_text("Outside no_sync()")
    expect(cell(place, "ratio")).to_have_text("")
    ranks.press("ArrowLeft")
    expect(picture).to_have_attribute("aria-label", re.compile("^2 ranks"))
    place.get_by_role("button", name="real processes").press("Enter")
    expect(picture).to_contain_text("2 processes are starting")
    expect(picture).to_contain_text("Run on 2 real processes too")

    leaves_the_notebook_alone(place, moment, rule)
    keeps_nobody_out(lab, place, "ranks")


def test_a_training_is_started_stopped_and_gone_on_with(lab, shown):
    place = shown("TrainingPanel", TRAINING)
    picture = place.locator(".sftviz-picture")
    expect(picture).to_contain_text("0 of 400")
    place.get_by_role("button", name="train", exact=True).press("Enter")
    stop = place.get_by_role("button", name="stop", exact=True)
    expect(picture).to_contain_text("left")
    expect(picture).to_contain_text(re.compile(r", after \d\d+ windows"))  # untouched
    stop.press("Enter")
    go_on = place.get_by_role("button", name="train", exact=True)
    expect(go_on).to_be_focused()
    expect(picture).not_to_contain_text("left")
    place.page.wait_for_timeout(200)  # for a window that was being trained
    before = picture.text_content()
    place.page.wait_for_timeout(500)
    assert picture.text_content() == before
    keeps_nobody_out(lab, place, "training")
    go_on.click()
    expect(picture).to_contain_text("400 of 400")
    expect(place.get_by_role("button", name="trained", exact=True)).to_be_disabled()
