"""Plots with axes. Each takes what was measured and an `ax`, and returns the axes that it drew on.

Where no `ax` is given, they are axes of a figure of their own, which a notebook shows as an image;
what the chart says, in a sentence, is its alternative text and the label of the axes. The colours
are those of the pictures, on their light ground; series also differ in marker and line, and are
named where they are drawn instead of in a legend.
"""

import base64
import io
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
from sftviz.step import StepTrace, trace_step
from sftviz.views.stages import largest

Quantity = Literal["nll", "scaled_loss", "grad_norm"]

_QUANTITIES = {
    "nll": "loss a response token, in nats",
    "scaled_loss": "scaled_loss, added up over a window",
    "grad_norm": "length of the gradient",
}
# A tone, a marker and a line each, so that no two series rest on colour alone.
_SERIES = (
    ("response", "o", "-"),
    ("scaled_loss", "s", "--"),
    ("knob", "^", "-."),
    ("masked_sum", "D", ":"),
    ("loss", "v", (0, (5, 1, 1, 1, 1, 1))),
    ("gradient", "P", (0, (8, 3))),
)
_LABEL_GAP = 0.06  # of the height of the axes, between names at the right edge
_EXACT = 1e-9  # relative: what is less is float64's rounding
_SMALLEST = 1e-6  # where the axis of differences begins, and what is 0 stands


def gradient_magnitude(
    trace: StepTrace,
    steps: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    ax: Axes | None = None,
) -> Axes:
    """The size of the gradient at a response token against G, both logarithmic.

    Every point is a run of the step on the log-probs of the trace. The dashed line falls as 1/G
    from the first point, for comparison.

    Args:
        trace: whose log-probs, mask and normalize_constant are used.
        steps: the G, ascending.
        ax: where to draw; None makes a figure.

    Raises:
        TypeError, ValueError: one of the steps is no int of at least 1, or there is none.

    >>> from sftviz.examples import WORKED_EXAMPLE
    >>> gradient_magnitude(WORKED_EXAMPLE.trace(), steps=(1, 2, 4)).get_title(loc="left")
    'Gradient at a response token: 1 at G = 1, 0.0625 at G = 4'
    """
    if not steps:
        raise ValueError("steps is empty, so there is nothing to draw: give some G, such as 1, 2.")
    sizes = []
    for G in steps:
        run = trace_step(trace.policy_log_probs, trace.response_mask, G, trace.normalize_constant)
        sizes.append(largest(run.grad).abs().item())
    ax = _axes(ax, height=3.6)
    tone = paint("gradient", "light")
    guide = [sizes[0] * steps[0] / G for G in steps]
    ax.plot(steps, guide, "--", color=paint("muted", "light").edge)
    ax.plot(steps, sizes, "o-", color=tone.edge, markeredgecolor=tone.ink)
    for G, size in zip(steps, sizes, strict=True):
        _write(ax, number(size), (G, size), (-4, -9), tone.ink, ha="right")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    _tick(ax, steps)
    ax.margins(x=0.12, y=0.15)
    _name(ax, [("÷G", guide[-1], paint("muted", "light").ink), ("÷G²", sizes[-1], tone.ink)])
    ax.set_xlabel("G, gradient_accumulation_steps")
    ax.set_ylabel("|gradient|")
    told = [f"{number(size)} at G = {G}" for G, size in zip(steps, sizes, strict=True)]
    _title(ax, f"Gradient at a response token: {told[0]}, {told[-1]}")
    return _tell(ax, "Gradient at a response token", told)


