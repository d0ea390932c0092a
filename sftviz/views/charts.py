"""Charts of measurements, drawn by matplotlib. Each takes results and axes, and returns the axes.

Without `ax` the chart is a figure of its own, which a notebook shows as an image, light or dark as
the page is. The label of the axes is a sentence with the values of the chart, and the alternative
text of that image. A figure that is saved has the colours of the light theme. Series also differ in
marker and line, and their names stand beside the last point instead of in a legend.
"""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sftviz.drawing.formatting import number
from sftviz.drawing.still import image, with_dark
from sftviz.drawing.theme import Paint, paint
from sftviz.experiments.optimizers import Divergence
from sftviz.experiments.ranks import RankReport
from sftviz.experiments.training import Window

Quantity = Literal["nll", "scaled_loss", "grad_norm"]

_QUANTITIES = {
    "nll": "loss a response token, in nats",
    "scaled_loss": "scaled_loss, added up over a window",
    "grad_norm": "length of the gradient",
}
_Style = tuple[Paint, str, str | tuple]  # colour, marker and line: each series has its own
_SERIES: Sequence[_Style] = (
    (paint("response", "light"), "o", "-"),
    (paint("scaled_loss", "light"), "s", "--"),
    (paint("knob", "light"), "^", "-."),
    (paint("masked_sum", "light"), "D", ":"),
    (paint("loss", "light"), "v", (0, (5, 1, 1, 1, 1, 1))),
    (paint("gradient", "light"), "P", (0, (8, 3))),
)
_MUTED = paint("muted", "light")
# Text stays text, in a font as wide as the one that is measured. No random id, no time, no version:
# the same chart gives the same bytes.
_SVG = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sftviz",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_LABEL_GAP = 0.06  # between names at the right edge, relative to the height of the axes
_EXACT = 1e-9  # a smaller relative distance is float64 rounding
_SMALLEST = 1e-6  # where the logarithmic axis of differences begins; 0 is drawn there


def ratio_chart(
    ratios: Mapping[str, Mapping[tuple[int, int], float]], ax: Axes | None = None
) -> Axes:
    """Draw the length of the accumulated gradient, relative to the full batch's, at each (B, G).

    Args:
        ratios: for each rule, by its name, the ratio at each (B, G). They are drawn in the order of
            B/G, on a logarithmic axis.

    Example:
        >>> ratios = {"÷ G²": {(2, 2): 1.0, (2, 8): 0.25}, "÷ B·G": {(2, 2): 1.0, (2, 8): 1.0}}
        >>> [label.get_text() for label in ratio_chart(ratios).get_xticklabels()]
        ['2, 8', '2, 2']
    """
    ax = _axes(ax, height=3.8)
    sizes = sorted(
        {size for by_size in ratios.values() for size in by_size}, key=lambda s: (s[0] / s[1], s)
    )
    ax.axhline(1, color=_MUTED.edge, linewidth=1)
    labels, parts = [], []
    for (rule, by_size), (colour, marker, line) in zip(ratios.items(), cycle(_SERIES)):
        places = [place for place, size in enumerate(sizes) if size in by_size]
        heights = [by_size[sizes[place]] for place in places]
        ax.plot(places, heights, color=colour.edge, linestyle=line, **_dots(colour, marker))
        labels.append((rule, heights, colour.ink))
        values = [f"{number(by_size[B, G])} at ({B}, {G})" for B, G in sizes if (B, G) in by_size]
        parts.append(f"{rule} {', '.join(values)}")
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda height, _: number(height))
    ax.set_xticks(range(len(sizes)), [f"{B}, {G}" for B, G in sizes])
    _label_series(ax, labels)
    subject = "Gradient relative to the full batch’s, at (B, G)"
    names = {"xlabel": "B, G", "ylabel": "gradient, relative to the full batch’s"}
    return _finish(ax, subject, parts, "1 is the gradient of the full batch", **names)


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
    for (name, history), (colour, _, line) in zip(named.items(), cycle(_SERIES)):
        values = [getattr(window, quantity) for window in history]
        ax.plot([window.number for window in history], values, color=colour.ink, linestyle=line)
        if values:
            first, last = number(values[0]), number(values[-1])
            labels.append((f"{name} {last}".strip(), values, colour.ink))
            parts.append(f"{name} from {first} to {last} in {len(values)} windows".strip())
            smallest = min(smallest, *filter(math.isfinite, values), 0.0)
    if smallest == 0:
        ax.set_ylim(bottom=0)
    _label_series(ax, labels)
    subject = _QUANTITIES[quantity]
    return _finish(ax, subject, parts, xlabel="window", ylabel=subject)


