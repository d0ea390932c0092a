"""The gradients of a window as arrows, compared with plain torch; their picture; the explorer."""

import math
import re
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from sftviz import DivisorExplorer, accumulate
from sftviz.directions import directions
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.explorers.directions import RULES
from sftviz.views.directions import directions_view

MODEL = BigramModel(8, dtype=torch.float64)


def sums(window):
    """The gradient of the summed loss of each microbatch, without a line of ours."""
    table = MODEL.table.detach()
    grads = []
    for batch in window:
        leaf = table.clone().requires_grad_()
        nll = cross_entropy(
            leaf[batch.input_ids].flatten(0, 1), batch.labels.flatten(), reduction="none"
        )
        (nll * batch.response_mask.flatten()).sum().backward()
        grads.append(leaf.grad.flatten())
    return torch.stack(grads)


def found(B, G, window=None, rules=RULES, **options):
    window = make_window(B, G) if window is None else window
    return {
        at.rule: at
        for at in directions([accumulate(MODEL, window, rule, **options) for rule in rules])
    }


@pytest.mark.parametrize(("B", "G"), [(3, 4), (4, 2), (2, 2), (1, 5)])
def test_lengths_and_angles_are_those_of_plain_torch(B, G):
    window = make_window(B, G)
    parts, tokens = sums(window), [batch.num_tokens for batch in window]
    whole = parts.sum(0)
    ends = {  # beside the mean that each is about
        "none": (whole, whole / (B * G)),
        "G": (whole / G, whole / (B * G)),
        "G²": (whole / G**2, whole / (B * G)),
        "B·G": (whole / (B * G), whole / (B * G)),
        "tokens": (whole / sum(tokens), whole / sum(tokens)),
        "averaged averages": (
            sum(part / n for part, n in zip(parts, tokens, strict=True)) / G,
            whole / sum(tokens),
        ),
    }
    for rule, at in found(B, G).items():
        end, mean = ends[rule]
        cosine = torch.cosine_similarity(end, mean, dim=0).clamp(-1, 1).item()
        assert at.length == pytest.approx((end.norm() / mean.norm()).item(), rel=1e-9)
        assert at.degrees == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-5)
        # The last point is exact: nothing of it leaves the plane.
        assert math.hypot(*at.points[-1]) == pytest.approx(at.length, rel=1e-9)
        assert at.points[-1][0] == pytest.approx(at.length * cosine, rel=1e-9)


def test_each_arrow_is_what_a_microbatch_added():
    B, G = 3, 4
    parts = sums(make_window(B, G))
    axis = parts.sum(0) / parts.sum(0).norm()
    along = (parts / G**2 @ axis) / (parts.sum(0) / (B * G)).norm()
    points = found(B, G)["G²"].points
    assert points[0] == (0.0, 0.0)
    steps = [after[0] - before[0] for before, after in pairwise(points)]
    assert steps == pytest.approx(along.tolist(), rel=1e-9)


def test_rows_of_one_length_turn_nothing_and_the_plane_still_shows_the_path():
    found_even = found(2, 3, make_window(2, 3, unevenness=0.0))
    assert all(at.degrees < 1e-5 for at in found_even.values())
    assert max(abs(y) for _, y in found_even["tokens"].points) > 0.05


def test_one_microbatch_is_one_arrow():
    at = found(3, 1, rules=("G²",))["G²"]
    assert at.points == ((0.0, 0.0), (pytest.approx(3.0), pytest.approx(0.0, abs=1e-9)))


def test_a_missing_microbatch_is_seen_under_B_G_and_not_under_tokens():
    window = make_window(4, 3)[:2]
    short = found(4, 3, window, gradient_accumulation_steps=3)
    assert short["B·G"].length == pytest.approx(2 / 3)
    assert short["tokens"].length == pytest.approx(1.0)


@pytest.mark.parametrize("width", [48, 60, 80, 112])
@pytest.mark.parametrize(("B", "G"), [(3, 4), (8, 2), (1, 8)])
def test_the_picture_fits_its_width_and_has_every_length_and_angle(B, G, width):
    at = found(B, G)
    drawing = directions_view(tuple(at.values()), width)
    assert drawing.scene.width <= width
    assert all(len(line) <= width for line in drawing.text.splitlines())
    text = re.sub(r"[\u2800-\u28ff]", " ", drawing.text)
    for name, rule in (
        ("÷ G²", "G²"),
        ("not divided", "none"),
        ("averaged averages", "averaged averages"),
    ):
        length, angle = re.search(rf"{name} +([\d.]+) +(\d+)°", text).groups()
        assert float(length) == pytest.approx(at[rule].length, rel=1e-3)
        assert int(angle) == round(at[rule].degrees)
        assert f"{name}: length {length}" in drawing.alt


def test_rules_that_arrive_at_the_same_point_share_a_line_of_the_legend():
    text = directions_view(tuple(found(4, 4).values())).text
    assert "÷ G², ÷ B·G, ÷ tokens: arrives there" in text
    text = directions_view(tuple(found(3, 4).values())).text
    assert "÷ G²: 0.75 times as long" in text and "averaged averages: turned by 20°" in text


def test_all_rules_follow_a_knob():
    explorer = DivisorExplorer()
    before = explorer.drawing.text
    explorer.controls["B"].value = 4
    assert "÷ G², ÷ B·G, ÷ tokens: arrives there" in explorer.drawing.text != before
    explorer.controls["unevenness"].value = 0.0
    assert {round(at.degrees) for at in explorer.trace} == {0}
    explorer.controls["ran_out"].value = True
    assert {at.rule: round(at.length, 6) for at in explorer.trace}["B·G"] == 0.75
    assert "DivisorExplorer(" in explorer.code and "B=4" in explorer.code
    explorer.controls["reset"].click()
    assert explorer.drawing.text == before


def test_what_cannot_be_run_changes_nothing():
    explorer = DivisorExplorer()
    before = explorer.live.svg
    with pytest.raises(Exception, match="B must be"):
        explorer.B = 0
    assert explorer.live.svg == before and explorer.B == 3
