"""Net benefit equals that of dcurves; intervals are those of resampled patients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from dcurves import dca

from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.bootstrap import bootstrap_weights
from healthpredict.evaluation.decision_curve import THRESHOLDS, DecisionCurve, decision_curve

OWN = 0.137


def hospital(rows: int = 1500) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Label, risk, number of visits and patient. Risks have two digits, so many are equal to a threshold."""
    rng = np.random.default_rng(3)
    visits = rng.poisson(0.6, rows)
    true = 1 / (1 + np.exp(2.6 - 0.5 * visits - rng.normal(0, 0.6, rows)))
    risk = np.round(np.clip(true * rng.lognormal(0, 0.3, rows), 0.001, 0.6), 2)
    return rng.random(rows) < true, risk, visits.astype(np.float64), rng.integers(0, rows // 2, rows)


@pytest.fixture(scope="module")
def curve() -> DecisionCurve:
    label, risk, visits, patient = hospital()
    return decision_curve(label, risk, visits, patient, threshold=OWN, n_bootstrap=50)


def test_net_benefit_is_that_of_dcurves(curve: DecisionCurve) -> None:
    label, risk, visits, _ = hospital()
    # Of True and False, statsmodels would model False.
    frame = pd.DataFrame({"label": label.astype(int), "risk": risk, "visits": visits})
    theirs = dca(
        data=frame,
        outcome="label",
        modelnames=["risk", "visits"],
        models_to_prob=["visits"],
        thresholds=[*THRESHOLDS, OWN],
    ).set_index(["model", "threshold"])
    for point in (*curve.points, curve.at_threshold):
        expected = {name: theirs.loc[(name, point.threshold)] for name in ("risk", "visits", "all", "none")}
        assert point.net_benefit.value == pytest.approx(expected["risk"]["net_benefit"], abs=1e-9)
        assert point.baseline.value == pytest.approx(expected["visits"]["net_benefit"], abs=1e-9)
        assert point.treat_all.value == pytest.approx(expected["all"]["net_benefit"], abs=1e-9)
        assert expected["none"]["net_benefit"] == 0
        assert point.alert_rate.value == pytest.approx(expected["risk"]["test_pos_rate"], abs=1e-9)


def test_the_advantage_is_over_the_best_alternative(curve: DecisionCurve) -> None:
    """Each of the three alternatives is the best at some threshold."""
    alternatives = [(point.treat_all.value, point.baseline.value, 0.0) for point in curve.points]
    best = [max(values) for values in alternatives]
    assert {values.index(max(values)) for values in alternatives} == {0, 1, 2}
    assert [point.advantage.value for point in curve.points] == pytest.approx(
        [point.net_benefit.value - other for point, other in zip(curve.points, best, strict=True)], abs=1e-12
    )


def test_nobody_flagged_is_the_best_alternative_to_a_model_that_flags_the_wrong_patients() -> None:
    label = np.arange(100) < 10
    found = decision_curve(
        label, np.where(label, 0.1, 0.5), np.zeros(100), np.arange(100), threshold=0.4, n_bootstrap=20
    )
    assert found.at_threshold.treat_all.value < 0
    assert found.at_threshold.advantage == found.at_threshold.net_benefit
    assert found.at_threshold.advantage.high < 0


def test_intervals_are_quantiles_over_resampled_patients(curve: DecisionCurve) -> None:
    label, risk, _, patient = hospital()
    flagged = risk >= OWN
    weights = np.concatenate(list(bootstrap_weights(patient, 50, seed=0)))
    ppv = [np.average(label[flagged], weights=row[flagged]) for row in weights]
    sensitivity = [np.average(flagged[label], weights=row[label]) for row in weights]
    for found, draws in ((curve.at_threshold.ppv, ppv), (curve.at_threshold.sensitivity, sensitivity)):
        assert found is not None
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=1e-12)


def test_number_needed_to_evaluate() -> None:
    """Of five flagged patients, one returns. If none returns, or nobody is flagged, there is no such number."""
    label = np.array([True] + [False] * 4 + [True] + [False] * 14)
    found = decision_curve(
        label, np.where(np.arange(20) < 5, 0.2, 0.05), np.ones(20), np.arange(20), threshold=0.5, n_bootstrap=20
    )
    by_threshold = {point.threshold: point for point in found.points}
    needed = by_threshold[0.2].number_needed_to_evaluate
    assert needed is not None
    assert needed.value == pytest.approx(5)
    assert needed.low <= 5 <= needed.high
    assert by_threshold[0.21].ppv is found.at_threshold.ppv is None
    assert found.at_threshold.number_needed_to_evaluate is None
    never = decision_curve(label, np.where(label, 0.05, 0.2), np.ones(20), np.arange(20), threshold=0.2, n_bootstrap=20)
    assert never.at_threshold.ppv is not None
    assert never.at_threshold.ppv.value == 0
    assert never.at_threshold.number_needed_to_evaluate is None


def test_one_class_is_not_enough() -> None:
    with pytest.raises(NotEnoughData):
        decision_curve(np.zeros(5, bool), np.ones(5) / 2, np.ones(5), np.arange(5), threshold=0.2, n_bootstrap=20)
