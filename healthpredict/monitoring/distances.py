"""Distances between two distributions, from the counts of their values.

Every feature of this data set is discrete, so a distance needs only the counts of its values. A distance is 0 if nothing has
changed, and never negative.

If Evidently has a method, ours gives the same result, which a test checks. But it takes microseconds, and the null distribution
behind the drift limits needs hundreds of thousands of distances.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[Any]
Values = NDArray[Any]
"""The distinct values that are counted: ascending numbers, or categories."""

# No value that the contract allows begins with a round bracket.
MISSING: Final = "(missing)"
OTHER: Final = "(other)"
"""Values that the reference lacks, or that are too rare in it to be kept."""

SMALLEST_SPREAD: Final = 0.001
"""The Wasserstein distance is in units of the reference's standard deviation, or of this if it is larger (as in Evidently)."""
_BINS: Final = 10
_SMALLEST_SHARE: Final = 1e-4
"""In the population stability index, the share of an empty bin or category, by convention."""


class Method(StrEnum):
    """How a column is compared. Methods that Evidently has are named as there. Bundles contain these names: never rename them."""

    WASSERSTEIN = "wasserstein"
    JENSEN_SHANNON = "jensenshannon"
    ONE_CATEGORY = "jensenshannon of one category"
    KOLMOGOROV_SMIRNOV = "ks"
    CHI_SQUARED = "chisquare"
    PSI = "psi"
    MISSING = "missing share"
    UNSEEN = "unseen share"
    # Of the relations of a column to all others, see `healthpredict.monitoring.association`.
    ASSOCIATION = "association"
    ATTENUATION = "attenuation"


def wasserstein(values: Floats, reference: Counts, current: Counts) -> Floats:
    """Measure how far numbers have moved, in standard deviations of the reference.

    Args:
        values: the distinct values, ascending, shape (n_values,).
        reference: how often each value occurs in the reference, shape (..., n_values).
        current: the same for the current rows, shape (..., n_values); leading axes of both are broadcast.

    Returns:
        The first Wasserstein distance divided by the reference's standard deviation, see `SMALLEST_SPREAD`, shape (...).
    """
    weights = _shares(reference)
    mean = weights @ values
    spread = np.sqrt((weights * (values - mean[..., None]) ** 2).sum(axis=-1))
    difference = np.cumsum(_shares(current) - weights, axis=-1)[..., :-1]
    distance: Floats = np.abs(difference) @ np.diff(values) / np.maximum(spread, SMALLEST_SPREAD)
    return distance


def jensen_shannon(reference: Counts, current: Counts) -> Floats:
    """Measure how much the shares of categories have changed.

    Args:
        reference: how often each category occurs in the reference, shape (..., n_categories).
        current: the same for the current rows, shape (..., n_categories); leading axes of both are broadcast.

    Returns:
        The Jensen-Shannon distance with natural logarithms, from 0 to sqrt(ln 2) = .83, shape (...).
    """
    return _root(_divergences(_shares(reference), _shares(current)).sum(axis=-1))


def one_category(reference: Counts, current: Counts) -> Floats:
    """Return the largest of `category_distances`. In a sum over hundreds of categories, chance would hide a change of one."""
    distance: Floats = category_distances(reference, current).max(axis=-1)
    return distance


def category_distances(reference: Counts, current: Counts) -> Floats:
    """Return the `jensen_shannon` distance of each category against all others, shape (..., n_categories)."""
    p, q = _shares(reference), _shares(current)
    return _root(_divergences(p, q) + _divergences(1 - p, 1 - q))


def kolmogorov_smirnov(reference: Counts, current: Counts) -> Floats:
    """Return the largest difference (0-1) of the cumulative shares. Values ascend; shapes as `jensen_shannon`.

    In the Wasserstein distance, a few large numbers can hide a change of many small ones. Here they cannot.
    """
    difference: Floats = np.abs(np.cumsum(_shares(current) - _shares(reference), axis=-1)).max(axis=-1)
    return difference


def chi_squared(reference: Counts, current: Counts) -> Floats:
    """Return the root of Pearson's statistic divided by n m / (n + m). Arguments and shapes as `jensen_shannon`."""
    p, q = _shares(reference), _shares(current)
    n, m = (counts.sum(axis=-1, keepdims=True) for counts in (reference, current))
    pooled = (n * p + m * q) / (n + m)
    ratio = np.divide((p - q) ** 2, pooled, out=np.zeros_like(pooled), where=pooled > 0)
    return np.asarray(np.sqrt(ratio.sum(axis=-1)))


def psi(values: Values, reference: Counts, current: Counts) -> Floats:
    """Return the population stability index, in ten bins with equal shares of the reference. Shapes as `wasserstein`."""
    if np.issubdtype(values.dtype, np.number):
        reference, current = binned(reference, reference), binned(reference, current)
    p, q = (np.maximum(_shares(counts), _SMALLEST_SHARE) for counts in (reference, current))
    index: Floats = ((q - p) * np.log(q / p)).sum(axis=-1)
    return index


def binned(reference: Counts, counts: Counts) -> Counts:
    """Put counts of ascending numbers in at most ten bins of equal share of the reference, shape (..., 10)."""
    below = (np.cumsum(reference, axis=-1) - reference) / reference.sum(axis=-1, keepdims=True)
    bins = np.minimum((below * _BINS).astype(int), _BINS - 1)
    return np.stack([np.where(bins == number, counts, 0).sum(axis=-1) for number in range(_BINS)], axis=-1)


def _rise(category: str, values: Values, reference: Counts, current: Counts) -> Floats:
    """Return by how much the share of a category has risen (0-1); negative if it fell."""
    chosen = values == category
    rise: Floats = _shares(current)[..., chosen].sum(axis=-1) - _shares(reference)[..., chosen].sum(axis=-1)
    return rise


DISTANCES: Final[dict[Method, Callable[[Values, Counts, Counts], Floats]]] = {
    Method.WASSERSTEIN: wasserstein,
    Method.JENSEN_SHANNON: lambda _, reference, current: jensen_shannon(reference, current),
    Method.ONE_CATEGORY: lambda _, reference, current: one_category(reference, current),
    Method.KOLMOGOROV_SMIRNOV: lambda _, reference, current: kolmogorov_smirnov(reference, current),
    Method.CHI_SQUARED: lambda _, reference, current: chi_squared(reference, current),
    Method.PSI: psi,
    Method.MISSING: lambda *counted: np.abs(_rise(MISSING, *counted)),
    Method.UNSEEN: lambda *counted: np.maximum(_rise(OTHER, *counted), 0.0),
}
"""Values, counts of the reference and of the current rows (..., n_values) -> distance, shape (...)."""


def _shares(counts: Counts) -> Floats:
    shares: Floats = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def _divergences(p: Floats, q: Floats) -> Floats:
    """Return what each category adds to the Jensen-Shannon divergence of two distributions, shape (..., n_categories)."""
    middle = (p + q) / 2
    return (_relative_entropies(p, middle) + _relative_entropies(q, middle)) / 2


def _relative_entropies(p: Floats, q: Floats) -> Floats:
    """Return what each category adds to the relative entropy p log(p / q). An absent category adds nothing."""
    ratio = np.divide(p, q, out=np.ones(np.broadcast_shapes(p.shape, q.shape)), where=p > 0)
    entropies: Floats = p * np.log(ratio)
    return entropies


def _root(divergence: Floats) -> Floats:
    """Return the distance of a divergence, which rounding can make slightly negative for equal distributions."""
    distance: Floats = np.sqrt(np.maximum(divergence, 0))
    return distance
