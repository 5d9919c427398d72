"""Data drift: planted shifts are found, odd batches do not break the check, and the numbers are Evidently's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_hospital import distances_to, draw

from healthpredict.errors import NotEnoughData
from healthpredict.monitoring.data_drift import DataDrift, detect_data_drift
from healthpredict.monitoring.profile import RISK, ReferenceProfile


@pytest.fixture(scope="module")
def batch() -> tuple[pd.DataFrame, np.ndarray]:
    return draw(1000, seed=3)


@pytest.fixture(scope="module")
def planted(profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]) -> tuple[DataDrift, bytes]:
    """One batch with a shift of each kind."""
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


def test_planted_shifts_are_found(planted: tuple[DataDrift, bytes]) -> None:
    """Moved numbers, changed shares, a new category, more missing values, nothing but missing values, a constant."""
    drift, _ = planted
    assert {column.column for column in drift.drifted} == PLANTED
    assert drift.drifted_share == pytest.approx(len(PLANTED) / len(drift.columns))
    assert drift.prediction.column == RISK
    assert drift.prediction.drifted


def test_the_farthest_over_its_limit_comes_first(planted: tuple[DataDrift, bytes]) -> None:
    excess = [column.distance / column.limit for column in planted[0].drifted]
    assert excess == sorted(excess, reverse=True)
    assert planted[0].drifted[0].column == "diag_3"


def test_it_survives_json(planted: tuple[DataDrift, bytes]) -> None:
    assert DataDrift.model_validate_json(planted[0].model_dump_json()) == planted[0]


def test_the_page_shows_every_column(planted: tuple[DataDrift, bytes]) -> None:
    drift, html = planted
    assert b"<html" in html[:1000]
    for column in (*drift.columns, drift.prediction):
        assert column.column.encode() in html


def test_evidently_measures_what_the_limits_were_drawn_with(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]
) -> None:
    """A batch without drift: Evidently's distances are those of `distances`, and no column is over its limit."""
    drift, _ = detect_data_drift(profile, *batch)
    expected = distances_to(profile, *batch, np.zeros(len(batch[0]), dtype=int)).iloc[0]
    for column in (*drift.columns, drift.prediction):
        assert column.distance == pytest.approx(expected[column.column], abs=1e-9), column.column
    assert drift.drifted == []
    assert not drift.prediction.drifted


def test_ten_rows_are_compared_with_wide_limits(
    profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]
) -> None:
    drift, _ = detect_data_drift(profile, batch[0].iloc[:10], batch[1][:10])
    assert drift.rows == 10
    assert drift.drifted == []


def test_an_empty_batch_is_refused(profile: ReferenceProfile, batch: tuple[pd.DataFrame, np.ndarray]) -> None:
    with pytest.raises(NotEnoughData):
        detect_data_drift(profile, batch[0].iloc[:0], np.array([]))
