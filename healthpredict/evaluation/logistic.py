"""Logistic regression of the outcome on one variable."""

from __future__ import annotations

import numpy as np

from healthpredict.evaluation.interval import Floats, Outcomes

_NEWTON_STEPS = 8
"""A logistic regression on one variable converges in about four."""
SMALLEST_RISK = 1e-7
"""Smallest distance of a risk from 0 and 1 wherever log-odds are computed, so that they are finite. Bundles depend on it: with
another value, they would give other risks than at their training."""
_LARGEST_LOG_ODDS = 30.0
"""Beyond it, a risk is 0 or 1 within rounding errors."""


def fitted_risks(variable: Floats, label: Outcomes) -> Floats:
    """Turn a variable into risks: the fitted values of a logistic regression of the outcome on it, shape (n_encounters,)."""
    return _fit_logistic(_with_intercept(variable), np.asarray(label, dtype=np.float64))[1]


def slope_of(log_odds: Floats, label: Floats) -> tuple[float, Floats]:
    """Return the slope of a logistic regression, and the influence of each encounter on it in one Newton step."""
    design = _with_intercept(log_odds)
    coefficients, fitted, covariance = _fit_logistic(design, label)
    return float(coefficients[1]), (design * (label - fitted)[:, None]) @ covariance[1]


def fitted_line(log_odds: Floats, label: Outcomes) -> tuple[float, float]:
    """Return the intercept and the slope of a logistic regression."""
    coefficients = _fit_logistic(_with_intercept(log_odds), np.asarray(label, dtype=np.float64))[0]
    return float(coefficients[0]), float(coefficients[1])


def _with_intercept(variable: Floats) -> Floats:
    return np.stack([np.ones_like(variable), variable], axis=1)


def _fit_logistic(design: Floats, label: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a logistic regression; return its coefficients, its fitted values and the inverse of the information matrix."""
    # Newton's method converges from a slope of 0, but may diverge from a slope that is far too steep.
    share = np.clip(label.mean(), SMALLEST_RISK, 1 - SMALLEST_RISK)
    coefficients = np.array([np.log(share / (1 - share)), 0.0])
    for _ in range(_NEWTON_STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(design @ coefficients, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)))
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        covariance = np.linalg.pinv(information, hermitian=True)
        coefficients = coefficients + covariance @ (design.T @ (label - fitted))
    return coefficients, fitted, covariance
