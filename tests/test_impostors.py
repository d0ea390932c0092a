"""The picture of a test's survivors, and the explorer in which a test is designed."""

from dataclasses import replace
from html import unescape

import pytest
import torch
import traitlets

from sftviz.explorers.impostors import CONTROLS, ImpostorsExplorer
from sftviz.mistakes import STEP_MISTAKES, STEP_TESTS, write_test
from sftviz.mistakes.survivors import CHECKS
from sftviz.views.impostors import impostor_wall

CS336, CS336_42, EVEN, FULL = STEP_TESTS.values()
NAMES = {mistake.name for mistake in STEP_MISTAKES}


@pytest.fixture
def explorer(shown_errors) -> ImpostorsExplorer:
    """CS336's test; no error may be shown."""
    return ImpostorsExplorer(CONTROLS)


def alive(explorer: ImpostorsExplorer) -> set[str]:
    return {mistake.name for mistake in explorer.trace.alive}


# The picture


@pytest.mark.parametrize("width", [48, 112])
@pytest.mark.parametrize("name", STEP_TESTS)
def test_each_mistake_is_in_the_picture_as_alive_or_as_killed(name, width):
    survivors = STEP_TESTS[name].trace()
    drawing = impostor_wall(survivors, width, advice=False)
    assert drawing.scene.width <= width
    for mistake, killer in survivors.killers.items():
        frames = drawing.text.count(f"[{mistake.name}]"), drawing.text.count(f"░{mistake.name}░")
        assert frames == ((0, 1) if killer else (1, 0))


def test_the_picture_in_text():
    text = impostor_wall(EVEN.trace(), 72).text
    wall = """
│ divisor  ░not divided░ ░÷G░ ░÷B·G░ ░one weight per example░          │
│          ░averaged averages░ ░÷B·G²░ ░÷G³░ [÷2G] [÷(G+2)] [÷G^G]     │
│          [÷2^G] ░÷(B+G)░ ░÷B²░ ░÷B░ ░token mean░ ░token mean ÷G²░    │
"""
    assert wall in text
    assert text.endswith("""
╭──▼───────────────────────────────────────────────────────────────────╮
│ (2) What would kill them                                             │
│ Change G (now G = 2): ÷2G, ÷(G+2), ÷G^G, ÷2^G.                       │
╰──────────────────────────────────────────────────────────────────────╯""")


def test_an_impostor_keeps_its_place():
    def places(test):
        marks = impostor_wall(test.trace(), advice=False).page.marks
        return {shape.text: (x, y) for x, y, shape in marks if getattr(shape, "text", "") in NAMES}

    one = places(EVEN)
    assert set(one) == NAMES
    assert one == places(replace(EVEN, gradient_accumulation_steps=5, normalize_constant=1.0))


def test_the_alternative_text_names_the_survivors():
    test = replace(FULL, nan=False, bfloat16=False, second_call=False)
    assert impostor_wall(test.trace(), advice=False).alt == (
        "A test with B = 5, S = 6, G = 3, c = 7. What it does: compare the loss; compare the "
        "gradient; compare num_tokens and masked_sum; check that the loss has no graph; compare "
        f"more precisely. 3 of {len(NAMES)} impostors survive: multiplied with NaN, sum in 16 "
        "bits, gradient cleared in the step."
    )
    assert impostor_wall(FULL.trace()).alt.endswith(f"0 of {len(NAMES)} impostors survive.")


def test_a_width_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="width must be at least 48 cells, got 47: "):
        impostor_wall(CS336.trace(), 47)


# The explorer


def test_the_page_shows_the_picture_of_the_state(explorer):
    wall = impostor_wall(explorer.state.trace(), advice=False)
    assert explorer.drawing.text == wall.text
    assert explorer.live.alt == wall.alt
    assert f"{len(alive(explorer))} of {len(NAMES)}" in explorer.live.svg
    assert explorer.live.actions == {"policy_log_probs": "move", "response_mask": "toggle"}


def test_rows_can_be_added_and_taken_away(explorer):
    rows = explorer.policy_log_probs, explorer.response_mask
    explorer.controls["B"].value = 3
    assert not {"÷B·G", "÷(B+G)", "÷B²"} & alive(explorer)
    assert torch.equal(explorer.policy_log_probs[:2], rows[0])
    assert torch.equal(explorer.response_mask[:2], rows[1])
    for B in range(1, 9):
        explorer.controls["B"].value = B
        assert explorer.policy_log_probs.shape == explorer.response_mask.shape == (B, 10)
        assert (explorer.policy_log_probs[2:] < 0).all() and explorer.response_mask.any(1).all()
    assert len(set(explorer.response_mask[2:].sum(1).tolist())) > 1  # uneven
    explorer.controls["B"].value = 1
    assert explorer.selected == (0, 0)


