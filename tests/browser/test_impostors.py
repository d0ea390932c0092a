"""The explorer of a test's survivors where it is read, with a kernel of its own."""

import re

from playwright.sync_api import expect

from sftviz.mistakes import STEP_MISTAKES
from sftviz.mistakes.survivors import CHECKS

from .touch import barriers, cell

MANY = len(STEP_MISTAKES)
SOURCE = (
    "from sftviz.explorers.impostors import CONTROLS, ImpostorsExplorer\n"
    "ImpostorsExplorer(CONTROLS)"
)


def test_impostors_are_killed_until_none_is_left(lab, no_foreign_requests, notebook):
    page = lab.open(notebook(SOURCE))
    lab.run_all(page)
    place = page.locator(".sftviz-explorer")
    count = place.locator("g.title text").nth(1)
    expect(count).to_have_text(re.compile(f" of {MANY} impostors survive$"))

    place.get_by_role("combobox", name="preset").select_option("(3, 2, 42)")
    expect(count).to_have_text(f"4 of {MANY} impostors survive")
    hint = place.get_by_text("Change G (now G = 2): ÷2G, ÷(G+2), ÷G^G, ÷2^G.")
    expect(hint).to_have_count(0)
    place.get_by_role("button", name="hint").press("Enter")
    expect(hint).to_be_visible()
    place.get_by_role("slider", name="G", exact=True).press("End")
    expect(count).to_have_text(f"0 of {MANY} impostors survive")
    place.get_by_role("slider", name="B", exact=True).press("ArrowRight")
    expect(cell(place, "response_mask[3,0]")).to_have_text("0")
    place.get_by_role("checkbox", name=CHECKS["nan"]).press("Space")
    expect(count).to_have_text(f"1 of {MANY} impostors survives")
    place.get_by_role("button", name="as test").press("Enter")
    expect(place.get_by_text(f"1 of {MANY} known mistakes passes it")).to_be_visible()
    assert barriers(page) == []
