"""Metrics of estimated outcomes are those of the outcomes that they stand for, and are as exact as the fewer outcomes allow."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from healthpredict.evaluation.decision_curve import decision_curve
from healthpredict.evaluation.gain import auroc_gain
from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.metrics import evaluate
from healthpredict.evaluation.subgroups import group_performance
from healthpredict.monitoring.calibration import check_calibration
from healthpredict.monitoring.params import DriftPolicy

ROWS = 8000
PATIENTS = np.arange(ROWS)


def drawn(seed: int, intercept: float = 0.0) -> tuple[np.ndarray, Floats, Floats]:
    """Outcomes, estimates of them from half of those with the highest risks, and risks."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-2.2, 0.8, ROWS)
    risk = expit(log_odds)
    label = rng.random(ROWS) < expit(log_odds + intercept)
    half = (risk > np.quantile(risk, 0.8)) & (rng.random(ROWS) < 0.5)
    weight = np.where(risk > np.quantile(risk, 0.8), 2.0, 1.0) * ~half
    return label, risk + weight * (label - risk), risk


def test_every_metric_is_that_of_the_outcomes_on_average() -> None:
    names = ("auroc", "auprc", "brier", "calibration_in_the_large", "calibration_slope")
    differences: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(20):
        label, estimate, risk = drawn(seed, intercept=0.3)
        real, estimated = (evaluate(outcome, risk, PATIENTS, n_bootstrap=1) for outcome in (label, estimate))
        for name in names:
            differences[name].append(getattr(estimated, name).value - getattr(real, name).value)
    for name, values in differences.items():
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values)) < 3 * error < 0.05, name


def test_intervals_of_the_auroc_are_wider_and_cover_it() -> None:
    covered, widths = 0, []
    for seed in range(60):
        label, estimate, risk = drawn(seed)
        truth = 0.7078  # of four million of these
        real, estimated = (auroc_gain(outcome, risk, np.zeros(ROWS), PATIENTS) for outcome in (label, estimate))
        widths.append(estimated.error / real.error)
        covered += estimated.low + 0.5 <= truth <= estimated.high + 0.5
    assert 53 <= covered <= 60
    assert 1 < np.mean(widths) < 2


def test_usefulness_and_groups_are_those_of_the_outcomes_on_average() -> None:
    benefit, offset, sensitivity = [], [], []
    for seed in range(20):
        label, estimate, risk = drawn(seed, intercept=0.3)
        encounters = pd.DataFrame(
            {
                "patient_id": PATIENTS,
                "gender": np.where(PATIENTS % 2, "Male", "Female"),
                **dict.fromkeys(("race", "age", "payer_code"), "same"),
            }
        )
        curves, groups = [], []
        for outcome in (estimate, label):
            baseline = np.zeros(ROWS)
            curves.append(decision_curve(outcome, risk, baseline, PATIENTS, threshold=0.2, n_bootstrap=2))
            found = group_performance(encounters, outcome, risk, threshold=0.2, min_rows=500, n_bootstrap=10)
            groups.append(next(group for group in found if group.value == "Male").metrics)
        benefit.append(curves[0].at_threshold.net_benefit.value - curves[1].at_threshold.net_benefit.value)
        offset.append(groups[0]["offset"].value.value - groups[1]["offset"].value.value)
        sensitivity.append(groups[0]["sensitivity"].value.value - groups[1]["sensitivity"].value.value)
    for values in (benefit, offset, sensitivity):
        assert 0 < np.std(values) < 0.05
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize(("intercept", "expected", "least"), [(0.0, "none", 51), (0.3, "intercept", 50)])
def test_calibration_is_corrected_only_if_it_is_off(intercept: float, expected: str, least: int) -> None:
    found: Counter[str] = Counter()
    for seed in range(60):
        _, estimate, risk = drawn(seed, intercept)
        checked = check_calibration(estimate, risk, DriftPolicy())
        assert checked is not None
        found[checked.correction] += 1
        if intercept:
            assert checked.offset.value < 0
    assert found[expected] >= least, found


def test_the_correction_of_estimates_is_the_one_that_was_planted() -> None:
    label, estimate, risk = drawn(1, intercept=-0.4)
    found, real = (check_calibration(outcome, risk, DriftPolicy()) for outcome in (estimate, label))
    assert found is not None and real is not None
    assert found.intercept == pytest.approx(real.intercept, abs=0.15)
    steep = expit(1.6 * logit(risk))
    found, real = (check_calibration(outcome, steep, DriftPolicy()) for outcome in (estimate, label))
    assert found is not None and real is not None
    assert found.correction == real.correction == "intercept and slope"
    assert found.slope == pytest.approx(real.slope, abs=0.12)
