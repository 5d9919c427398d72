"""Pseudonyms of patients, for what leaves the service that knows them.

A pseudonym is a keyed hash, so it tells nobody without the key who the patient is, and the same patient has the same one. It is
on the patient's own side (`healthpredict.data.split`): else a patient whose history is trained on could be tested on under the
pseudonym. This is all that it tells: one of three sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from healthpredict.data.split import ids_on_side, side_index

KEY_BYTES: Final = 32
_BLOCKS: Final = 2
"""Blocks of the cipher in a round. Each gives two hashes, and half of all hashes give an id, so one patient in sixteen needs
another round. Changing this, the cipher or the order of the bytes changes pseudonyms that were shipped."""


def pseudonyms(key: bytes, patient_ids: Sequence[int]) -> list[int]:
    """The pseudonym of each patient: positive, below 2**63, on the patient's side of the split.

    Args:
        key: secret, `KEY_BYTES` long.
        patient_ids: positive, below 2**63.
    """
    patients = np.array(patient_ids, dtype=np.int64)
    sides = side_index(patients)
    chosen = np.zeros_like(patients)
    left, block = np.arange(len(patients)), 0
    while len(left):
        candidates = ids_on_side(sides[left, None], _hashes(key, patients[left], block)).view(np.int64)
        rows = np.arange(len(left))
        chosen[left] = candidates[rows, (candidates > 0).argmax(axis=1)]
        left, block = left[chosen[left] <= 0], block + _BLOCKS
    pseudonyms: list[int] = chosen.tolist()
    return pseudonyms


def _hashes(key: bytes, patients: NDArray[np.int64], block: int) -> NDArray[np.uint64]:
    """Hashes of each patient, `(n, 2 * _BLOCKS)`: those of some blocks, from one on.

    A block is the cipher's of the patient and the number of the block. One call for all patients takes a fiftieth of the time of
    a digest for each.
    """
    words = np.empty((len(patients), _BLOCKS, 2), dtype="<u8")
    words[:, :, 0] = patients[:, None]
    words[:, :, 1] = np.arange(block, block + _BLOCKS)
    # All that this mode shows is which blocks are the same: those of one patient, who is to have one pseudonym.
    cipher = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305
    return np.frombuffer(cipher.update(words.tobytes()), dtype="<u8").reshape(len(patients), -1)
