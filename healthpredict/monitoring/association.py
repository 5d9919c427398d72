"""Joint drift: whether the relations between features have changed, even if each feature on its own looks the same.

Each feature is divided into a few bins. The relation of two bins is their phi coefficient, the correlation of the two indicators.
A feature has drifted if its coefficients with the bins of all other features differ by more than chance. Two kinds are measured:
differences in any direction (association), and a shift of all coefficients towards or away from zero (attenuation). Mixed-up
records shift them towards zero. That is detected even if each single difference is within chance.

This measures in closed form what a classifier of "batch or reference" could learn from pairs of features, so that limits that
need a thousand evaluations take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from threadpoolctl import threadpool_limits

from healthpredict.monitoring.distances import Floats, Method
from healthpredict.monitoring.null import Codes

Indicators = NDArray[np.float32]
"""1 if the row is in the bin, otherwise 0, shape (n_rows, n_bins)."""
JOINT_METHODS: Final = (Method.ASSOCIATION, Method.ATTENUATION)
"""The methods of joint drift."""
MIN_SHARE: Final = 0.05
"""Rarer bins carry little information, and a pair of rare bins could identify a person."""
MIN_PAIR_SHARE: Final = 0.005
"""Smallest product of the shares of two bins that are compared: one patient with many encounters would change a rarer pair a
lot."""
_MIN_PHI_IN_ERRORS: Final = 5.0
"""Smallest coefficient that counts as a relation, in standard errors. Among thousands of pairs, smaller ones may be chance, and
would seem to weaken in any batch."""
_QUANTILES: Final = (0.2, 0.4, 0.6, 0.8)
_LEVELS: Final = 8
"""Number of categories that have a bin of their own, the most frequent ones. All others share one bin."""
_DECIMALS: Final = 3
"""Decimals of the coefficients that are stored: finer than chance in 100,000 rows."""


class AssociationProfile(BaseModel):
    """The relations between the features of the reference, without any patient.

    Attributes:
        edges: column of numbers -> upper ends of its bins; one more bin holds all larger numbers.
        levels: column of categories -> those with a bin of their own; one more bin holds the others.
        cells: indices of the bins that are frequent enough to be compared, shape (n_cells,). The bins of `edges` come first, then
            those of `levels`.
        shares: of those bins in the reference (0-1), shape (n_cells,).
        phi: their coefficients below the diagonal, row by row.
        min_phi: coefficients of at least this size, positive or negative, are relations that can weaken.
        limits: column -> method -> for each sample size of the reference profile, the distance that counts as drift.
    """

    model_config = ConfigDict(frozen=True)

    edges: dict[str, tuple[float, ...]]
    levels: dict[str, tuple[str, ...]]
    cells: tuple[int, ...]
    shares: tuple[float, ...]
    phi: tuple[float, ...]
    min_phi: float
    limits: dict[str, dict[Method, tuple[float, ...]]]


class Associations:
    """Compares frames, as `comparable` returns them, with a profile."""

    def __init__(self, profile: AssociationProfile) -> None:
        """Args: profile, of the reference; its limits are not used."""
        self._bins: dict[str, tuple[float, ...] | tuple[str, ...]] = {**profile.edges, **profile.levels}
        self._cells = np.array(profile.cells, dtype=np.intp)
        self._shares = np.array(profile.shares)
        all_columns = np.repeat(np.arange(len(self._bins)), [len(bins) + 1 for bins in self._bins.values()])
        present, self._starts, column_of_cell = np.unique(
            all_columns[self._cells], return_index=True, return_inverse=True
        )
        n_cells = len(column_of_cell)
        self.columns = [list(self._bins)[i] for i in present]
        self._phi = np.zeros((n_cells, n_cells))
        self._phi[np.tril_indices(n_cells, -1)] = profile.phi
        self._phi += self._phi.T
        other_column = column_of_cell[:, None] != column_of_cell
        self._compared = other_column & (np.outer(self._shares, self._shares) >= MIN_PAIR_SHARE)
        related = np.where(self._compared & (np.abs(self._phi) >= profile.min_phi), self._phi, 0.0)
        squares = self._by_pair(related**2).sum(axis=1)[column_of_cell, None]
        # Weights of a least-squares slope. The weighted sum of the differences is 0 if nothing has changed, and -1 if no
        # relation is left.
        self._slope_weights = np.divide(related, squares, out=np.zeros_like(related), where=squares > 0)

    def products(self, frame: pd.DataFrame) -> Floats:
        """Return the number of rows in each pair of bins, shape (n_cells, n_cells). Those of the parts of a batch add up."""
        indicators = _indicators(frame, self._bins)[:, self._cells]
        with _one_thread():
            return (indicators.T @ indicators).astype(np.float64)

    def coefficients(self, products: Floats, rows: int) -> Floats:
        """Return the phi coefficients of `rows` rows with these `products`, shape (n_cells, n_cells)."""
        return _coefficients(products / rows, self._shares)

    def pair_changes(self, phi: Floats, reference: Floats | None = None) -> dict[Method, Floats]:
        """Return how much each pair of columns contributes to the `distances`.

        Args:
            phi: coefficients of the rows to compare.
            reference: coefficients to compare with; by default those of the profile.

        Returns:
            Each of shape (n_columns, n_columns) in the order of `columns`; 0 for a column with itself.
        """
        difference = np.where(self._compared, phi - (self._phi if reference is None else reference), 0.0)
        return {
            Method.ASSOCIATION: self._by_pair(difference**2),
            Method.ATTENUATION: self._by_pair(difference * self._slope_weights),
        }

    def _by_pair(self, cells: Floats) -> Floats:
        """Sum over the cells of each pair of columns, shape (n_columns, n_columns)."""
        return np.asarray(np.add.reduceat(np.add.reduceat(cells, self._starts, axis=0), self._starts, axis=1))


def distances(pair_changes: dict[Method, Floats]) -> dict[Method, Floats]:
    """Return two distances from the reference for each column, each of shape (n_columns,).

    The first is the root of the summed squared differences of its coefficients. The second is the share (0 to 1 and more) by which
    all its coefficients are weaker or stronger.
    """
    return {
        Method.ASSOCIATION: np.sqrt(pair_changes[Method.ASSOCIATION].sum(axis=1)),
        Method.ATTENUATION: np.abs(pair_changes[Method.ATTENUATION].sum(axis=1)),
    }


def build_associations(
    frame: pd.DataFrame, numbers: list[str], categories: list[str]
) -> tuple[AssociationProfile, Indicators]:
    """Measure the relations between the columns of a reference.

    Args:
        frame: as `comparable` returns it.
        numbers: its columns of numbers.
        categories: its columns of categories.

    Returns:
        The profile without limits, and indicators of the bin of each row, shape (n_rows, n_cells).
    """
    edges = {name: tuple(np.unique(np.quantile(frame[name], _QUANTILES, method="inverted_cdf"))) for name in numbers}
    levels = {name: _frequent_levels(frame[name]) for name in categories}
    indicators = _indicators(frame, {**edges, **levels})
    shares = indicators.mean(axis=0, dtype=np.float64)
    cells = np.flatnonzero((shares >= MIN_SHARE) & (shares <= 1 - MIN_SHARE))
    # `take` keeps rows contiguous, which sampling reads. Indexing would not.
    indicators, shares = indicators.take(cells, axis=1), shares[cells]
    phi = _coefficients((indicators.T @ indicators).astype(np.float64) / len(frame), shares)
    profile = AssociationProfile(
        edges=edges,
        levels=levels,
        cells=tuple(cells.tolist()),
        shares=tuple(np.round(shares, 6).tolist()),
        phi=tuple(np.round(phi[np.tril_indices(len(cells), -1)], _DECIMALS).tolist()),
        min_phi=_MIN_PHI_IN_ERRORS / np.sqrt(len(frame)),
        limits={},
    )
    return profile, indicators


def null_associations(
    associations: Associations, indicators: Indicators, samples: Codes, sizes: Sequence[int]
) -> Floats:
    """Measure how far samples of the reference are from the rest of it. Samples, sizes and result as in `null_distances`.

    Args:
        associations: of the reference.
        indicators: of the bins of its rows, see `build_associations`.
        samples: rows of the reference.
        sizes: rows of a sample.
    """
    found = []
    with _one_thread():
        everything = (indicators.T @ indicators).astype(np.float64)
        for sample in samples:
            added = [indicators[sample[a:b]] for a, b in pairwise((0, *sizes))]
            products = list(accumulate((rows.T @ rows).astype(np.float64) for rows in added))
            rest = associations.coefficients(everything - products[-1], len(indicators) - sizes[-1])
            by_size = [
                distances(associations.pair_changes(associations.coefficients(pairs, rows), rest))
                for pairs, rows in zip(products, sizes, strict=True)
            ]
            found.append([np.stack([scores[method] for method in JOINT_METHODS], axis=1).ravel() for scores in by_size])
    return np.stack(found, axis=1)


def _one_thread() -> threadpool_limits:
    """Limit BLAS to one thread. On busy cores, two threads wait for each other for longer than one needs."""
    return threadpool_limits(1, user_api="blas")


def _frequent_levels(column: pd.Series) -> tuple[str, ...]:
    shares = column.value_counts(normalize=True)
    return tuple(shares.index[shares >= MIN_SHARE][:_LEVELS])


def _indicators(frame: pd.DataFrame, bins: dict[str, tuple[float, ...] | tuple[str, ...]]) -> Indicators:
    parts = []
    for name, bins_of_column in bins.items():
        if pd.api.types.is_numeric_dtype(frame[name]):
            codes = np.searchsorted(np.array(bins_of_column), frame[name].to_numpy())
        else:
            # Look up each category once, not each row.
            column = frame[name].cat
            code_of = {level: code for code, level in enumerate(bins_of_column)}
            codes = np.array([code_of.get(level, len(bins_of_column)) for level in column.categories])[column.codes]
        parts.append(codes[:, None] == np.arange(len(bins_of_column) + 1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _coefficients(products: Floats, reference_shares: Floats) -> Floats:
    """Return phi coefficients from the shares of pairs, in the same shape.

    The variance of a bin counts as at least a quarter of its variance in the reference. Otherwise, a few rows would
    strongly change the coefficients of a bin that has nearly vanished.
    """
    shares = np.diagonal(products)
    floor = reference_shares * (1 - reference_shares) / 4
    spread = np.sqrt(np.maximum(shares * (1 - shares), floor))
    phi: Floats = (products - np.outer(shares, shares)) / np.outer(spread, spread)
    return phi
