"""How good a risk is: discrimination and calibration, with intervals over patients.

Intervals are 95 % percentile intervals of a bootstrap that resamples patients, not encounters, because the encounters of
one patient are not independent (Field & Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.errors import NotEnoughData

Floats = NDArray[np.float64]

ECE_BINS = 10
"""Equal-mass bins of the expected calibration error (Nixon et al. 2019, arXiv 1904.01685, "adaptive" binning)."""

_NEWTON_STEPS = 8
_SMALLEST_RISK = 1e-6
_LARGEST_LOG_ODDS = 30.0
_CHUNK = 20_000_000
"""Weights held at once while bootstrapping: 160 MB."""


class Interval(BaseModel):
    """A value with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Evaluation(BaseModel):
    """What a risk is worth on some encounters.

    Attributes:
        rows: encounters.
        patients: distinct patients among them.
        prevalence: share of encounters readmitted (0-1).
        auroc: area under the ROC curve.
        auprc: average precision.
        brier: mean squared error of the risk.
        ece: expected calibration error, see `ECE_BINS`.
        calibration_in_the_large: mean risk minus prevalence; above zero where risks are too high.
        calibration_slope: of the outcome on the risk's log-odds; below one where risks are too extreme.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    patients: int
    prevalence: float
    auroc: Interval
    auprc: Interval
    brier: Interval
    ece: Interval
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
    _require_two_classes(label)
    sample = _Sorted(label, np.asarray(risk, dtype=np.float64))
    weights = np.ones((1, len(label)))
    metrics: dict[str, Callable[[Floats], Floats]] = {
        "auroc": sample.auroc,
        "auprc": sample.auprc,
        "brier": sample.brier,
        "ece": sample.ece,
        "calibration_in_the_large": sample.calibration_in_the_large,
        "calibration_slope": sample.calibration_slope,
    }
    values = {name: float(metric(weights)[0]) for name, metric in metrics.items()}
    draws: dict[str, list[Floats]] = {name: [] for name in metrics}
    for chunk in bootstrap_weights(patient_id, n_bootstrap, seed):
        ordered = chunk[:, sample.order]
        for name, metric in metrics.items():
            draws[name].append(metric(ordered))
    intervals = {}
    for name, value in values.items():
        low, high = np.nanquantile(np.concatenate(draws[name]), (0.025, 0.975))
        intervals[name] = Interval(value=value, low=float(low), high=float(high))
    return Evaluation(
        rows=len(label), patients=len(np.unique(patient_id)), prevalence=float(np.mean(label)), **intervals
    )


def auroc(label: NDArray[np.bool_], risk: Floats) -> float:
    """Area under the ROC curve, ties counted half.

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    _require_two_classes(label)
    return float(_Sorted(label, np.asarray(risk, dtype=np.float64)).auroc(np.ones((1, len(label))))[0])


def expected_auroc(risk: Floats) -> float:
    """The AUROC that risks have if they are calibrated: each encounter counts as readmitted to the extent of its risk.

    NannyML's confidence-based performance estimation, for encounters whose outcomes are not known yet.

    Args:
        risk: probability 0-1, shape (n_encounters,), not empty.
    """
    return float(_Sorted(risk, risk).auroc(np.ones((1, len(risk))))[0])


def auroc_differences(
    label: NDArray[np.bool_],
    risk: Floats,
    other_risk: Floats,
    patient_id: NDArray[np.int64],
    *,
    n_bootstrap: int,
    seed: int = 0,
) -> Floats:
    """AUROC of `risk` minus that of `other_risk` on the same resampled patients, shape (n_bootstrap,).

    The pairing is what makes a small difference visible: both risks see the same patients in every resample.
    """
    first, second = _Sorted(label, risk), _Sorted(label, other_risk)
    differences = [
        first.auroc(weights[:, first.order]) - second.auroc(weights[:, second.order])
        for weights in bootstrap_weights(patient_id, n_bootstrap, seed)
    ]
    return np.concatenate(differences)


