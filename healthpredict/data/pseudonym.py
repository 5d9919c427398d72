"""Pseudonyms of patients, for what leaves the service that knows them.

A pseudonym is a keyed hash, so it tells nobody without the key who the patient is, and the same patient has the same one. Of the
hashes of a patient the first is taken that is on the patient's own side (`healthpredict.data.split`): else a patient whose
history is trained on could be tested on under the pseudonym. This is all that it tells: one of three sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from healthpredict.data.split import side_index

KEY_BYTES: Final = 32
_CANDIDATES: Final = 8
"""Hashes in one digest. A side of .15 is met among them in three of four cases, one of .70 nearly always."""
_DIGESTS_MORE: Final = 4
"""For those whose side was not met in one: among them it nearly always is, and a look at a few takes as long as at many."""


def pseudonyms(key: bytes, patient_ids: Sequence[int]) -> list[int]:
    """The pseudonym of each patient: positive, below 2**63, on the patient's side of the split.

    Args:
        key: secret, `KEY_BYTES` long.
        patient_ids: positive, below 2**63.
    """
    patients = np.array(patient_ids, dtype=np.int64)
    sides = side_index(patients)
    chosen = np.zeros_like(patients)
    attempts, left = range(1), np.arange(len(patients))
    while len(left):
        candidates = _hashes(key, patients[left].tolist(), attempts)
        fits = (side_index(candidates) == sides[left, None]) & (candidates > 0)
        found = fits.any(axis=1)
        chosen[left[found]] = candidates[found, fits[found].argmax(axis=1)]
        attempts, left = range(attempts.stop, attempts.stop + _DIGESTS_MORE), left[~found]
    pseudonyms: list[int] = chosen.tolist()
    return pseudonyms


def _hashes(key: bytes, patient_ids: Sequence[int], attempts: range) -> NDArray[np.int64]:
    """The candidates of each patient in these digests, `(n, _CANDIDATES * len(attempts))`, below 2**63."""
    keyed = hashlib.blake2b(key=key)
    digests = []
    for patient_id in patient_ids:
        for attempt in attempts:
            state = keyed.copy()  # half the time of a new one
            state.update(b"%d.%d" % (patient_id, attempt))
            digests.append(state.digest())
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").reshape(len(patient_ids), -1)
    return (hashes >> np.uint64(1)).astype(np.int64)