def test_each_control_changes_its_field(explorer):
    explorer.controls["gradient_accumulation_steps"].value = 5
    explorer.controls["normalize_constant"].value = 7
    for name in CHECKS:
        explorer.controls[name].value = True
    assert {name: getattr(explorer.state, name) for name in CHECKS} == dict.fromkeys(CHECKS, True)
    assert (explorer.gradient_accumulation_steps, explorer.normalize_constant) == (5, 7)
    explorer.controls["policy_log_probs"].value = -0.123
    assert explorer.policy_log_probs[0, 0] == -0.123


def test_the_picture_is_its_own_input(explorer):
    edits = {"response_mask[0,0]": 0, "policy_log_probs[1,3]": -0.7}
    explorer.live.edits = {"id": 1, "generation": 0, "values": edits}
    assert not explorer.response_mask[0, 0] and explorer.policy_log_probs[1, 3] == -0.7
    assert "prompt counted" not in alive(explorer)  # a prompt to count


def test_a_preset_and_the_start_can_be_loaded(explorer):
    explorer.controls["preset"].value = "(3, 2, 42)"
    assert alive(explorer) == {"÷2G", "÷(G+2)", "÷G^G", "÷2^G"}
    assert all(explorer.controls[name].value for name in CHECKS)
    explorer.gradient_accumulation_steps = 3
    explorer.controls["reset"].click()
    assert explorer.gradient_accumulation_steps == 2
    explorer.controls["preset"].value = "(5, 3, 7)"
    assert alive(explorer) == set() and explorer.controls["B"].value == 5
    explorer.controls["preset"].value = "as given"
    assert alive(explorer) == {mistake.name for mistake in CS336.trace().alive}


def test_the_hint_is_nowhere_before_it_is_asked_for(explorer):
    live = explorer.live
    page = f"{live.svg} {live.alt} {live.values} {explorer.drawing.text} {explorer!r}"
    assert "Change" not in page and "What would" not in page
    explorer.controls["advice"].value = True
    assert "Change B (now B = G = 2): ÷B·G, ÷(B+G), ÷B²." in live.svg
    explorer.controls["advice"].value = False
    assert "Change" not in live.svg + live.alt


def test_as_test_shows_the_file(explorer):
    explorer.controls["code"].value = True
    _, shown, _ = explorer.children
    assert write_test(CS336.trace()) in unescape(shown.value)
    explorer.controls["preset"].value = "(5, 3, 7)"
    assert explorer.code == write_test(FULL.trace())
    assert explorer.code in unescape(shown.value)


def test_fields_and_controls_can_be_chosen():
    explorer = ImpostorsExplorer(["B", "grad"], gradient_accumulation_steps=3, grad=False)
    assert list(explorer.controls) == ["B", "grad"] and explorer.live.actions == {}
    assert "backward twice" in alive(explorer)
    explorer.live.edits = {"id": 1, "generation": 0, "values": {"response_mask[0,0]": 0}}
    assert explorer.live.error["message"] == (
        "response_mask[0,0] can't be changed here: change nothing."
    )
    with pytest.raises(ValueError, match=r"controls must be among preset, .* got 'G'\."):
        ImpostorsExplorer(["G"])


def test_the_menu_with_a_solution_is_shown_only_if_it_is_asked_for(explorer):
    puzzle = ImpostorsExplorer()
    assert "preset" in explorer.controls and "preset" not in puzzle.controls
    puzzle.close()


def test_what_cannot_be_run_changes_nothing(explorer, shown_errors):
    before = explorer.live.svg
    with pytest.raises(traitlets.TraitError, match="nan must be True or False, got int 1"):
        explorer.nan = 1
    explorer.controls["normalize_constant"].value = 0
    (message,) = shown_errors
    assert message.startswith("normalize_constant must be")
    assert explorer.live.svg == before and explorer.normalize_constant == 1
    shown_errors.clear()


def test_one_change_runs_and_draws_once(explorer, monkeypatch):
    runs, draw = [], ImpostorsExplorer.draw
    monkeypatch.setattr(
        ImpostorsExplorer, "draw", lambda *arguments: runs.append(1) or draw(*arguments)
    )
    explorer.controls["B"].value = 4
    assert len(runs) == 1
