"""What a plot of readmissions on both sides of the threshold shows. See `effect` for the arrays."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.effect import Discontinuity
from healthpredict.evaluation.gain import clustered_error
from healthpredict.evaluation.interval import Floats, Interval
from healthpredict.evaluation.local_polynomial import fit_polynomial

BINS_PER_SIDE: Final = 10
"""Of the plot. Within a bandwidth, 10 bins of at least 10 encounters show a trend."""


class Bin(BaseModel):
    """Encounters with neighbouring margins: their mean margin, their share of readmissions (0-1) and their number."""

    model_config = ConfigDict(frozen=True)

    margin: float
    readmitted: Interval
    rows: int


class Side(BaseModel):
    """One side of a plot of readmissions against margins.

    Attributes:
        bins: in ascending order of the margin.
        at_threshold: readmissions (0-1) at a margin of 0 on the fitted line. The line may leave the range 0-1.
        at_end: readmissions on that line where it ends, one bandwidth from the threshold.
    """

    model_config = ConfigDict(frozen=True)

    bins: tuple[Bin, ...]
    at_threshold: float
    at_end: float


class ThresholdPlot(BaseModel):
    """Readmissions against margins on both sides of the threshold, within one bandwidth (in units of risk)."""

    model_config = ConfigDict(frozen=True)

    bandwidth: float
    below: Side
    flagged: Side


def plot_around_threshold(
    found: Discontinuity, readmitted: NDArray[np.bool_], margin: Floats, patient_id: NDArray[np.int64]
) -> ThresholdPlot:
    """Return what a plot of a regression discontinuity shows: on each side, the local linear regression and `BINS_PER_SIDE` bins.

    Bins are quantile-spaced (Calonico, Cattaneo & Titiunik 2015, doi 10.1080/01621459.2015.1017578): they have almost the same
    number of encounters. Equal margins are always in the same bin, so there may be fewer bins.
    """
    below, flagged = (
        _plot_side(within, found.bandwidth * end, readmitted, margin, patient_id)
        for within, end in (
            ((margin < 0) & (margin > -found.bandwidth), -1),
            ((margin >= 0) & (margin < found.bandwidth), 1),
        )
    )
    return ThresholdPlot(bandwidth=found.bandwidth, below=below, flagged=flagged)


def _plot_side(
    within: NDArray[np.bool_],
    end: float,
    readmitted: NDArray[np.bool_],
    margin: Floats,
    patient_id: NDArray[np.int64],
) -> Side:
    """Return one side of the plot; its line ends at the margin `end`."""
    order = np.flatnonzero(within)[np.argsort(margin[within], kind="stable")]
    ordered = margin[order]
    starts = np.searchsorted(ordered, ordered[np.arange(BINS_PER_SIDE) * len(ordered) // BINS_PER_SIDE])
    bins = np.split(order, np.unique(starts)[1:])
    intercept, slope = fit_polynomial(margin, abs(end), 1).weights[:, within] @ readmitted[within]
    return Side(
        bins=tuple(
            Bin(margin=margin[rows].mean(), readmitted=_share(readmitted[rows], patient_id[rows]), rows=len(rows))
            for rows in bins
        ),
        at_threshold=intercept,
        at_end=intercept + slope * end,
    )


def _share(readmitted: NDArray[np.bool_], patient_id: NDArray[np.int64]) -> Interval:
    """Return a share with its Wilson interval (1927, doi 10.2307/2276774), in which patients count instead of encounters.

    The number is the effective sample size (Korn & Graubard 1998, Survey Methodology 24, 193-201).
    """
    share, n = float(readmitted.mean()), float(len(np.unique(patient_id)))
    if 0 < share < 1:
        variance = clustered_error((readmitted - share) / len(readmitted), patient_id) ** 2
        # Patients whose encounters differ more than by chance do not add information.
        n = share * (1 - share) / max(variance, share * (1 - share) / len(readmitted))
    centre, half = share + 1.96**2 / (2 * n), 1.96 * np.sqrt(share * (1 - share) / n + (1.96 / (2 * n)) ** 2)
    scale = 1 + 1.96**2 / n
    low, high = np.clip((centre - half) / scale, 0, share), np.clip((centre + half) / scale, share, 1)
    return Interval(value=share, low=float(low), high=float(high))