def compare_runs(histories: Mapping[str, Sequence[Window]]) -> Axes:
    """Draw the logged loss, the loss per token and the gradient of trainings beside each other.

    Args:
        histories: by name; the first one is behind the others.

    Example:
        >>> history = [Window(1, 36.0, 2.5, 11, 8.0), Window(2, 30.0, 2.0, 11, 7.0)]
        >>> compare_runs({"healthy": history}).get_title(loc="left")
        'scaled_loss, added up over a window'
    """
    figure = Figure((10.8, 2.7), facecolor=paint("ground", "light").fill, layout="constrained")
    panels = figure.subplots(1, 3, subplot_kw={"axes_class": _NotebookAxes})
    for quantity, ax in zip(("scaled_loss", "nll", "grad_norm"), panels, strict=True):
        loss_curves(histories, quantity, _axes(ax, height=0))
        ax.set_title(ax.get_ylabel(), loc="left", fontsize=10, color=paint("title", "light").ink)
        ax.set_ylabel("")
    panels[0].set_label(" ".join(ax.get_label() for ax in panels))
    return panels[0]


def divergence_chart(records: Sequence[Divergence], ax: Axes | None = None) -> Axes:
    """Draw how far the weights end from each other under ÷ G² and under the mean over sequences.

    Args:
        records: from `optimizer_divergence`; one row each, on a logarithmic axis.

    Example:
        >>> record = Divergence("SGD", 16, 0.125, 0.67, 2.0, 16.0, 0.0, 0.0)
        >>> [label.get_text() for label in divergence_chart([record]).get_yticklabels()]
        ['SGD, G = 16']
    """
    ax = _axes(ax, height=1.2 + 0.24 * len(records))
    styles = dict(zip(dict.fromkeys(record.optimizer for record in records), cycle(_SERIES)))
    rows = []
    for record in records:
        name = f"{record.optimizer}, G = {record.gradient_accumulation_steps}"
        x, text = max(record.difference, _SMALLEST), _percent(record.difference)
        rows.append((name, x, text, styles[record.optimizer]))
    parts = _draw_rows(ax, rows, start=_SMALLEST)
    ax.set_xscale("log")
    ax.set_xlim(_SMALLEST / 1.5, 12)
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1], ["0.0001 %", "0.01 %", "1 %", "100 %"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    subject = "distance of the final weights, relative to the change under the mean"
    title = "How far apart the two trainings end"
    return _finish(ax, subject.capitalize(), parts, title, xlabel=subject)


def rank_chart(report: RankReport, ax: Axes | None = None) -> Axes:
    """Draw the gradient that each rule leaves on several ranks, relative to the full batch's.

    Args:
        report: from `run_ranks`.

    Example:
        >>> from sftviz.experiments.ranks import RankedRule
        >>> rule = RankedRule("tokens", per="token", ratio=0.5, cosine=1.0, distance=0.5)
        >>> report = RankReport(2, 3, 4, (130, 184), (rule,), 1, 4, 0.0)
        >>> [label.get_text() for label in rank_chart(report).get_yticklabels()]
        ['÷ tokens, mean per token']
    """
    ax = _axes(ax, height=1.2 + 0.34 * len(report.rules))
    ax.axvline(1, color=_MUTED.edge, linewidth=1)
    rows = []
    for rule in report.rules:
        is_exact = rule.distance < _EXACT
        result = "exact" if is_exact else f"{number(rule.ratio)}, off by {_percent(rule.distance)}"
        name = f"÷ {rule.rule}, mean per {rule.per}"
        rows.append((name, rule.ratio, result, _SERIES[0 if is_exact else 1]))
    parts = _draw_rows(ax, rows, start=0)
    ax.set_xlim(0, 1.45 * max(rule.ratio for rule in report.rules))
    B, G = report.microbatch_size, report.gradient_accumulation_steps
    title = f"{report.ranks} ranks, averaged: B = {B}, G = {G}"
    return _finish(ax, title, parts, title, xlabel="gradient, relative to the full batch’s")


def _axes(ax: Axes | None, height: float) -> Axes:
    if ax is None:
        figure = Figure(
            (7.2, height), facecolor=paint("ground", "light").fill, layout="constrained"
        )
        ax = figure.add_subplot(axes_class=_NotebookAxes)
    ax.set_facecolor(paint("card", "light").fill)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_MUTED.edge)
    ax.tick_params(which="both", color=_MUTED.edge, labelcolor=_MUTED.ink)
    ax.xaxis.label.set_color(_MUTED.ink)
    ax.yaxis.label.set_color(_MUTED.ink)
    return ax


