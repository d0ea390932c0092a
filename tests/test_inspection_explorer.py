"""The live picture of an inspection: its lens goes to every token and to every finding."""

import pytest
import torch

from sftviz import InspectionExplorer, inspect_batch
from sftviz.inspection.examples import HEALTHY

ROWS, COLUMNS = 20, 188


@pytest.fixture
def explorer() -> InspectionExplorer:
    """Two labels are not the next token: at (3, 169) and (12, 39)."""
    ids = torch.arange(ROWS * (COLUMNS + 1)).view(ROWS, -1) + 10
    labels = ids.where(torch.arange(COLUMNS + 1) > 160, -100)
    labels[3, 170] = labels[12, 40] = 7
    return InspectionExplorer(inspect_batch({"input_ids": ids, "labels": labels}))


def shown(explorer: InspectionExplorer) -> set[str]:
    return {key for key in explorer.drawing.keys if key.startswith("labels")}


def test_it_begins_at_the_first_finding(explorer):
    assert explorer.selected == (3, 169) and (explorer.rows, explorer.columns) == (3, 168)
    assert "labels[3,169]" in shown(explorer)
    assert "finding" in explorer.drawing.text


def test_the_menu_and_the_button_go_to_the_places_of_a_finding(explorer):
    menu, button = explorer.controls["finding"], explorer.controls["next place"]
    assert menu.options == ("none", "1 error: a label is not the next token")
    button.click()  # nothing is chosen
    assert explorer.selected == (3, 169)
    menu.value = menu.options[1]
    button.click()
    assert explorer.selected == (12, 39) and "labels[12,39]" in shown(explorer)
    button.click()  # and round again
    assert explorer.selected == (3, 169)
    explorer.controls["reset"].click()
    assert menu.value == "none" and (explorer.rows, explorer.columns) == (3, 168)


def test_every_token_can_be_reached(explorer):
    seen = set()
    for row in range(0, ROWS, 8):
        for column in range(0, COLUMNS, 7):
            explorer.move_lens(rows=row, columns=column)
            seen |= shown(explorer)
    assert seen == {f"labels[{row},{column}]" for row in range(ROWS) for column in range(COLUMNS)}


def test_a_small_healthy_batch_has_an_explorer_too(shown_errors):
    explorer = InspectionExplorer(inspect_batch(HEALTHY))
    explorer.controls["next place"].click()
    assert explorer.controls["finding"].options == ("none",)
    assert "Nothing wrong was found." in repr(explorer)


def test_only_an_inspection_has_one():
    with pytest.raises(TypeError) as caught:
        InspectionExplorer({"input_ids": [[1]]})
    assert str(caught.value) == (
        "inspection must be an Inspection, got dict: pass what inspect_batch(...) returned."
    )
