"""Metrics of risks: discrimination and calibration, with intervals over patients (see `bootstrap`)."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict

from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.bootstrap import bootstrap_weights
from healthpredict.evaluation.interval import Floats, Interval, Outcomes, percentile_interval
from healthpredict.evaluation.logistic import SMALLEST_RISK, slope_of

ECE_BINS = 10
"""Equal-mass bins of the expected calibration error (Nixon et al. 2019, arXiv 1904.01685, "adaptive" binning)."""


def _without_interval(stored: Any) -> Any:
    return stored["value"] if isinstance(stored, dict) else stored


CalibrationError = Annotated[float, BeforeValidator(_without_interval)]
"""An expected calibration error. Earlier versions of this system stored an interval around it, which is ignored."""


class Evaluation(BaseModel):
    """The metrics of risks on some encounters.

    Attributes:
        rows: encounters.
        patients: distinct patients among them.
        prevalence: share of encounters readmitted (0-1).
        auroc: area under the ROC curve.
        auprc: average precision.
        brier: mean squared error of the risk.
        ece: expected calibration error, see `ECE_BINS`. It has no interval: a resample adds noise to every bin, so its error is
            larger even if the risks are calibrated.
        calibration_in_the_large: mean risk minus prevalence; positive if risks are too high.
        calibration_slope: of the outcome on the risk's log-odds; below one if risks are too extreme.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    patients: int
    prevalence: float
    auroc: Interval
    auprc: Interval
    brier: Interval
    ece: CalibrationError
    calibration_in_the_large: Interval
    calibration_slope: Interval


