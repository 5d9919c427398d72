"""How far a batch may be from the reference when nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from healthpredict.monitoring.distances import Floats, jensen_shannon, wasserstein

Codes = NDArray[np.intp]


def effective_size(rows: int, reference_rows: int) -> float:
    """The size of a sample that differs as much from its source as a batch differs from a reference by chance.

    The variances 1 / rows of the batch and 1 / reference_rows of the reference add.
    """
    return rows * reference_rows / (rows + reference_rows)


def null_distances(
    columns: Sequence[tuple[Codes, Floats | None]],
    patient_id: NDArray[np.int64],
    size: int,
    n_resamples: int,
    seed: int,
) -> Floats:
    """Draw samples of patients from the reference and measure their distances to it.

    Whole patients are drawn: encounters of one patient are alike, and drawing rows would make limits too narrow.

    Args:
        columns: for each column the codes of its values, 0 to n_values - 1, shape (n_rows,), and what the codes stand
            for, ascending, shape (n_values,), where they are numbers; None where they are categories.
        patient_id: shape (n_rows,).
        size: rows of a sample.
        n_resamples: how many samples.
        seed: of the draws.

    Returns:
        Shape (n_resamples, n_columns).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(patient_id, kind="stable")
    _, starts, lengths = np.unique(patient_id[order], return_index=True, return_counts=True)
    sizes = [int(codes.max()) + 1 for codes, _ in columns]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # One row of numbers per encounter, distinct over columns, so that one bincount counts every column.
    cells = np.stack([codes[order] + offset for (codes, _), offset in zip(columns, offsets, strict=False)], axis=1)
    counts = np.empty((n_resamples, offsets[-1]), dtype=np.int64)
    for sample in counts:
        # `size` patients have at least `size` encounters.
        drawn = rng.integers(len(starts), size=size)
        ends = np.cumsum(lengths[drawn])
        drawn = drawn[: np.searchsorted(ends, size) + 1]
        rows = np.repeat(starts[drawn] - ends[: len(drawn)] + lengths[drawn], lengths[drawn])
        rows += np.arange(len(rows))
        sample[:] = np.bincount(cells[rows[:size]].ravel(), minlength=offsets[-1])
    reference = np.bincount(cells.ravel(), minlength=offsets[-1])
    distances = [
        jensen_shannon(reference[a:b], counts[:, a:b])
        if values is None
        else wasserstein(values, reference[a:b], counts[:, a:b])
        for (_, values), (a, b) in zip(columns, pairwise(offsets), strict=True)
    ]
    return np.stack(distances, axis=1)


def family_limits(distances: Floats, false_alarm_rate: float) -> Floats:
    """Choose a limit for each column so that together they raise false alarms at the chosen rate.

    Every column gets the same chance of a false alarm: the largest for which the share of samples with any column at or
    over its limit is still within `false_alarm_rate` (min-p method: Westfall and Young 1993, "Resampling-Based
    Multiple Testing", section 2.3).

    Args:
        distances: under no change, shape (n_resamples, n_columns).
        false_alarm_rate: 0-1.

    Returns:
        The distances from which a column counts as drifted, shape (n_columns,).
    """
    n_resamples = len(distances)
    ordered = np.sort(distances, axis=0)
    # For each sample its most extreme column: how many samples are as far or farther out in that column.
    ranks = np.stack(
        [n_resamples - np.searchsorted(o, d, side="left") for o, d in zip(ordered.T, distances.T, strict=True)], axis=1
    )
    rarest = np.sort(ranks.min(axis=1))
    rank = max(int(rarest[int(false_alarm_rate * n_resamples)]) - 1, 1)
    # Where values tie, "at or over" would count too many: go just above the tie.
    limits: Floats = np.maximum(ordered[-rank], np.nextafter(ordered[-rank - 1], np.inf))
    return limits
