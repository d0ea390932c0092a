"""A chart shows what was measured, on the axes that it was given, in the same bytes each time."""

import inspect
import io
import itertools
import re
from base64 import b64decode
from xml.etree import ElementTree

import matplotlib
import pytest
import torch

matplotlib.use("agg")

from matplotlib import pyplot

from sftviz import trace_step
from sftviz.experiments.optimizers import Divergence
from sftviz.experiments.ranks import RankedRule, RankReport
from sftviz.experiments.training import Window
from sftviz.views import charts
from sftviz.views.charts import (
    divergence_chart,
    gradient_magnitude,
    loss_curves,
    rank_chart,
    ratio_chart,
)

RATIOS = {"÷G²": {(2, 2): 1.0, (2, 8): 0.25, (3, 2): 1.5}, "÷(B·G)": {(2, 2): 1.0, (2, 8): 1.0}}
HISTORY = [Window(1, 36.0, 2.5, 11, 8.0), Window(2, 30.0, 2.0, 11, 7.0)]
DIVERGENCES = [
    Divergence("AdamW", 2, 1.0, 0.0, 3.0, 3.0, 0.0, 0.0),
    Divergence("AdamW", 16, 0.125, 2e-4, 3.0, 24.0, 0.0, 0.0),
    Divergence("SGD", 16, 0.125, 0.67, 3.0, 24.0, 0.0, 0.0),
]
REPORT = RankReport(
    *(2, 3, 4, (130, 184)),
    (
        RankedRule("÷N", "token", 0.5, 1.0, 0.5),
        RankedRule("÷N ×W", "token", 1 + 2e-16, 1.0, 6e-16),
    ),
    *(1, 4, 0.0),
)


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


@pytest.fixture
def trace():
    """B = 2, c = 7, one token masked."""
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    return trace_step(-torch.ones(2, 3), mask, 1, 7.0)


CHARTS = {
    "gradient_magnitude": lambda trace, ax: gradient_magnitude(trace, (1, 2, 4), ax),
    "ratio_chart": lambda trace, ax: ratio_chart(RATIOS, ax),
    "loss_curves": lambda trace, ax: loss_curves({"one": HISTORY, "two": HISTORY}, ax=ax),
    "divergence_chart": lambda trace, ax: divergence_chart(DIVERGENCES, ax),
    "rank_chart": lambda trace, ax: rank_chart(REPORT, ax),
}
every_chart = pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS.keys())


