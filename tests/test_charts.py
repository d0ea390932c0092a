"""A chart shows what was measured, on the axes that it is given, in the same bytes each time."""

import inspect
import io
import itertools
import math
import re
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

matplotlib.use("agg")

from matplotlib import pyplot

from sftviz.drawing.formatting import number
from sftviz.drawing.theme import TONES, paint
from sftviz.experiments.optimizers import Divergence
from sftviz.experiments.ranks import RankedRule, RankReport
from sftviz.experiments.training import Window
from sftviz.views import charts
from sftviz.views.charts import (
    compare_runs,
    divergence_chart,
    loss_curves,
    rank_chart,
    ratio_chart,
)

RATIOS = {"÷ G²": {(2, 2): 1.0, (2, 8): 0.25, (3, 2): 1.5}, "÷ B·G": {(2, 2): 1.0, (2, 8): 1.0}}
TEXT = "{http://www.w3.org/2000/svg}text"
HISTORY = [Window(1, 36.0, 2.5, 11, 8.0), Window(2, 30.0, 2.0, 11, 7.0)]
DIVERGENCES = [
    Divergence("AdamW", 2, 1.0, 0.0, 3.0, 3.0, 0.0, 0.0),
    Divergence("AdamW", 16, 0.125, 2e-4, 3.0, 24.0, 0.0, 0.0),
    Divergence("SGD", 16, 0.125, 0.67, 3.0, 24.0, 0.0, 0.0),
]
REPORT = RankReport(
    *(2, 3, 4, (130, 184)),
    (
        RankedRule("tokens", "token", 0.5, 1.0, 0.5),
        RankedRule("tokens/W", "token", 1 + 2e-16, 1.0, 6e-16),
    ),
    *(1, 4, 0.0),
)


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


CHARTS = {
    "ratio_chart": lambda ax: ratio_chart(RATIOS, ax),
    "loss_curves": lambda ax: loss_curves({"one": HISTORY, "two": HISTORY}, ax=ax),
    "divergence_chart": lambda ax: divergence_chart(DIVERGENCES, ax),
    "rank_chart": lambda ax: rank_chart(REPORT, ax),
}
every_chart = pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS.keys())


