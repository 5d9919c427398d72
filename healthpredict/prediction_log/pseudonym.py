"""Pseudonyms of patients, for data that leaves the API.

A pseudonym is an HMAC of the patient id. So nobody without the key can identify the patient, and a patient always has the same one.
A pseudonym is on the same side of the split as its patient (`healthpredict.data.split`). Otherwise, a model could be trained on the
patient and tested on the pseudonym. The side is all that a pseudonym reveals.

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

    It is the first number on that side among the HMACs of the patient with 0, 1, 2 and so on. If this changed, a patient would
    have other pseudonyms than in data that was shipped.

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
