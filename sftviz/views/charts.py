"""Charts of measurements, drawn by matplotlib. Each takes results and axes, and returns the axes.

Without `ax` the chart is a figure of its own, which a notebook shows as an image. The label of the
axes is a sentence with the values of the chart, and the alternative text of that image. Colours are
those of the light theme; series also differ in marker and line, and their names stand beside the
last point instead of in a legend.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sftviz.drawing.formatting import number
from sftviz.drawing.theme import paint
from sftviz.experiments.optimizers import Divergence
from sftviz.experiments.ranks import RankReport
from sftviz.experiments.training import Window

Quantity = Literal["nll", "scaled_loss", "grad_norm"]

_QUANTITIES = {
    "nll": "loss a response token, in nats",
    "scaled_loss": "scaled_loss, added up over a window",
    "grad_norm": "length of the gradient",
}
# Tone, marker and line of each series, so that series differ in more than colour.
_SERIES = (
    ("response", "o", "-"),
    ("scaled_loss", "s", "--"),
    ("knob", "^", "-."),
    ("masked_sum", "D", ":"),
    ("loss", "v", (0, (5, 1, 1, 1, 1, 1))),
    ("gradient", "P", (0, (8, 3))),
)
_LABEL_GAP = 0.06  # between names at the right edge, relative to the height of the axes
_EXACT = 1e-9  # a smaller relative distance is float64 rounding
_SMALLEST = 1e-6  # where the logarithmic axis of differences begins; 0 is drawn there


def ratio_chart(
    ratios: Mapping[str, Mapping[tuple[int, int], float]], ax: Axes | None = None
) -> Axes:
    """Draw the length of the accumulated gradient, relative to the full batch's, against (B, G).

    Args:
        ratios: for each rule, by its name, the ratio at each (B, G).
        ax: where to draw; None makes a figure.

    Returns:
        The axes: (B, G), in the order of B/G, against the ratio, on a logarithmic axis.

    Example:
        >>> ratios = {"÷ G²": {(2, 2): 1.0, (2, 8): 0.25}, "÷ B·G": {(2, 2): 1.0, (2, 8): 1.0}}
        >>> [label.get_text() for label in ratio_chart(ratios).get_xticklabels()]
        ['2, 8', '2, 2']
    """
    ax = _axes(ax, height=3.8)
    sizes = sorted(
        {size for by_size in ratios.values() for size in by_size}, key=lambda s: (s[0] / s[1], s)
    )
    ax.axhline(1, color=paint("muted", "light").edge, linewidth=1)
    labels = []
    for (rule, by_size), (tone, marker, line) in zip(ratios.items(), _cycle(ratios), strict=True):
        colour = paint(tone, "light")
        places = [place for place, size in enumerate(sizes) if size in by_size]
        heights = [by_size[sizes[place]] for place in places]
        ax.plot(
            places,
            heights,
            color=colour.edge,
            linestyle=line,
            marker=marker,
            markersize=7,
            markerfacecolor=colour.fill,
            markeredgecolor=colour.ink,
        )
        labels.append((rule, _last_finite(heights), colour.ink))
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda height, _: number(height))
    ax.set_xticks(range(len(sizes)), [f"{B}, {G}" for B, G in sizes])
    _label_series(ax, labels)
    ax.set_xlabel("B, G")
    ax.set_ylabel("gradient, relative to the full batch’s")
    _set_title(ax, "1 is the gradient of the full batch")
    parts = [
        f"{rule} "
        + ", ".join(f"{number(by_size[B, G])} at ({B}, {G})" for B, G in sizes if (B, G) in by_size)
        for rule, by_size in ratios.items()
    ]
    return _describe(ax, "Gradient relative to the full batch’s, at (B, G)", parts)


def loss_curves(
    histories: Sequence[Window] | Mapping[str, Sequence[Window]],
    quantity: Quantity = "nll",
    ax: Axes | None = None,
) -> Axes:
    """Draw one quantity of each window of one or several trainings, labelled with the last value.

    A value that is NaN or infinite leaves a gap. If it is the last one, the label says so, and
    stands at the height of the last finite value.

    Args:
        histories: `Trainer.history`, or several of them by name.
        quantity: "nll", in nats a response token, which can be compared between trainings;
            "scaled_loss", which is what the step returns; or "grad_norm".
        ax: where to draw; None makes a figure.

    Returns:
        The axes: the number of the window against the quantity.

    Raises:
        ValueError: the quantity is none of these.

    Example:
        >>> history = [Window(1, 36.0, 2.5, 11, 8.0), Window(2, 30.0, 2.0, 11, 7.0)]
        >>> loss_curves({"first": history}).get_ylabel()
        'loss a response token, in nats'
    """
    if quantity not in _QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(_QUANTITIES)}, got {quantity!r}.")
    named = histories if isinstance(histories, Mapping) else {"": histories}
    ax = _axes(ax, height=3.2)
    labels, parts, smallest = [], [], 0.0
    for (name, history), (tone, _, line) in zip(named.items(), _cycle(named), strict=True):
        colour = paint(tone, "light")
        values = [getattr(window, quantity) for window in history]
        ax.plot([window.number for window in history], values, color=colour.ink, linestyle=line)
        if values:
            last = f"{name} {number(values[-1])}".strip()
            labels.append((last, _last_finite(values), colour.ink))
            change = f"from {number(values[0])} to {number(values[-1])} in {len(values)} windows"
            parts.append(f"{name} {change}".strip())
            smallest = min(smallest, *filter(math.isfinite, values), 0.0)
    if smallest == 0:
        ax.set_ylim(bottom=0)
    _label_series(ax, labels)
    ax.set_xlabel("window")
    ax.set_ylabel(_QUANTITIES[quantity])
    return _describe(ax, _QUANTITIES[quantity], parts)


def divergence_chart(records: Sequence[Divergence], ax: Axes | None = None) -> Axes:
    """Draw how far the weights end from each other under ÷ G² and under the mean over sequences.

    Args:
        records: from `optimizer_divergence`.
        ax: where to draw; None makes a figure.

    Returns:
        The axes: `Divergence.difference` on a logarithmic axis, one row for each record.

    Example:
        >>> record = Divergence("SGD", 16, 0.125, 0.67, 2.0, 16.0, 0.0, 0.0)
        >>> [label.get_text() for label in divergence_chart([record]).get_yticklabels()]
        ['SGD, G = 16']
    """
    ax = _axes(ax, height=1.2 + 0.24 * len(records))
    styles: dict[str, tuple] = {}
    for record in records:
        styles.setdefault(record.optimizer, _SERIES[len(styles) % len(_SERIES)])
    for row, record in enumerate(records):
        tone, marker, _ = styles[record.optimizer]
        x = max(record.difference, _SMALLEST)
        _draw_dot(ax, x, row, tone, marker, _percent(record.difference), start=_SMALLEST)
    ax.set_xscale("log")
    ax.set_xlim(_SMALLEST / 1.5, 12)
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1], ["0.0001 %", "0.01 %", "1 %", "100 %"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    rows = [f"{r.optimizer}, G = {r.gradient_accumulation_steps}" for r in records]
    _name_rows(ax, rows)
    ax.set_xlabel("distance of the final weights, relative to the change under the mean")
    _set_title(ax, "How far apart the two trainings end")
    parts = [
        f"{row}: {_percent(record.difference)}" for row, record in zip(rows, records, strict=True)
    ]
    return _describe(
        ax, "Distance of the final weights, relative to the change under the mean", parts
    )


def rank_chart(report: RankReport, ax: Axes | None = None) -> Axes:
    """Draw the gradient that each rule leaves on several ranks, relative to the full batch's.

    Args:
        report: from `run_ranks`.
        ax: where to draw; None makes a figure.

    Returns:
        The axes: the ratio of each rule, one row for each; 1 is the full batch's gradient.

    Example:
        >>> from sftviz.experiments.ranks import RankedRule
        >>> rule = RankedRule("tokens", per="token", ratio=0.5, cosine=1.0, distance=0.5)
        >>> report = RankReport(2, 3, 4, (130, 184), (rule,), 1, 4, 0.0)
        >>> [label.get_text() for label in rank_chart(report).get_yticklabels()]
        ['÷ tokens, mean per token']
    """
    ax = _axes(ax, height=1.2 + 0.34 * len(report.rules))
    ax.axvline(1, color=paint("muted", "light").edge, linewidth=1)
    rows, parts = [], []
    for row, rule in enumerate(report.rules):
        is_exact = rule.distance < _EXACT
        tone, marker, _ = _SERIES[0 if is_exact else 1]
        result = "exact" if is_exact else f"{number(rule.ratio)}, off by {_percent(rule.distance)}"
        _draw_dot(ax, rule.ratio, row, tone, marker, result, start=0)
        rows.append(f"÷ {rule.rule}, mean per {rule.per}")
        parts.append(f"{rows[-1]}: {result}")
    ax.set_xlim(0, 1.45 * max(rule.ratio for rule in report.rules))
    _name_rows(ax, rows)
    ax.set_xlabel("gradient, relative to the full batch’s")
    B, G = report.microbatch_size, report.gradient_accumulation_steps
    title = f"{report.ranks} ranks, averaged: B = {B}, G = {G}"
    _set_title(ax, title)
    return _describe(ax, title, parts)


def _axes(ax: Axes | None, height: float) -> Axes:
    if ax is None:
        figure = Figure(
            (7.2, height), facecolor=paint("ground", "light").fill, layout="constrained"
        )
        ax = figure.add_subplot(axes_class=_NotebookAxes)
    muted = paint("muted", "light")
    ax.set_facecolor(paint("card", "light").fill)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(muted.edge)
    ax.tick_params(which="both", color=muted.edge, labelcolor=muted.ink)
    ax.xaxis.label.set_color(muted.ink)
    ax.yaxis.label.set_color(muted.ink)
    return ax


class _NotebookAxes(Axes):
    """Axes that a notebook shows as an image with an alternative text, without pyplot."""

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", metadata={"Software": None})
        data = base64.b64encode(file.getvalue()).decode()
        alt = escape(self.get_label())
        return {
            "text/plain": f"<chart: {self.get_ylabel() or self.get_xlabel()}>",
            "text/html": f'<img alt="{alt}" src="data:image/png;base64,{data}">',
        }


def _set_title(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11, color=paint("title", "light").ink)


def _describe(ax: Axes, subject: str, parts: Sequence[str]) -> Axes:
    """Make the values of a chart its alternative text."""
    ax.set_label(f"{subject}: {'; '.join(parts)}.")
    return ax


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)  # the first row on top
    ax.tick_params(axis="y", length=0)


def _draw_dot(
    ax: Axes, x: float, row: int, tone: str, marker: str, text: str, start: float
) -> None:
    colour = paint(tone, "light")
    ax.plot([start, x], [row, row], color=colour.edge, linewidth=1)
    ax.plot(x, row, marker, color=colour.fill, markeredgecolor=colour.ink, markersize=7)
    ax.annotate(
        text,
        (x, row),
        (8, 0),
        textcoords="offset points",
        color=colour.ink,
        fontsize=9,
        va="center",
        bbox={"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1},  # hides the line
    )


def _last_finite(values: Sequence[float]) -> float:
    """The last value that is neither NaN nor infinite; 0 if there is none."""
    return next((value for value in reversed(values) if math.isfinite(value)), 0.0)


def _label_series(ax: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write the names of the series at the right edge, each near its height, without overlap."""
    ax.get_ylim()  # matplotlib updates the limits only when they are read
    to_axes = ax.transData + ax.transAxes.inverted()
    positions = [
        (min(max(to_axes.transform((1, height))[1], 0), 1), name, ink)
        for name, height, ink in labels
    ]
    lowest = -math.inf
    for height, name, ink in sorted(positions):
        lowest = max(height, lowest + _LABEL_GAP)
        ax.annotate(
            name,
            (1, lowest),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=ink,
            annotation_clip=False,
        )


def _percent(share: float) -> str:
    return f"{number(float(f'{100 * share:.2g}'))} %"


def _cycle(series: Mapping) -> list[tuple]:
    return [_SERIES[i % len(_SERIES)] for i in range(len(series))]
