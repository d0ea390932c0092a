"""The step explorer where it is read: in JupyterLab and in Notebook 7, with a kernel of its own."""

import pytest
from playwright.sync_api import expect

from .jupyter import PANEL
from .touch import NOTEBOOK, barriers, cell, darken, drag, explorers, press_shortcuts

# The picture is as wide as there is room, or as narrow as it gets.
FITS = """() => {
    const picture = document.querySelector(".sftviz-picture");
    return picture.scrollWidth === Math.max(picture.clientWidth, 300);
}"""
# And all of it, like what has focus in it, is on the page: soon, for a page takes time to settle.
INSIDE = """width => {
    const [picture, focus] = [".sftviz-picture", ":focus"].map(
        selector => document.querySelector(selector).getBoundingClientRect());
    return 0 <= picture.left && picture.left <= focus.left
        && focus.right <= picture.right && picture.right <= width;
}"""


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_picture_before_anything_is_run_and_alive_after(lab, no_foreign_requests, app):
    page = lab.open("01_the_step.ipynb", app=app)
    figure = page.locator("img[alt^='SFT step, G = 2: 7 of 8 tokens count; masked_sum −2.8;']").last
    figure.scroll_into_view_if_needed()
    expect(figure).to_be_visible()
    assert figure.evaluate("image => image.complete && image.naturalWidth") > 500
    assert explorers(page).count() == 0

    lab.run_all(page)
    expect(cell(page, "scaled_loss")).to_have_text("0.7")
    slider = explorers(page).get_by_role("slider", name="G", exact=True)
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(cell(page, "gradient_accumulation_steps")).to_have_text("4")
    expect(cell(page, "scaled_loss")).to_have_text("0.175")
    expect(cell(page, "grad[0,0]")).to_have_text("−0.0625")

    expect(cell(page, "grad[0,2]")).to_have_text("0")
    cell(page, "response_mask[0,2]").click()
    expect(cell(page, "num_tokens")).to_have_text("8")
    expect(cell(page, "masked_sum")).to_have_text("−3.6")
    expect(cell(page, "grad[0,2]")).to_have_text("−0.0625")

    drag(cell(page, "policy_log_probs[0,2]"), -100)  # by a whole nat
    expect(cell(page, "policy_log_probs[0,2]")).to_have_text("−1.8")
    expect(cell(page, "masked_sum")).to_have_text("−4.6")


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_keys_pressed_inside_move_the_explorer_and_never_the_notebook(
    lab, no_foreign_requests, notebook, app
):
    path = notebook("1", "from sftviz import StepExplorer\nStepExplorer()", "2")
    page = lab.open(path, app=app)
    lab.run_all(page)
    explorer = explorers(page)
    places = {
        "the drawing": cell(page, "response_mask[0,0]"),
        "a slider": explorer.get_by_role("slider", name="G", exact=True),
        "its number": explorer.locator(".widget-readout").first,
        "a number": explorer.get_by_role("spinbutton", name="c"),
        "a list": explorer.get_by_role("combobox", name="preset"),
        "a button": explorer.get_by_role("button", name="as code"),
    }
    places["the drawing"].click()
    before = page.evaluate(NOTEBOOK)
    for place, target in places.items():
        target.focus()
        press_shortcuts(page)
        assert page.evaluate(NOTEBOOK) == before, place
        expect(page.locator(".jp-Dialog")).to_have_count(0)

    for preset, count in ("all masked", "0"), ("as given", "7"):  # edits before these are void
        places["a list"].select_option(preset)
        expect(cell(page, "num_tokens")).to_have_text(count)
    explorer.get_by_role("button", name="reset").press("Enter")
    places["a slider"].press("End")
    expect(cell(page, "gradient_accumulation_steps")).to_have_text("16")  # after the reset
    expect(cell(page, "policy_log_probs[0,2]")).to_have_text("−0.8")
    places["a slider"].press("Home")
    expect(cell(page, "gradient_accumulation_steps")).to_have_text("1")
    cell(page, "policy_log_probs[0,2]").focus()
    for key in "-" * 60:
        page.keyboard.press(key)
    expect(cell(page, "policy_log_probs[0,2]")).to_have_text("−6.8")
    expect(cell(page, "policy_log_probs[0,2]")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(cell(page, "masked_sum")).to_have_text("−9.6")
    assert page.evaluate(NOTEBOOK) == before


def test_without_a_kernel_tokens_still_light_up_and_with_a_new_one_all_is_well(
    lab, no_foreign_requests, notebook
):
    page = lab.open(notebook("from sftviz import StepExplorer\nStepExplorer()"))
    lab.run_all(page)
    cell(page, "response_mask[0,2]").click()
    expect(cell(page, "num_tokens")).to_have_text("8")

    page.evaluate(f"{PANEL}.sessionContext.shutdown()")
    cell(page, "grad[1,1]").hover()
    lit = page.locator(".sftviz-live [data-key='policy_log_probs[1,1]']")
    expect(lit).to_contain_class("linked")
    cell(page, "grad[1,0]").click()
    page.keyboard.press("ArrowRight")
    expect(cell(page, "grad[1,1]")).to_be_focused()

    expect(explorers(page).get_by_role("alert")).to_have_count(0)
    cell(page, "response_mask[0,0]").click()
    alert = explorers(page).get_by_role("alert")
    expect(alert).to_contain_text("run this cell again")

    page.evaluate(f"{PANEL}.sessionContext.startKernel()")
    lab.restart(page)
    lab.run_all(page)
    expect(explorers(page)).to_have_count(1)
    expect(cell(page, "num_tokens")).to_have_text("7")
    cell(page, "response_mask[0,2]").click()
    expect(cell(page, "num_tokens")).to_have_text("8")


def test_a_control_that_no_kernel_follows_says_so(lab, no_foreign_requests, notebook):
    path = notebook(
        "from sftviz import AccumulationExplorer, LogitsExplorer, StepExplorer\nStepExplorer()",
        "AccumulationExplorer()",
        "LogitsExplorer()",
        "StepExplorer(gradient_accumulation_steps=8)",
    )
    page = lab.open(path)
    lab.run_all(page)
    step, window, logits, untouched = page.locator(".sftviz-explorer").all()
    lab.restart(page)
    step.get_by_role("slider", name="G", exact=True).press("ArrowRight")
    window.get_by_role("button", name="play", exact=True).click()
    box = logits.get_by_role("spinbutton", name="logit")
    box.fill("1")
    box.press("Enter")
    for explorer in (step, window, logits):
        alert = explorer.get_by_role("alert")
        expect(alert).to_contain_text("run this cell again")
        expect(explorer.locator(".sftviz-picture")).to_contain_class("stale")
    expect(untouched.get_by_role("alert")).to_have_count(0)
    lab.run_all(page)
    again = page.locator(".sftviz-explorer").first
    again.get_by_role("slider", name="G", exact=True).press("ArrowRight")
    expect(cell(again, "gradient_accumulation_steps")).to_have_text("3")
    expect(again.get_by_role("alert")).to_have_count(0)


def test_what_a_control_can_not_be_set_to_gets_a_sentence(lab, no_foreign_requests, notebook):
    page = lab.open(notebook("from sftviz import StepExplorer\nStepExplorer()"))
    lab.run_all(page)
    explorer = explorers(page)
    readout = explorer.get_by_role("textbox", name="G")
    alert, G = explorer.get_by_role("alert"), cell(page, "gradient_accumulation_steps")
    for key, possible in (("Enter", "0.7"), ("Tab", "0.6")):
        for typed, shown in (("20", "16"), ("0", "1"), ("3.7", "3")):
            readout.fill(typed)
            readout.press(key)
            expect(G).to_have_text(shown)
            expect(alert).to_contain_text(f"G can't be set to {typed} here, so it is {shown}.")
            expect(explorer.locator(".sftviz-picture")).not_to_contain_class("stale")
        readout.fill("7")
        readout.press(key)
        expect(G).to_have_text("7")
        expect(alert).to_have_count(0)
        box = explorer.get_by_role("spinbutton", name="log-prob of row 1, token 1")
        box.fill(possible)  # a number that it can have, though it is no log-prob
        box.press(key)
        expect(cell(page, "policy_log_probs[0,0]")).to_have_text(possible)
        expect(alert).to_have_count(0)


def test_a_word_of_the_vocabulary_is_not_typeset(lab, no_foreign_requests, notebook):
    words = ["$x^2$", "\\(y^2\\)", "$$z^2$$", "<b>bold</b>", "on"]
    page = lab.open(
        notebook(
            f"from sftviz import LogitsExplorer, StepExplorer\nLogitsExplorer(vocabulary={words})",
            f"StepExplorer([[-1.0] * 5], tokens=[{words}])",
            "from ipywidgets import FloatText\nFloatText(description='$x^2$')",
        )
    )
    lab.run_all(page)
    mathematics = page.locator("mjx-container")
    expect(mathematics).to_have_count(1)  # in the box that has nothing to do with this package
    logits, step = page.locator(".sftviz-explorer").all()
    for entry, word in enumerate(words):
        cell(logits, f"logits[0,1,{entry}]").click()
        readout = logits.locator("svg text").nth(3)
        expect(readout).to_have_text(word)
        name = f"logit of token 2, entry {entry}"
        expect(logits.get_by_role("spinbutton", name=name)).to_be_visible()
    step.get_by_role("button", name="as code").click()
    expect(step.locator("pre", has_text="<b>bold</b>")).to_be_visible()
    page.wait_for_timeout(500)
    expect(mathematics).to_have_count(1)
    assert page.locator(".sftviz-explorer b").count() == 0


def test_what_is_wrong_is_said_in_the_explorer_that_it_was_done_in(
    lab, no_foreign_requests, notebook
):
    path = notebook(
        "from sftviz import StepExplorer\nexplorer = StepExplorer()\nexplorer",
        "explorer",
        "StepExplorer([[-1.0, -2.0]], tokens=[['a', 'b']])",
    )
    page = lab.open(path)
    lab.run_all(page)
    one, again, other = (explorers(page).nth(place) for place in range(3))
    number = one.get_by_role("spinbutton", name="c")
    number.fill("-1")
    number.press("Enter")
    for view in (one, again):
        alert = view.get_by_role("alert")
        expect(alert).to_contain_text(
            "normalize_constant must be a finite number above 0, got -1.0"
        )
        expect(alert.locator("pre")).to_be_hidden()
        expect(view.locator(".sftviz-picture")).to_contain_class("stale")
    expect(other.get_by_role("alert")).to_have_count(0)

    cell(page, "response_mask[0,0]", 1).click()
    for view in (0, 1):
        expect(cell(page, "num_tokens", view)).to_have_text("6")
    expect(one.get_by_role("alert")).to_have_count(0)
    expect(number).to_have_value("1")
    expect(cell(page, "num_tokens", 2)).to_have_text("2")

    one.get_by_role("combobox", name="preset").select_option("padding")
    expect(cell(page, "num_tokens", 1)).to_have_text("5")
    one.get_by_role("button", name="as code", pressed=False).click()
    expect(one.get_by_role("button", name="as code", pressed=True)).to_be_visible()
    expect(one.locator("pre", has_text="StepExplorer(")).to_be_visible()
    one.get_by_role("button", name="reset").click()
    expect(cell(page, "num_tokens")).to_have_text("5")


def test_it_follows_the_theme_keeps_nobody_out_and_fits_narrow_and_enlarged_pages(
    lab, no_foreign_requests, notebook
):
    page = lab.open(notebook("from sftviz import StepExplorer\nStepExplorer()"))
    lab.run_all(page)
    cell(page, "grad[0,1]").hover()

    def colours():
        return page.locator(".sftviz-live svg").evaluate(
            """svg => ["ground > rect", "card > rect", "response > text", "masked > rect"].map(
                part => getComputedStyle(svg.querySelector("." + part)).fill)"""
        )

    light = colours()
    lab.screenshot(page, "explorer-light")
    assert barriers(page) == []
    darken(page)
    dark = colours()
    assert all(one != other for one, other in zip(light, dark, strict=True))
    lab.screenshot(page, "explorer-dark")
    assert barriers(page) == []

    page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    for name, width, height in (("narrow", 360, 640), ("phone", 420, 800), ("enlarged", 640, 450)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(FITS)
        cell(page, "normalize_constant").focus()
        page.keyboard.press("ArrowDown")
        expect(cell(page, "num_tokens")).to_be_focused()
        lab.screenshot(page, f"explorer-{name}")
        page.wait_for_function(INSIDE, arg=width)