def ratio_chart(
    ratios: Mapping[str, Mapping[tuple[int, int], float]], ax: Axes | None = None
) -> Axes:
    """How long the accumulated gradient is, in lengths of the full batch's: 1 where they agree.

    Args:
        ratios: for each rule, by its name, the ratio at each (B, G).
        ax: where to draw; None makes a figure.

    >>> ratios = {"÷G²": {(2, 2): 1.0, (2, 8): 0.25}, "÷(B·G)": {(2, 2): 1.0, (2, 8): 1.0}}
    >>> [label.get_text() for label in ratio_chart(ratios).get_xticklabels()]
    ['2, 8', '2, 2']
    """
    ax = _axes(ax, height=3.8)
    sizes = sorted(
        {size for found in ratios.values() for size in found}, key=lambda s: (s[0] / s[1], s)
    )
    ax.axhline(1, color=paint("muted", "light").edge, linewidth=1)
    names = []
    for (rule, found), (tone, marker, line) in zip(ratios.items(), _cycle(ratios), strict=True):
        colour = paint(tone, "light")
        places = [place for place, size in enumerate(sizes) if size in found]
        heights = [found[sizes[place]] for place in places]
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
        names.append((rule, heights[-1], colour.ink))
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda height, _: number(height))
    ax.set_xticks(range(len(sizes)), [f"{B}, {G}" for B, G in sizes])
    _name(ax, names)
    ax.set_xlabel("B, G")
    ax.set_ylabel("gradient, relative to the full batch’s")
    _title(ax, "1 is the gradient of the full batch")
    told = [
        f"{rule} "
        + ", ".join(f"{number(found[B, G])} at ({B}, {G})" for B, G in sizes if (B, G) in found)
        for rule, found in ratios.items()
    ]
    return _tell(ax, "Gradient relative to the full batch’s, at (B, G)", told)


def loss_curves(
    histories: Sequence[Window] | Mapping[str, Sequence[Window]],
    quantity: Quantity = "nll",
    ax: Axes | None = None,
) -> Axes:
    """What the windows of one training, or of several, have recorded; and the last values.

    Args:
        histories: `Trainer.history`, or several of them by name.
        quantity: "nll", which can be compared between trainings; "scaled_loss", which is what the
            step returns; or "grad_norm".
        ax: where to draw; None makes a figure.

    Raises:
        ValueError: the quantity is none of these.

    >>> history = [Window(1, 36.0, 2.5, 11, 8.0), Window(2, 30.0, 2.0, 11, 7.0)]
    >>> loss_curves({"first": history}).get_ylabel()
    'loss a response token, in nats'
    """
    if quantity not in _QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(_QUANTITIES)}, got {quantity!r}.")
    named = histories if isinstance(histories, Mapping) else {"": histories}
    ax = _axes(ax, height=3.2)
    names, told = [], []
    for (name, history), (tone, _, line) in zip(named.items(), _cycle(named), strict=True):
        colour = paint(tone, "light")
        values = [getattr(window, quantity) for window in history]
        ax.plot([window.number for window in history], values, color=colour.ink, linestyle=line)
        if values:
            names.append((f"{name} {number(values[-1])}".strip(), values[-1], colour.ink))
            way = f"from {number(values[0])} to {number(values[-1])} in {len(values)} windows"
            told.append(f"{name} {way}".strip())
    ax.set_ylim(bottom=0)
    _name(ax, names)
    ax.set_xlabel("window")
    ax.set_ylabel(_QUANTITIES[quantity])
    return _tell(ax, _QUANTITIES[quantity], told)


