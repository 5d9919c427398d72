"""Calibration on matured outcomes: the smallest correction of the risks that suffices.

From small to large, the corrections are those of Davis et al. 2019 (doi 10.1093/jamia/ocz127): none, a new intercept, a new
intercept and slope. A larger one is chosen if a likelihood-ratio test shows that it explains the outcomes better than the one
before it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logit
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from healthpredict.evaluation.interval import Floats, Interval, Outcomes, normal_interval
from healthpredict.evaluation.logistic import SMALLEST_RISK, fitted_line
from healthpredict.monitoring.params import DriftPolicy

Correction = Literal["none", "intercept", "intercept and slope"]
_LARGEST_SHIFT = 30.0
"""In log-odds. Shifted by more than this, any risk is practically 0 or 1."""


class CalibrationCheck(BaseModel):
    """The champion's calibration on the newest outcomes that it was neither trained nor calibrated on.

    Attributes:
        rows: encounters with known outcomes.
        readmissions: those of them that were readmitted; rounded if outcomes were estimated.
        offset: mean risk minus readmitted share; positive if risks are too high.
        correction: the smallest correction of the risks that suffices.
        intercept: of the correction. The corrected log-odds are intercept + slope x log-odds.
        slope: of the correction; 1 unless the correction needs a slope.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    readmissions: int
    offset: Interval
    correction: Correction
    intercept: float = 0.0
    slope: float = 1.0


def check_calibration(label: Outcomes, risk: Floats, policy: DriftPolicy) -> CalibrationCheck | None:
    """Compare risks with outcomes, and find the smallest correction that suffices.

    Args:
        label: outcomes, shape (n_encounters,), may be empty.
        risk: readmission risks (0-1) of the same encounters, shape (n_encounters,).
        policy: significance level of the tests, and how many readmissions they need.

    Returns:
        The result, or None if there are too few readmissions, or too few encounters without one.
    """
    readmissions = round(label.sum())
    if min(readmissions, len(label) - readmissions) < policy.min_readmissions:
        return None
    log_odds = logit(np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK))
    shift = fit_intercept(label, log_odds)
    intercept, slope = _line(label, log_odds)
    loss, shifted_loss, line_loss = (
        _loss(label, corrected) for corrected in (log_odds, log_odds + shift, intercept + slope * log_odds)
    )
    # The statistic of the test is twice the difference of the losses.
    smallest_gain = chi2.isf(policy.calibration_level, df=1) / 2
    shifted = expit(log_odds + shift)
    distance = log_odds - np.average(log_odds, weights=shifted * (1 - shifted))
    correction: Correction = "none"
    # A slope below 0 would reverse the order of the risks.
    if slope > 0 and shifted_loss - line_loss > smallest_gain * _dispersion(label, shifted, distance**2):
        correction = "intercept and slope"
    elif loss - shifted_loss > smallest_gain * _dispersion(label, shifted, np.ones(len(label))):
        correction, intercept, slope = "intercept", shift, 1.0
    else:
        intercept, slope = 0.0, 1.0
    return CalibrationCheck(
        rows=len(label),
        readmissions=readmissions,
        offset=_offset(label, risk),
        correction=correction,
        intercept=intercept,
        slope=slope,
    )


def fit_intercept(label: Outcomes, log_odds: Floats) -> float:
    """Return the shift of the log-odds that makes the mean risk equal to the readmitted share, which must not be 0 or 1."""
    share = label.mean()
    return float(brentq(lambda shift: expit(log_odds + shift).mean() - share, -_LARGEST_SHIFT, _LARGEST_SHIFT))


def _line(label: Outcomes, log_odds: Floats) -> tuple[float, float]:
    """Return the intercept and the slope of a logistic regression of the outcomes on the log-odds."""
    if label.dtype != bool:
        # Estimates are no classes for scikit-learn, whose result `fitted_line` has, but not to the last bit.
        return fitted_line(log_odds, label)
    line = LogisticRegression(C=np.inf).fit(log_odds[:, None], label)
    return float(line.intercept_[0]), float(line.coef_[0, 0])


def _loss(label: Outcomes, log_odds: Floats) -> float:
    """Return the negative log-likelihood of the outcomes."""
    if label.dtype != bool:
        return float(-(label * log_expit(log_odds) + (1 - label) * log_expit(-log_odds)).sum())
    return float(log_loss(label, expit(log_odds), normalize=False))


def _dispersion(label: Outcomes, risk: Floats, leverage: Floats) -> float:
    """Return the variance of the outcomes in units of that of real outcomes (McCullagh & Nelder 1989, section 4.5).

    An estimate stands for several encounters, so it varies more. Only flagged encounters have estimates, and their risks are far
    from the mean, so the variance matters more for the slope than for the intercept.

    Args:
        label: outcomes, shape (n_encounters,).
        risk: their expected values, shape (n_encounters,).
        leverage: how much each encounter matters, shape (n_encounters,).
    """
    if label.dtype == bool:
        return 1.0
    return max(1.0, float(leverage @ (label - risk) ** 2 / (leverage @ (risk * (1 - risk)))))


def _offset(label: Outcomes, risk: Floats) -> Interval:
    difference = risk - label
    value, error = float(difference.mean()), float(difference.std() / np.sqrt(len(label)))
    return normal_interval(value, error)
