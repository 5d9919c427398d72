"""Metrics of risks: discrimination and calibration, with intervals over patients.

Intervals are 95 % percentile intervals of a bootstrap that resamples patients, not encounters, because the encounters of
one patient are not independent (Field & Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict

from healthpredict.errors import NotEnoughData

Floats = NDArray[np.float64]

ECE_BINS = 10
"""Equal-mass bins of the expected calibration error (Nixon et al. 2019, arXiv 1904.01685, "adaptive" binning)."""

_NEWTON_STEPS = 8
"""A logistic regression on one variable converges in about four."""
_SMALLEST_RISK = 1e-6
"""The log-odds of a risk of exactly 0 or 1 are infinite."""
_LARGEST_LOG_ODDS = 30.0
"""Beyond it, a risk is 0 or 1 within rounding errors."""
_CHUNK = 500_000
"""Number of bootstrap weights in memory at a time: 4 MB, which fit into a core's cache. With 160 MB, it takes twice as long."""


class Interval(BaseModel):
    """A value with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """The standard error, if the estimate has a normal distribution."""
        return (self.high - self.low) / (2 * 1.96)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


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
        ece: expected calibration error, see `ECE_BINS`. It has no interval, because each resample adds noise to every bin: even if
            the risks are calibrated, the error of all resamples is larger.
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
    label: NDArray[np.bool_],
    risk: Floats,
    patient_id: NDArray[np.int64],
    *,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Evaluate risks against outcomes.

    Args:
        label: whether the patient was readmitted, shape (n_encounters,).
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


def percentile_interval(value: float, draws: Floats) -> Interval:
    """Return a value with the percentile interval of its bootstrap resamples. Resamples in which it is not defined are left out."""
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high))


def auroc(label: NDArray[np.bool_], risk: Floats) -> float:
    """Compute the area under the ROC curve. Ties count half.

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


def auroc_gain(label: NDArray[np.bool_], risk: Floats, other_risk: Floats, patient_id: NDArray[np.int64]) -> Interval:
    """Return the AUROC of `risk` minus that of `other_risk` on the same encounters, with its paired interval.

    The standard error is that of DeLong et al. 1988 (doi 10.2307/2531595) for encounters in clusters, here the patients
    (Obuchowski 1997, doi 10.2307/2533958).

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    difference = _influence(label, risk) - _influence(label, other_risk)
    return normal_interval(auroc(label, risk) - auroc(label, other_risk), clustered_error(difference, patient_id))


def clustered_error(influence: Floats, patient_id: NDArray[np.int64]) -> float:
    """Return the standard error of an estimate from the influence of each encounter on it, shape (n_encounters,)."""
    _, patient = np.unique(patient_id, return_inverse=True)
    return float(np.sqrt((np.bincount(patient, influence) ** 2).sum()))


def normal_interval(value: float, error: float) -> Interval:
    """Return the 95 % interval of an estimate with a normal distribution."""
    return Interval(value=value, low=value - 1.96 * error, high=value + 1.96 * error)


def _influence(label: NDArray[np.bool_], risk: Floats) -> Floats:
    """Return the influence of each encounter on the AUROC, shape (n_encounters,). Ties count half."""
    require_two_classes(label)
    influence = np.empty(len(label))
    for same_class in (label, ~label):
        risks, other_class = risk[same_class], np.sort(risk[~same_class])
        n_below = (np.searchsorted(other_class, risks, "left") + np.searchsorted(other_class, risks, "right")) / 2
        share_below = n_below / len(other_class)
        ordered = share_below if same_class is label else 1 - share_below
        influence[same_class] = (ordered - ordered.mean()) / len(ordered)
    return influence


def threshold_for(risk: Floats, alert_rate: float) -> float:
    """Return the risk that this share of the encounters reaches. Risks have shape (n_encounters,), not empty."""
    return float(np.quantile(risk, 1 - alert_rate))


def bootstrap_weights(patient_id: NDArray[np.int64], n_bootstrap: int, seed: int) -> Iterator[Floats]:
    """Resample patients, and yield how often each encounter is drawn, in chunks of shape (some resamples, n_encounters)."""
    _, patient = np.unique(patient_id, return_inverse=True)
    n_patients = int(patient.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(patient_id))
    for start in range(0, n_bootstrap, step):
        draws = rng.integers(0, n_patients, (min(step, n_bootstrap - start), n_patients))
        counts = np.stack([np.bincount(draw, minlength=n_patients) for draw in draws])
        yield counts[:, patient].astype(np.float64)


def group_equal(*codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group encounters that have the same codes.

    Args:
        codes: whole numbers from 0 on, each of shape (n_encounters,).

    Returns:
        The first encounter of each group, shape (n_groups,), and the group of each encounter, shape (n_encounters,).
    """
    combined = np.zeros(len(codes[0]), dtype=np.int64)
    for code in codes:
        combined = combined * (int(code.max(initial=0)) + 1) + code
    _, first, group = np.unique(combined, return_index=True, return_inverse=True)
    return first, group


