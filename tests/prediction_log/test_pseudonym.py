"""Pseudonyms: stable for ever, on the patient's side, and telling nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from healthpredict.data.split import side_of
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
    """Neither order nor company changes it: each call is a chunk of the log."""
    assert pseudonyms(key, patient_ids) == [pseudonyms(key, [patient_id])[0] for patient_id in patient_ids]


@settings(deadline=None)
@given(keys, keys, st.integers(min_value=1, max_value=2**63 - 1))
def test_another_key_gives_another_pseudonym(key: bytes, other: bytes, patient_id: int) -> None:
    assert (pseudonyms(key, [patient_id]) == pseudonyms(other, [patient_id])) == (key == other)


def test_pseudonym_never_changes() -> None:
    """Literal values: if this fails, every patient in a log that was shipped becomes another person."""
    known = {
        8222157: 5616081713909428329,
        55629189: 2698075542545008913,
        86047875: 3150109055095329600,
        6: 8113394451242771804,
        2**63 - 1: 8079764360058984605,
    }
    assert pseudonyms(KEY, list(known)) == list(known.values())


def test_patients_do_not_share_pseudonyms() -> None:
    patient_ids = list(range(1, 20_001))
    replaced = pseudonyms(KEY, patient_ids)
    assert len(set(replaced)) == len(patient_ids)
    assert set(replaced).isdisjoint(patient_ids)
