"""The report about a model: alerts, baseline, subgroups, plots."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from healthpredict.data.contract import BY_FIELD
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.report import TestReport, evaluate_subgroups, report_on
from healthpredict.reporting.plots import calibration_plot, decision_plot, roc_plot

PNG = b"\x89PNG\r\n\x1a\n"


def category(field: str, values: list[str | None]) -> pd.Categorical:
    return pd.Categorical(values, categories=list(BY_FIELD[field].allowed))


def small_test_side() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Forty encounters: 30 women and 10 men; race and payer known of some; all but one in one age band."""
    encounters = pd.DataFrame(
        {
            "patient_id": np.arange(40) // 2,
            "number_inpatient": np.arange(40) % 4,
            "gender": category("gender", ["Female"] * 30 + ["Male"] * 10),
            "race": category("race", ["Caucasian"] * 12 + ["Asian"] * 12 + [None] * 16),
            "age": category("age", ["[70-80)"] * 39 + ["[0-10)"]),
            "payer_code": pd.Series(["MC"] * 33 + [None] * 7, dtype="str"),
        }
    )
    label = np.arange(40) % 5 == 0
    label[12:24] = False  # no Asian patient came back
    return encounters, label, np.linspace(0.01, 0.4, 40)


def report(threshold: float = 0.3, min_subgroup_rows: int = 10) -> TestReport:
    encounters, label, risk = small_test_side()
    return report_on(encounters, label, risk, threshold=threshold, min_subgroup_rows=min_subgroup_rows, n_bootstrap=20)


def test_alert_rate_and_sensitivity_count_at_and_above_the_threshold() -> None:
    """Risks of .01 to .40 in steps of .01, threshold .30: eleven encounters are flagged."""
    _, label, _ = small_test_side()
    found = report(threshold=0.3)
    assert found.alert_rate == 11 / 40
    assert found.sensitivity == label[-11:].sum() / label.sum()
    assert report(threshold=0.9).alert_rate == report(threshold=0.9).sensitivity == 0


def test_baseline_is_the_number_of_inpatient_visits() -> None:
    encounters, label, _ = small_test_side()
    assert report().baseline_auroc.value == pytest.approx(roc_auc_score(label, encounters["number_inpatient"]))
    assert report().evaluation.patients == 20


def test_subgroups_have_enough_rows_and_both_classes() -> None:
    """Left out: the one child, the seven without a payer, and the Asian patients, of whom none came back."""
    groups = [(s.column, s.value, s.rows) for s in report().subgroups]
    assert groups == [
        ("gender", "Female", 30),
        ("gender", "Male", 10),
        ("race", "(missing)", 16),
        ("race", "Caucasian", 12),
        ("age", "[70-80)", 39),
        ("payer_code", "MC", 33),
        ("gender and age", "Female, [70-80)", 30),
    ]


@pytest.mark.parametrize(("min_rows", "men"), [(10, True), (11, False)])
def test_a_subgroup_needs_the_minimum_of_rows(min_rows: int, men: bool) -> None:
    values = [s.value for s in report(min_subgroup_rows=min_rows).subgroups]
    assert ("Male" in values) is men


def test_a_subgroup_is_measured_on_its_own_rows() -> None:
    encounters, label, risk = small_test_side()
    women = (encounters["gender"] == "Female").to_numpy()
    (found, *_) = evaluate_subgroups(encounters, label, risk, 10, 20)
    assert found.auroc.value == pytest.approx(roc_auc_score(label[women], risk[women]))
    assert found.calibration_in_the_large.value == pytest.approx(risk[women].mean() - label[women].mean())


def test_no_outcomes_is_not_enough() -> None:
    encounters, label, risk = small_test_side()
    with pytest.raises(NotEnoughData):
        report_on(encounters.head(0), label[:0], risk[:0], threshold=0.3, min_subgroup_rows=10, n_bootstrap=20)


def test_pictures_are_png_also_of_few_and_equal_risks() -> None:
    _, label, risk = small_test_side()
    for plot in (roc_plot, calibration_plot):
        assert plot(label, risk, "Forty encounters").startswith(PNG)
        assert plot(np.array([True, False]), np.array([0.1, 0.1]), "Two").startswith(PNG)


def test_the_usefulness_at_the_threshold_is_that_of_the_report() -> None:
    found = report(threshold=0.3)
    assert found.decision_curve is not None
    own = found.decision_curve.at_threshold
    assert (own.threshold, own.alert_rate.value, own.sensitivity.value) == (0.3, found.alert_rate, found.sensitivity)


def test_a_report_of_an_earlier_version_is_read() -> None:
    """It had no decision curve."""
    stored = report().model_dump(mode="json")
    del stored["decision_curve"]
    assert TestReport.model_validate(stored) == report().model_copy(update={"decision_curve": None})


def test_the_decision_curves_of_two_models_are_a_png() -> None:
    curve = report().decision_curve
    assert curve is not None
    assert decision_plot({"champion": curve, "challenger": curve}, "Forty encounters").startswith(PNG)
