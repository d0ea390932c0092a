"""A question in the page: nothing of its answer is there before a commitment."""

import json
import re

import pytest
import torch
from nbconvert.exporters import HTMLExporter
from nbformat import read, v4, write
from playwright.sync_api import Locator, Page, expect

from sftviz import Prediction
from sftviz.live.widget import LiveDrawing
from sftviz.predictions.question import Bits, Choice, Number, Option, Question

from .alone import Alone, prepare, show
from .jupyter import PANEL
from .touch import NOTEBOOK, barriers, darken

TRUTH, WHY, AFTER = "0.8125", "Because it is divided by sixteen.", "So it is, and no other way."
SETUP = f"""
from sftviz import Beliefs, Prediction
from sftviz.predictions.question import Number, Question
ask = Number("scaled_loss", lambda: 13 / 16)
Prediction(Question("sixteen", "What is it?", (ask,), "{WHY}"))
"""  # without the answer in the notebook's text


class Asked:
    """Questions, and how often their answers were computed."""

    def __init__(self):
        self.count = 0
        options = Option("It grows.", "No: it is divided."), Option("It shrinks.", AFTER)
        number = Number("scaled_loss", lambda: self.compute(13 / 16))
        choice = Choice("how it changes", options, lambda: self.compute(1))
        mask = torch.tensor([[0, 1, 1, 0]])
        bits = Bits("mask", (("hi", "Hi", "!", "<pad>"),), lambda: self.compute(mask))
        self.number, self.choice, self.bits, self.all = (
            Question(str(len(asks)), "What is it?", asks, WHY)
            for asks in ((number,), (choice,), (bits,), (number, choice, bits))
        )
        two = number, Number("c", lambda: self.compute(3))
        self.two = Question("two", "What are they?", two, WHY)

    def compute(self, value):
        self.count += 1
        return value


@pytest.fixture
def asked():
    return Asked()


@pytest.fixture
def put(page):
    """Show a question on a page; fail if there is an error on the page."""
    errors = []
    page.on("pageerror", lambda error: errors.append(error.message))
    prepare(page)
    yield lambda question: show(page, Prediction(question), str(LiveDrawing._esm))
    assert errors == []


def box(alone: Alone, name: str = "scaled_loss") -> Locator:
    return alone.place.get_by_role("textbox", name=name, exact=True)


def alt(alone: Alone) -> Locator:
    """The picture, which is named by what it says."""
    return alone.place.get_by_role("group")


def everything(alone: Alone) -> str:
    """All that is in the page, and the state of every widget."""
    widgets = alone.explorer, alone.explorer.live, *alone.explorer.controls.values()
    states = [widget.get_state() for widget in widgets if widget.comm]
    return alone.page.content() + json.dumps(states, default=str)


def test_no_answer_is_anywhere_before_one_commits(put, asked):
    live = put(asked.all)
    page = live.page
    box(live).fill("abc")
    box(live).press("Enter")
    expect(alt(live)).to_have_accessible_name(
        "Question: What is it? Asked: scaled_loss; how it changes, one of: It grows. / "
        "It shrinks.; mask, a bit for each of: hi Hi ! <pad>. "
        "Still to be answered: how it changes, mask."
    )
    expect(box(live)).to_be_focused()
    live.cell("option[1,0]").click()
    live.cell("bit[2,0,1]").click()
    box(live).press("Enter")
    expect(alt(live)).to_have_accessible_name(  # not a number, so not a commitment
        "Question: What is it? Asked: scaled_loss; how it changes, one of: It grows. / "
        "It shrinks.; mask, a bit for each of: hi Hi ! <pad>. scaled_loss: answer must be a "
        "number, got 'abc': write digits with a point, such as -0.25."
    )
    for part in (alone for alone in page.locator("[data-key], input").all()):
        part.hover(force=True)
    assert asked.count == 0
    assert not [secret for secret in (TRUTH, WHY, AFTER) if secret in everything(live)]
    assert not re.search(r"(?<![\w.])0110(?!\w)", everything(live))  # ids of widgets are random

    box(live).fill("13")
    box(live).press("Enter")
    expect(alt(live)).to_contain_text("You said 13. It is 0.8125.")
    assert live.explorer.answers == ("13", 0, [[0, 1, 0, 0]])
    assert [secret for secret in (TRUTH, WHY, AFTER) if secret not in everything(live)] == [AFTER]
    assert live.place.get_by_role("textbox").count() == 0
    assert live.place.locator("[data-action]").count() == 0


def test_with_the_keyboard_alone(put, asked):
    live = put(asked.two)
    keyboard, page = live.page.keyboard, live.page
    page.locator("#before").focus()
    for _ in range(4):  # past the controls of the page
        keyboard.press("Tab")
        if page.evaluate("document.activeElement.ariaLabel") == "scaled_loss":
            break
    keyboard.type("0.8123")
    keyboard.press("ArrowLeft")
    keyboard.press("Delete")
    keyboard.type("5")
    expect(box(live)).to_have_value("0.8125")
    keyboard.press("Enter")  # goes to the next box
    expect(box(live, "c")).to_be_focused()
    keyboard.type("b")  # a shortcut of notebooks
    keyboard.press("Enter")
    expect(alt(live)).to_contain_text("answer must be a number, got 'b'")
    expect(box(live, "c")).to_be_focused()
    keyboard.press("Backspace")
    keyboard.press("ArrowUp")
    expect(box(live, "c")).to_have_value("0.1")
    keyboard.type("5")
    keyboard.press("Enter")
    expect(alt(live)).to_contain_text("scaled_loss: 0.8125 is right.")
    expect(alt(live)).to_contain_text("c: You said 0.15. It is 3.")
    expect(alt(live)).to_be_focused()  # as the box that had the focus is gone
    assert set(page.evaluate("received")) == {"Tab"}
    expect(live.place.get_by_role("status")).to_contain_text("You said 0.15. It is 3.")


