"""Metrics equal scikit-learn's, intervals cover, and too little data is an error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.bootstrap import bootstrap_weights
from healthpredict.evaluation.gain import auroc_gain
from healthpredict.evaluation.metrics import Evaluation, auroc, evaluate, expected_auroc

INTERVALS = ("auroc", "auprc", "brier", "calibration_in_the_large")


def each_alone(n: int) -> np.ndarray:
    """Each encounter belongs to a different patient."""
    return np.arange(n)


def measured(label: list[int], risk: list[float]) -> Evaluation:
    return evaluate(np.array(label, dtype=bool), np.array(risk), each_alone(len(label)), n_bootstrap=20)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60))
def test_values_are_those_of_scikit_learn(encounters: list[tuple[bool, int]]) -> None:
    """Nine distinct risks in up to sixty encounters: most are tied."""
    label, eighths = (np.array(column) for column in zip(*encounters, strict=True))
    assume(0 < label.sum() < len(label))
    found = evaluate(label, eighths / 8, each_alone(len(label)), n_bootstrap=20)
    assert found.auroc.value == pytest.approx(roc_auc_score(label, eighths), abs=1e-12)
    assert found.auprc.value == pytest.approx(average_precision_score(label, eighths), abs=1e-12)
    assert found.brier.value == pytest.approx(brier_score_loss(label, eighths / 8), abs=1e-12)
    assert found.calibration_in_the_large.value == pytest.approx(np.mean(eighths / 8) - label.mean(), abs=1e-12)
    assert auroc(label, eighths / 8) == found.auroc.value
    assert (found.rows, found.patients, found.prevalence) == (len(label), len(label), label.mean())


def test_values_are_those_of_scikit_learn_without_ties() -> None:
    rng = np.random.default_rng(0)
    label, risk = rng.random(5000) < 0.11, rng.random(5000)
    found = evaluate(label, risk, each_alone(5000), n_bootstrap=20)
    assert found.auroc.value == pytest.approx(roc_auc_score(label, risk), abs=1e-12)
    assert found.auprc.value == pytest.approx(average_precision_score(label, risk), abs=1e-12)
    assert found.brier.value == pytest.approx(brier_score_loss(label, risk), abs=1e-12)


def test_intervals_are_quantiles_over_resampled_patients() -> None:
    """Drawing whole patients again and asking scikit-learn each time gives the same interval."""
    rng = np.random.default_rng(1)
    patient = rng.integers(100, 160, 120)
    label, risk = rng.random(120) < 0.4, rng.integers(0, 20, 120) / 20
    found = evaluate(label, risk, patient, n_bootstrap=50, seed=9)
    weights = np.concatenate(list(bootstrap_weights(patient, 50, seed=9)))
    for metric, reference in (
        (found.auroc, roc_auc_score),
        (found.auprc, average_precision_score),
        (found.brier, brier_score_loss),
    ):
        draws = [reference(label, risk, sample_weight=row) for row in weights]
        assert (metric.low, metric.high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=1e-12)


def test_a_resample_draws_whole_patients() -> None:
    """All encounters of a patient come equally often, and as many patients are drawn as there are."""
    patient = np.array([7, 7, 7, 3, 5, 5])
    for chunk in bootstrap_weights(patient, 30, seed=0):
        assert (chunk[:, 0] == chunk[:, 1]).all()
        assert (chunk[:, 0] == chunk[:, 2]).all()
        assert (chunk[:, 4] == chunk[:, 5]).all()
        assert (chunk[:, [0, 3, 4]].sum(axis=1) == 3).all()
        assert chunk.shape == (30, 6)


def test_intervals_cover_when_a_patient_has_many_encounters() -> None:
    """Patients of one to six alike encounters: the interval holds the true AUROC about 95 times in 100.

    Readmitted patients have risks one standard deviation higher: the true AUROC is .7602. Resampling encounters as if they
    were independent covers it far less often; that is why patients are resampled.
    """
    rng = np.random.default_rng(4)
    trials, covered, covered_by_rows = 150, 0, 0
    for _ in range(trials):
        stays = rng.integers(1, 7, 150)
        readmitted = rng.random(150) < 0.3
        logit = rng.normal(readmitted, 1)
        label, risk = np.repeat(readmitted, stays), np.repeat(1 / (1 + np.exp(-logit)), stays)
        patient = np.repeat(np.arange(150), stays)
        whole = evaluate(label, risk, patient, n_bootstrap=200).auroc
        rows = evaluate(label, risk, each_alone(len(label)), n_bootstrap=200).auroc
        covered += whole.low <= 0.7602 <= whole.high
        covered_by_rows += rows.low <= 0.7602 <= rows.high
    # Three binomial standard errors around .95.
    assert 0.89 * trials <= covered
    assert covered_by_rows < 0.85 * trials


def test_every_interval_holds_its_value_on_enough_data() -> None:
    rng = np.random.default_rng(2)
    risk = rng.beta(2, 14, 4000)
    found = evaluate(rng.random(4000) < risk, risk, rng.integers(0, 3000, 4000))
    for name in INTERVALS:
        assert getattr(found, name).low < getattr(found, name).value < getattr(found, name).high
    assert found.calibration_in_the_large.low < 0 < found.calibration_in_the_large.high
    assert found.patients < found.rows == 4000


def test_same_seed_same_interval() -> None:
    rng = np.random.default_rng(3)
    label, risk = rng.random(300) < 0.3, rng.random(300)
    first, again, other = (evaluate(label, risk, each_alone(300), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.auroc.value == other.auroc.value
    assert first.auroc != other.auroc


def test_perfect_calibration_has_no_error() -> None:
    """Of the encounters with a risk of .25, one in four is readmitted; with .75, three in four: perfect calibration."""
    found = measured([1, 0, 0, 0] * 10 + [1, 1, 1, 0] * 10, [0.25] * 40 + [0.75] * 40)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert found.calibration_in_the_large.value == pytest.approx(0, abs=1e-12)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    """Ten bins of ten encounters, risks by turns .25 too high and .35 too low: gaps do not cancel out."""
    risk = np.repeat([0.45, 0.55, 0.46, 0.56, 0.47, 0.57, 0.48, 0.58, 0.49, 0.59], 10)
    readmitted = [2, 9] * 5
    label = np.concatenate([np.arange(10) < count for count in readmitted])
    gaps = [0.25, 0.35, 0.26, 0.34, 0.27, 0.33, 0.28, 0.32, 0.29, 0.31]
    found = evaluate(label, risk, each_alone(100), n_bootstrap=20)
    assert found.ece == pytest.approx(np.mean(gaps), abs=1e-12)
    assert found.calibration_in_the_large.value == pytest.approx(-0.03, abs=1e-12)


@pytest.mark.parametrize("order", [1, -1])
def test_equal_risks_share_a_bin(order: int) -> None:
    """Split over two bins, half the encounters would look too high and half too low; the order of rows must not matter."""
    label = [1] * 15 + [0] * 15 + [0] * 9 + [1]
    risk = [0.5] * 30 + [0.1] * 10
    assert measured(label[::order], risk[::order]).ece == pytest.approx(0, abs=1e-12)


def test_one_risk_for_all_is_one_bin() -> None:
    found = measured([1, 0, 0, 0] * 5, [0.35] * 20)
    assert found.ece == pytest.approx(0.1, abs=1e-12)
    assert (found.auroc.value, found.auroc.low, found.auroc.high) == (0.5, 0.5, 0.5)


def test_paired_differences_have_the_error_of_a_bootstrap_over_patients() -> None:
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(500), rng.integers(1, 6, 500))
    frailty = rng.normal(-1, 1, 500)[patient]
    label = rng.random(len(patient)) < 1 / (1 + np.exp(-frailty))
    risk = np.round(frailty + rng.normal(0, 1, len(patient)), 1)  # with ties
    other = frailty + rng.normal(0, 1, 500)[patient]
    found = auroc_gain(label, risk, other, patient)
    draws = [
        roc_auc_score(label, risk, sample_weight=weights) - roc_auc_score(label, other, sample_weight=weights)
        for weights in np.concatenate(list(bootstrap_weights(patient, 400, seed=3)))
    ]
    assert found.value == pytest.approx(roc_auc_score(label, risk) - roc_auc_score(label, other), abs=1e-12)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(draws), rel=0.12)
    alone = auroc_gain(label, risk, other, each_alone(len(patient)))
    assert alone.high - alone.low < 0.97 * (found.high - found.low), "encounters of a patient are not independent"
    same = auroc_gain(label, risk, risk, patient)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_pairing_makes_a_small_difference_visible() -> None:
    """The difference of two similar models has a far smaller error than the AUROC of one."""
    rng = np.random.default_rng(6)
    logit = rng.normal(-2, 1, 3000)
    label = rng.random(3000) < 1 / (1 + np.exp(-logit))
    alike = logit + rng.normal(0, 0.1, 3000)
    difference = auroc_gain(label, logit, alike, each_alone(3000))
    single = evaluate(label, logit, each_alone(3000), n_bootstrap=100).auroc
    assert difference.high - difference.low < (single.high - single.low) / 4


@pytest.mark.parametrize(
    ("label", "message"),
    [([], "0 encounters with 0"), ([False] * 3, "3 encounters with 0"), ([True] * 3, "3 encounters with 3")],
)
def test_empty_or_one_class_is_not_enough(label: list[bool], message: str) -> None:
    """The message contains the counts, and the advice to wait."""
    labels, risk = np.array(label, dtype=bool), np.linspace(0, 1, len(label))
    with pytest.raises(NotEnoughData, match=message + ".*Wait for more matured outcomes"):
        evaluate(labels, risk, each_alone(len(label)))
    with pytest.raises(NotEnoughData, match=message):
        auroc(labels, risk)


def test_two_patients_are_enough_for_a_value() -> None:
    """Half the resamples have one class only; those are left out of the interval."""
    found = measured([1, 0], [0.9, 0.2])
    assert (found.auroc.value, found.auroc.low, found.auroc.high) == (1, 1, 1)


def test_slope_is_that_of_logistic_regression_and_one_where_risks_are_right() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(5)
    risk = rng.beta(2, 12, 6000)
    label = rng.random(6000) < risk
    log_odds = np.log(risk / (1 - risk))
    right = evaluate(label, risk, np.arange(6000)).calibration_slope
    assert right.low < 1 < right.high
    stretched = 1 / (1 + np.exp(-2 * log_odds))
    slope = evaluate(label, stretched, np.arange(6000)).calibration_slope
    fitted = LogisticRegression(C=np.inf).fit(2 * log_odds[:, None], label)
    assert slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-3)
    assert slope.value == pytest.approx(right.value / 2, rel=1e-3)


def test_interval_of_the_slope_is_as_wide_as_that_of_fits_to_resamples() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(6)
    risk = rng.beta(2, 12, 2000)
    label = rng.random(2000) < risk
    log_odds = np.log(risk / (1 - risk))[:, None]
    slopes = [
        LogisticRegression(C=np.inf).fit(log_odds[rows], label[rows]).coef_[0, 0]
        for rows in (rng.integers(0, 2000, 2000) for _ in range(200))
    ]
    interval = evaluate(label, risk, np.arange(2000)).calibration_slope
    assert interval.high - interval.low == pytest.approx(np.ptp(np.quantile(slopes, [0.025, 0.975])), rel=0.2)


def test_calibrated_risks_promise_the_auroc_that_they_keep() -> None:
    rng = np.random.default_rng(7)
    risk = rng.beta(2, 12, 50_000)
    label = rng.random(50_000) < risk
    assert expected_auroc(risk) == pytest.approx(auroc(label, risk), abs=0.01)
    assert expected_auroc(np.full(10, 0.1)) == pytest.approx(0.5)


def test_an_evaluation_of_an_earlier_version_is_read() -> None:
    """It had an interval around the calibration error."""
    found = measured([1, 0, 0, 0] * 5, [0.35] * 20)
    stored = found.model_dump() | {"ece": {"value": found.ece, "low": 0.0, "high": 0.2}}
    assert Evaluation.model_validate(stored) == found
