"""The live drawing on a page of its own, without Jupyter; `test_step_explorer` is in Jupyter."""

import re

import pytest
import torch
from playwright.sync_api import expect

from sftviz import (
    WORKED_EXAMPLE,
    AccumulationExplorer,
    InspectionExplorer,
    LogitsExplorer,
    StepExplorer,
    inspect_batch,
)
from sftviz.drawing.theme import paint
from sftviz.examples import PRESETS
from sftviz.inspection.examples import PUZZLES, TOKENS
from sftviz.live.widget import LiveDrawing

from .alone import Alone, prepare, show

TOKEN = {f"{name}[0,2]" for name in ("policy_log_probs", "response_mask", "masked_log_probs")} | {
    "grad[0,2]",
    "tokens[0,2]",
}  # everything about one token
ROW = {"masked_log_probs[0,:]", "response_mask[0,:]"}  # the sums that it is part of


@pytest.fixture
def put(page):
    """Show explorers on a page; fail if there is an error on the page."""
    errors = []
    page.on("pageerror", lambda error: errors.append(error.message))
    prepare(page)
    yield lambda explorer=None: show(page, explorer or StepExplorer(), str(LiveDrawing._esm))
    assert errors == []


@pytest.fixture
def clock(page):
    """The page's time, which passes only in `run_for`."""
    page.clock.install(time=0)
    page.clock.pause_at(1)
    return page.clock


@pytest.fixture
def live(put) -> Alone:
    """The worked example."""
    return put()


def centre(live: Alone, key: str) -> tuple[float, float]:
    live.cell(key).scroll_into_view_if_needed()
    box = live.cell(key).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(live: Alone, key: str, *offsets: float) -> None:
    """Press on a cell, move up or down to each of the offsets, release."""
    mouse = live.page.mouse
    x, y = centre(live, key)
    mouse.move(x, y)
    mouse.down()
    for offset in offsets:
        mouse.move(x, y + offset)
    mouse.up()


# Pointer


def test_a_click_toggles_a_mask_bit(live):
    expect(live.cell("num_tokens")).to_have_text("7")
    live.cell("response_mask[0,2]").click()
    expect(live.cell("response_mask[0,2]")).to_have_text("1")
    expect(live.cell("num_tokens")).to_have_text("8")
    live.cell("response_mask[0,2]").click()
    expect(live.cell("num_tokens")).to_have_text("7")
    assert len(live.edits) == 2
    assert live.explorer.response_mask.tolist() == [[1, 1, 0, 1], [1, 1, 1, 1]]


def test_a_drag_across_paints_all_cells_on_its_way(live):
    mouse = live.page.mouse
    mouse.move(*centre(live, "response_mask[0,0]"))
    mouse.down()
    expect(live.cell("num_tokens")).to_have_text("6")
    mouse.move(*centre(live, "response_mask[0,3]"))  # in one jump, like a fast pointer
    expect(live.cell("num_tokens")).to_have_text("4")
    mouse.move(*centre(live, "response_mask[1,3]"))
    mouse.move(*centre(live, "policy_log_probs[1,3]"))  # nothing to paint there
    mouse.move(5000, 5000)
    mouse.up()
    mouse.move(*centre(live, "response_mask[1,0]"))  # released: no more painting
    live.settled()
    assert live.explorer.response_mask.tolist() == [[0, 0, 0, 0], [1, 1, 1, 0]]
    assert live.explorer.policy_log_probs[1, 3] == -0.5


def test_a_drag_up_and_down_moves_a_log_prob(live):
    drag(live, "policy_log_probs[0,1]", -10)
    expect(live.cell("policy_log_probs[0,1]")).to_have_text("−0.2")
    drag(live, "policy_log_probs[0,1]", 50, 0)  # and back to the start
    live.settled()
    expect(live.cell("policy_log_probs[0,1]")).to_have_text("−0.2")
    drag(live, "policy_log_probs[0,1]", 50, 130)
    expect(live.cell("policy_log_probs[0,1]")).to_have_text("−1.5")
    drag(live, "policy_log_probs[0,1]", -100, -400)  # no probability is above 1
    expect(live.cell("policy_log_probs[0,1]")).to_have_text("0")
    assert live.page.evaluate("getSelection().toString()") == ""


def test_a_click_with_a_small_movement_changes_nothing(put):
    live = put(StepExplorer([[-0.12345, -1.0]]))
    drag(live, "policy_log_probs[0,0]", 0, 1, -2, 3, 0)
    live.page.mouse.move(0, 0)
    live.settled()
    assert live.edits == []
    assert live.explorer.policy_log_probs[0, 0] == torch.tensor(-0.12345)
    assert live.explorer.selected == (0, 0)


def test_only_the_main_button_does_anything(live):
    live.cell("response_mask[0,0]").click(button="right")
    live.settled()
    assert live.edits == []


def test_a_computed_value_can_be_selected_but_not_changed(live):
    live.cell("grad[0,1]").click()
    expect(live.cell("grad[0,1]")).to_be_focused()
    live.page.keyboard.press("Space")
    live.page.keyboard.press("+")
    drag(live, "masked_sum", -30)
    live.settled()
    assert live.edits == []
    assert live.explorer.selected == (0, 1)


