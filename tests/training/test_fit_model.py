"""A fitted model is calibrated on patients that it did not see."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from encoded_hospital import Hospital
from labelled import LABEL, label_and_fold

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import calibrate
from healthpredict.data.split import side_of
from healthpredict.errors import NotEnoughData
from healthpredict.features.frame import N_FOLDS, encode_frame
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import STEPS, probability
from healthpredict.training.fit import FittedModel, divisions, fit_calibrator, fit_model, folds

# Fits run in threads, where warnings cannot be ignored one by one.
pytestmark = pytest.mark.filterwarnings("error")

LINEAR = Candidate(family="logistic_regression", params={"C": 0.003}, validation_auroc=0.6, steps=STEPS)
TREES = Candidate(family="lightgbm", params={"n_estimators": 10, "num_leaves": 4}, validation_auroc=0.6, steps=STEPS)


@pytest.fixture(scope="module")
def fitted(hospital: Hospital) -> FittedModel:
    return fit_model(LINEAR, hospital.training, hospital.training[LABEL].to_numpy(), seed=3)


def log_odds(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, -1.2), (1.7, 0.5)])
def test_calibrator_recovers_a_known_distortion(slope: float, intercept: float) -> None:
    """100,000 outcomes drawn from slope * log-odds + intercept."""
    rng = np.random.default_rng(0)
    raw = rng.normal(-0.5, 1.0, 100_000)
    label = rng.random(100_000) < 1 / (1 + np.exp(-(slope * raw + intercept)))
    found = fit_calibrator(label, 1 / (1 + np.exp(-raw)))
    assert found.slope == pytest.approx(slope, abs=0.04)
    assert found.intercept == pytest.approx(intercept, abs=0.04)


def test_calibrator_takes_certain_predictions() -> None:
    """A tree that says 0 or 1 has no finite log-odds of its own."""
    rng = np.random.default_rng(1)
    label = rng.random(1000) < 0.3
    found = fit_calibrator(label, np.where(rng.random(1000) < 0.1, ~label, label).astype(float))
    assert np.isfinite([found.slope, found.intercept]).all()


def test_calibrated_risks_have_the_mean_of_the_outcomes(hospital: Hospital, fitted: FittedModel) -> None:
    assert fitted.out_of_fold_risk.mean() == pytest.approx(hospital.training[LABEL].mean(), abs=1e-4)
    assert ((fitted.out_of_fold_risk > 0) & (fitted.out_of_fold_risk < 1)).all()


@pytest.mark.parametrize("candidate", [LINEAR, TREES], ids=["linear", "trees"])
def test_a_prediction_for_calibration_knows_nothing_of_its_patient(hospital: Hospital, candidate: Candidate) -> None:
    """If the outcomes of one fold are inverted, its raw predictions stay the same."""
    training = hospital.training.head(800)
    label, fold = label_and_fold(training)
    own = fold == 2
    before, after = (fit_model(candidate, training, outcome, seed=3) for outcome in (label, label ^ own))
    raw = [(log_odds(m.out_of_fold_risk) - m.calibrator.intercept) / m.calibrator.slope for m in (before, after)]
    assert raw[0][own] == pytest.approx(raw[1][own], abs=1e-6)
    assert np.abs(raw[0][~own] - raw[1][~own]).max() > 0.01


def test_risks_are_encoder_then_model_then_calibrator(hospital: Hospital, fitted: FittedModel) -> None:
    """A bundle must reproduce these risks."""
    encounters = hospital.training.head(50)
    raw = probability(fitted.model, encode_frame(fitted.encoder, encounters))
    assert fitted.risks(encounters).tolist() == calibrate(fitted.calibrator, raw).tolist()
    assert fitted.encoder == hospital.encoder


def test_a_shift_moves_all_risks_by_the_same_log_odds(hospital: Hospital, fitted: FittedModel) -> None:
    shifted, encounters = fitted.shifted(-0.3), hospital.training.head(100)
    for before, after in (
        (fitted.out_of_fold_risk, shifted.out_of_fold_risk),
        (fitted.risks(encounters), shifted.risks(encounters)),
    ):
        np.testing.assert_allclose(np.log(after / (1 - after)), np.log(before / (1 - before)) - 0.3, atol=1e-9)


def test_fitting_again_gives_the_same_model(hospital: Hospital, fitted: FittedModel) -> None:
    again = fit_model(LINEAR, hospital.training, hospital.training[LABEL].to_numpy(), seed=3)
    assert again.calibrator == fitted.calibrator
    assert again.out_of_fold_risk.tolist() == fitted.out_of_fold_risk.tolist()


def test_a_patient_is_always_in_the_same_fold() -> None:
    """Literal values. If this fails, refitting an earlier model gives another model."""
    assert folds(np.array([8222157, 55629189, 86047875, 82442376, 8222157])).tolist() == [1, 1, 2, 2, 1]


@pytest.mark.parametrize("division", [0, 1])
def test_folds_do_not_depend_on_the_side(division: int) -> None:
    """Among the patients of each side every fold has a fifth, although both come from a hash of the same id."""
    patients = np.arange(1, 100_001)
    side, fold = side_of(patients), divisions(patients, 2)[division]
    shares = pd.crosstab(side, fold, normalize="index").to_numpy()
    assert shares.shape == (3, N_FOLDS)
    # Four binomial standard errors of the smallest side, 15,000 patients.
    assert shares == pytest.approx(np.full((3, N_FOLDS), 0.2), abs=0.0131)


def test_divisions_into_folds_are_independent() -> None:
    """Of the patients of each fold of the first division, a fifth is in each fold of the second."""
    first, second = divisions(np.arange(1, 100_001), 2)
    assert first.tolist() == folds(np.arange(1, 100_001)).tolist()
    shares = pd.crosstab(first, second, normalize="index").to_numpy()
    # Four binomial standard errors of a fold, 20,000 patients.
    assert shares == pytest.approx(np.full((N_FOLDS, N_FOLDS), 0.2), abs=0.0113)


@pytest.mark.parametrize("readmitted", [[], [0]])
def test_readmissions_of_one_fold_alone_are_not_enough(hospital: Hospital, readmitted: list[int]) -> None:
    """Without that fold, only one class is left, so no model can be fitted for it."""
    training = hospital.training.head(300)
    _, fold = label_and_fold(training)
    label = np.isin(fold, readmitted) & (np.arange(300) % 2 == 0)
    with pytest.raises(NotEnoughData, match="Wait for more matured outcomes"):
        fit_model(LINEAR, training, label, seed=3)


@pytest.mark.parametrize("candidate", [LINEAR, TREES], ids=["linear", "trees"])
def test_two_readmissions_in_two_folds_are_just_enough(hospital: Hospital, candidate: Candidate) -> None:
    """A tiny hospital gets a poor model rather than a crash."""
    training = hospital.training.head(300)
    _, fold = label_and_fold(training)
    label = np.zeros(300, dtype=bool)
    label[[np.flatnonzero(fold == 0)[0], np.flatnonzero(fold == 1)[0]]] = True
    fitted = fit_model(candidate, training, label, seed=3)
    assert np.isfinite(fitted.risks(training)).all()


def test_identity_calibration_changes_nothing() -> None:
    risk = np.array([0.01, 0.2, 0.9])
    assert calibrate(Calibrator(slope=1, intercept=0), risk) == pytest.approx(risk, abs=1e-12)