def bootstrap_weights(patient_id: NDArray[np.int64], n_bootstrap: int, seed: int) -> Iterator[Floats]:
    """How often each encounter is drawn when patients are, in chunks of shape (some resamples, n_encounters)."""
    _, patient = np.unique(patient_id, return_inverse=True)
    n_patients = int(patient.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(patient_id))
    for start in range(0, n_bootstrap, step):
        draws = rng.integers(0, n_patients, (min(step, n_bootstrap - start), n_patients))
        counts = np.stack([np.bincount(draw, minlength=n_patients) for draw in draws])
        yield counts[:, patient].astype(np.float64)


def _require_two_classes(label: NDArray[np.bool_]) -> None:
    positives = int(np.sum(label))
    if positives in (0, len(label)):
        raise NotEnoughData(
            f"{len(label)} encounters with {positives} readmissions cannot be evaluated: both classes are needed. "
            "Wait for more matured outcomes."
        )


class _Sorted:
    """Encounters in ascending order of risk; each metric takes weights in that order, shape (n_resamples, n)."""

    def __init__(self, label: NDArray[np.bool_] | Floats, risk: Floats) -> None:
        self.order = np.argsort(risk, kind="stable")
        self.risk = risk[self.order]
        self.label = np.asarray(label, dtype=np.float64)[self.order]
        self.ties = np.flatnonzero(np.r_[True, np.diff(self.risk) > 0])
        # Bins hold whole groups of ties: equal risks must not fall on two sides of a bin's edge.
        edges = np.searchsorted(self.ties, np.linspace(0, len(risk), ECE_BINS + 1)[1:-1])
        self.bins = np.unique(np.r_[0, self.ties[np.minimum(edges, len(self.ties) - 1)]])

    def _by_tie(self, weights: Floats) -> tuple[Floats, Floats]:
        positive = np.add.reduceat(weights * self.label, self.ties, axis=1)
        return positive, np.add.reduceat(weights, self.ties, axis=1) - positive

    def auroc(self, weights: Floats) -> Floats:
        positive, negative = self._by_tie(weights)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray((positive * below).sum(axis=1) / pairs)

    def auprc(self, weights: Floats) -> Floats:
        positive, negative = (side[:, ::-1] for side in self._by_tie(weights))
        found, flagged = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
        with np.errstate(invalid="ignore"):
            precision = np.where(flagged > 0, found / flagged, 0.0)
            return np.asarray((positive * precision).sum(axis=1) / found[:, -1])

    def brier(self, weights: Floats) -> Floats:
        return np.asarray(weights @ (self.risk - self.label) ** 2 / weights.sum(axis=1))

    def ece(self, weights: Floats) -> Floats:
        gap = np.add.reduceat(weights * (self.risk - self.label), self.bins, axis=1)
        return np.asarray(np.abs(gap).sum(axis=1) / weights.sum(axis=1))

    def calibration_in_the_large(self, weights: Floats) -> Floats:
        return np.asarray(weights @ (self.risk - self.label) / weights.sum(axis=1))

    def calibration_slope(self, weights: Floats) -> Floats:
        """Logistic regression on the log-odds (Cox 1958); resamples take one Newton step from the estimate of all encounters."""
        bounded = np.clip(self.risk, _SMALLEST_RISK, 1 - _SMALLEST_RISK)
        design = np.stack([np.ones_like(bounded), np.log(bounded / (1 - bounded))], axis=1)
        # From no slope at all Newton's steps converge; from a slope that is far too steep they would not.
        share = np.clip(self.label.mean(), _SMALLEST_RISK, 1 - _SMALLEST_RISK)
        coefficients = np.array([np.log(share / (1 - share)), 0.0])
        for _ in range(_NEWTON_STEPS):
            fitted = 1 / (1 + np.exp(-np.clip(design @ coefficients, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)))
            information = (design * (fitted * (1 - fitted))[:, None]).T @ design
            step = np.linalg.pinv(information, hermitian=True) @ (design.T @ (self.label - fitted))
            coefficients = coefficients + step
        influence = (design * (self.label - fitted)[:, None]) @ np.linalg.pinv(information, hermitian=True)[1]
        slope: Floats = coefficients[1] + weights @ influence / weights.mean(axis=1)
        return slope
