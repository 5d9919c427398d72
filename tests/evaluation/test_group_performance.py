"""Performance in groups equals fairlearn's, missing values are a group, and chance raises no alarm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, mean_prediction, true_positive_rate
from scipy.stats import binom
from sklearn.metrics import precision_score

from healthpredict.evaluation.bootstrap import bootstrap_weights
from healthpredict.evaluation.subgroups import (
    MIN_DENOMINATOR,
    MISSING,
    GroupPerformance,
    group_performance,
    holm,
    subgroups_of,
)

THRESHOLD = 0.3
THEIRS = {
    "sensitivity": true_positive_rate,
    "false_positive_rate": false_positive_rate,
    "ppv": precision_score,
}


def draw(rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Encounters whose groups have nothing to do with their calibrated risks and their outcomes, two to a patient."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame(
        {
            "patient_id": np.arange(rows // 2),
            "gender": pd.Categorical(rng.choice(["Female", "Male"], rows // 2)),
            "race": pd.Categorical(rng.choice(["Asian", "Other", None], rows // 2, p=[0.3, 0.5, 0.2])),
            "age": pd.Categorical(rng.choice(["[50-60)", "[60-70)", "[70-80)"], rows // 2)),
            "payer_code": pd.Series(rng.choice(["MC", "HM", None], rows // 2), dtype="str"),
        }
    )
    encounters = pd.concat([people, people], ignore_index=True)
    risk = rng.beta(2, 5, rows)
    return encounters, rng.random(rows) < risk, risk


def measure(
    encounters: pd.DataFrame, label: np.ndarray, risk: np.ndarray, min_rows: int = 100, n_bootstrap: int = 100
) -> dict[tuple[str, str], GroupPerformance]:
    found = group_performance(encounters, label, risk, threshold=THRESHOLD, min_rows=min_rows, n_bootstrap=n_bootstrap)
    return {(group.column, group.value): group for group in found}


@pytest.mark.parametrize("columns", [["gender"], ["race"], ["age"], ["payer_code"], ["gender", "age"]])
def test_metrics_are_those_of_fairlearn(columns: list[str]) -> None:
    encounters, label, risk = draw(4000, seed=1)
    found = measure(encounters, label, risk)
    features = encounters[columns].astype(object).fillna(MISSING)
    theirs = MetricFrame(metrics=THEIRS, y_true=label, y_pred=risk >= THRESHOLD, sensitive_features=features).by_group
    mean_risk, share = (
        MetricFrame(metrics=mean_prediction, y_true=label, y_pred=of, sensitive_features=features).by_group
        for of in (risk, label)
    )
    assert len(theirs) > 1
    for group in theirs.index:
        ours = found[" and ".join(columns), group if isinstance(group, str) else ", ".join(group)]
        for name in THEIRS:
            assert ours.metrics[name].value.value == pytest.approx(theirs.loc[group, name], abs=1e-9)
        assert ours.metrics["offset"].value.value == pytest.approx(mean_risk[group] - share[group], abs=1e-9)


def test_a_gap_is_the_difference_from_all_others_as_in_fairlearn() -> None:
    encounters, label, risk = draw(4000, seed=1)
    found = measure(encounters, label, risk)["age", "[60-70)"]
    frame = MetricFrame(
        metrics=THEIRS,
        y_true=label,
        y_pred=risk >= THRESHOLD,
        sensitive_features=(encounters["age"] == "[60-70)").to_numpy(),
    )
    for name in THEIRS:
        theirs = frame.by_group.loc[True, name] - frame.by_group.loc[False, name]
        assert found.metrics[name].gap.value == pytest.approx(theirs, abs=1e-9)


def test_intervals_are_quantiles_over_resampled_patients() -> None:
    encounters, label, risk = draw(2000, seed=2)
    found = measure(encounters, label, risk, n_bootstrap=60)["race", "Asian"].metrics
    asian, flagged = (encounters["race"] == "Asian").to_numpy(), risk >= THRESHOLD
    weights = np.concatenate(list(bootstrap_weights(encounters["patient_id"].to_numpy(), 60, seed=0)))
    inside, outside = asian & label, ~asian & label
    gaps = [
        np.average(flagged[inside], weights=row[inside]) - np.average(flagged[outside], weights=row[outside])
        for row in weights
    ]
    offsets = [np.average((risk - label)[asian], weights=row[asian]) for row in weights]
    for interval, draws in ((found["sensitivity"].gap, gaps), (found["offset"].value, offsets)):
        assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=1e-12)


def test_groups_are_values_missing_values_and_pairs_of_sex_and_age() -> None:
    encounters, _, _ = draw(400, seed=3)
    found = list(subgroups_of(encounters, 1))
    names = {(column, value) for column, value, _ in found}
    assert {("race", MISSING), ("payer_code", MISSING), ("gender and age", "Female, [60-70)")} <= names
    assert len(names) == len(found) == 2 + 3 + 3 + 3 + 6
    for column in ("gender", "race", "age", "payer_code", "gender and age"):
        assert (sum(rows.astype(int) for of, _, rows in found if of == column) == 1).all(), "each encounter once"


def test_without_a_difference_a_small_p_value_is_rare() -> None:
    """In 100 hospitals, in which the groups do not differ, any p-value is below .05 about five times (99.9 % interval)."""
    alarms = 0
    for seed in range(100):
        groups = measure(*draw(1600, seed=100 + seed)).values()
        alarms += min(metric.p_value for group in groups for metric in group.metrics.values()) < 0.05
    assert alarms <= binom.ppf(0.999, 100, 0.05)


def test_a_planted_difference_has_a_small_p_value_in_its_group_only() -> None:
    """The model does not see the risk of the Asian patients: it predicts the mean of all for them."""
    encounters, label, risk = draw(8000, seed=4)
    asian = (encounters["race"] == "Asian").to_numpy()
    found = measure(encounters, label, np.where(asian, 0.29, risk))
    assert found["race", "Asian"].metrics["sensitivity"].p_value < 1e-6
    assert found["race", "Asian"].metrics["sensitivity"].gap.high < -0.3
    assert found["race", "Asian"].metrics["offset"].p_value > 0.05
    assert "ppv" not in found["race", "Asian"].metrics, "nobody is flagged"
    assert found["gender", "Female"].metrics["sensitivity"].p_value > 0.05


def test_a_metric_of_few_encounters_is_left_out() -> None:
    encounters, label, risk = draw(2000, seed=5)
    rare = np.flatnonzero(encounters["race"] == "Asian")
    label[rare] = False
    label[rare[: MIN_DENOMINATOR - 1]] = True
    assert "sensitivity" not in measure(encounters, label, risk)["race", "Asian"].metrics
    label[rare[MIN_DENOMINATOR - 1]] = True
    assert "sensitivity" in measure(encounters, label, risk)["race", "Asian"].metrics


def test_groups_that_are_too_small_are_left_out() -> None:
    encounters, label, risk = draw(400, seed=6)
    women = int((encounters["gender"] == "Female").sum())
    assert ("gender", "Female") in measure(encounters, label, risk, min_rows=women)
    assert ("gender", "Female") not in measure(encounters, label, risk, min_rows=women + 1)
    assert measure(encounters, label, risk, min_rows=401) == {}
    assert measure(encounters.head(0), label[:0], risk[:0], min_rows=1) == {}


def test_holm() -> None:
    """The smallest of four counts four times, the next one three times, and none counts less than the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
