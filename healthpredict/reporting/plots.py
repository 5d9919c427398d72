"""Plots of discrimination, calibration, usefulness, effect, history and drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np

from healthpredict.evaluation.decision_curve import DecisionCurve
from healthpredict.evaluation.interval import Floats, Outcomes
from healthpredict.evaluation.metrics import ECE_BINS
from healthpredict.evaluation.threshold_plot import ThresholdPlot

_SIZE = (5.0, 4.5)
_DPI = 110
_MAIN_COLOR = "#1f5fa8"
_COMPARISON_COLOR = "#767676"
_ACCENT_COLOR = "#b3541e"
_LOWEST_THRESHOLD = 0.05
"""Lowest threshold in the plot of usefulness."""


def roc_plot(label: Outcomes, risk: Floats, title: str, *, other: tuple[str, Floats] | None = None) -> bytes:
    """Plot the ROC curve as PNG.

    Args:
        label: outcomes, shape (n_encounters,).
        risk: shape (n_encounters,).
        title: title of the plot.
        other: name and risks of a second model, or None.
    """
    figure, axes = _axes(title, "False positive rate", "Sensitivity")
    axes.plot([0, 1], [0, 1], color=_COMPARISON_COLOR, linewidth=1, linestyle=":")
    if other is not None:
        axes.plot(*_roc(label, other[1]), color=_COMPARISON_COLOR, linewidth=1.5, linestyle="--", label=other[0])
    axes.plot(*_roc(label, risk), color=_MAIN_COLOR, linewidth=2, label="champion")
    if other is not None:
        axes.legend(frameon=False)
    return _png(figure)


def _roc(label: Outcomes, risk: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-risk, kind="stable")
    last_of_tie = np.r_[np.diff(risk[order]) < 0, True]
    readmitted = np.asarray(label, dtype=np.float64)[order]
    sensitivity = np.r_[0, (np.cumsum(readmitted) / readmitted.sum())[last_of_tie]]
    false_alarms = np.r_[0, (np.cumsum(1 - readmitted) / (1 - readmitted).sum())[last_of_tie]]
    return false_alarms, sensitivity


def calibration_plot(label: Outcomes, risk: Floats, title: str, *, other: tuple[str, Floats] | None = None) -> bytes:
    """Plot observed readmissions against predicted risk in bins of equal size, as PNG. The arguments are those of `roc_plot`."""
    figure, axes = _axes(title, "Predicted risk", "Readmitted within 30 days")
    predicted, observed, error = _bins(label, risk)
    top = max(*predicted, *observed) * 1.1
    axes.plot([0, top], [0, top], color=_COMPARISON_COLOR, linewidth=1, linestyle=":")
    if other is not None:
        others = _bins(label, other[1])
        axes.plot(*others[:2], color=_COMPARISON_COLOR, marker="s", markersize=4, linestyle="--", label=other[0])
    axes.errorbar(
        predicted, observed, yerr=error, color=_MAIN_COLOR, marker="o", linewidth=1.5, capsize=2, label="champion"
    )
    if other is not None:
        axes.legend(frameon=False)
    return _png(figure)


def _bins(label: Outcomes, risk: Floats) -> tuple[list[float], list[float], list[float]]:
    """Return the mean risk, the share of readmissions and half the width of its interval, by bin."""
    order = np.argsort(risk, kind="stable")
    bins = [part for part in np.array_split(order, ECE_BINS) if len(part)]
    predicted = [float(risk[part].mean()) for part in bins]
    observed = [float(label[part].mean()) for part in bins]
    # A bin has hundreds of encounters, so the normal approximation is good enough.
    error = [float(1.96 * label[part].std() / np.sqrt(len(part))) for part in bins]
    return predicted, observed, error


def decision_plot(curves: Mapping[str, DecisionCurve], title: str) -> bytes:
    """Plot the net benefit of models by threshold beside flagging everybody, flagging nobody and the baseline, as PNG.

    Args:
        curves: name of the model -> its curve, all on the same encounters. The first one is drawn with its 95 % interval.
        title: title of the plot.
    """
    figure, axes = _axes(title, "Threshold", "Net benefit per 1,000 encounters", size=(8.0, 4.0))
    first = next(iter(curves.values()))
    # At lower thresholds, every strategy flags nearly everybody, and its large net benefit would hide the differences above.
    shown = [i for i, point in enumerate(first.points) if point.threshold >= _LOWEST_THRESHOLD]
    points = [first.points[i] for i in shown]
    thresholds = [point.threshold for point in points]
    all_treated = [1000 * point.treat_all.value for point in points]
    baseline = [1000 * point.baseline.value for point in points]
    axes.axhline(0, color=_COMPARISON_COLOR, linewidth=1, label="flag nobody")
    axes.plot(thresholds, all_treated, color=_COMPARISON_COLOR, linewidth=1.5, linestyle=":", label="flag everybody")
    axes.plot(
        thresholds, baseline, color=_ACCENT_COLOR, linewidth=1.5, linestyle="-.", label="number of inpatient visits"
    )
    for (name, curve), style in zip(curves.items(), ("-", "--"), strict=False):
        benefit = [1000 * curve.points[i].net_benefit.value for i in shown]
        axes.plot(thresholds, benefit, color=_MAIN_COLOR, linewidth=2, linestyle=style, label=name)
    low = [1000 * point.net_benefit.low for point in points]
    high = [1000 * point.net_benefit.high for point in points]
    axes.fill_between(thresholds, low, high, color=_MAIN_COLOR, alpha=0.15, linewidth=0)
    axes.axvline(first.at_threshold.threshold, color=_MAIN_COLOR, linewidth=0.8, linestyle=":")
    # Flagging everybody at a high threshold is so harmful that it would hide the other curves.
    axes.set_ylim(bottom=-0.2 * max(high), top=1.1 * max(*high, *all_treated))
    axes.legend(frameon=False)
    return _png(figure)


def effect_plot(plot: ThresholdPlot) -> bytes:
    """Plot readmissions in bins with 95 % intervals against the risk minus the threshold, with a line on each side, as PNG."""
    title = "Readmissions just below and just above the threshold"
    figure, axes = _axes(title, "Risk minus threshold", "Readmitted within 30 days", size=(8.0, 4.0))
    axes.axvline(0, color=_COMPARISON_COLOR, linewidth=1, linestyle=":")
    sides = (
        (plot.below, -plot.bandwidth, "not flagged", {"color": _COMPARISON_COLOR, "marker": "s"}),
        (plot.flagged, plot.bandwidth, "flagged", {"color": _MAIN_COLOR, "marker": "o"}),
    )
    for side, end, label, style in sides:
        shares = [one.readmitted for one in side.bins]
        axes.errorbar(
            [one.margin for one in side.bins],
            [share.value for share in shares],
            yerr=[[share.value - share.low for share in shares], [share.high - share.value for share in shares]],
            markersize=4,
            linewidth=0,
            elinewidth=1,
            capsize=2,
            label=label,
            **style,
        )
        axes.plot([0, end], [side.at_threshold, side.at_end], color=style["color"], linewidth=2)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")
    return _png(figure)


def _axes(title: str, x: str, y: str, size: tuple[float, float] = _SIZE) -> tuple[Any, Any]:
    # The object interface, because pyplot keeps global state and needs a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@dataclass(frozen=True)
class Series:
    """A line of a plot over batches.

    Attributes:
        label: its name in the legend.
        values: shape (n_batches,), NaN where unknown.
        style: "champion", "first model" or "expected".
        notes: labels of the points, shape (n_batches,), or empty.
    """

    label: str
    values: Sequence[float]
    style: Literal["champion", "first model", "expected"]
    notes: Sequence[str] = ()


_STYLES = {
    "champion": {"color": _MAIN_COLOR, "marker": "o", "linewidth": 2},
    "first model": {"color": _COMPARISON_COLOR, "marker": "s", "markersize": 4, "linewidth": 1.5, "linestyle": "--"},
    "expected": {"color": _ACCENT_COLOR, "marker": "^", "markersize": 4, "linewidth": 1, "linestyle": ":"},
}
"""The keys are the values of `Series.style`."""


def history_plot(names: Sequence[str], lines: Sequence[Series], title: str, y: str) -> bytes:
    """Plot a metric by batch, as PNG.

    Args:
        names: names of the batches, shape (n_batches,).
        lines: lines to draw.
        title: title of the plot.
        y: name of the metric.
    """
    figure, axes = _axes(title, "Batch", y, size=(8.0, 3.6))
    for line in lines:
        axes.plot(names, line.values, label=line.label, **_STYLES[line.style])
        for i, note in enumerate(line.notes):
            axes.annotate(note, (i, line.values[i]), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.margins(y=0.15)
    axes.legend(frameon=False)
    return _png(figure)


def heat_map(features: Sequence[str], batches: Sequence[str], severity: Floats, title: str) -> bytes:
    """Plot the distance of features from the reference by batch, as PNG. A dot marks drift.

    Args:
        features: names of the features, shape (n_features,).
        batches: names of the batches, shape (n_batches,).
        severity: distances in units of the limit, shape (n_features, n_batches).
        title: title of the plot.
    """
    figure, axes = _axes(title, "Batch", "", size=(8.0, 1.2 + 0.22 * max(len(features), 1)))
    axes.grid(visible=False)
    # Set the extent, because Matplotlib warns about the empty one that it computes without features.
    extent = (-0.5, len(batches) - 0.5, max(len(features), 1) - 0.5, -0.5)
    image = axes.imshow(severity, aspect="auto", cmap="Blues", vmin=0, vmax=4, extent=extent)
    axes.set_xticks(range(len(batches)), batches)
    axes.set_yticks(range(len(features)), features, fontsize=8)
    drifted = np.argwhere(severity >= 1)
    if len(drifted):
        axes.scatter(drifted[:, 1], drifted[:, 0], s=9, color=_ACCENT_COLOR)
    figure.colorbar(image, label="distance / limit")
    return _png(figure)
