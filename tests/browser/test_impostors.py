"""The explorer of a test's survivors where it is read, with a kernel of its own."""

import re

from playwright.sync_api import expect

from sftviz.mistakes import STEP_MISTAKES
from sftviz.mistakes.survivors import CHECKS

from .test_other_explorers import keeps_nobody_out, leaves_the_notebook_alone
from .touch import cell

MANY = len(STEP_MISTAKES)
SOURCE = "from sftviz.explorers.impostors import ImpostorsExplorer\nImpostorsExplorer()"


def test_impostors_are_killed_until_none_is_left(lab, no_foreign_requests, notebook):
    page = lab.open(notebook(SOURCE))
    lab.run_all(page)
    place = page.locator(".sftviz-explorer")
    count = place.locator("g.title text").nth(1)
    expect(count).to_have_text(re.compile(f" of {MANY} impostors survive$"))

    rows = place.get_by_role("slider", name="B", exact=True)
    rows.press("ArrowRight")
    expect(cell(place, "response_mask[2,0]")).to_have_text("0")
    place.get_by_role("slider", name="G", exact=True).press("End")
    place.get_by_role("spinbutton", name="c", exact=True).fill("7")
    page.keyboard.press("Enter")
    expect(cell(place, "normalize_constant")).to_have_text("7")
    rows.press("ArrowRight")
    expect(cell(place, "response_mask[3,0]")).to_have_text("0")
    for text in CHECKS.values():
        place.get_by_role("checkbox", name=text).check()
    expect(count).to_have_text(f"0 of {MANY} impostors survive")
    place.get_by_role("checkbox", name=CHECKS["nan"]).uncheck()
    expect(count).to_have_text(f"1 of {MANY} impostors survives")
    place.get_by_role("button", name="hint").press("Enter")
    expect(place.get_by_text("Put NaN at the masked tokens: multiplied with NaN.")).to_be_visible()
    place.get_by_role("button", name="as test").press("Enter")
    expect(place.get_by_text(f"1 of {MANY} known mistakes passes it")).to_be_visible()

    leaves_the_notebook_alone(place, cell(place, "response_mask[0,0]"))
    keeps_nobody_out(lab, place, "impostors")