def test_a_choice(put, asked):
    live = put(asked.choice)
    live.place.get_by_text("It shrinks.").click()
    options = live.place.get_by_role("radio")
    expect(options.nth(1)).to_be_checked()
    options.nth(1).press("ArrowUp")
    expect(options.nth(0)).to_be_focused()
    expect(options.nth(0)).not_to_be_checked()
    options.nth(0).press("Space")
    expect(options.nth(0)).to_be_checked()
    expect(options.nth(1)).not_to_be_checked()
    expect(options.nth(0)).to_have_accessible_name("It grows.")
    assert live.explorer.answers == (0,) and asked.count == 0


def test_a_mask_is_painted(put, asked):
    live = put(asked.bits)
    cells = live.place.get_by_role("checkbox")
    expect(cells).to_have_text(["?"] * 4)
    cells.nth(1).hover()
    live.page.mouse.down()
    cells.nth(2).hover()
    live.page.mouse.up()
    expect(cells).to_have_text(["0", "1", "1", "0"])
    expect(cells.nth(2)).to_have_accessible_name("!, row 1, token 3")
    live.explorer.commit()
    live.push()
    expect(alt(live)).to_contain_text("That is right.")


@pytest.mark.browser_context_args(has_touch=True)
def test_on_a_touch_screen(put, asked, page):
    page.set_viewport_size({"width": 420, "height": 800})
    live = put(asked.two)
    frame, over = live.cell("answer[1]").bounding_box(), box(live, "c").bounding_box()
    assert all(abs(frame[side] - over[side]) < 3 for side in frame)
    assert over["x"] + over["width"] < 420
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    x, y = over["x"] + over["width"] / 2, over["y"] + over["height"] / 2
    page.touchscreen.tap(x, y)
    expect(box(live, "c")).to_be_focused()
    send("touchStart", (x, y))
    for up in range(0, 101, 20):
        send("touchMove", (x, y - up))
    send("touchEnd")
    expect(box(live, "c")).to_have_value("1")  # 100 px
    assert live.explorer.answers == (None, "1")
    live.explorer.give_up()
    live.push()
    expect(alt(live)).to_contain_text("scaled_loss: It is 0.8125.")
    assert live.place.locator("svg").bounding_box()["width"] <= 420


def test_a_drag_with_the_mouse(put, asked):
    live = put(asked.number)
    box(live).fill("−0.5")
    box(live).hover()
    place = box(live).bounding_box()
    x, y = place["x"] + 20, place["y"] + 10
    live.page.mouse.move(x, y)
    live.page.mouse.down()
    live.page.mouse.move(x, y + 25)
    live.page.mouse.up()
    live.page.mouse.move(x, y + 90)  # released: nothing more changes
    expect(box(live)).to_have_value("-0.75")
    live.settled()
    assert live.explorer.answers == ("-0.75",)


def test_in_jupyterlab(lab, no_foreign_requests, notebook):
    stored = notebook("from sftviz import Beliefs\nBeliefs()", SETUP)
    made = read(stored, 4)
    html = Prediction(Asked().number)._repr_html_()
    made.cells[1].outputs = [v4.new_output("display_data", {"text/html": html})]
    write(made, stored)
    page = lab.open(stored)
    answer_is_folded(page)

    lab.run_all(page)
    beliefs, place = page.locator(".sftviz-explorer").all()
    before = page.evaluate(NOTEBOOK)
    box = place.get_by_role("textbox", name="scaled_loss")
    box.press_sequentially("b1")
    box.press("Shift+Enter")
    picture = place.get_by_role("group")
    expect(picture).to_contain_text("got 'b1'")
    assert page.evaluate(NOTEBOOK) == before
    assert not [secret for secret in (TRUTH, "sixteen.") if secret in place.inner_html()]
    assert barriers(page) == []
    lab.screenshot(page, "prediction-light")

    # What is stored has the answer in a fold, and nowhere else.
    page.evaluate(f"{PANEL}.context.save()")
    saved = read(lab.server.folder / stored.name, 4)
    (output,) = saved.cells[1].outputs
    question, fold = output["data"].pop("text/html").split("<details>")
    assert TRUTH in fold and TRUTH not in question + json.dumps(saved)

    place.get_by_role("button", name="I can't say").press("Enter")
    expect(picture).to_contain_text("It is 0.8125.")
    expect(picture).to_be_focused()
    expect(place.get_by_role("button")).to_have_count(0)
    expect(beliefs).to_contain_text("You could not say.")
    darken(page)
    assert barriers(page) == []
    lab.screenshot(page, "prediction-dark")


def test_in_an_exported_page(page):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("Prediction(question)")])
    html = Prediction(Asked().number)._repr_html_()
    notebook.cells[0].outputs = [v4.new_output("display_data", {"text/html": html})]
    page.set_content(HTMLExporter().from_notebook_node(notebook)[0])
    answer_is_folded(page)


def answer_is_folded(page: Page) -> None:
    """In a still, whose output nobody has to trust."""
    question, answer = page.locator(".sftviz-drawing img").all()
    expect(question).to_be_visible()
    expect(answer).to_be_hidden()
    page.get_by_text("Then look").click()
    expect(answer).to_be_visible()
    assert TRUTH in answer.get_attribute("alt")
