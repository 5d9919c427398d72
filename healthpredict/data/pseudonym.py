"""Pseudonyms of patients, for what leaves the service that knows them.

A pseudonym is a keyed hash, so it tells nobody without the key who the patient is, and the same patient has the same one. Of the
hashes of a patient the first is taken that is on the patient's own side (`healthpredict.data.split`): else a patient whose
history is trained on could be tested on under the pseudonym. This is all that it tells: one of three sides.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from healthpredict.data.split import TRAIN_SHARE, VALIDATION_SHARE

KEY_BYTES: Final = 32
_MASK: Final = 2**64 - 1
_BORDERS: Final = tuple(share * 2**53 for share in (TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE))
_CANDIDATES: Final = struct.Struct("<8Q")


def pseudonym(key: bytes, patient_id: int) -> int:
    """The pseudonym of a patient: positive, below 2**63, on the patient's side of the split.

    Args:
        key: secret, `KEY_BYTES` long.
        patient_id: positive, below 2**63.
    """
    side = _side(patient_id)
    return next(candidate for candidate in _candidates(key, patient_id) if candidate and _side(candidate) == side)


def _candidates(key: bytes, patient_id: int) -> Iterator[int]:
    """Keyed hashes without end; a side that holds .15 of all is met within the first eight in three of four cases."""
    attempt = 0
    while True:
        digest = hashlib.blake2b(b"%d.%d" % (patient_id, attempt), key=key).digest()
        for value in _CANDIDATES.unpack(digest):
            yield value >> 1
        attempt += 1


def _side(value: int) -> int:
    """The side of one id, as `healthpredict.data.split.side_of` finds it for many."""
    mixed = (value + 0x9E3779B97F4A7C15) & _MASK
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & _MASK
    position = (mixed ^ (mixed >> 31)) >> 11
    return (position >= _BORDERS[0]) + (position >= _BORDERS[1])
