"""A bootstrap that resamples patients, not encounters.

The encounters of one patient are not independent (Field & Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.interval import Floats

_CHUNK = 500_000
"""Number of bootstrap weights in memory at a time: 4 MB, which fit into a core's cache. With 160 MB, it takes twice as long."""


def bootstrap_weights(patient_id: NDArray[np.int64], n_bootstrap: int, seed: int) -> Iterator[Floats]:
    """Resample patients, and yield how often each encounter is drawn, in chunks of shape (some resamples, n_encounters)."""
    _, patient = np.unique(patient_id, return_inverse=True)
    n_patients = int(patient.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(patient_id))
    for start in range(0, n_bootstrap, step):
        draws = rng.integers(0, n_patients, (min(step, n_bootstrap - start), n_patients))
        counts = np.stack([np.bincount(draw, minlength=n_patients) for draw in draws])
        yield counts[:, patient].astype(np.float64)


def group_equal(*codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group encounters that have the same codes.

    Args:
        codes: whole numbers from 0 on, each of shape (n_encounters,).

    Returns:
        The first encounter of each group, shape (n_groups,), and the group of each encounter, shape (n_encounters,).
    """
    combined = np.zeros(len(codes[0]), dtype=np.int64)
    for code in codes:
        combined = combined * (int(code.max(initial=0)) + 1) + code
    _, first, group = np.unique(combined, return_index=True, return_inverse=True)
    return first, group


def bootstrap_sums(
    group: NDArray[np.intp], terms: Sequence[Floats], patient_id: NDArray[np.int64], n_bootstrap: int, seed: int = 0
) -> Floats:
    """Resample patients, and sum each term over the drawn encounters of each group.

    Args:
        group: number of each encounter's group, shape (n_encounters,).
        terms: each of shape (n_encounters,). A term of ones counts the encounters.
        patient_id: shape (n_encounters,).
        n_bootstrap: resamples.
        seed: of the resampling.

    Returns:
        shape (n_bootstrap, n_terms, n_groups).
    """
    chunks = bootstrap_weights(patient_id, n_bootstrap, seed)
    return np.array([[np.bincount(group, weights * term) for term in terms] for chunk in chunks for weights in chunk])
