"""The smallest correction that suffices, found by tests that rarely ask for more."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.special import expit, logit

from healthpredict.monitoring.calibration import CalibrationCheck, check_calibration, fit_intercept
from healthpredict.monitoring.params import DriftPolicy

POLICY = DriftPolicy()
ROWS = 8000


def outcomes(seed: int, *, intercept: float = 0.0, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and risks whose true log-odds are intercept + slope x log-odds."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-2.2, 0.8, ROWS)
    return rng.random(ROWS) < expit(intercept + slope * log_odds), expit(log_odds)


def check(seed: int, **truth: float) -> CalibrationCheck:
    found = check_calibration(*outcomes(seed, **truth), POLICY)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("truth", "expected", "least"),
    [
        ({}, "none", 85),  # two tests at 5 %
        ({"intercept": 0.25}, "intercept", 90),
        ({"intercept": -0.25}, "intercept", 90),
        ({"slope": 0.7}, "intercept and slope", 95),
        ({"slope": 1.4}, "intercept and slope", 95),
    ],
)
def test_planted_changes_lead_to_the_smallest_correction_that_suffices(
    truth: dict[str, float], expected: str, least: int
) -> None:
    found = Counter(check(seed, **truth).correction for seed in range(100))
    assert found[expected] >= least, found


def test_the_correction_is_the_one_that_was_planted() -> None:
    found = check(1, intercept=-0.4)
    assert (found.intercept, found.slope) == (pytest.approx(-0.4, abs=0.1), 1.0)
    assert found.offset.low > 0, "risks are too high"
    found = check(1, intercept=-0.3, slope=0.6)
    assert found.slope == pytest.approx(0.6, abs=0.1)
    assert found.intercept == pytest.approx(-0.3, abs=0.25)


def test_corrected_risks_are_right_on_average() -> None:
    label, risk = outcomes(3, intercept=0.5)
    shifted = expit(logit(risk) + fit_intercept(label, logit(risk)))
    assert shifted.mean() == pytest.approx(label.mean(), abs=1e-9)
    assert (np.argsort(shifted) == np.argsort(risk)).all()


def test_without_a_correction_nothing_changes() -> None:
    found = next(found for found in map(check, range(20)) if found.correction == "none")
    assert (found.intercept, found.slope) == (0.0, 1.0)
    assert found.offset.low < 0 < found.offset.high
    assert found.rows == ROWS


@pytest.mark.parametrize(("readmissions", "others"), [(0, 0), (99, 5000), (5000, 99)])
def test_too_few_outcomes_are_unknown_not_fine(readmissions: int, others: int) -> None:
    label = np.repeat([True, False], [readmissions, others])
    assert check_calibration(label, np.full(len(label), 0.4), POLICY) is None


def test_equal_risks_get_a_new_mean_and_no_slope() -> None:
    label = np.repeat([True, False], [1000, 7000])
    found = check_calibration(label, np.full(8000, 0.3), POLICY)
    assert found is not None
    assert found.correction == "intercept"
    assert expit(logit(0.3) + found.intercept) == pytest.approx(1 / 8)


def test_risks_in_reverse_order_are_not_turned_around() -> None:
    """A negative slope is no calibration. The model must be trained again."""
    label, risk = outcomes(4)
    reverse = expit(-4.4 - logit(risk))
    found = check_calibration(label, reverse, POLICY)
    assert found is not None
    assert found.slope > 0


def test_a_risk_of_exactly_0_or_1_is_no_error() -> None:
    label = np.arange(3000) % 10 == 0
    risk = np.full(3000, 0.1)
    risk[:2] = 1.0, 0.0
    found = check_calibration(label, risk, POLICY)
    assert found is not None
    assert np.isfinite([found.intercept, found.slope]).all()
