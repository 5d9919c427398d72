"""Data drift: planted shifts are found, odd batches do not break the check, and the numbers are Evidently's."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from small_hospital import draw

from healthpredict.data.contract import FEATURE_COLUMNS
from healthpredict.errors import NotEnoughData
from healthpredict.monitoring import data_drift
from healthpredict.monitoring.data_drift import DataDrift, detect_data_drift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.evidently_page import evidently_page
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile, build_profile
from healthpredict.monitoring.words import describe


@pytest.fixture(scope="module")
def batch() -> tuple[pd.DataFrame, np.ndarray]:
    return draw(1000, seed=3)


@pytest.fixture(scope="module")
def planted(profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]) -> DataDrift:
    """A batch with a shift of each kind."""
    encounters, risk = batch[0].copy(), batch[1]
    some = np.random.default_rng(0).random(len(encounters)) < 0.2
    encounters["num_medications"] += 1
    encounters.loc[some, "insulin"] = "Down"
    encounters.loc[some, "medical_specialty"] = "Psychiatry"
    encounters.loc[some, "race"] = np.nan
    encounters["diag_3"] = pd.Series(np.nan, encounters.index, dtype="str")
    encounters["examide"] = "No"
    return detect_data_drift(profile, encounters, risk + 0.05)


PLANTED = {"num_medications", "insulin", "medical_specialty", "race", "diag_3", "examide"}


def test_planted_shifts_are_found(planted: DataDrift) -> None:
    """Moved numbers, changed shares, a new category, more missing values, nothing but missing values, a constant."""
    drift = planted
    assert {column.column for column in drift.drifted} == PLANTED
    assert drift.drifted_share == pytest.approx(len(PLANTED) / len(drift.features))
    assert drift.drifted_risk is not None


def test_the_farthest_over_its_limit_comes_first(planted: DataDrift) -> None:
    excess = [column.severity for column in planted.drifted]
    assert excess == sorted(excess, reverse=True)


def test_it_survives_json(planted: DataDrift) -> None:
    assert DataDrift.model_validate_json(planted.model_dump_json()) == planted


def test_missing_and_unseen_values_have_methods_of_their_own(planted: DataDrift) -> None:
    drifted = {(column.column, column.method) for column in planted.columns if column.drifted}
    assert ("race", Method.MISSING) in drifted
    assert ("medical_specialty", Method.UNSEEN) in drifted
    assert ("insulin", Method.MISSING) not in drifted


def test_one_diagnosis_of_hundreds_is_found(reference: tuple[pd.DataFrame, np.ndarray]) -> None:
    """The distance of all diagnoses together stays within chance, because there are so many."""
    encounters, risk = reference
    codes = np.arange(300, 500).astype(str)

    def diagnosed(patients: pd.Series, seed: int) -> pd.Series:
        drawn = np.random.default_rng(seed).choice(codes, patients.max() % 1_000_000 + 1)
        return pd.Series(drawn[patients % 1_000_000], patients.index, dtype="str")

    known = encounters.assign(diag_1=diagnosed(encounters["patient_id"], 0))
    profile = build_profile(
        known, risk=risk, unseen_risk=risk, patient_id=known["patient_id"].to_numpy(), policy=DriftPolicy()
    )
    batch, batch_risk = draw(1000, seed=3)
    batch["diag_1"] = diagnosed(batch["patient_id"], 1)
    assert detect_data_drift(profile, batch, batch_risk).drifted == []
    batch.loc[np.random.default_rng(0).random(len(batch)) < 0.04, "diag_1"] = "428"
    drifted = [c for c in detect_data_drift(profile, batch, batch_risk).columns if c.column == "diag_1" and c.drifted]
    assert [(column.method, column.category) for column in drifted] == [(Method.ONE_CATEGORY, "428")]
    assert describe(drifted[0]).startswith("primary diagnosis 428 (distance")


def test_patients_a_little_older_in_every_band_are_found_by_the_order_of_the_bands(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]
) -> None:
    bands = batch[0]["age"].cat
    older = np.random.default_rng(0).random(len(batch[0])) < 0.15
    codes = np.minimum(bands.codes + older, len(bands.categories) - 1)
    aged = batch[0].assign(age=pd.Categorical.from_codes(codes, dtype=batch[0]["age"].dtype))
    found = [c.method for c in detect_data_drift(profile, aged, batch[1]).columns if c.column == "age" and c.drifted]
    assert Method.KOLMOGOROV_SMIRNOV in found


def test_columns_exchanged_between_encounters_are_found_together_only(profile: ReferenceProfile) -> None:
    """Two features that say the same in the reference: permuted, each on its own is what it was."""
    encounters, risk = draw(6000, seed=5)
    encounters["number_emergency"] = encounters["number_inpatient"]
    known, new = encounters.iloc[:6000], encounters.iloc[6000:8000].copy()
    linked = build_profile(
        known,
        risk=risk[:6000],
        unseen_risk=risk[:6000],
        patient_id=known["patient_id"].to_numpy(),
        policy=DriftPolicy(),
    )
    assert detect_data_drift(linked, new, risk[6000:8000]).drifted_together == []
    new["number_emergency"] = np.random.default_rng(0).permutation(new["number_emergency"])
    drift = detect_data_drift(linked, new, risk[6000:8000])
    assert drift.drifted == []
    found = {column.column: column.partner for column in drift.drifted_together}
    assert found == {"number_inpatient": "number_emergency", "number_emergency": "number_inpatient"}


def test_evidently_measures_the_same_and_shows_every_column(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]
) -> None:
    """A batch without drift: Evidently's distances are ours, and nothing is over its limit."""
    drift = detect_data_drift(profile, *batch)
    distances, html = evidently_page(profile, *batch)
    assert b"<html" in html[:1000]
    ours = (*drift.columns, *drift.prediction)
    compared = [column for column in ours if column.method in (Method.WASSERSTEIN, Method.JENSEN_SHANNON)]
    assert len(compared) == len(distances)
    for column in compared:
        assert column.score == pytest.approx(distances[column.column], abs=1e-9), column.column
        assert column.column.encode() in html
    assert drift.drifted == []
    assert drift.drifted_together == []
    assert drift.drifted_risk is None