def points(line):
    return [(x, pytest.approx(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def still(ax):
    """The alternative text and the SVG of the image that a notebook shows."""
    html = ax._repr_mimebundle_()["text/html"]
    (image,) = ElementTree.fromstring(re.sub(r"(<img[^>]*)>", r"\1/>", html))
    kind, _, data = image.get("src").partition(",")
    assert kind == "data:image/svg+xml;base64"
    return image.get("alt"), b64decode(data).decode()


def texts(ax):
    return [text.get_text() for text in ax.texts]


def png(ax):
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=40, metadata={"Software": None})
    return file.getvalue()


# ---------------------------------------------------------------- all of them


def test_every_chart_is_tested_here():
    public = {
        name
        for name, value in vars(charts).items()
        if inspect.isfunction(value)
        and value.__module__ == charts.__name__
        and not name.startswith("_")
    }
    assert public == {*CHARTS, "compare_runs"}  # which makes its own axes


def test_runs_are_compared_in_three_charts_that_are_one_image():
    histories = {"healthy": HISTORY, "this run": HISTORY[:2]}
    ax = compare_runs(histories)
    panels = ax.figure.axes
    apart = [loss_curves(histories, name) for name in ("scaled_loss", "nll", "grad_norm")]
    assert [panel.get_title(loc="left") for panel in panels] == [
        each.get_ylabel() for each in apart
    ]
    assert [points(line) for panel in panels for line in panel.lines] == [
        points(line) for each in apart for line in each.lines
    ]
    assert still(ax)[0] == " ".join(each.get_label() for each in apart)


@every_chart
def test_a_chart_is_drawn_on_the_axes_that_it_is_given(chart):
    figure, (left, right) = pyplot.subplots(1, 2)
    assert chart(right) is right
    assert right.has_data() and not left.has_data() and pyplot.get_fignums() == [figure.number]


@every_chart
def test_without_axes_a_notebook_shows_an_image_with_an_alternative_text(chart):
    ax = chart(None)
    assert pyplot.get_fignums() == []
    shown = ax._repr_mimebundle_()
    assert still(ax)[0] == ax.get_label()
    assert shown["text/plain"] == f"<chart: {ax.get_ylabel() or ax.get_xlabel()}>"
    assert ax._repr_html_() == shown["text/html"]


@every_chart
def test_the_image_has_a_dark_colour_for_each_light_one(chart):
    _, svg = still(chart(None))
    literal = set(re.findall(r"(?:fill|stroke): (#\w+)", svg.partition("<style>@media")[0]))
    replaced = dict(re.findall(r'\[style\*="\w+: (#\w+)"\]{\w+:(#\w+)!important}', svg))
    assert replaced.keys() == literal and len(literal) >= 6
    light, dark = ({name: paint(name, mode) for name in TONES} for mode in ("light", "dark"))
    assert replaced[light["ground"].fill] == dark["ground"].fill
    assert replaced[light["card"].fill] == dark["card"].fill
    assert replaced[light["muted"].ink] == dark["muted"].ink


def test_black_that_a_reader_adds_becomes_ink_in_a_dark_page():
    ax = loss_curves(HISTORY)
    ax.plot([1, 2], [2, 1], color="black")
    _, svg = still(ax)
    ink = paint("ink", "dark").ink
    assert f'[style*="stroke: #000000"]{{stroke:{ink}!important}}' in svg
    assert f":root{{fill:{ink}}}" in svg


@every_chart
def test_the_image_is_the_same_bytes_and_calls_no_other_host(chart):
    html = chart(None)._repr_html_()
    assert html == chart(None)._repr_html_()
    _, svg = still(chart(None))
    assert svg.startswith("<svg ") and not re.search(r"<!|<metadata|<script|<image", svg)
    assert re.findall(r"href=\"[^#]|url\([^#]|@import", svg) == []


def test_names_are_text_and_no_markup():
    name = r"$x^2$ <b>&amp;"
    ratio = ratio_chart({name: RATIOS["÷ G²"]})
    curves = loss_curves({name: HISTORY})
    rows = divergence_chart([replace(DIVERGENCES[0], optimizer=name)])
    ranks = rank_chart(replace(REPORT, rules=(replace(REPORT.rules[0], rule=name),)))
    for ax in (ratio, curves, rows, ranks):
        alt, svg = still(ax)
        shown = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(TEXT)]
        assert name in alt and any(name in text for text in shown)


def test_the_alternative_text_has_the_values_of_the_chart():
    assert {name: chart(None).get_label() for name, chart in CHARTS.items()} == {
        "ratio_chart": "Gradient relative to the full batch’s, at (B, G): ÷ G² 0.25 at (2, 8), "
        "1 at (2, 2), 1.5 at (3, 2); ÷ B·G 1 at (2, 8), 1 at (2, 2).",
        "loss_curves": "loss a response token, in nats: one from 2.5 to 2 in 2 windows; "
        "two from 2.5 to 2 in 2 windows.",
        "divergence_chart": "Distance of the final weights, relative to the change under the mean: "
        "AdamW, G = 2: 0 %; AdamW, G = 16: 0.02 %; SGD, G = 16: 67 %.",
        "rank_chart": "2 ranks, averaged: B = 3, G = 4: ÷ tokens, mean per token: 0.5, off by "
        "50 %; ÷ tokens/W, mean per token: exact.",
    }


@every_chart
def test_the_same_chart_is_the_same_bytes(chart):
    assert png(chart(None)) == png(chart(None))


@every_chart
def test_nothing_is_written_outside_the_figure(chart):
    figure = chart(None).figure
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height


def test_colours_are_named_in_the_theme_alone():
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", inspect.getsource(charts)) == []


# ---------------------------------------------------------------- what each shows


def test_ratio_chart_orders_the_sizes_by_b_over_g():
    ax = ratio_chart(RATIOS)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2, 8", "2, 2", "3, 2"]
    _, squared, mean = ax.get_lines()
    assert points(squared) == [(0, 0.25), (1, 1.0), (2, 1.5)]
    assert points(mean) == [(0, 1.0), (1, 1.0)]
    assert sorted(texts(ax)) == ["÷ B·G", "÷ G²"]


@pytest.mark.parametrize(
    ("quantity", "values"), [("nll", [2.5, 2]), ("scaled_loss", [36, 30]), ("grad_norm", [8, 7])]
)
def test_loss_curves_show_the_history(quantity, values):
    (line,) = loss_curves(HISTORY, quantity).get_lines()
    assert points(line) == list(zip([1, 2], values, strict=True))
    assert texts(line.axes) == [str(values[-1])]


def test_a_training_that_has_not_begun_has_an_empty_curve():
    ax = loss_curves({"begun": HISTORY, "not yet": []})
    assert [len(line.get_xdata()) for line in ax.get_lines()] == [2, 0]
    assert texts(ax) == ["begun 2"]


@pytest.mark.parametrize("last", [math.nan, math.inf, -math.inf])
def test_a_last_value_that_is_not_finite_is_labelled_at_the_height_of_the_last_finite_one(last):
    values = [4.0, 1.0, last]
    diverged = [Window(n, 1.0, nll, 11, 1.0) for n, nll in enumerate(values, start=1)]
    ax = loss_curves({"diverged": diverged})
    (label,) = ax.texts
    assert label.get_text() == f"diverged {number(last)}"
    assert label.xy == (1, pytest.approx(ax.transLimits.transform((0, 1.0))[1]))
    assert f"from 4 to {number(last)} in 3 windows" in ax.get_label()
    assert png(ax)

    ax = loss_curves({"never finite": diverged[2:]})
    (label,) = ax.texts
    assert label.xy[1] == 0 and png(ax)

    ax = ratio_chart({"÷ G²": {(2, 8): 0.25, (2, 2): 1.0, (4, 2): last}})
    (label,) = ax.texts
    assert 0 < label.xy[1] <= 1 and png(ax)


def test_negative_values_do_not_turn_the_axis_over():
    """Some losses are negative: "log-probs" that are positive, for example."""
    negative = [Window(1, -3.0, 2.5, 11, 8.0), Window(2, -5.0, 2.0, 11, 7.0)]
    for histories in (negative, {"one": negative, "two": HISTORY}):
        bottom, top = loss_curves(histories, "scaled_loss").get_ylim()
        assert bottom < -5 and top > -3
    assert loss_curves(HISTORY).get_ylim()[0] == 0


def test_an_unknown_quantity_is_refused():
    with pytest.raises(ValueError, match="must be one of nll, scaled_loss, grad_norm, got 'loss'"):
        loss_curves(HISTORY, "loss")


def test_labels_that_would_overlap_are_moved_apart():
    ax = loss_curves({name: HISTORY for name in ("one", "two", "three")})
    ax.figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_series_differ_in_more_than_colour():
    lines = loss_curves({str(i): HISTORY for i in range(4)}).get_lines()
    assert len({str(line.get_linestyle()) for line in lines}) == 4
    lines = ratio_chart({str(i): RATIOS["÷ G²"] for i in range(4)}).get_lines()[1:]
    assert len({line.get_marker() for line in lines}) == 4


def test_divergence_chart_draws_0_at_the_start_of_the_logarithmic_axis():
    ax = divergence_chart(DIVERGENCES)
    assert texts(ax) == ["0 %", "0.02 %", "67 %"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["AdamW, G = 2", "AdamW, G = 16", "SGD, G = 16"]
    ends = [line.get_xdata()[-1] for line in ax.get_lines()[::2]]
    assert ends == [ax.get_lines()[0].get_xdata()[0], 2e-4, 0.67]


def test_rank_chart_names_the_rules_that_are_exact():
    ax = rank_chart(REPORT)
    assert texts(ax) == ["0.5, off by 50 %", "exact"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "÷ tokens, mean per token",
        "÷ tokens/W, mean per token",
    ]
