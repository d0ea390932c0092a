"""The SVG backend, read back by an XML parser."""

import dataclasses
import re
from xml.etree import ElementTree

import pytest
import torch

from sftviz import WORKED_EXAMPLE, key_formula, step_flow, token_table, trace_step
from sftviz.drawing import svg
from sftviz.drawing.scene import Arrow, Card, Cell, Column, Row, Text, Trail, lower
from sftviz.drawing.theme import OVERVIEW_TONES, QUESTION_TONES, TONES
from sftviz.step import StepTrace

SVG = "{http://www.w3.org/2000/svg}"
VALUE_TONES = {"response", "masked", "masked_sum", "loss", "scaled_loss", "gradient", "knob"}


@pytest.fixture
def flow(worked):
    return ElementTree.fromstring(step_flow(worked, WORKED_EXAMPLE.tokens).svg)


@pytest.fixture
def hostile_svg(hostile):
    trace = trace_step(torch.full((2, 6), -0.5), torch.ones(2, 6), 2)
    return step_flow(trace, hostile).svg + token_table(trace, hostile).svg


def groups(root):
    """Tone, key, and the words of each group that has marks."""
    for group in root.iter(f"{SVG}g"):
        if "class" in group.attrib:
            words = ["".join(text.itertext()) for text in group.findall(f"{SVG}text")]
            yield group.get("class"), group.get("data-key"), words


def test_marks_stand_where_their_cells_are():
    scene = Card(Column((Text("a<b"), Row((Text("日"), Cell("1.4", 7, "loss", "loss")), gap=1))))
    root = ElementTree.fromstring(svg.draw(scene))
    assert (root.get("width"), root.get("height")) == (str(14 * 8 + 16), str(4 * 21 + 16))
    assert root.get("viewBox") == "0 0 128 100"
    texts = {
        text.text: {name: int(value) for name, value in text.attrib.items()}
        for text in root.iter(f"{SVG}text")
    }
    assert texts == {
        "a<b": {"x": 16, "y": 36, "textLength": 24},
        "日": {"x": 16, "y": 57, "textLength": 16},
        "1.4": {"x": 64, "y": 57, "textLength": 24},  # flush right, a cell of air beside it
    }
    (frame,) = [
        group.find(f"{SVG}rect")
        for group in root.iter(f"{SVG}g")
        if group.get("data-key") == "loss"
    ]
    assert [float(frame.get(name)) for name in ("x", "y", "width", "height")] == [
        40.5,
        43.5,
        55,
        18,
    ]


def test_an_arrow_points_down():
    class Down:
        width, height = 1, 2

        def marks(self, x=0, y=0):
            yield x, y, Arrow(1)

    (path,) = ElementTree.fromstring(svg.draw(Down())).iter(f"{SVG}path")
    assert path.get("d").startswith("M4 10.5V30.5")


def test_a_trail_goes_through_its_points_with_a_head_at_each_but_the_first():
    trail = Trail(10, 2, ((0, 2), (5, 2), (5, 1)), "loss", is_dashed=True)
    line, heads = ElementTree.fromstring(svg.draw(trail)).iter(f"{SVG}path")
    assert line.get("d") == "M0.0 42.0L40.0 42.0L40.0 21.0"
    assert "dashed" in line.get("class") and "dashed" not in heads.get("class")
    tips = re.findall(r"L(\S+ \S+)L", heads.get("d"))
    assert tips == ["40.0 42.0", "40.0 21.0"]
    assert ".trail" not in svg.draw(Text("no trail"))  # its style only where there is one
    (curve,) = ElementTree.fromstring(svg.draw(trail._replace(has_heads=False))).iter(f"{SVG}path")
    assert curve.get("d") == line.get("d")


def test_hatching_stays_inside_its_frame():
    root = ElementTree.fromstring(svg.draw(Cell("0", 10, "masked", "grad[0,0]")))
    (hatch,) = root.iter(f"{SVG}path")
    assert hatch.get("transform") == "skewX(-45)"
    left, y, right = map(float, re.fullmatch(r"M(.+) (.+)H(.+)", hatch.get("d")).groups())
    half = float(re.search(r"\.hatch{stroke-width:(\d+)", svg.stylesheet("light"))[1]) / 2
    corners = [(x - at, at) for x in (left, right) for at in (y - half, y + half)]  # as skewed
    assert right - left > 55
    assert all(0.5 < x < 79.5 and 1.5 < at < 19.5 for x, at in corners)


