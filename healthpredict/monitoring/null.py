"""How far a batch may be from the reference when nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from healthpredict.monitoring.distances import DISTANCES, Floats, Method, Values

Codes = NDArray[np.intp]

_SPLITS = 20
_LARGEST_SAMPLE = 0.4
_OFTEN = 4.0
_TAIL, _MIN_TAIL = 0.03, 15
"""The samples that a tail is fitted to: this share of them, and no fewer."""
_HALVINGS = 20


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


def effective_size(rows: float, reference_rows: float) -> float:
    """The size of a sample that differs as much from its source as a batch differs from a reference by chance.

    The variances 1 / rows of the batch and 1 / reference_rows of the reference add.
    """
    return rows * reference_rows / (rows + reference_rows)


@dataclass(frozen=True)
class Halves:
    """One half of the reference's patients, and samples of the other half.

    Attributes:
        known: rows of the half that is compared with, shape (n_known,).
        samples: rows of each sample, shape (n_samples, size); the first rows of one are a smaller sample.
    """

    known: Codes
    samples: Codes

    def first(self, n_samples: int) -> Halves:
        """Those of the samples that make `n_samples` over all halves."""
        return Halves(self.known, self.samples[: ceil(n_samples / _SPLITS)])


def null_samples(patient_id: NDArray[np.int64], size: int, n_samples: int, seed: int) -> list[Halves]:
    """Draw samples of patients whom what they are compared with has not.

    Whole patients are drawn: encounters of one patient are alike, and drawing rows would make limits too narrow. No patient is on
    both sides: samples of the compared rows themselves never show a value or a patient that the reference lacks, as batches do.

    Args:
        patient_id: shape (n_rows,).
        size: rows of a sample, see `sample_size`.
        n_samples: how many in all, at least.
        seed: of the draws.

    Returns:
        `_SPLITS` halves of patients by chance, each with its share of the samples.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(patient_id, kind="stable")
    _, starts, lengths = np.unique(patient_id[order], return_index=True, return_counts=True)

    def rows_of(patients: Codes) -> Codes:
        ends = np.cumsum(lengths[patients])
        rows = np.repeat(starts[patients] - ends + lengths[patients], lengths[patients])
        return order[rows + np.arange(len(rows))]

    drawn = []
    for _ in range(_SPLITS):
        known, others = np.array_split(rng.permutation(len(starts)), 2)
        # `size` patients have at least `size` encounters.
        patients = min(size, len(others))
        samples = [rows_of(rng.choice(others, patients, replace=False)) for _ in range(ceil(n_samples / _SPLITS))]
        drawn.append(Halves(rows_of(known), np.stack([np.resize(sample, size) for sample in samples])))
    return drawn


def sample_size(size: int, reference_rows: int) -> int:
    """The size that samples can have: half of the patients must hold it."""
    return max(1, min(size, int(_LARGEST_SAMPLE * reference_rows)))


def null_distances(columns: Sequence[CodedColumn], drawn: Sequence[Halves], sizes: Sequence[int]) -> Floats:
    """Measure how far samples of some patients of the reference are from others.

    Args:
        columns: of the reference.
        drawn: samples of the reference, see `null_samples`.
        sizes: rows of a sample, ascending, at most those that were drawn.

    Returns:
        Shape (n_sizes, n_samples, n_distances): the methods of the first column, then those of the next.
    """
    offsets = np.concatenate([[0], np.cumsum([len(column.values) for column in columns])])
    # Numbers that are distinct over columns, so that one bincount counts every column.
    cells = np.stack([column.codes + offset for column, offset in zip(columns, offsets, strict=False)], axis=1)

    def count(rows: Codes) -> NDArray[np.intp]:
        return np.bincount(cells[rows].ravel(), minlength=offsets[-1])

    parts = []
    for halves in drawn:
        reference = count(halves.known)
        # A sample holds the smaller ones: only the rows that each size adds are counted.
        added = [[count(sample[a:b]) for sample in halves.samples] for a, b in pairwise((0, *sizes))]
        counts = np.cumsum(added, axis=0)
        distances = [
            DISTANCES[method](column.values, reference[a:b], counts[..., a:b])
            for column, (a, b) in zip(columns, pairwise(offsets), strict=True)
            for method in column.methods
        ]
        parts.append(np.stack(distances, axis=-1))
    return np.concatenate(parts, axis=1)


def family_limits(distances: Floats, false_alarm_rate: float) -> Floats:
    """Choose a limit for each distance so that together they raise false alarms at the chosen rate.

    Every distance gets the same chance of a false alarm (min-p: Westfall and Young 1993, "Resampling-Based Multiple Testing",
    section 2.3). It is found where the samples show it well, at `_OFTEN` times the rate, and divided; so small a chance lies
    beyond the samples, where the tail of a distance is taken to fall exponentially, no slower than it does.

    Args:
        distances: under no change, shape (n_resamples, n_distances).
        false_alarm_rate: 0-1.

    Returns:
        What counts as drift from there on, shape (n_distances,).
    """
    n_resamples = len(distances)
    n_tail = max(_MIN_TAIL, round(_TAIL * n_resamples))
    tail = np.sort(distances, axis=0)[-n_tail:]
    start = tail[0]
    scale = (tail - start).mean(axis=0)

    def limits(chance: float) -> Floats:
        # Just above, because at a tie "at or over" would count too many.
        beyond = np.log(max(n_tail / (chance * n_resamples), 1.0))
        return np.asarray(np.nextafter(start + scale * beyond, np.inf))

    low, high = 0.0, n_tail / n_resamples
    often = min(_OFTEN * false_alarm_rate, 0.5)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = (distances >= limits(middle)).any(axis=1).mean() <= often
        low, high = (middle, high) if within else (low, middle)
    return limits(high * false_alarm_rate / often)
