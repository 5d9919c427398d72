"""Pseudonyms of patients, for what leaves the service that knows them.

A pseudonym is an HMAC of the patient, so nobody without the key can tell who the patient is, and a patient always has the same one.
It is on the patient's own side (`healthpredict.data.split`). Otherwise a patient whose history is trained on could be tested on
under the pseudonym. The side is all that it reveals.

A pseudonym has 63 bits, so the probability that any two of a million patients share one is below 1e-6.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

import numpy as np

from healthpredict.data.contract import LARGEST_ID
from healthpredict.data.split import side_index

KEY_BYTES: Final = 32


def pseudonyms(key: bytes, patient_ids: Sequence[int]) -> list[int]:
    """Return the pseudonym of each patient: positive, below 2**63, on the patient's side of the split.

    It is the first number on that side among the HMACs of the patient with 0, 1, 2 and so on. Changing this changes pseudonyms that
    were shipped.

    Args:
        key: secret, `KEY_BYTES` long.
        patient_ids: positive, below 2**63.
    """
    patients = np.array(patient_ids, dtype=np.int64)
    sides = side_index(patients)
    found = np.zeros_like(patients)
    draw = 0
    while len(left := np.flatnonzero(found == 0)):
        digests = [hmac.digest(key, b"%d %d" % (patient, draw), "sha256") for patient in patients[left].tolist()]
        drawn = np.array([int.from_bytes(digest[:8], "big") & LARGEST_ID for digest in digests])
        found[left] = np.where(side_index(drawn) == sides[left], drawn, 0)
        draw += 1
    pseudonyms: list[int] = found.tolist()
    return pseudonyms