def evaluate(
    label: Outcomes,
    risk: Floats,
    patient_id: NDArray[np.int64],
    *,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Evaluate risks against outcomes.

    Args:
        label: outcomes, shape (n_encounters,).
        risk: probability 0-1, shape (n_encounters,).
        patient_id: shape (n_encounters,).
        n_bootstrap: resamples behind each interval.
        seed: of the resampling.

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    require_two_classes(label)
    sample = _Sorted(label, np.asarray(risk, dtype=np.float64))
    values = sample.metrics(np.ones((1, len(label))))
    draws = [sample.metrics(weights) for weights in bootstrap_weights(patient_id[sample.order], n_bootstrap, seed)]
    ece = float(values.pop("ece")[0])
    intervals = {
        name: percentile_interval(float(value[0]), np.concatenate([draw[name] for draw in draws]))
        for name, value in values.items()
    }
    return Evaluation(
        rows=len(label), patients=len(np.unique(patient_id)), prevalence=float(np.mean(label)), ece=ece, **intervals
    )


def auroc(label: Outcomes, risk: Floats) -> float:
    """Compute the area under the ROC curve. Ties count half.

    With estimated outcomes, this is the doubly robust AUROC of Rotnitzky, Faraggi & Schisterman 2006 (doi
    10.1198/016214505000001339): an encounter counts as readmitted in proportion to its outcome.

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    require_two_classes(label)
    return float(_Sorted(label, np.asarray(risk, dtype=np.float64)).auroc(np.ones((1, len(label))))[0])


def expected_auroc(risk: Floats) -> float:
    """Estimate the AUROC of calibrated risks before outcomes are known.

    Each encounter counts as readmitted in proportion to its risk. This is NannyML's confidence-based performance estimation.

    Args:
        risk: probability 0-1, shape (n_encounters,), not empty.
    """
    return float(_Sorted(risk, risk).auroc(np.ones((1, len(risk))))[0])


def threshold_for(risk: Floats, alert_rate: float) -> float:
    """Return the risk that this share of the encounters reaches. Risks have shape (n_encounters,), not empty."""
    return float(np.quantile(risk, 1 - alert_rate))


def has_two_classes(label: Outcomes) -> bool:
    """Whether at least one encounter was readmitted and one was not."""
    return 1 <= float(np.sum(label)) <= len(label) - 1


def require_two_classes(label: Outcomes) -> None:
    """Raise `NotEnoughData` unless some encounters were readmitted and some were not."""
    if not has_two_classes(label):
        positives = float(np.sum(label))
        raise NotEnoughData(
            f"{len(label)} encounters with {positives:.0f} readmissions cannot be evaluated: both classes are needed. "
            "Wait for more matured outcomes."
        )


class _Sorted:
    """Encounters in ascending order of risk. All weights must be in this order, shape (n_resamples, n)."""

    def __init__(self, label: Outcomes, risk: Floats) -> None:
        self.order = np.argsort(risk, kind="stable")
        self.risk = risk[self.order]
        self.label = np.asarray(label, dtype=np.float64)[self.order]
        # For each readmitted encounter, where the encounters of equal risk begin and end: among all, and among the readmitted.
        self.positive = np.flatnonzero(self.label)
        self.start = np.searchsorted(self.risk, self.risk[self.positive], "left")
        self.end = np.searchsorted(self.risk, self.risk[self.positive], "right")
        self.positive_start = np.searchsorted(self.positive, self.start)
        self.positive_end = np.searchsorted(self.positive, self.end)

    def metrics(self, weights: Floats) -> dict[str, Floats]:
        """Compute all metrics of an `Evaluation`, each of shape (n_resamples,)."""
        below, positive, positive_below = self._ranked(weights)
        found = positive_below[:, -1:] - positive_below[:, self.positive_start]
        flagged = below[:, -1:] - below[:, self.start]
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        slope, sums = self._calibration
        brier, influence, *gaps = (weights @ sums / below[:, -1:]).T
        with np.errstate(invalid="ignore"):
            auprc = (positive * precision).sum(axis=1) / positive_below[:, -1]
        return {
            "auroc": self._auroc(below, positive, positive_below),
            "auprc": auprc,
            "brier": brier,
            "ece": np.abs(gaps).sum(axis=0),
            "calibration_in_the_large": np.sum(gaps, axis=0),
            "calibration_slope": slope + influence,
        }

    def auroc(self, weights: Floats) -> Floats:
        """Compute the AUROC, shape (n_resamples,)."""
        return self._auroc(*self._ranked(weights))

    def _ranked(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the cumulative weights of all encounters, the weights of the readmitted ones, and the cumulative sums of these."""
        positive = weights[:, self.positive] * self.label[self.positive]
        return _cumulative(weights), positive, _cumulative(positive)

    def _auroc(self, below: Floats, positive: Floats, positive_below: Floats) -> Floats:
        negative_below = (
            below[:, self.start]
            - positive_below[:, self.positive_start]
            + below[:, self.end]
            - positive_below[:, self.positive_end]
        ) / 2
        total = positive_below[:, -1]
        with np.errstate(invalid="ignore"):
            return np.asarray((positive * negative_below).sum(axis=1) / (total * (below[:, -1] - total)))

    @cached_property
    def _calibration(self) -> tuple[float, Floats]:
        """The calibration slope, and the terms of all metrics that are sums over encounters.

        Returns:
            The slope of a logistic regression on the log-odds (Cox 1958). For each encounter: the squared error, its influence on
            the slope in one Newton step, and risk minus label in the column of its bin, shape (n, 2 + n_bins).
        """
        bounded = np.clip(self.risk, SMALLEST_RISK, 1 - SMALLEST_RISK)
        slope, influence = slope_of(np.log(bounded / (1 - bounded)), self.label)
        # Equal risks are always in the same bin.
        ties = np.flatnonzero(np.r_[True, np.diff(self.risk) > 0])
        edges = np.searchsorted(ties, np.linspace(0, len(self.risk), ECE_BINS + 1)[1:-1])
        bins = np.unique(np.r_[0, ties[np.minimum(edges, len(ties) - 1)]])
        in_bin = np.searchsorted(bins, np.arange(len(self.risk)), "right")[:, None] - 1 == np.arange(ECE_BINS)
        gap = self.risk - self.label
        # The squared error with y instead of y^2, which are equal for a real outcome. With an estimate of y, only this is unbiased.
        squared = gap**2 + (self.label - self.label**2)
        return slope, np.column_stack([squared, influence * len(gap), in_bin * gap[:, None]])


def _cumulative(weights: Floats) -> Floats:
    """Return the sum of the weights before each encounter and, in the last column, the total, shape (n_resamples, n + 1)."""
    return np.pad(np.cumsum(weights, axis=1), ((0, 0), (1, 0)))
