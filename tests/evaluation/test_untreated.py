"""Outcomes without intervention are estimated without bias, or it is said that they cannot be known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.metrics import auroc
from healthpredict.evaluation.untreated import Treatment, untreated_outcomes

N, THRESHOLD, EFFECT = 20_000, 0.2, 0.5


@dataclass(frozen=True)
class Hospital:
    """Patients of whom the older ones are accepted more often and return more often than their risk says."""

    risk: Floats
    age: Floats
    readmitted: NDArray[np.bool_]
    patient_id: NDArray[np.int64]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        return self.risk >= THRESHOLD

    @property
    def variables(self) -> Floats:
        return np.column_stack([logit(self.risk), self.age])


@pytest.fixture(scope="module")
def hospital() -> Hospital:
    rng = np.random.default_rng(0)
    risk, age = rng.beta(1.3, 7, N).clip(1e-3), rng.normal(size=N)
    readmitted = rng.random(N) < expit(logit(risk) + 0.4 * age)
    return Hospital(risk, age, readmitted, rng.integers(0, N // 2, N))


def treatment(hospital: Hospital, treated: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> Treatment:
    nobody = np.zeros(N, dtype=np.bool_)
    known = ~nobody if known is None else known
    return Treatment(hospital.flagged, treated & hospital.flagged, known, nobody, nobody.astype(np.float64))


def observed(hospital: Hospital, treated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    prevented = np.random.default_rng(2).random(N) < EFFECT
    return hospital.readmitted & ~(treated & hospital.flagged & prevented)


def accepted(hospital: Hospital, share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(1).random(N) < expit(logit(share) + 0.8 * hospital.age)


def test_without_interventions_the_outcomes_are_those_observed(hospital: Hospital) -> None:
    found = untreated_outcomes(
        hospital.readmitted, treatment(hospital, np.zeros(N, dtype=bool)), hospital.variables, hospital.patient_id
    )
    assert found.overlap is None
    np.testing.assert_array_equal(found.outcome, hospital.readmitted)
    np.testing.assert_array_equal(found.weight, 1)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_estimates_are_those_of_the_outcomes_that_nobody_changed(hospital: Hospital, share: float) -> None:
    treated = accepted(hospital, share)
    readmitted = observed(hospital, treated)
    found = untreated_outcomes(readmitted, treatment(hospital, treated), hospital.variables, hospital.patient_id)
    assert found.overlap is not None and found.overlap.is_enough
    flagged = hospital.flagged
    truth, naive = hospital.readmitted[flagged].mean(), readmitted[flagged].mean()
    error = found.outcome[flagged].std() / np.sqrt(flagged.sum())
    assert truth - naive > 5 * error
    assert abs(found.outcome[flagged].mean() - truth) < 3 * error
    true_auroc = auroc(hospital.readmitted, hospital.risk)
    assert abs(auroc(found.outcome, hospital.risk) - true_auroc) < 0.01 < true_auroc - auroc(readmitted, hospital.risk)
    np.testing.assert_array_equal(found.outcome[~flagged], readmitted[~flagged])
    assert found.weight[flagged].sum() == pytest.approx(flagged.sum())
    assert 0 < found.overlap.effective < (flagged & ~treated).sum()


def test_if_all_are_accepted_it_cannot_be_known(hospital: Hospital) -> None:
    everybody = np.ones(N, dtype=bool)
    found = untreated_outcomes(
        observed(hospital, everybody), treatment(hospital, everybody), hospital.variables, hospital.patient_id
    )
    assert found.overlap is not None
    assert not found.overlap.is_enough
    assert (found.overlap.effective, found.overlap.without_overlap) == (0, 1)
    assert found.problem == (
        "The outcomes without interventions cannot be known from these data: silent mode or a hold-out would tell."
    )


def test_a_hold_out_among_all_flags_tells_even_if_all_others_are_accepted(hospital: Hospital) -> None:
    probability = np.where(hospital.flagged, 0.2, 0.0)
    held_back = np.random.default_rng(3).random(N) < probability
    done = replace(
        treatment(hospital, ~held_back), held_back=held_back, known=~held_back, hold_out_probability=probability
    )
    readmitted = observed(hospital, ~held_back)
    found = untreated_outcomes(readmitted, done, hospital.variables, hospital.patient_id)
    assert found.overlap is not None and found.overlap.is_enough
    flagged = hospital.flagged
    error = found.outcome[flagged].std() / np.sqrt(flagged.sum())
    assert abs(found.outcome[flagged].mean() - hospital.readmitted[flagged].mean()) < 3 * error


def test_a_hold_out_of_a_narrow_band_is_not_enough(hospital: Hospital) -> None:
    probability = np.where(hospital.flagged & (hospital.risk < THRESHOLD + 0.02), 0.2, 0.0)
    held_back = np.random.default_rng(3).random(N) < probability
    done = replace(treatment(hospital, ~held_back), held_back=held_back, hold_out_probability=probability)
    found = untreated_outcomes(observed(hospital, ~held_back), done, hospital.variables, hospital.patient_id)
    assert found.overlap is not None and not found.overlap.is_enough
    assert found.overlap.without_overlap > 0.5


def test_encounters_of_which_nothing_is_known_are_not_taken_for_untreated(hospital: Hospital) -> None:
    treated, known = accepted(hospital, 0.5), np.random.default_rng(4).random(N) < 0.5
    readmitted = observed(hospital, treated)
    done = treatment(hospital, treated & known, known)
    found = untreated_outcomes(readmitted, done, hospital.variables, hospital.patient_id)
    assert found.overlap is not None and found.overlap.is_enough
    flagged = hospital.flagged
    assert found.overlap.unknown == (flagged & ~known).sum()
    error = found.outcome[flagged].std() / np.sqrt(flagged.sum())
    assert abs(found.outcome[flagged].mean() - hospital.readmitted[flagged].mean()) < 3 * error


@pytest.mark.parametrize("answers", [0, 1, 10])
def test_a_handful_of_answers_tells_nothing(hospital: Hospital, answers: int) -> None:
    known = np.zeros(N, dtype=bool)
    known[np.flatnonzero(hospital.flagged)[:answers]] = True
    found = untreated_outcomes(
        hospital.readmitted, treatment(hospital, known, known), hospital.variables, hospital.patient_id
    )
    assert found.overlap is not None and not found.overlap.is_enough
    assert found.problem is not None and "Report it, also where nothing was done." in found.problem
    assert np.isfinite(found.outcome).all()


def test_one_patient_alone_is_no_error() -> None:
    one = np.ones(2, dtype=bool)
    done = Treatment(one, np.array([True, False]), one, ~one, np.zeros(2))
    found = untreated_outcomes(one, done, np.ones((2, 1)), np.ones(2, dtype=np.int64))
    assert found.overlap is not None and not found.overlap.is_enough
