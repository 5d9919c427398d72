"""The null distribution: distances between a batch and the reference if nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from healthpredict.monitoring.distances import DISTANCES, Floats, Method, Values

Codes = NDArray[np.intp]

_LARGEST_SAMPLE = 0.4
"""As a share of the reference."""
_TAIL, _MIN_TAIL = 0.03, 15
"""A tail is fitted to this share of the samples, but at least to this number."""
_FOLDS = 10
"""Parts of the samples. Limits are chosen on each part with tails that were fitted to the others."""
_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class CodedColumn:
    """A column of the reference: codes of its rows, shape (n_rows,), and the ascending numbers or categories that they index."""

    codes: Codes
    values: Values
    methods: tuple[Method, ...]


def effective_size(rows: float, reference_rows: float) -> float:
    """Return the size of a sample that has the same sampling error as a batch and a reference together.

    The variances of the two, 1 / rows and 1 / reference_rows, add up.
    """
    return rows * reference_rows / (rows + reference_rows)


def null_samples(patient_id: NDArray[np.int64], size: int, n_samples: int, seed: int) -> Codes:
    """Draw samples of patients. Each sample is compared with all rows that are not in it.

    Whole patients are drawn (the last one is cut off at `size`), because encounters of one patient are similar: drawing rows would
    make limits too low. A sample is compared with the other rows only, because the patients of a batch are not in the reference
    either. Both sides have sampling errors, see `effective_size`.

    Args:
        patient_id: shape (n_rows,).
        size: rows of a sample, see `sample_size`.
        n_samples: how many.
        seed: of the draws.

    Returns:
        Rows of each sample, shape (n_samples, size). The first rows of a sample are a smaller sample.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(patient_id, kind="stable")
    _, starts, lengths = np.unique(patient_id[order], return_index=True, return_counts=True)

    def rows_of(patients: Codes) -> Codes:
        ends = np.cumsum(lengths[patients])
        rows = np.repeat(starts[patients] - ends + lengths[patients], lengths[patients])
        return order[rows + np.arange(len(rows))]

    # `size` patients have at least `size` encounters.
    patients = min(size, len(starts))
    return np.stack([rows_of(rng.choice(len(starts), patients, replace=False))[:size] for _ in range(n_samples)])


def sample_size(size: int, reference_rows: int) -> int:
    """Return the largest usable size of a sample. The rows that it is compared with must be the larger part."""
    return max(1, min(size, int(_LARGEST_SAMPLE * reference_rows)))


def null_distances(columns: Sequence[CodedColumn], samples: Codes, sizes: Sequence[int]) -> Floats:
    """Measure how far samples of the reference are from the rest of it.

    Args:
        columns: of the reference.
        samples: rows of the reference, see `null_samples`.
        sizes: rows of a sample, ascending, the last as many as were drawn.

    Returns:
        Shape (n_sizes, n_samples, n_distances): the methods of the first column, then those of the next.
    """
    offsets = np.concatenate([[0], np.cumsum([len(column.values) for column in columns])])
    # Codes that are distinct between columns, so that one bincount counts all of them.
    cells = np.stack([column.codes + offset for column, offset in zip(columns, offsets, strict=False)], axis=1)

    def count(rows: Codes) -> NDArray[np.intp]:
        return np.bincount(cells[rows].ravel(), minlength=offsets[-1])

    # A sample contains the smaller ones: only the rows that each size adds are counted.
    added = [[count(sample[a:b]) for sample in samples] for a, b in pairwise((0, *sizes))]
    counts = np.cumsum(added, axis=0)
    rest = np.bincount(cells.ravel(), minlength=offsets[-1]) - counts[-1]
    distances = [
        DISTANCES[method](column.values, rest[:, a:b], counts[..., a:b])
        for column, (a, b) in zip(columns, pairwise(offsets), strict=True)
        for method in column.methods
    ]
    return np.stack(distances, axis=-1)


def family_limits(distances: Floats, false_alarm_rate: float) -> Floats:
    """Choose a limit for each distance so that together they raise false alarms at the chosen rate.

    Every distance gets the same probability of a false alarm (min-p: Westfall and Young 1993, "Resampling-Based Multiple Testing",
    section 2.3). This probability is too small to be estimated from the samples directly, so the tail of each distance is
    extrapolated exponentially. The limits are chosen on samples that the tails were not fitted to. With the same samples, false
    alarms would be twice as frequent as chosen.

    Args:
        distances: under no change, shape (n_samples, n_distances).
        false_alarm_rate: 0-1.

    Returns:
        The smallest distances that count as drift, shape (n_distances,).
    """
    largest_excesses = []
    for held_out in np.array_split(np.arange(len(distances)), _FOLDS):
        start, scale = _tail(np.delete(distances, held_out, axis=0))
        largest_excesses.append(((distances[held_out] - start) / scale).max(axis=1))
    start, scale = _tail(distances)
    allowed_excess = np.quantile(np.concatenate(largest_excesses), 1 - false_alarm_rate, method="higher")
    # The next larger float, because a distance equal to its limit counts as drift.
    return np.asarray(np.nextafter(start + scale * allowed_excess, np.inf))


def _tail(distances: Floats) -> tuple[Floats, Floats]:
    """Return the start of the tail of each distance, and the mean excess over it."""
    n_tail = max(_MIN_TAIL, round(_TAIL * len(distances)))
    tail = np.sort(distances, axis=0)[-n_tail:]
    return tail[0], np.maximum((tail - tail[0]).mean(axis=0), _SMALLEST_SCALE)
