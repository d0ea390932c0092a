"""The claims of the cheatsheet: each has a verdict, and a link to what shows it.

The last tests show what no other test and no cell of the notebook shows.
"""

import re
from pathlib import Path

import pytest
import torch
from nbformat import v4

from sftviz import build_token_batch, sft_microbatch_train_step
from sftviz.validate import above_zero

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "cheatsheet.md"
NOTEBOOK = ROOT / "notebooks" / "cheatsheet.ipynb"
LONGEST_LINE = 73  # characters of code that a page of A4 has room for
VERDICTS = {"true", "false", "true, with a condition"}

HEADING = re.compile(r"^(#{1,3}) (.+)$", re.MULTILINE)
LINK = re.compile(r"\[([^]]+)\]\(([^)#]+)#?([^)]*)\)")
ROW = re.compile(r"^\| (.+?) \| (.+?) \|(.*)\| (\[.+\)) \|$", re.MULTILINE)


def cells(kind: str) -> list[str]:
    notebook = v4.reads(NOTEBOOK.read_text("utf-8"))
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def headings() -> list[tuple[str, str]]:
    """The headings of the notebook: their level and their text."""
    return [heading for source in cells("markdown") for heading in HEADING.findall(source)]


def anchor(heading: str) -> str:
    """The name by which JupyterLab and GitHub know a heading."""
    return heading.replace(" ", "-")


CLAIMS = ROW.findall(PAGE.read_text("utf-8"))
LINKS = sorted({link for *_, evidence in CLAIMS for link in LINK.findall(evidence)})


def test_every_line_of_the_table_is_read_here():
    table = PAGE.read_text("utf-8").split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(CLAIMS) == len(lines) - 1 >= 30


@pytest.mark.parametrize(("claim", "verdict", "reason", "evidence"), CLAIMS)
def test_a_claim_has_a_verdict_and_a_reason_unless_it_is_true(claim, verdict, reason, evidence):
    assert verdict in VERDICTS
    assert reason.strip() or verdict == "true"


@pytest.mark.parametrize(("text", "file", "fragment"), LINKS)
def test_what_shows_a_claim_is_there(text, file, fragment):
    path = (PAGE.parent / file).resolve()
    if path == NOTEBOOK:
        assert (fragment, text) in {(anchor(heading), heading) for _, heading in headings()}
    else:
        name = text.replace(": ", "_").replace(" ", "_")
        assert f"\ndef {name}(" in path.read_text("utf-8")


def test_every_section_of_the_notebook_shows_a_claim():
    linked = {fragment for _, file, fragment in LINKS if file.endswith(NOTEBOOK.name)}
    sections: list[set[str]] = []  # the anchors of each: its own, and those of its parts
    for level, heading in headings()[1:]:
        if level == "##":
            sections.append(set())
        sections[-1].add(anchor(heading))
    assert len(sections) >= 14
    assert [anchors for anchors in sections if not anchors & linked] == []


def test_every_site_gives_a_heading_the_same_anchor():
    found = [heading for _, heading in headings()]
    assert len(found) == len(set(found))
    # no sign that one of them leaves out and another keeps
    assert [heading for heading in found if not re.fullmatch(r"[A-Za-z ]+", heading)] == []


def test_no_line_of_code_is_cut_off_on_paper():
    lines = [line for source in cells("code") for line in source.splitlines()]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_the_readme_lists_every_notebook_in_the_order_of_the_course():
    listed = re.findall(
        r"^\| \[`\w+`\]\((notebooks/\w+\.ipynb)\)", (ROOT / "README.md").read_text("utf-8"), re.M
    )
    assert listed == sorted(str(path.relative_to(ROOT)) for path in NOTEBOOK.parent.glob("*.ipynb"))


def test_a_mean_below_0_hides_log_probs_above_0():
    logits = torch.tensor([[-3.0, 0.5, 1.5]])
    assert logits.mean() < 0 and above_zero(logits).startswith("2 log-probs are above 0")


def test_a_mask_that_is_off_by_one_has_the_same_sum():
    batch = build_token_batch([[("prompt", [5, 6, 7]), ("response", [8, 9])]], pad_id=0)
    too_early = batch.response_mask.roll(-1)
    assert too_early.tolist() == [[False, True, True, False]]
    assert batch.response_mask.tolist() == [[False, False, True, True]]
    assert too_early.sum() == batch.response_mask.sum()


def test_the_gradient_can_be_nan_although_the_loss_is_not():
    weight = torch.tensor(1.0, requires_grad=True)
    log_probs = weight * torch.tensor([[-0.5, torch.nan]])
    scaled_loss, _ = sft_microbatch_train_step(log_probs, torch.tensor([[1, 0]]), 1)
    assert scaled_loss == 0.5 and weight.grad.isnan()


def test_a_computed_tensor_has_a_gradient_if_it_is_retained():
    weight = torch.tensor(1.0, requires_grad=True)
    log_probs = weight * torch.tensor([[-0.5, -0.3]])
    log_probs.retain_grad()
    sft_microbatch_train_step(log_probs, torch.tensor([[1, 0]]), 2)
    assert log_probs.grad.tolist() == [[-0.25, 0]]