def points(line):
    return [(x, pytest.approx(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def png(ax):
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=40, metadata={"Software": None})
    return file.getvalue()


# ---------------------------------------------------------------- all of them


def test_every_chart_is_tried_here():
    public = {
        name
        for name, value in vars(charts).items()
        if inspect.isfunction(value)
        and value.__module__ == charts.__name__
        and not name.startswith("_")
    }
    assert public == set(CHARTS)


@every_chart
def test_a_chart_is_drawn_on_the_axes_that_it_is_given(chart, trace):
    figure, (left, right) = pyplot.subplots(1, 2)
    assert chart(trace, right) is right
    assert right.has_data() and not left.has_data() and pyplot.get_fignums() == [figure.number]


@every_chart
def test_without_axes_it_is_an_image_with_a_sentence_that_a_notebook_shows(chart, trace):
    ax = chart(trace, None)
    assert pyplot.get_fignums() == []
    shown = ax._repr_mimebundle_()
    (image,) = ElementTree.fromstring(f"<body>{shown['text/html']}</body>".replace('">', '"/>'))
    assert image.get("alt") == ax.get_label()
    start = "data:image/png;base64,"
    assert image.get("src").startswith(start)
    assert b64decode(image.get("src").removeprefix(start)).startswith(b"\x89PNG")
    assert shown["text/plain"] == f"<chart: {ax.get_ylabel() or ax.get_xlabel()}>"


def test_the_sentence_says_what_the_eye_sees(trace):
    assert {name: chart(trace, None).get_label() for name, chart in CHARTS.items()} == {
        "gradient_magnitude": "Gradient at a response token: 0.1429 at G = 1; 0.03571 at G = 2; "
        "0.008929 at G = 4.",
        "ratio_chart": "Gradient relative to the full batch’s, at (B, G): ÷G² 0.25 at (2, 8), "
        "1 at (2, 2), 1.5 at (3, 2); ÷(B·G) 1 at (2, 8), 1 at (2, 2).",
        "loss_curves": "loss a response token, in nats: one from 2.5 to 2 in 2 windows; "
        "two from 2.5 to 2 in 2 windows.",
        "divergence_chart": "How far apart the two runs end, relative to the way that the mean "
        "went: AdamW, G = 2: 0 %; AdamW, G = 16: 0.02 %; SGD, G = 16: 67 %.",
        "rank_chart": "2 ranks, averaged: B = 3, G = 4: ÷N, mean per token: 0.5, off by 50 %; "
        "÷N ×W, mean per token: exact.",
    }


@every_chart
def test_the_same_chart_is_the_same_bytes(chart, trace):
    assert png(chart(trace, None)) == png(chart(trace, None))


@every_chart
def test_nothing_is_written_outside_the_figure(chart, trace):
    figure = chart(trace, None).figure
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height


def test_colours_are_named_in_the_theme_alone():
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", inspect.getsource(charts)) == []


# ---------------------------------------------------------------- what each shows


def test_gradient_magnitude_shows_what_the_step_left(trace):
    ax = gradient_magnitude(trace, steps=(1, 2, 4))
    guide, measured = ax.get_lines()
    assert points(measured) == [(1, 1 / 7), (2, 1 / 28), (4, 1 / 112)]
    assert points(guide) == [(1, 1 / 7), (2, 1 / 14), (4, 1 / 28)]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert texts(ax) == ["0.1429", "0.03571", "0.008929", "÷G²", "÷G"]
    with pytest.raises(ValueError, match="steps is empty"):
        gradient_magnitude(trace, steps=())


def test_ratio_chart_puts_the_sizes_in_the_order_of_b_over_g():
    ax = ratio_chart(RATIOS)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2, 8", "2, 2", "3, 2"]
    _, squared, mean = ax.get_lines()
    assert points(squared) == [(0, 0.25), (1, 1.0), (2, 1.5)]
    assert points(mean) == [(0, 1.0), (1, 1.0)]
    assert sorted(texts(ax)) == ["÷(B·G)", "÷G²"]


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


def test_an_unknown_quantity_is_refused():
    with pytest.raises(ValueError, match="must be one of nll, scaled_loss, grad_norm, got 'loss'"):
        loss_curves(HISTORY, "loss")


def test_names_that_would_cover_each_other_are_moved_apart():
    ax = loss_curves({name: HISTORY for name in ("one", "two", "three")})
    ax.figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_series_differ_in_more_than_colour():
    lines = loss_curves({str(i): HISTORY for i in range(4)}).get_lines()
    assert len({str(line.get_linestyle()) for line in lines}) == 4
    lines = ratio_chart({str(i): RATIOS["÷G²"] for i in range(4)}).get_lines()[1:]
    assert len({line.get_marker() for line in lines}) == 4


def test_divergence_chart_shows_nothing_as_nothing():
    ax = divergence_chart(DIVERGENCES)
    assert texts(ax) == ["0 %", "0.02 %", "67 %"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["AdamW, G = 2", "AdamW, G = 16", "SGD, G = 16"]
    ends = [line.get_xdata()[-1] for line in ax.get_lines()[::2]]
    assert ends == [ax.get_lines()[0].get_xdata()[0], 2e-4, 0.67]


def test_rank_chart_says_what_is_exact():
    ax = rank_chart(REPORT)
    assert texts(ax) == ["0.5, off by 50 %", "exact"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "÷N, mean per token",
        "÷N ×W, mean per token",
    ]