class _NotebookAxes(Axes):
    """Axes that a notebook shows as an image with an alternative text, without pyplot."""

    def _repr_html_(self) -> str:
        self.set_subplotspec(self.get_subplotspec())  # else the layout starts from the last one
        file = io.StringIO()
        with rc_context(_SVG):
            self.figure.savefig(file, format="svg", metadata=_METADATA)
        svg = file.getvalue()
        width = 96 * self.figure.get_figwidth()
        return image(self.get_label(), with_dark(svg[svg.index("<svg") :]), width, kind="chart")

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        name = self.get_ylabel() or self.get_xlabel()
        return {"text/plain": f"<chart: {name}>", "text/html": self._repr_html_()}


def _finish(ax: Axes, subject: str, parts: Sequence[str], title: str = "", **names: str) -> Axes:
    """Write the names of the axes and the title; make the values the alternative text."""
    ax.set(**names)
    if title:
        ax.set_title(title, loc="left", fontsize=11, color=paint("title", "light").ink)
    ax.set_label(f"{subject}: {'; '.join(parts)}.")
    return ax


def _draw_rows(ax: Axes, rows: Sequence[tuple[str, float, str, _Style]], start: float) -> list[str]:
    """Draw rows of name, x, text and style, the first on top; return each as a text."""
    for row, (_, x, text, (colour, marker, _)) in enumerate(rows):
        ax.plot([start, x], [row, row], color=colour.edge, linewidth=1)
        ax.plot(x, row, linestyle="none", **_dots(colour, marker))
        box = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1}  # hides the line
        _write(ax, text, (x, row), 8, colour.ink, fontsize=9, bbox=box)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    return [f"{name}: {text}" for name, _, text, _ in rows]


def _dots(colour: Paint, marker: str) -> dict[str, object]:
    face, edge = colour.fill, colour.ink
    return {"marker": marker, "markersize": 7, "markerfacecolor": face, "markeredgecolor": edge}


def _write(
    ax: Axes, text: str, at: tuple[float, float], gap: int, ink: str, **options: object
) -> None:
    """Write a text to the right of a point, with a gap in points."""
    ax.annotate(
        text,
        at,
        (gap, 0),
        textcoords="offset points",
        color=ink,
        va="center",
        parse_math=False,
        **options,
    )


def _label_series(ax: Axes, labels: Sequence[tuple[str, Sequence[float], str]]) -> None:
    """Write names at the right edge, each near the last finite value, without overlap."""
    ax.get_ylim()  # matplotlib updates the limits only when they are read
    to_axes = ax.transData + ax.transAxes.inverted()
    positions = []
    for name, values, ink in labels:
        last = next(filter(math.isfinite, reversed(values)), 0.0)
        positions.append((min(max(to_axes.transform((1, last))[1], 0), 1), name, ink))
    lowest = -math.inf
    for height, name, ink in sorted(positions):
        lowest = max(height, lowest + _LABEL_GAP)
        _write(ax, name, (1, lowest), 6, ink, xycoords="axes fraction", annotation_clip=False)


def _percent(share: float) -> str:
    return f"{number(float(f'{100 * share:.2g}'))} %"
