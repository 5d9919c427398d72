"""Pictures of how good a risk is."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.metrics import ECE_BINS, Floats

_SIZE = (5.0, 4.5)
_DPI = 110
_LINE = "#1f5fa8"
_REFERENCE = "#8a8a8a"


def roc_plot(label: NDArray[np.bool_], risk: Floats, title: str) -> bytes:
    """The ROC curve as PNG.

    Args:
        label: shape (n_encounters,).
        risk: shape (n_encounters,).
        title: above the plot.
    """
    order = np.argsort(-risk, kind="stable")
    last_of_tie = np.r_[np.diff(risk[order]) < 0, True]
    sensitivity = np.r_[0, (np.cumsum(label[order]) / label.sum())[last_of_tie]]
    false_alarms = np.r_[0, (np.cumsum(~label[order]) / (~label).sum())[last_of_tie]]
    figure, axes = _axes(title, "False positive rate", "Sensitivity")
    axes.plot([0, 1], [0, 1], color=_REFERENCE, linewidth=1, linestyle="--")
    axes.plot(false_alarms, sensitivity, color=_LINE, linewidth=2)
    return _png(figure)


def calibration_plot(label: NDArray[np.bool_], risk: Floats, title: str) -> bytes:
    """Observed readmissions against predicted risk in bins of equal size, as PNG; arguments as `roc_plot`."""
    order = np.argsort(risk, kind="stable")
    bins = [part for part in np.array_split(order, ECE_BINS) if len(part)]
    predicted = [float(risk[part].mean()) for part in bins]
    observed = np.array([float(label[part].mean()) for part in bins])
    # Normal approximation of the binomial interval: hundreds of encounters a bin.
    error = [1.96 * np.sqrt(rate * (1 - rate) / len(part)) for rate, part in zip(observed, bins, strict=True)]
    figure, axes = _axes(title, "Predicted risk", "Readmitted within 30 days")
    top = max(*predicted, *observed) * 1.1
    axes.plot([0, top], [0, top], color=_REFERENCE, linewidth=1, linestyle="--")
    axes.errorbar(predicted, observed, yerr=error, color=_LINE, marker="o", linewidth=1.5, capsize=2)
    return _png(figure)


def _axes(title: str, x: str, y: str, size: tuple[float, float] = _SIZE) -> tuple[Any, Any]:
    # The object interface: pyplot keeps global state and wants a display.
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


def history_plot(
    names: Sequence[str], champion: Sequence[float], frozen: Sequence[float], versions: Sequence[str]
) -> bytes:
    """AUROC by batch of the champion and of a model that is never replaced, as PNG.

    Args:
        names: of the batches, shape (n_batches,).
        champion: AUROC of the champion that predicted each, shape (n_batches,).
        frozen: AUROC of the first champion, shape (n_batches,).
        versions: of the champion, written at its points, shape (n_batches,).
    """
    figure, axes = _axes("Each batch, predicted on arrival", "Batch", "AUROC", size=(8.0, 3.8))
    axes.plot(names, frozen, color=_REFERENCE, marker="o", linewidth=1.5, linestyle="--", label="first model, frozen")
    axes.plot(names, champion, color=_LINE, marker="o", linewidth=2, label="champion")
    for i, version in enumerate(versions):
        axes.annotate(version, (i, champion[i]), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.margins(y=0.15)
    axes.legend(frameon=False)
    return _png(figure)
