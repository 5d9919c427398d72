"""The side of a patient (train, validation or test), which never changes.

The side depends on the patient's id alone, so a patient is on one side in every batch and for every model version, and
champion and challenger can always be compared on patients that neither has seen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


class Side(StrEnum):
    """What the encounters of a patient may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


TRAIN_SHARE: Final = 0.70
VALIDATION_SHARE: Final = 0.15
"""The rest is the test side. Changing a share moves patients across sides and invalidates every earlier comparison."""
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def side_of(patient_id: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the `Side` of each patient.

    Args:
        patient_id: `(n,)`, positive.

    Returns:
        `(n,)` of "train", "validation" and "test", in shares of .70, .15 and .15 of the patients.
    """
    names = np.array([side.value for side in Side])
    sides: NDArray[np.str_] = names[side_index(patient_id)]
    return sides


def side_index(patient_id: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the index of each patient's side in `Side`. This is faster than `side_of`."""
    # The upper 53 bits are an exact double in [0, 1).
    position = (splitmix64(patient_id) >> np.uint64(11)) * 2.0**-53
    return (position >= TRAIN_SHARE).astype(np.intp) + (position >= TRAIN_SHARE + VALIDATION_SHARE)


def splitmix64(value: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the first output of the SplitMix64 generator seeded with each value: a hash that spreads neighbouring ids.

    Source: Steele, Lea, Flood 2014, doi 10.1145/2714064.2660195; Vigna, https://prng.di.unimi.it/splitmix64.c.
    """
    mixed = np.asarray(value).astype(np.uint64) + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