def bootstrap_sums(
    group: NDArray[np.intp], terms: Sequence[Floats], patient_id: NDArray[np.int64], n_bootstrap: int, seed: int = 0
) -> Floats:
    """Resample patients, and sum each term over the drawn encounters of each group.

    Args:
        group: number of each encounter's group, shape (n_encounters,).
        terms: each of shape (n_encounters,). A term of ones counts the encounters.
        patient_id: shape (n_encounters,).
        n_bootstrap: resamples.
        seed: of the resampling.

    Returns:
        shape (n_bootstrap, n_terms, n_groups).
    """
    chunks = bootstrap_weights(patient_id, n_bootstrap, seed)
    return np.array([[np.bincount(group, weights * term) for term in terms] for chunk in chunks for weights in chunk])


def require_two_classes(label: NDArray[np.bool_]) -> None:
    """Raise `NotEnoughData` unless some encounters were readmitted and some were not."""
    positives = int(np.sum(label))
    if positives in (0, len(label)):
        raise NotEnoughData(
            f"{len(label)} encounters with {positives} readmissions cannot be evaluated: both classes are needed. "
            "Wait for more matured outcomes."
        )


class _Sorted:
    """Encounters in ascending order of risk. All weights must be in this order, shape (n_resamples, n)."""

    def __init__(self, label: NDArray[np.bool_] | Floats, risk: Floats) -> None:
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
        bounded = np.clip(self.risk, _SMALLEST_RISK, 1 - _SMALLEST_RISK)
        slope, influence = _slope_of(np.log(bounded / (1 - bounded)), self.label)
        # Equal risks are always in the same bin.
        ties = np.flatnonzero(np.r_[True, np.diff(self.risk) > 0])
        edges = np.searchsorted(ties, np.linspace(0, len(self.risk), ECE_BINS + 1)[1:-1])
        bins = np.unique(np.r_[0, ties[np.minimum(edges, len(ties) - 1)]])
        in_bin = np.searchsorted(bins, np.arange(len(self.risk)), "right")[:, None] - 1 == np.arange(ECE_BINS)
        gap = self.risk - self.label
        return slope, np.column_stack([gap**2, influence * len(gap), in_bin * gap[:, None]])


def fitted_risks(variable: Floats, label: NDArray[np.bool_] | Floats) -> Floats:
    """Turn a variable into risks: the fitted values of a logistic regression of the outcome on it, shape (n_encounters,)."""
    return _fit_logistic(_with_intercept(variable), np.asarray(label, dtype=np.float64))[1]


def _slope_of(log_odds: Floats, label: Floats) -> tuple[float, Floats]:
    """Return the slope of a logistic regression, and the influence of each encounter on it in one Newton step."""
    design = _with_intercept(log_odds)
    coefficients, fitted, covariance = _fit_logistic(design, label)
    return float(coefficients[1]), (design * (label - fitted)[:, None]) @ covariance[1]


def _with_intercept(variable: Floats) -> Floats:
    return np.stack([np.ones_like(variable), variable], axis=1)


def _fit_logistic(design: Floats, label: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a logistic regression; return its coefficients, its fitted values and the inverse of the information matrix."""
    # Newton's method converges from a slope of 0, but may diverge from a slope that is far too steep.
    share = np.clip(label.mean(), _SMALLEST_RISK, 1 - _SMALLEST_RISK)
    coefficients = np.array([np.log(share / (1 - share)), 0.0])
    for _ in range(_NEWTON_STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(design @ coefficients, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)))
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        covariance = np.linalg.pinv(information, hermitian=True)
        coefficients = coefficients + covariance @ (design.T @ (label - fitted))
    return coefficients, fitted, covariance


def _cumulative(weights: Floats) -> Floats:
    """Return the sum of the weights before each encounter and, in the last column, the total, shape (n_resamples, n + 1)."""
    return np.pad(np.cumsum(weights, axis=1), ((0, 0), (1, 0)))