@pytest.mark.browser_context_args(has_touch=True)
def test_touch_works_like_a_mouse(live):
    finger = live.page.context.new_cdp_session(live.page)

    def touch(kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    live.page.touchscreen.tap(*centre(live, "response_mask[0,2]"))
    expect(live.cell("num_tokens")).to_have_text("8")

    x, y = centre(live, "response_mask[1,0]")
    touch("touchStart", (x, y))
    touch("touchMove", (x + 20, y))
    touch("touchMove", centre(live, "response_mask[1,2]"))
    touch("touchEnd")
    expect(live.cell("num_tokens")).to_have_text("5")

    x, y = centre(live, "policy_log_probs[1,3]")
    touch("touchStart", (x, y))
    for down in (20, 60, 100):
        touch("touchMove", (x, y + down))
    touch("touchEnd")
    expect(live.cell("policy_log_probs[1,3]")).to_have_text("−1.5")
    assert live.page.evaluate("scrollY") == 0  # the page did not scroll


# Keys


def test_the_picture_is_one_tab_stop(live):
    live.page.locator("input").focus()
    live.page.keyboard.press("Tab")
    expect(live.cell("policy_log_probs[0,0]")).to_be_focused()
    live.page.keyboard.press("ArrowRight")
    expect(live.cell("policy_log_probs[0,1]")).to_be_focused()
    live.page.keyboard.press("Tab")
    expect(live.page.locator("#after")).to_be_focused()
    live.page.keyboard.press("Shift+Tab")  # to the same cell
    expect(live.cell("policy_log_probs[0,1]")).to_be_focused()
    assert live.place.locator("[tabindex='0']").count() == 1


def test_the_picture_is_one_tab_stop_whatever_is_selected_and_drawn(put):
    live = put(AccumulationExplorer(reached=2))
    stops = live.place.locator("[tabindex='0']")
    for cell in live.place.locator("g:has(> rect)[data-key]").all()[::5]:
        cell.focus()
        assert stops.count() == 1
    for cell in live.cell("scaled_loss").all():
        cell.focus()
        live.explorer.unevenness = 1 - live.explorer.unevenness
        live.push()
        alt = live.explorer.live.alt
        expect(live.place.get_by_role("group")).to_have_attribute("aria-label", alt)
        expect(cell).to_be_focused()
        expect(cell).to_have_attribute("tabindex", "0")
        assert stops.count() == 1
    live.page.keyboard.press("ArrowDown")
    expect(live.cell("microbatch_grad[0,3]")).to_be_focused()


def test_arrows_home_and_end_go_from_cell_to_cell_by_position(live):
    live.cell("policy_log_probs[0,0]").focus()
    for keys, key in [
        ("ArrowLeft", "policy_log_probs[0,0]"),  # there is nothing further left
        ("End", "policy_log_probs[0,3]"),
        ("ArrowDown", "policy_log_probs[1,3]"),
        ("ArrowLeft", "policy_log_probs[1,2]"),
        ("ArrowDown", "response_mask[0,2]"),
        ("ArrowDown", "response_mask[1,2]"),
        ("ArrowDown", "gradient_accumulation_steps"),
        ("ArrowDown", "normalize_constant"),
        ("ArrowDown", "num_tokens"),
        ("ArrowDown", "masked_log_probs[0,3]"),
        ("Home", "masked_log_probs[0,0]"),
        ("ArrowUp", "num_tokens"),
        ("ArrowRight", "grad"),  # in the second column, on the same line
        ("ArrowLeft", "num_tokens"),
        ("ArrowDown", "masked_log_probs[0,3]"),
        ("ArrowDown", "masked_log_probs[1,3]"),
        ("ArrowDown", "masked_sum"),
        ("ArrowDown", "loss"),  # at the top of the second column
        ("ArrowUp", "masked_sum"),
        ("ArrowDown", "loss"),
        ("ArrowDown", "scaled_loss"),
        ("ArrowDown", "grad[0,3]"),
        ("Home", "grad[0,0]"),
        ("End", "grad[0,3]"),
        ("ArrowDown", "grad[1,3]"),
        ("ArrowDown", "grad"),
        ("ArrowDown", "grad"),
    ]:
        live.page.keyboard.press(keys)
        expect(live.cell(key)).to_be_focused()


def test_space_and_enter_toggle(live):
    live.cell("response_mask[0,2]").focus()
    live.page.keyboard.press("Space")
    expect(live.cell("num_tokens")).to_have_text("8")
    live.page.keyboard.press("Enter")
    expect(live.cell("num_tokens")).to_have_text("7")
    live.page.keyboard.press("+")  # only for log-probs
    live.cell("policy_log_probs[0,2]").focus()
    live.page.keyboard.press("Space")
    live.settled()
    assert len(live.edits) == 2


@pytest.mark.parametrize(
    "keys, text", [("+", "−0.7"), ("=", "−0.7"), ("-", "−0.9"), ("_", "−0.9"), ("+++++++++", "0")]
)
def test_plus_and_minus_move_a_log_prob(live, keys, text):
    live.cell("policy_log_probs[0,2]").focus()
    for key in keys:
        live.page.keyboard.press(key)
    expect(live.cell("policy_log_probs[0,2]")).to_have_text(text)


def test_a_change_is_rounded_to_hundredths(put):
    live = put(StepExplorer([[-0.12345, -1.0]]))
    live.cell("policy_log_probs[0,0]").focus()
    live.page.keyboard.press("+")
    live.settled()
    assert live.edits == [{"policy_log_probs[0,0]": -0.02}]


def test_an_infinite_log_prob_can_be_changed(put):
    live = put(StepExplorer([[-torch.inf, -1.0]]))
    live.cell("policy_log_probs[0,0]").focus()
    live.page.keyboard.press("+")
    expect(live.cell("policy_log_probs[0,0]")).to_have_text("0")


def test_a_burst_of_keys_ends_in_the_right_state(live):
    live.cell("policy_log_probs[0,2]").focus()
    send = "[...arguments[0]].forEach(key => document.activeElement.dispatchEvent(event(key)))"
    live.page.evaluate(
        f"""function(keys) {{
            const event = (key) => new KeyboardEvent("keydown", {{ key, bubbles: true }});
            {send.replace("arguments[0]", "keys")};
        }}""",
        "-" * 60 + "+" * 20,
    )
    expect(live.cell("policy_log_probs[0,2]")).to_have_text("−4.8")
    live.settled()
    assert live.explorer.policy_log_probs[0, 2] == torch.tensor(-4.8)
    assert len(live.edits) < 10  # messages in between are skipped


def test_a_change_before_the_acknowledgement_starts_from_the_last_edit(live):
    """The third press comes when the first is acknowledged and the second is not yet sent."""
    live.cell("policy_log_probs[0,2]").focus()
    live.page.evaluate(
        """async () => {
            const event = () => new KeyboardEvent("keydown", { key: "-", bubbles: true });
            const press = () => document.activeElement.dispatchEvent(event());
            let pictures = 0;
            model0.on("change:svg", () => ++pictures === 1 && press());
            press();
            await null; // the end of one event's message
            press();
        }"""
    )
    expect(live.cell("policy_log_probs[0,2]")).to_have_text("−1.1")
    assert [list(edit.values()) for edit in live.edits] == [[-0.9], [-1.1]]


@pytest.mark.parametrize("modifier", ["Control", "Alt", "Meta"])
def test_keys_with_a_modifier_do_nothing(live, modifier):
    live.cell("policy_log_probs[0,2]").focus()
    live.page.keyboard.press(f"{modifier}+-")
    live.page.keyboard.press(f"{modifier}+ArrowRight")
    live.page.keyboard.press("-")
    expect(live.cell("policy_log_probs[0,2]")).to_have_text("−0.9")
    assert [list(edit) for edit in live.edits] == [["policy_log_probs[0,2]"]]


def test_a_drag_paints_in_one_picture_only(put):
    one, other = put(StepExplorer([[-1.0, -2.0]])), put(StepExplorer([[-1.0, -2.0]]))
    one.page.set_viewport_size({"width": 1280, "height": 2600})  # all of both
    one.page.mouse.move(*centre(one, "response_mask[0,0]"))
    one.page.mouse.down()
    expect(one.cell("num_tokens")).to_have_text("1")
    box = other.cell("response_mask[0,1]").bounding_box()
    one.page.mouse.move(box["x"] + 5, box["y"] + 5)
    one.page.mouse.up()
    other.settled()
    assert one.edits == [{"response_mask[0,0]": 0}] and other.edits == []


def test_another_pointer_neither_drags_nor_ends_a_drag(live):
    live.page.mouse.move(*centre(live, "policy_log_probs[0,1]"))
    live.page.mouse.down()
    live.place.locator(".sftviz-picture").evaluate(
        """picture => {
            const other = { pointerId: 99, clientX: 0, clientY: 999 };
            picture.dispatchEvent(new PointerEvent("pointermove", other));
            picture.dispatchEvent(new PointerEvent("lostpointercapture", other));
        }"""
    )
    live.settled()
    assert live.edits == []
    live.page.mouse.move(0, 0)
    live.page.mouse.up()
    assert live.edits


def test_a_click_is_one_message(live):
    live.messages.clear()
    live.cell("response_mask[0,2]").click()
    expect(live.cell("num_tokens")).to_have_text("8")
    live.settled()
    (message,) = [message for message in live.messages if message.get("edits", {}).get("values")]
    assert message["selected"] == "response_mask[0,2]"


def test_edits_from_before_a_reset_are_ignored_after_it(live):
    """The reset comes when the first press was sent and the second is not yet sent."""
    take = live.explorer._on_edits

    def reset_first(change):
        live.explorer.live.unobserve(reset_first, "edits")
        live.explorer.live.observe(take, "edits")
        take(change)
        live.explorer.load(WORKED_EXAMPLE)

    live.explorer.live.unobserve(take, "edits")
    live.explorer.live.observe(reset_first, "edits")
    log_prob = live.cell("policy_log_probs[0,2]")
    log_prob.focus()
    live.page.evaluate(
        """async () => {
            const event = () => new KeyboardEvent("keydown", { key: "-", bubbles: true });
            document.activeElement.dispatchEvent(event());
            await null;
            document.activeElement.dispatchEvent(event());
        }"""
    )
    live.settled()
    assert [list(edit.values()) for edit in live.edits] == [[-0.9], [-1.0]]
    assert live.explorer.policy_log_probs[0, 2] == torch.tensor(-0.8)
    expect(log_prob).to_have_text("−0.8")
    live.page.keyboard.press("-")  # from where it is now
    expect(log_prob).to_have_text("−0.9")


def test_edits_of_an_earlier_generation_are_not_sent_with_those_of_the_next(live):
    live.page.evaluate("model0.isWaiting = true")
    live.cell("response_mask[0,0]").click()
    live.explorer.load(PRESETS["padding"])
    live.push()
    expect(live.cell("response_mask[0,4]")).to_have_text("1")
    live.cell("response_mask[0,4]").click()
    live.page.evaluate("model0.isWaiting = false, model0.save_changes()")
    expect(live.cell("response_mask[0,4]")).to_have_text("0")
    assert live.edits == [{"response_mask[0,4]": 0}]


def test_clicks_drags_and_keys_work_in_a_window_without_focus(live):
    """Such a window has no focusin events."""
    live.page.evaluate(
        "addEventListener('focusin', event => event.stopImmediatePropagation(), { capture: true })"
    )
    live.cell("response_mask[0,2]").click()
    expect(live.cell("num_tokens")).to_have_text("8")
    expect(live.cell("response_mask[0,2]")).to_be_focused()
    drag(live, "policy_log_probs[0,2]", 50)
    expect(live.cell("policy_log_probs[0,2]")).to_have_text("−1.3")
    expect(live.cell("policy_log_probs[0,2]")).to_be_focused()
    live.page.keyboard.press("-")
    expect(live.cell("policy_log_probs[0,2]")).to_have_text("−1.4")


def test_no_key_pressed_inside_reaches_the_notebook(live):
    keys = ["b", "x", "d", "d", "Escape", "Enter", "Shift+Enter", "Control+Enter", "Control+z"]
    keys += ["ArrowUp", "ArrowDown", "Control+Shift+ArrowUp", "Control+Shift+M", "Delete"]
    slider, number = live.page.locator(".noUi-handle"), live.page.locator("input")
    for place in (live.cell("response_mask[0,0]"), live.cell("grad[0,0]"), slider, number):
        place.focus()
        for key in keys:
            live.page.keyboard.press(key)
    assert live.page.evaluate("received") == []
    live.page.locator("#before").focus()
    live.page.keyboard.press("b")
    assert live.page.evaluate("received") == ["b", "b"]


def test_shortcuts_of_the_application_reach_it(live):
    live.cell("grad[0,0]").focus()
    live.page.evaluate("addEventListener('keydown', (event) => event.preventDefault())")
    live.page.keyboard.press("Control+s")
    assert live.page.evaluate("received") == ["s", "s"]
    assert live.edits == []


# Linking


@pytest.mark.parametrize("name", ["policy_log_probs", "response_mask", "masked_log_probs", "grad"])
@pytest.mark.parametrize("how", ["hover", "focus"])
def test_a_token_is_linked_wherever_it_appears_and_with_its_stages(live, name, how):
    getattr(live.cell(f"{name}[0,2]"), how)()
    field = {name}  # the words that name the quantity
    assert live.linked == TOKEN | ROW | field | {"0", "1", "2", "5"}


def test_a_row_sum_is_linked_with_its_row(live):
    live.place.locator('[data-key="masked_log_probs[1,:]"]').first.hover()
    assert live.linked >= {f"{name}[1,{i}]" for name in ("grad", "response_mask") for i in range(4)}
    assert not any("[0," in key for key in live.linked)


def test_a_word_of_code_or_formula_is_linked_with_its_quantity(live):
    live.place.locator('[data-key="gradient_accumulation_steps"] text', has_text="G").first.hover()
    assert live.linked == {"gradient_accumulation_steps", "0", "3", "4", "5"}
    live.place.locator('[data-key="response_mask"]', has_text="response_mask").last.hover()
    assert live.linked >= {"response_mask", "response_mask[1,3]", "response_mask[0,:]"}
    assert "grad[1,3]" not in live.linked


def test_when_the_pointer_leaves_the_focused_cell_is_linked_again(live):
    live.cell("grad[0,2]").focus()
    linked = live.linked
    live.cell("masked_sum").hover()
    assert live.linked == {"masked_sum", "2", "3", "6"}
    live.page.locator("#before").hover()
    assert live.linked == linked
    live.page.locator("#before").focus()
    assert live.linked == set()


def test_linking_needs_no_kernel(live):
    live.page.evaluate(f"{live.name}.isDead = true")
    live.cell("grad[0,2]").hover()
    assert live.linked >= TOKEN
    live.cell("policy_log_probs[1,1]").focus()
    live.page.mouse.move(0, 0)
    assert "grad[1,1]" in live.linked


def test_an_entry_is_linked_with_its_token_but_not_with_other_entries(put):
    live = put(LogitsExplorer())
    live.cell("logits[0,2,1]").hover()
    token = {"policy_log_probs[0,2]", "response_mask[0,2]", "labels[0,2]", "grad[0,2]"}
    entry = {"logits[0,2,1]", "probs[0,2,1]", "logits_grad[0,2,1]"}
    assert {key for key in live.linked if "[0,2" in key} == token | entry
    live.cell("grad[0,2]").hover()
    assert live.linked >= token | entry | {"logits[0,2,0]", "probs[0,2,4]"}
    assert not any("[0,1" in key for key in live.linked)

    logit = live.cell("logits[0,2,1]")
    expect(logit).to_have_accessible_name("row 1, token 3, entry 2, logit −0.8")
    drag(live, "logits[0,2,1]", -150)  # no limit
    expect(logit).to_have_text("0.7")
    assert lit(live) >= {"probs[0,2,0]", "logits_grad[0,2,1]"}
    assert "grad[0,2]" not in lit(live)  # a constant


# New drawings


def test_a_new_drawing_keeps_focus_selection_and_links(live):
    live.cell("response_mask[0,2]").click()
    live.cell("grad[0,1]").hover()
    linked = live.linked
    live.page.keyboard.press("Space")
    expect(live.cell("num_tokens")).to_have_text("7")
    live.explorer.gradient_accumulation_steps = 4
    live.push()
    expect(live.cell("scaled_loss")).to_have_text("0.175")
    expect(live.cell("response_mask[0,2]")).to_be_focused()
    assert live.linked == linked
    assert live.explorer.selected == (0, 2)


def test_a_new_drawing_does_not_take_the_focus(live):
    live.cell("grad[0,1]").focus()
    live.page.locator("input").focus()
    live.explorer.gradient_accumulation_steps = 4
    live.push()
    expect(live.cell("scaled_loss")).to_have_text("0.175")
    expect(live.page.locator("input")).to_be_focused()


def test_if_the_focused_cell_is_gone_another_gets_the_focus(live):
    live.cell("policy_log_probs[1,3]").focus()
    live.explorer.load(PRESETS["all masked"])  # three tokens a row
    live.push()
    expect(live.cell("policy_log_probs[0,0]")).to_be_focused()


def lit(live):
    """What is highlighted as changed, by key."""
    colour = f"rgb({', '.join(str(byte) for byte in bytes.fromhex(paint('lit', 'light').ink[1:]))})"
    return set(
        live.place.locator("[data-key] > text").evaluate_all(
            """(texts, colour) => texts
                .filter(text => getComputedStyle(text).fill === colour)
                .map(text => text.parentNode.dataset.key)""",
            colour,
        )
    )


def fading(live):
    """What is fading back, by key."""
    return set(
        live.place.evaluate(
            """place => place.getAnimations({ subtree: true })
                .map(({ effect }) => effect.target.closest("[data-key]").dataset.key)"""
        )
    )


def test_only_changed_values_are_highlighted_and_fade_when_changes_stop(clock, put):
    live = put()
    assert lit(live) == set()
    live.explorer.gradient_accumulation_steps = 4
    live.push()
    grads = {f"grad[{i},{j}]" for i in range(2) for j in range(4)} - {"grad[0,2]"}
    changed = grads | {"gradient_accumulation_steps", "loss", "scaled_loss", "grad"}
    assert lit(live) == changed
    clock.run_for(500)
    live.explorer.normalize_constant = 2.0
    live.push()
    changed |= {"normalize_constant", "masked_sum"}
    assert lit(live) == changed
    clock.run_for(500)
    assert lit(live) == changed and fading(live) == set()
    browser = live.page.context.new_cdp_session(live.page)
    browser.send("Animation.enable")
    browser.send("Animation.setPlaybackRate", {"playbackRate": 0})  # pause, to have time to look
    clock.run_for(300)
    assert fading(live) == changed
    browser.send("Animation.setPlaybackRate", {"playbackRate": 1})
    live.place.evaluate(
        """place => Promise.all(
            place.getAnimations({ subtree: true }).map(({ finished }) => finished))"""
    )
    assert lit(live) == fading(live) == set()


def test_another_entry_in_the_readout_is_not_a_change(put):
    live = put(LogitsExplorer())
    live.cell("logits[0,1,2]").click()
    readout = live.place.locator('[data-key="logits_grad[0,1,2]"]:not(:has(> rect))').last
    expect(readout).to_have_text("−0.06394")
    assert lit(live) == set()


def test_a_value_that_is_no_longer_known_is_not_highlighted(put):
    live = put(AccumulationExplorer(B=3, G=2))
    live.explorer.reached = 1
    live.push()
    expect(live.cell("grad_before[1,1]")).to_have_text("")
    live.explorer.reached = 2
    live.push()
    expect(live.cell("grad_before[1,1]")).not_to_have_text("")
    assert lit(live) >= {"scaled_loss", "grad[1,1]", "grad_before[1,1]"}
    assert "grad[0,0]" not in lit(live)  # nothing was added to it
    live.explorer.reached = 1
    live.push()
    expect(live.cell("grad_before[1,1]")).to_have_text("")
    assert "grad_before[1,1]" not in lit(live)


def test_with_reduced_motion_nothing_is_highlighted(live):
    live.page.emulate_media(reduced_motion="reduce")
    live.explorer.gradient_accumulation_steps = 4
    live.push()
    expect(live.cell("scaled_loss")).to_have_text("0.175")
    assert lit(live) == set()
    live.page.wait_for_timeout(800)
    assert fading(live) == set()


def test_another_width_highlights_and_announces_nothing(clock, put, page):
    live = put()
    columns = live.explorer.live.columns
    page.set_viewport_size({"width": 600, "height": 700})
    page.wait_for_function(f"model0.get('columns') < {columns}")
    live.settled()
    assert live.explorer.live.columns == 600 // 8 - 2
    assert lit(live) == set()
    clock.run_for(2000)
    expect(live.place.get_by_role("status")).to_have_text("")


# Screen readers


def test_every_cell_has_a_name(live):
    for key, name in {
        "policy_log_probs[0,2]": "row 1, token 3, log-prob −0.8, masked",
        "policy_log_probs[1,0]": "row 2, token 1, log-prob −0.4",
        "response_mask[0,2]": "row 1, token 3, mask 0",
        "masked_log_probs[0,3]": "row 1, token 4, masked log-prob −0.2",
        "grad[0,2]": "row 1, token 3, gradient 0, masked",
        "grad": "gradient −0.25",
        "masked_sum": "masked sum −2.8",
        "gradient_accumulation_steps": "gradient accumulation steps 2",
    }.items():
        expect(live.cell(key)).to_have_accessible_name(name)


def test_cells_that_are_not_tokens_are_named_by_row_and_column(put):
    live = put(AccumulationExplorer(reached=1))
    cell = live.cell("microbatch_grad[1,0]")
    expect(cell).to_have_accessible_name(re.compile("^row 2, column 1, microbatch grad "))


def test_every_cell_has_a_role(live):
    expect(live.cell("policy_log_probs[0,0]")).to_have_role("button")
    expect(live.cell("grad[0,0]")).to_have_role("img")
    bit = live.cell("response_mask[0,2]")
    expect(bit).to_have_role("checkbox")
    expect(bit).not_to_be_checked()
    bit.click()
    expect(bit).to_be_checked()
    group = live.place.get_by_role("group", name=live.explorer.drawing.alt)
    expect(group).to_have_class("sftviz-picture")


def test_a_settled_change_is_announced_once(clock, put, page):
    live = put()
    status = live.place.get_by_role("status")
    page.evaluate(
        """() => {
            window.announced = [];
            const node = document.querySelector("[role=status]");
            const mutations = new MutationObserver(() => announced.push(node.textContent));
            mutations.observe(node, { childList: true });
        }"""
    )
    clock.run_for(5000)
    live.cell("policy_log_probs[0,1]").focus()
    for _ in range(5):
        page.keyboard.press("-")
        live.settled()
        clock.run_for(300)  # not yet settled
    expect(status).to_have_text("")
    clock.run_for(1000)
    expect(status).to_have_text(live.explorer.drawing.alt)
    clock.run_for(5000)
    assert page.evaluate("announced") == [live.explorer.drawing.alt]
    assert "masked_sum −3.3" in live.explorer.drawing.alt


def test_a_change_is_announced_only_in_the_explorer_with_focus(clock, put):
    here = put()
    there = put(here.explorer)
    here.cell("response_mask[0,0]").click()
    expect(here.cell("num_tokens")).to_have_text("6")
    there.push()
    clock.run_for(5000)
    expect(here.place.get_by_role("status")).to_have_text(here.explorer.drawing.alt)
    expect(there.place.get_by_role("status")).to_have_text("")
    here.page.locator("#after").focus()
    here.explorer.gradient_accumulation_steps = 3
    for view in (here, there):
        view.push()
    clock.run_for(5000)
    expect(there.place.get_by_role("status")).to_have_text("")
    assert here.explorer.drawing.alt != here.place.get_by_role("status").text_content()


def test_a_change_that_is_undone_is_not_announced(clock, put):
    live = put()
    live.cell("response_mask[0,0]").click()
    expect(live.cell("num_tokens")).to_have_text("6")
    live.cell("response_mask[0,0]").click()
    expect(live.cell("num_tokens")).to_have_text("7")
    clock.run_for(5000)
    expect(live.place.get_by_role("status")).to_have_text("")


def test_sliders_are_named_after_their_label(live):
    slider = live.page.get_by_role("slider")
    expect(slider).to_have_accessible_name("G")
    live.page.evaluate("document.querySelector('label').textContent = 'log-prob of row 1'")
    expect(slider).to_have_accessible_name("log-prob of row 1")


def test_rejected_edits_are_dropped(live, monkeypatch):
    def reject(entries):
        raise ValueError("Not now.")

    monkeypatch.setattr(live.explorer, "edit", reject)
    live.cell("policy_log_probs[0,2]").focus()
    live.page.keyboard.press("-")
    expect(live.place.get_by_role("alert")).to_contain_text("Not now.")
    live.settled()
    monkeypatch.undo()
    live.page.keyboard.press("-")
    expect(live.cell("policy_log_probs[0,2]")).to_have_text("−0.9")
    expect(live.place.get_by_role("alert")).to_be_hidden()


def test_an_error_is_shown_as_a_sentence_and_marks_the_picture_as_stale(live):
    alert = live.place.locator("[role=alert]")
    picture = live.place.locator(".sftviz-picture")
    expect(alert).to_be_hidden()
    with live.explorer.live.guard():
        live.explorer.normalize_constant = -1.0
    live.push()
    expect(alert).to_be_visible()
    expect(alert.locator("p")).to_have_text(live.explorer.live.error["message"])
    expect(alert.locator("pre")).to_be_hidden()
    expect(picture).to_have_class("sftviz-picture stale")
    alert.locator("summary").click()
    expect(alert.locator("pre")).to_contain_text("in check_constant")

    live.cell("response_mask[0,2]").click()  # a good value
    expect(alert).to_be_hidden()
    expect(picture).to_have_class("sftviz-picture")


def test_a_kernel_that_does_not_answer_is_reported_until_it_does(clock, put):
    live = put()
    alert, picture = live.place.locator("[role=alert]"), live.place.locator(".sftviz-picture")
    live.page.evaluate("model0.isWaiting = true")  # nothing is sent
    live.cell("grad[0,1]").click()  # no edit
    clock.run_for(10_000)
    expect(alert).to_be_hidden()
    live.cell("response_mask[0,2]").click()
    clock.run_for(4_000)
    live.cell("response_mask[0,1]").click()
    clock.run_for(4_000)
    expect(alert).to_be_hidden()
    clock.run_for(2_000)
    expect(alert.locator("p")).to_contain_text("The kernel has not answered for 5 seconds.")
    expect(alert.locator("details")).to_be_hidden()
    expect(picture).to_contain_class("stale")

    live.page.evaluate("model0.isWaiting = false, model0.save_changes()")
    expect(live.cell("response_mask[0,1]")).to_have_text("0")
    expect(live.cell("response_mask[0,2]")).to_have_text("1")
    expect(alert).to_be_hidden()
    expect(picture).not_to_contain_class("stale")
    live.cell("response_mask[0,1]").click()
    expect(live.cell("response_mask[0,1]")).to_have_text("1")
    clock.run_for(10_000)
    expect(alert).to_be_hidden()


SLIDER, NUMBER = ".noUi-handle", "input"
# What is done with a control, and whether its value may have changed.
USES = {
    "a key on a slider": (lambda page: page.locator(SLIDER).press("ArrowRight"), True),
    "a click on a slider": (lambda page: page.locator(SLIDER).click(), True),
    "a number that is typed": (lambda page: page.locator(NUMBER).press("5"), True),
    "a number that is set": (lambda page: page.locator(NUMBER).fill("5"), True),
    "the tab key": (lambda page: page.locator(NUMBER).press("Tab"), False),
    "a button elsewhere": (lambda page: page.locator("#before").click(), False),
}


@pytest.mark.parametrize("use", USES)
def test_a_control_that_moves_without_a_kernel_is_reported(clock, put, use):
    act, is_reported = USES[use]
    live = put()
    alert, picture = live.place.locator("[role=alert]"), live.place.locator(".sftviz-picture")
    live.page.evaluate("model0.isWaiting = true")  # nothing is sent
    act(live.page)
    clock.run_for(4_900)
    expect(alert).to_be_hidden()
    clock.run_for(200)
    if not is_reported:
        expect(alert).to_be_hidden()
        return
    expect(alert.locator("p")).to_contain_text("The kernel has not answered for 5 seconds.")
    expect(picture).to_contain_class("stale")

    live.page.evaluate("model0.isWaiting = false, model0.save_changes()")
    expect(alert).to_be_hidden()
    act(live.page)
    clock.run_for(10_000)
    live.settled()
    expect(alert).to_be_hidden()
    assert live.edits == []


def test_a_page_without_python_says_so(clock, put, page):
    """Exported pages have the state of their widgets in such an element."""
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.type = "application/vnd.jupyter.widget-state+json";
            document.body.append(script);
        }"""
    )
    live = put()
    live.page.evaluate("model0.isDead = true")
    page.locator(SLIDER).press("ArrowRight")
    clock.run_for(5_100)
    alert = live.place.locator("[role=alert] p")
    expect(alert).to_contain_text("This page has no Python behind it")
    expect(alert).not_to_contain_text("cell")


def test_a_control_that_is_used_does_not_send_edits_again(live):
    """They could undo what the control did: it may be a box for the same value."""
    live.page.evaluate("model0.isWaiting = true")
    live.cell("response_mask[0,0]").click()
    edits = live.page.evaluate("model0.get('edits')")
    live.page.locator(SLIDER).press("ArrowRight")
    live.page.wait_for_timeout(50)
    assert live.page.evaluate("model0.get('edits')") == edits
    live.page.evaluate("model0.isWaiting = false, model0.save_changes()")
    expect(live.cell("num_tokens")).to_have_text("6")
    live.settled()
    assert live.edits == [{"response_mask[0,0]": 0}]


def test_what_a_control_does_not_keep_gets_a_sentence(live):
    number = live.page.locator(NUMBER)
    alert, picture = live.place.locator("[role=alert]"), live.place.locator(".sftviz-picture")
    number.evaluate(  # as the front end's boxes and readouts do
        """number => {
            number.addEventListener("change", () => {
                if (!(number.valueAsNumber <= 16)) number.value = 16;
            });
        }"""
    )
    for typed, text in (("20", "20"), ("1e400", "that"), ("", "that")):
        number.fill("3")
        number.press("Enter")
        expect(alert).to_be_hidden()
        number.press("ControlOrMeta+a")
        live.page.keyboard.press("Delete")
        live.page.keyboard.type(typed)
        number.press("Enter")
        expect(alert.locator("p")).to_have_text(
            f"c can't be set to {text} here, so it is 16. "
            "Every value that is allowed can be set from Python."
        )
        expect(picture).not_to_contain_class("stale")
    number.fill("07.0")
    number.press("Enter")
    expect(alert).to_be_hidden()


def test_an_error_message_is_shown_as_text_not_as_markup(live):
    markup = "<img src=x onerror='received.push(1)'>"
    live.explorer.live.error = {"message": markup, "traceback": markup}
    live.push()
    expect(live.place.locator("[role=alert] p")).to_have_text(markup)
    assert live.place.locator("[role=alert] img").count() == 0


# Unusual contents


def test_hostile_tokens_stay_tokens(put, hostile):
    live = put(StepExplorer(torch.full((2, 6), -1.0), tokens=hostile))
    expect(live.cell("num_tokens")).to_have_text("12")
    assert live.place.locator("script, foreignObject").count() == 0
    live.cell("response_mask[0,0]").click()
    expect(live.cell("num_tokens")).to_have_text("11")


def test_a_nan_can_be_changed(put):
    live = put(StepExplorer([[float("nan"), -0.3]], [[0, 1]]))
    nan = live.cell("policy_log_probs[0,0]")
    expect(nan).to_have_accessible_name("row 1, token 1, log-prob nan, masked")
    nan.focus()
    live.page.keyboard.press("-")
    expect(nan).to_have_text("−0.1")


def test_without_controls_cells_can_be_selected_but_not_changed(put):
    live = put(StepExplorer(controls=()))
    live.page.locator("input").focus()
    live.page.keyboard.press("Tab")
    expect(live.cell("policy_log_probs[0,0]")).to_be_focused()
    for key in ("Space", "+", "ArrowDown"):
        live.page.keyboard.press(key)
    expect(live.cell("policy_log_probs[1,0]")).to_be_focused()
    live.cell("response_mask[0,0]").click()
    live.settled()
    assert live.edits == []
    assert live.place.locator("[data-action]").count() == 0


def focused(live):
    return live.place.locator("[data-key]:focus").get_attribute("data-key")


def test_the_lens_of_a_large_batch_moves_by_keys_to_every_token(put):
    live = put(StepExplorer(-torch.ones(64, 1024), torch.ones(64, 1024)))
    explorer, press = live.explorer, live.page.keyboard.press
    assert live.place.locator("[data-key]").count() < 1000
    rows, columns = (live.explorer.live.values[f"lens[{name}]"] for name in ("rows", "columns"))
    live.cell("policy_log_probs[0,1]").focus()
    for key, row, column in (
        *(("PageDown", 0, columns), ("Shift+PageDown", rows, columns), ("PageUp", rows, 0)),
        *(("End", rows, 0), ("ArrowRight", rows, 1), ("ArrowRight", rows, 2), ("Home", rows, 2)),
        *(("ArrowLeft", rows, 1), ("Shift+PageUp", 0, 1)),
    ):
        press(key)
        live.settled()
        assert (explorer.rows, explorer.columns) == (row, column), key
        assert explorer.selected == tuple(map(int, re.findall(r"\d+", focused(live)))), key
    assert focused(live) == "policy_log_probs[0,1]"  # the first cell, as the lens is at 1

    lens = live.cell("lens")
    lens.focus()
    press("End")
    live.settled()
    assert explorer.columns == 1024 - columns and focused(live) == "lens"
    assert lens.get_attribute("role") == "slider"
    assert lens.get_attribute("aria-valuetext") == (
        f"tokens {1025 - columns} to 1024 of 1024, rows 1 to 8 of 64"
    )
    assert live.place.locator("[tabindex='0']").count() == 1
    press("ArrowDown")  # to the values, of which the last is nearest
    press("-")
    live.settled()
    assert [set(edit) for edit in live.edits][-1] == {"policy_log_probs[0,1023]"}


def test_the_lens_of_a_large_batch_moves_by_click_and_drag(put):
    live = put(StepExplorer(-torch.rand(64, 1024), (torch.rand(64, 1024) > 0.5).float()))
    explorer, mouse = live.explorer, live.page.mouse
    area = live.place.locator(".area").bounding_box()

    def at(column, row):
        return area["x"] + area["width"] * column / 1024, area["y"] + area["height"] * row / 64

    mouse.click(*at(700, 30))
    live.settled()
    columns = explorer.live.values["lens[columns]"]
    assert explorer.columns == pytest.approx(700 - columns / 2, abs=2)
    assert explorer.rows == pytest.approx(30 - 8 / 2, abs=1)
    before = explorer.columns, explorer.rows
    mouse.move(*at(explorer.columns + 2, explorer.rows + 2))  # not in the middle of the frame
    mouse.down()
    for column in (600, 400):
        mouse.move(*at(column + 2, explorer.rows + 2))
    mouse.up()
    live.settled()
    assert explorer.columns == pytest.approx(400, abs=12) and before[1] == explorer.rows
    assert f"grad[{explorer.rows},{explorer.columns}]" in explorer.live.svg
    mouse.move(*at(10, 10))  # released
    live.settled()
    assert explorer.columns > 300
    assert live.place.locator(".sftviz-hint").is_visible()


def test_a_picture_wider_than_the_page_can_be_scrolled(put, page):
    page.set_viewport_size({"width": 260, "height": 640})
    live = put()
    picture = live.place.locator(".sftviz-picture")
    assert page.evaluate("document.documentElement.scrollWidth") == 260
    assert picture.evaluate("node => node.scrollWidth > node.clientWidth")
    live.cell("normalize_constant").focus()
    page.keyboard.press("ArrowDown")  # a selected cell scrolls into view
    box = live.cell("num_tokens").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 260


def inspection() -> InspectionExplorer:
    return InspectionExplorer(inspect_batch(PUZZLES["E"], TOKENS))


@pytest.mark.parametrize("kind", [StepExplorer, LogitsExplorer, AccumulationExplorer, inspection])
@pytest.mark.parametrize("width", [304, 420, 1280])
def test_the_whole_frame_is_on_the_page(put, page, kind, width):
    """JupyterLab leaves an output 304 px of a page of 420."""
    page.set_viewport_size({"width": width, "height": 640})
    live = put(kind())
    live.page.wait_for_function(f"model0.get('columns') === {width // 8 - 2}")
    live.settled()
    picture = live.place.locator(".sftviz-picture")
    assert picture.evaluate("node => [node.scrollWidth, node.clientWidth]") == [width, width]
    sizes = picture.locator("text").evaluate_all(
        """texts => texts.map((text) =>
            parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert min(sizes) > 9


def test_a_hidden_drawing_keeps_its_width(live):
    columns = live.explorer.live.columns
    live.place.evaluate("place => place.parentNode.style.display = 'none'")
    live.page.evaluate("() => new Promise(done => new ResizeObserver(done).observe(document.body))")
    live.place.evaluate("place => place.parentNode.style.display = ''")
    live.page.evaluate("() => new Promise(done => new ResizeObserver(done).observe(document.body))")
    live.settled()
    reported = [message["columns"] for message in live.messages if "columns" in message]
    assert set(reported) == {columns}


def test_colours_follow_the_theme_at_once(live):
    def fills():
        return live.place.evaluate(
            """place => [...place.querySelectorAll("rect, text")]
                .map(mark => getComputedStyle(mark).fill)"""
        )

    light = fills()
    live.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    dark = fills()
    assert len(set(light)) > 8
    assert all(a != b for a, b in zip(light, dark, strict=True))


def test_ink_and_ground_go_together_on_a_page_that_is_half_a_notebooks(put, page):
    """With the front end's variables for one of them, text could not be read."""

    def fills():
        return live.place.locator("rect, text").evaluate_all(
            "marks => marks.map(mark => getComputedStyle(mark).fill)"
        )

    live = put()
    light = fills()
    page.add_style_tag(
        content=":root { --jp-layout-color0: #fff; --jp-layout-color1: #fff; "
        "--jp-content-font-color1: #222; --jp-border-color2: #ddd; }"
    )
    page.emulate_media(color_scheme="dark")
    page.evaluate("delete document.body.dataset.jpThemeLight")
    assert fills() == light
    page.add_style_tag(content=":root { color-scheme: dark; }")
    dark = fills()
    page.add_style_tag(content=":root { color-scheme: normal; }")
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    assert fills() == dark != light


# Several drawings


def test_explorers_on_one_page_do_not_disturb_each_other(put):
    one, other = put(), put(StepExplorer([[-1.0, -2.0]]))
    one.cell("policy_log_probs[0,1]").focus()
    other.cell("response_mask[0,0]").hover()
    assert other.linked and "grad[0,0]" not in one.linked
    other.cell("response_mask[0,0]").click()
    expect(other.cell("num_tokens")).to_have_text("1")
    expect(one.cell("num_tokens")).to_have_text("7")
    expect(other.cell("response_mask[0,0]")).to_be_focused()
    assert one.edits == []


def test_two_pages_of_one_explorer_show_each_others_changes(put):
    """And neither sends its earlier edits again."""
    here = put()
    there = put(here.explorer)
    log_prob, bit = "policy_log_probs[0,2]", "response_mask[0,2]"
    pages = [(here, there), (there, here)] * 2
    for (page, other), text in zip(pages, ("−0.9", "−1", "−1.1", "−1.2"), strict=True):
        page.cell(log_prob).focus()
        page.page.keyboard.press("-")
        for one in (page, other):
            other.push()
            expect(one.cell(log_prob)).to_have_text(text)
    for page, other, checked in ((here, there, "true"), (there, here, "false")):
        page.cell(bit).click()
        for one in (page, other):
            other.push()
            expect(one.cell(bit)).to_have_attribute("aria-checked", checked)
    assert here.explorer.policy_log_probs[0, 2] == torch.tensor(-1.2)


def test_two_views_of_one_explorer_show_the_same_and_each_keeps_its_focus(live):
    live.page.evaluate(
        f"""async code => {{
            document.querySelector("#notebook").insertAdjacentHTML("beforeend",
                '<div class="second"></div>');
            const module = await import(`data:text/javascript,${{encodeURIComponent(code)}}`);
            module.default.render({{ model: {live.name}, el: document.querySelector(".second") }});
        }}""",
        str(LiveDrawing._esm),
    )
    second = live.page.locator(".second")
    live.cell("response_mask[0,2]").focus()
    live.page.keyboard.press("Space")
    expect(second.locator('[data-key="num_tokens"]:has(> rect)')).to_have_text("8")
    expect(live.cell("response_mask[0,2]")).to_be_focused()
    second.locator('[data-key="response_mask[0,0]"]').click()
    expect(live.cell("num_tokens")).to_have_text("7")

    live.page.evaluate(
        """() => {
            const press = (place, token) => {
                const mask = `[data-key="response_mask[0,${token}]"]`;
                const cell = document.querySelector(`${place} ${mask}`);
                cell.focus();
                cell.dispatchEvent(new KeyboardEvent("keydown", { key: " ", bubbles: true }));
            };
            press(".drawing", 1); // sent at once
            press(".drawing", 2); // sent afterwards, with the next
            press(".second", 1);
        }"""
    )
    expect(live.cell("num_tokens")).to_have_text("6")
    expect(live.cell("response_mask[0,1]")).to_have_text("1")
    expect(live.cell("response_mask[0,2]")).to_have_text("0")
    assert live.page.evaluate("received") == []


def test_a_removed_drawing_leaves_nothing_behind(clock, put, page):
    live = put()
    live.cell("response_mask[0,2]").click()  # an announcement is pending
    expect(live.cell("num_tokens")).to_have_text("8")
    page.evaluate("dispose0()")
    assert page.evaluate("model0.listeners") == []

    clock.run_for(5000)
    expect(live.place.get_by_role("status")).to_have_text("")
    page.locator("input").focus()
    page.keyboard.press("b")
    assert page.evaluate("received") == ["b", "b"]
    sent = len(live.messages)
    page.set_viewport_size({"width": 500, "height": 500})
    page.evaluate("document.querySelector('label').textContent = 'another'")
    page.evaluate("() => new Promise(done => new ResizeObserver(done).observe(document.body))")
    assert len(live.messages) == sent
    assert page.locator(".noUi-handle").get_attribute("aria-label") == "G"


def test_a_removed_drawing_does_not_wait_for_the_kernel(clock, put):
    live = put()
    live.page.evaluate("model0.isWaiting = true")  # nothing is sent
    live.cell("response_mask[0,2]").click()
    live.page.evaluate("dispose0()")
    clock.run_for(10_000)
    expect(live.place.locator("[role=alert]")).to_be_hidden()
