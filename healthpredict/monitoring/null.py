"""How far a batch may be from the reference when nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from healthpredict.monitoring.distances import DISTANCES, Floats, Method, Values

Codes = NDArray[np.intp]


@dataclass(frozen=True)
class CodedColumn:
    """A column of the reference.

    Attributes:
        codes: of its values, 0 to n_values - 1, shape (n_rows,).
        values: what the codes stand for, shape (n_values,): numbers, ascending, or categories.
        methods: how it is compared.
    """

    codes: Codes
    values: Values
    methods: tuple[Method, ...]


def effective_size(rows: int, reference_rows: int) -> float:
    """The size of a sample that differs as much from its source as a batch differs from a reference by chance.

    The variances 1 / rows of the batch and 1 / reference_rows of the reference add.
    """
    return rows * reference_rows / (rows + reference_rows)


def patient_samples(patient_id: NDArray[np.int64], size: int, n_samples: int, seed: int) -> Iterator[Codes]:
    """Draw samples of patients from the reference, with replacement.

    Whole patients are drawn: encounters of one patient are alike, and drawing rows would make limits too narrow.

    Args:
        patient_id: shape (n_rows,).
        size: rows of a sample.
        n_samples: how many.
        seed: of the draws.

    Yields:
        The rows of a sample, shape (size,).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(patient_id, kind="stable")
    _, starts, lengths = np.unique(patient_id[order], return_index=True, return_counts=True)
    for _ in range(n_samples):
        # `size` patients have at least `size` encounters.
        drawn = rng.integers(len(starts), size=size)
        ends = np.cumsum(lengths[drawn])
        drawn = drawn[: np.searchsorted(ends, size) + 1]
        rows = np.repeat(starts[drawn] - ends[: len(drawn)] + lengths[drawn], lengths[drawn])
        yield order[(rows + np.arange(len(rows)))[:size]]


def null_distances(
    columns: Sequence[CodedColumn], patient_id: NDArray[np.int64], size: int, n_resamples: int, seed: int
) -> Floats:
    """Measure how far samples of the reference's patients are from the reference.

    Args:
        columns: of the reference.
        patient_id: shape (n_rows,).
        size: rows of a sample.
        n_resamples: how many samples.
        seed: of the draws.

    Returns:
        Shape (n_resamples, n_distances): the methods of the first column, then those of the next.
    """
    offsets = np.concatenate([[0], np.cumsum([len(column.values) for column in columns])])
    # Numbers that are distinct over columns, so that one bincount counts every column.
    cells = np.stack([column.codes + offset for column, offset in zip(columns, offsets, strict=False)], axis=1)
    counts = np.empty((n_resamples, offsets[-1]), dtype=np.int64)
    for sample, rows in zip(counts, patient_samples(patient_id, size, n_resamples, seed), strict=True):
        sample[:] = np.bincount(cells[rows].ravel(), minlength=offsets[-1])
    reference = np.bincount(cells.ravel(), minlength=offsets[-1])
    distances = [
        DISTANCES[method](column.values, reference[a:b], counts[:, a:b])
        for column, (a, b) in zip(columns, pairwise(offsets), strict=True)
        for method in column.methods
    ]
    return np.stack(distances, axis=1)


def family_limits(distances: Floats, false_alarm_rate: float) -> Floats:
    """Choose a limit for each distance so that together they raise false alarms at the chosen rate.

    Every distance gets the same chance of a false alarm: the largest for which the share of samples with any distance at or
    over its limit is still within `false_alarm_rate` (min-p method: Westfall and Young 1993, "Resampling-Based
    Multiple Testing", section 2.3). Between two samples the limit is interpolated.

    Args:
        distances: under no change, shape (n_resamples, n_distances).
        false_alarm_rate: 0-1.

    Returns:
        What counts as drift from there on, shape (n_distances,).
    """
    farthest_first = np.sort(distances, axis=0)[::-1]

    def limits(rank: float) -> Floats:
        above = int(rank)
        outer, inner = farthest_first[above - 1], farthest_first[above]
        # Where values tie, "at or over" would count too many: stay above the tie.
        return np.asarray(np.maximum(outer + (rank - above) * (inner - outer), np.nextafter(inner, np.inf)))

    low, high = 1.0, float(len(distances) - 1)
    while high - low > 0.01:
        middle = (low + high) / 2
        within = (distances >= limits(middle)).any(axis=1).mean() <= false_alarm_rate
        low, high = (middle, high) if within else (low, middle)
    return limits(low)