def test_ten_rows_are_compared_with_wide_limits(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]
) -> None:
    drift = detect_data_drift(profile, batch[0].iloc[:10], batch[1][:10])
    assert drift.rows == 10
    assert drift.drifted == []
    assert drift.drifted_together == []


def test_a_large_batch_takes_little_memory_beside_its_own(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]
) -> None:
    """A million rows of 450 bytes; the copies of them that are compared are made and dropped part by part.

    `python -m benchmarks.drift --only cost` does the same with ten million.
    """
    rows = np.resize(np.arange(len(batch[0])), 1_000_000)
    encounters, risk = batch[0].iloc[rows].reset_index(drop=True), batch[1][rows]
    tracemalloc.start()
    drift = detect_data_drift(profile, encounters, risk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert drift.rows == 1_000_000
    assert peak < 150 * 2**20


def test_parts_of_a_large_batch_add_up(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = detect_data_drift(profile, *batch)
    monkeypatch.setattr(data_drift, "_CHUNK_ROWS", 300)
    assert detect_data_drift(profile, *batch) == whole


def _emptied(encounters: pd.DataFrame) -> pd.DataFrame:
    nullable = [c.field for c in FEATURE_COLUMNS if c.nullable]
    return encounters.assign(
        **{name: encounters[name].where(np.zeros(len(encounters), dtype=bool)) for name in nullable}
    )


def _constant(encounters: pd.DataFrame) -> pd.DataFrame:
    return encounters.iloc[np.zeros(len(encounters), dtype=int)].reset_index(drop=True)


@pytest.mark.parametrize("spoil", [_emptied, _constant])
def test_empty_and_constant_columns_are_drift_and_no_error(
    profile: ReferenceProfile,
    batch: tuple[pd.DataFrame, np.ndarray],
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    """Every score stays finite, as a reference of such columns does too."""
    spoiled = spoil(batch[0])
    drift = detect_data_drift(profile, spoiled, batch[1])
    assert drift.drifted
    assert all(np.isfinite(column.score) for column in (*drift.columns, *drift.joint))
    patient_id = batch[0]["patient_id"].to_numpy()
    odd = build_profile(spoiled, risk=batch[1], unseen_risk=batch[1], patient_id=patient_id, policy=DriftPolicy())
    assert detect_data_drift(odd, spoiled, batch[1]).drifted == []
    assert detect_data_drift(odd, batch[0], batch[1]).drifted


def test_a_column_that_vanished_is_named(profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]) -> None:
    with pytest.raises(KeyError, match="insulin"):
        detect_data_drift(profile, batch[0].drop(columns="insulin"), batch[1])


def test_a_new_column_is_left_alone(profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]) -> None:
    drift = detect_data_drift(profile, batch[0].assign(ward="B2"), batch[1])
    assert drift == detect_data_drift(profile, *batch)


def test_an_empty_batch_is_refused(profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]) -> None:
    with pytest.raises(NotEnoughData):
        detect_data_drift(profile, batch[0].iloc[:0], np.array([]))


def test_evidently_shows_columns_that_are_compared_by_other_methods(batch: tuple[pd.DataFrame, np.ndarray]) -> None:
    encounters, risk = draw(600, seed=1)
    policy = DriftPolicy(
        samples=100, count_methods=(Method.KOLMOGOROV_SMIRNOV,), category_methods=(Method.CHI_SQUARED,)
    )
    patients = encounters["patient_id"].to_numpy()
    profile = build_profile(encounters, risk=risk, unseen_risk=risk, patient_id=patients, policy=policy)
    distances, _ = evidently_page(profile, batch[0].head(300), batch[1][:300])
    assert distances.keys() == profile.columns.keys()
