"""Risks of a fitted champion: no alarm without drift, one with it."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from labelled import LABEL, labelled_encounters

from healthpredict.data.split import Side, side_of
from healthpredict.monitoring.data_drift import detect_data_drift
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile, build_profile
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import FittedModel, fit_model

BATCHES, ROWS = 20, 4000
Champion = tuple[FittedModel, ReferenceProfile]


# So strongly regularised that models of the folds, with four fifths of the rows, are visibly flatter than the champion.
@pytest.fixture(
    scope="module", params=[("logistic_regression", {"C": 1e-4}), ("random_forest", {})], ids=lambda p: p[0]
)
def champion(request: pytest.FixtureRequest) -> Champion:
    family, params = request.param
    encounters = labelled_encounters(16_000, seed=1)
    test = side_of(encounters["patient_id"].to_numpy()) == Side.TEST
    training = encounters[~test]
    candidate = Candidate(family=family, params=FAMILIES[family].first | params, validation_auroc=0.6, steps=1)
    fitted = fit_model(candidate, training, training[LABEL].to_numpy(), seed=1)
    patients = training["patient_id"].to_numpy()
    unseen = fitted.risks(encounters[test])
    return fitted, build_profile(
        training, risk=fitted.out_of_fold_risk, unseen_risk=unseen, patient_id=patients, policy=DriftPolicy()
    )


def alarms(champion: Champion, change: Callable[[pd.DataFrame], pd.DataFrame]) -> int:
    fitted, profile = champion
    over = 0
    for number in range(BATCHES):
        batch = change(labelled_encounters(ROWS, seed=100 + number))
        over += detect_data_drift(profile, batch, fitted.risks(batch)).drifted_risk is not None
    return over


def test_without_drift_hardly_any_batch_raises_an_alarm(champion: Champion) -> None:
    """All columns together may raise one in 5 % of batches, the risks alone in fewer. More than 2 of 20 is not chance."""
    assert alarms(champion, lambda encounters: encounters) <= 2


def test_riskier_patients_raise_one(champion: Champion) -> None:
    assert alarms(champion, lambda e: e.assign(number_inpatient=e["number_inpatient"] + 1)) == BATCHES
