"""What a reference profile contains, and how often its limits raise false alarms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_hospital import draw

from healthpredict.data.contract import AGE_BANDS, FEATURE_COLUMNS
from healthpredict.errors import NotEnoughData
from healthpredict.monitoring.data_drift import detect_data_drift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.null import CodedColumn, family_limits, null_distances, null_samples
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import RISK, ReferenceProfile, build_profile

Reference = tuple[pd.DataFrame, np.ndarray]


def test_it_covers_every_feature_and_the_risk(profile: ReferenceProfile, reference: Reference) -> None:
    """Each column's counts add up to the reference's rows."""
    assert list(profile.columns) == [*(column.field for column in FEATURE_COLUMNS), RISK]
    assert {sum(column.counts.values()) for column in profile.columns.values()} == {len(reference[0])}


def test_it_survives_json(profile: ReferenceProfile) -> None:
    assert ReferenceProfile.model_validate_json(profile.model_dump_json()) == profile


def test_rare_categories_are_pooled_and_missing_values_counted(reference: Reference) -> None:
    encounters, risk = reference[0].iloc[:100].copy(), reference[1][:100]
    encounters["diag_1"] = pd.Series(["250"] * 90 + ["V57"] * 6 + [np.nan] * 4, dtype="str")
    profile = build_profile(
        encounters, risk=risk, unseen_risk=risk, patient_id=encounters["patient_id"].to_numpy(), policy=DriftPolicy()
    )
    assert profile.columns["diag_1"].counts == {"(missing)": 4, "(other)": 6, "250": 90}


def test_bands_of_age_are_counted_in_their_order(profile: ReferenceProfile) -> None:
    """Their cumulative shares are compared."""
    bands = [band for band in profile.columns["age"].counts if not band.startswith("(")]
    assert bands == [band for band in AGE_BANDS if band in bands]
    assert len(bands) > 5


def test_an_empty_reference_is_refused(reference: Reference) -> None:
    with pytest.raises(NotEnoughData):
        build_profile(
            reference[0].iloc[:0],
            risk=np.array([]),
            unseen_risk=np.array([]),
            patient_id=np.array([], dtype=np.int64),
            policy=DriftPolicy(),
        )


def test_larger_batches_have_narrower_limits(profile: ReferenceProfile) -> None:
    for name, column in profile.columns.items():
        joint = [Method.ASSOCIATION] if name in profile.associations.limits else []
        for method in (*column.limits, *joint):
            limits = [profile.limit(name, method, rows) for rows in (10, 100, 1000, 10_000)]
            assert limits == sorted(limits, reverse=True), (name, method)


def test_more_alike_patients_widen_the_limits() -> None:
    """Four equal encounters a patient hold as much as one: the limit is that of a quarter of the rows."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 2000)
    column = CodedColumn(codes, np.array(["a", "b"]), (Method.JENSEN_SHANNON,))
    repeated = replace(column, codes=np.repeat(codes, 4))
    patients = np.arange(2000)
    once = null_distances([column], null_samples(patients, 400, 500, seed=0), [400])
    fourfold = null_distances([repeated], null_samples(np.repeat(patients, 4), 400, 500, seed=0), [400])
    assert fourfold.mean() / once.mean() == pytest.approx(2, rel=0.15)


def test_limits_hold_the_rate_over_all_columns() -> None:
    """About the chosen share of fresh samples has any column at or over its limit, although there are 40 columns."""
    rng = np.random.default_rng(0)
    limits = family_limits(rng.exponential(size=(1000, 40)), 0.1)
    any_over = (rng.exponential(size=(20_000, 40)) >= limits).any(axis=1).mean()
    assert 0.06 < any_over < 0.14


def test_ties_do_not_raise_alarms() -> None:
    distances = np.tile([[0.0, 0.3], [0.0, 0.3], [0.0, 0.1], [0.0, 0.2]], (100, 1))
    assert not (distances >= family_limits(distances, 0.05)).any()


def test_samples_hold_whole_patients_and_no_row_twice() -> None:
    """All encounters of every drawn patient but the last are in the sample, so none of them is in what it is compared with."""
    patients = np.random.default_rng(0).integers(0, 500, 2000)
    samples = null_samples(patients, 300, 100, seed=0)
    assert samples.shape == (100, 300)
    for sample in samples:
        assert len(set(sample)) == 300
        drawn = list(dict.fromkeys(patients[sample]))
        assert np.isin(patients[sample], drawn[:-1]).sum() == np.isin(patients, drawn[:-1]).sum()


def test_values_that_a_new_sample_will_have_are_expected(reference: Reference) -> None:
    """Ten encounters have a value that just is not rare: in a new sample as many will have one that is."""
    encounters, risk = reference[0].iloc[:100].copy(), reference[1][:100]
    encounters["diag_1"] = pd.Series(["250"] * 80 + ["V57"] * 10 + ["428"] * 6 + [np.nan] * 4, dtype="str")
    profile = build_profile(
        encounters, risk=risk, unseen_risk=risk, patient_id=encounters["patient_id"].to_numpy(), policy=DriftPolicy()
    )
    assert profile.columns["diag_1"].counts["(other)"] == 16


def test_false_alarms_on_batches_without_drift_are_as_rare_as_chosen(profile: ReferenceProfile) -> None:
    """Of 200 new batches of the same hospital, about 5 % raise any alarm (99.9 % binomial interval)."""
    n_batches, patients = 200, 300
    encounters, risk = draw(n_batches * patients, seed=2)
    batch = (encounters["patient_id"].to_numpy() - 2_000_000) // patients
    alarms = 0
    for number in range(n_batches):
        rows = batch == number
        drift = detect_data_drift(profile, encounters[rows], risk[rows])
        alarms += bool(drift.drifted or drift.drifted_together or drift.drifted_risk)
    assert 0.01 < alarms / n_batches < 0.11
