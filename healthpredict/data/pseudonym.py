"""Pseudonyms of patients, for what leaves the service that knows them.

A pseudonym is a keyed hash, so it tells nobody without the key who the patient is, and the same patient has the same one. Of the
hashes of a patient the first is taken that is on the patient's own side (`healthpredict.data.split`): else a patient whose
history is trained on could be tested on under the pseudonym. This is all that it tells: one of three sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from struct import iter_unpack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from healthpredict.data.split import side_index, splitmix64

KEY_BYTES: Final = 32
_CANDIDATES: Final = 8
"""Hashes in one digest. A side of .15 is met among them in three of four cases, one of .70 nearly always."""
_MORE_OF_EACH: Final = 8
"""Made of each hash for those whose side was not met: among them it nearly always is."""


def pseudonyms(key: bytes, patient_ids: Sequence[int]) -> list[int]:
    """The pseudonym of each patient: positive, below 2**63, on the patient's side of the split.

    Args:
        key: secret, `KEY_BYTES` long.
        patient_ids: positive, below 2**63.
    """
    patients = np.array(patient_ids, dtype="<i8")
    sides = side_index(patients)
    hashes = _hashes(key, patients)
    chosen = np.zeros_like(patients)
    left, tried, more = np.arange(len(patients)), hashes, 0
    while len(left):
        candidates = (tried >> np.uint64(1)).astype(np.int64)
        fits = (side_index(candidates) == sides[left, None]) & (candidates > 0)
        found = fits.any(axis=1)
        chosen[left[found]] = candidates[found, fits[found].argmax(axis=1)]
        left = left[~found]
        # Made of the hash alone, they tell no more than it does; another digest would take much longer.
        others = np.arange(more, more + _MORE_OF_EACH, dtype=np.uint64)
        tried = splitmix64(hashes[left, :, None] + others).reshape(len(left), _CANDIDATES * _MORE_OF_EACH)
        more += _MORE_OF_EACH
    pseudonyms: list[int] = chosen.tolist()
    return pseudonyms


def _hashes(key: bytes, patients: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of each patient, `(n, _CANDIDATES)`: the words of one digest."""
    keyed = hashlib.blake2b(key=key)
    digests = []
    for (patient,) in iter_unpack("8s", patients.tobytes()):
        state = keyed.copy()  # less time than a new one
        state.update(patient)
        digests.append(state.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, _CANDIDATES)