def divergence_chart(records: Sequence[Divergence], ax: Axes | None = None) -> Axes:
    """How far ÷G² leads an optimizer away from where the mean over sequences would have led it.

    Args:
        records: from `optimizer_divergence`.
        ax: where to draw; None makes a figure.

    >>> record = Divergence("SGD", 16, 0.125, 0.67, 2.0, 16.0, 0.0, 0.0)
    >>> [label.get_text() for label in divergence_chart([record]).get_yticklabels()]
    ['SGD, G = 16']
    """
    ax = _axes(ax, height=1.2 + 0.24 * len(records))
    tones: dict[str, tuple] = {}
    for record in records:
        tones.setdefault(record.optimizer, _SERIES[len(tones) % len(_SERIES)])
    for row, record in enumerate(records):
        tone, marker, _ = tones[record.optimizer]
        where = max(record.difference, _SMALLEST)
        _dot(ax, where, row, tone, marker, _percent(record.difference), start=_SMALLEST)
    ax.set_xscale("log")
    ax.set_xlim(_SMALLEST / 1.5, 12)
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1], ["0.0001 %", "0.01 %", "1 %", "100 %"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    rows = [f"{r.optimizer}, G = {r.gradient_accumulation_steps}" for r in records]
    _rows(ax, rows)
    ax.set_xlabel("distance of the two ends, relative to the way that the mean went")
    _title(ax, "How far apart the two runs end")
    told = [
        f"{row}: {_percent(record.difference)}" for row, record in zip(rows, records, strict=True)
    ]
    return _tell(ax, "How far apart the two runs end, relative to the way that the mean went", told)


def rank_chart(report: RankReport, ax: Axes | None = None) -> Axes:
    """What each rule leaves on the parameters of several ranks, against the true mean.

    Args:
        report: from `run_ranks`.
        ax: where to draw; None makes a figure.
    """
    ax = _axes(ax, height=1.2 + 0.34 * len(report.rules))
    ax.axvline(1, color=paint("muted", "light").edge, linewidth=1)
    rows, told = [], []
    for row, rule in enumerate(report.rules):
        exact = rule.difference < _EXACT
        tone, marker, _ = _SERIES[0 if exact else 1]
        off = "exact" if exact else f"{number(rule.ratio)}, off by {_percent(rule.difference)}"
        _dot(ax, rule.ratio, row, tone, marker, off, start=0)
        rows.append(f"{rule.rule}, mean per {rule.mean}")
        told.append(f"{rows[-1]}: {off}")
    ax.set_xlim(0, 1.45 * max(rule.ratio for rule in report.rules))
    _rows(ax, rows)
    ax.set_xlabel("gradient, relative to the true mean’s")
    B, G = report.microbatch_size, report.gradient_accumulation_steps
    title = f"{report.ranks} ranks, averaged: B = {B}, G = {G}"
    _title(ax, title)
    return _tell(ax, title, told)


def _axes(ax: Axes | None, height: float) -> Axes:
    if ax is None:
        figure = Figure(
            (7.2, height), facecolor=paint("ground", "light").fill, layout="constrained"
        )
        ax = figure.add_subplot(axes_class=_Shown)
    muted = paint("muted", "light")
    ax.set_facecolor(paint("card", "light").fill)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(muted.edge)
    ax.tick_params(which="both", color=muted.edge, labelcolor=muted.ink)
    ax.xaxis.label.set_color(muted.ink)
    ax.yaxis.label.set_color(muted.ink)
    return ax


class _Shown(Axes):
    """Axes that show themselves in a notebook: without pyplot, and not to the eye alone."""

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", metadata={"Software": None})
        data = base64.b64encode(file.getvalue()).decode()
        alt = escape(self.get_label())
        return {
            "text/plain": f"<chart: {self.get_ylabel() or self.get_xlabel()}>",
            "text/html": f'<img alt="{alt}" src="data:image/png;base64,{data}">',
        }


def _title(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11, color=paint("title", "light").ink)


def _tell(ax: Axes, what: str, told: Sequence[str]) -> Axes:
    """Say what a chart shows to who does not see it."""
    ax.set_label(f"{what}: {'; '.join(told)}.")
    return ax


def _tick(ax: Axes, values: Sequence[int]) -> None:
    ax.set_xticks(values, [number(value) for value in values])
    ax.xaxis.set_minor_formatter(NullFormatter())


def _rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)  # the first on top
    ax.tick_params(axis="y", length=0)


def _dot(ax: Axes, x: float, row: int, tone: str, marker: str, text: str, start: float) -> None:
    colour = paint(tone, "light")
    ax.plot([start, x], [row, row], color=colour.edge, linewidth=1)
    ax.plot(x, row, marker, color=colour.fill, markeredgecolor=colour.ink, markersize=7)
    ground = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 1}  # hides a line behind
    _write(ax, text, (x, row), (8, 0), colour.ink, va="center", bbox=ground)


def _name(ax: Axes, names: Sequence[tuple[str, float, str]]) -> None:
    """Write names at the right edge, each at its height, and none on top of another."""
    ax.get_ylim()  # which matplotlib only computes when asked
    to_axes = ax.transData + ax.transAxes.inverted()
    placed = [(to_axes.transform((1, height))[1], name, ink) for name, height, ink in names]
    lowest = float("-inf")
    for height, name, ink in sorted(placed):
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


def _write(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    **more: object,
) -> None:
    ax.annotate(text, at, offset, textcoords="offset points", color=colour, fontsize=9, **more)


def _percent(share: float) -> str:
    return f"{number(float(f'{100 * share:.2g}'))} %"


def _cycle(series: Mapping) -> list[tuple]:
    return [_SERIES[i % len(_SERIES)] for i in range(len(series))]