def test_every_value_carries_its_key(flow):
    fields = {field.name for field in dataclasses.fields(StepTrace)}
    grids = {"policy_log_probs", "response_mask", "masked_log_probs", "grad"}
    drawn = [(tone, key, words) for tone, key, words in groups(flow) if tone in VALUE_TONES]
    assert all(key is not None for _, key, _ in drawn)
    keys = {key for _, key, _ in drawn}
    assert keys >= (fields - grids) | {
        f"{field}[{row},{column}]" for field in grids for row in range(2) for column in range(4)
    }
    assert {key.partition("[")[0] for key in keys} == fields
    numbered = [
        (tone, key, words)
        for tone, key, words in groups(flow)
        if tone not in ("code", "ink", "muted", "badge", "title")
        and any(re.fullmatch(r"−?[\d.]+", word) for word in words)
    ]
    assert len(numbered) > 40 and all(key for _, key, _ in numbered)


def test_the_value_of_a_key_is_that_of_the_trace(flow):
    """To the digit, from the drawing back to the contract's worked example."""
    shown = {key: words for tone, key, words in groups(flow) if key and tone in VALUE_TONES}
    assert shown["num_tokens"] == ["7"] and shown["masked_sum"] == ["−2.8"]
    assert shown["loss"] == ["1.4"] and shown["scaled_loss"] == ["0.7"]
    assert shown["grad[0,2]"] == ["0"] and shown["grad[1,3]"] == ["−0.25"]
    assert shown["policy_log_probs[0,2]"] == ["−0.8"] and shown["masked_log_probs[0,2]"] == ["0"]


def test_no_group_lies_in_another_but_in_the_one_around_all(flow):
    ground, around = flow.findall(f"{SVG}g")
    assert len(around) > 100
    assert all(group.tag == f"{SVG}g" for group in around)
    assert not any(group.findall(f".//{SVG}g") for group in (ground, *around))


def test_masked_values_are_hatched_and_no_others(flow):
    hatched = {
        group.get("data-key")
        for group in flow.iter(f"{SVG}g")
        if group.find(f"{SVG}path[@class='hatch']") is not None and group.get("data-key")
    }
    assert hatched == {
        f"{field}[0,2]"
        for field in ("policy_log_probs", "response_mask", "masked_log_probs", "grad")
    }


def test_hostile_tokens_stay_text(hostile_svg):
    first, second = re.findall(r"<svg.*?</svg>", hostile_svg, re.DOTALL)
    for document in (first, second):
        root = ElementTree.fromstring(document)
        words = [word for _, _, words in groups(root) for word in words]
        assert any(word.startswith("<scrip") for word in words)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            *("svg", "style", "g", "rect", "text", "path", "title", "desc")
        }
    assert "xxxx…" in hostile_svg and "x" * 50 not in hostile_svg


def test_nothing_in_it_can_act_or_call_out(hostile_svg):
    assert "<script" not in hostile_svg
    for element in ElementTree.fromstring(f"<both>{hostile_svg}</both>").iter():
        for name in element.attrib:
            assert name not in ("id", "href") and not name.startswith("on")
    without_namespace = hostile_svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import|//", without_namespace)


def test_a_picture_that_stands_alone_has_colours_and_a_live_one_brings_none(worked):
    scene = key_formula(worked).scene
    light, dark, page = svg.draw(scene), svg.draw(scene, "dark"), svg.draw(scene, "page")
    for tone in TONES.keys() - {"lit", *OVERVIEW_TONES, *QUESTION_TONES}:
        assert f".{tone}" in light and f".{tone}" in dark
    assert ".lit" not in light and ".lit" in svg.stylesheet("live")
    assert light != dark and "<style>" in light
    first, _, then = page.partition("@media (prefers-color-scheme:dark){")
    assert light.startswith(first)  # what does not know @media draws it in light colours
    colours = re.compile(r"#[0-9a-f]{6}")
    assert len(colours.findall(first)) == len(colours.findall(then)) > 30
    assert set(colours.findall(then)) <= set(colours.findall(dark))
    assert not re.search(r"<style|#[0-9a-f]{6}|var\(", svg.markup(lower(scene)))
    assert light.replace(light[light.index("<style>") : light.index("</style>") + 8], "") == (
        svg.markup(lower(scene))
    )


def test_the_same_drawing_is_the_same_bytes_in_another_process(same_bytes_elsewhere):
    assert same_bytes_elsewhere("svg") and same_bytes_elsewhere("txt")
