"""Pseudonyms never change, are on the patient's side, and reveal nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from healthpredict.data.split import side_of, splitmix64
from healthpredict.prediction_log.pseudonym import KEY_BYTES, pseudonyms

KEY = bytes(range(KEY_BYTES))
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
patients = st.lists(st.integers(min_value=1, max_value=2**63 - 1), max_size=30)


@settings(deadline=None)
@given(keys, patients)
def test_pseudonym_is_an_id_on_the_side_of_its_patient(key: bytes, patient_ids: list[int]) -> None:
    replaced = pseudonyms(key, patient_ids)
    assert all(0 < pseudonym < 2**63 for pseudonym in replaced)
    assert (
        side_of(np.array(replaced, dtype=np.int64)).tolist() == side_of(np.array(patient_ids, dtype=np.int64)).tolist()
    )


@settings(deadline=None)
@given(keys, patients)
def test_pseudonym_depends_on_patient_and_key_alone(key: bytes, patient_ids: list[int]) -> None:
    """Neither the order nor the other patients of a call matter: each call is one write of the log."""
    assert pseudonyms(key, patient_ids) == [pseudonyms(key, [patient_id])[0] for patient_id in patient_ids]


@settings(deadline=None)
@given(keys, keys, st.integers(min_value=1, max_value=2**63 - 1))
def test_another_key_gives_another_pseudonym(key: bytes, other: bytes, patient_id: int) -> None:
    assert (pseudonyms(key, [patient_id]) == pseudonyms(other, [patient_id])) == (key == other)


def test_pseudonym_never_changes() -> None:
    """Literal values: if this fails, no patient in a shipped log is recognised any more."""
    known = {
        8222157: 4955934276943683412,
        55629189: 4148446929669928509,
        86047875: 7772252492194372918,
        6: 2486208234114474691,
        2**63 - 1: 725673636133823349,
    }
    assert pseudonyms(KEY, list(known)) == list(known.values())


def test_patients_do_not_share_pseudonyms() -> None:
    patient_ids = list(range(1, 20_001))
    replaced = pseudonyms(KEY, patient_ids)
    assert len(set(replaced)) == len(patient_ids)
    assert set(replaced).isdisjoint(patient_ids)


def test_pseudonyms_are_spread_evenly() -> None:
    """Over all ids, and within their side, so they reveal nothing about a patient but the side."""
    patient_ids = np.arange(1, 20_001)
    replaced = np.array(pseudonyms(KEY, patient_ids.tolist()))
    found, _ = np.histogram(replaced, bins=10, range=(0, 2.0**63))
    assert np.abs(found / len(replaced) - 0.1).max() < 0.01
    positions = splitmix64(replaced[side_of(patient_ids) == "train"])
    found, _ = np.histogram(positions, bins=10, range=(0, 0.7 * 2.0**64))
    assert np.abs(found / len(positions) - 0.1).max() < 0.01
