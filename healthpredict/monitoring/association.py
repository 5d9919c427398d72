"""Joint drift: whether features still go together as they did, although each of them on its own may look the same.

Features are cut into a few bins each; how strongly two bins go together is their phi coefficient, the correlation of the two
indicators. A feature has drifted when its coefficients with the bins of all other features have moved by more than chance. What
a classifier of "batch or reference" can learn from pairs of features, this measures in closed form: it finds weaker shifts than
boosted trees do at the same rate of false alarms (`make bench-drift`), and limits that take hundreds of evaluations cost seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from threadpoolctl import threadpool_limits

from healthpredict.monitoring.distances import Floats
from healthpredict.monitoring.null import Halves, family_limits

MIN_SHARE: Final = 0.05
"""Rarer bins say little, and a pair of rare bins could point at a person."""
MIN_PAIR_SHARE: Final = 0.005
"""Pairs of bins that meet more rarely by chance are left out: one patient with many encounters would move them far."""
_QUANTILES: Final = (0.2, 0.4, 0.6, 0.8)
_LEVELS: Final = 8
"""Categories told apart, the commonest; the others are one bin."""
_DECIMALS: Final = 3
"""Of the coefficients that are kept: finer than chance in 100,000 rows."""


class AssociationProfile(BaseModel):
    """How the features of the reference go together, without any patient in it.

    Attributes:
        edges: column -> upper ends of the bins of numbers; a last bin is open.
        levels: column -> categories with a bin of their own; a last bin holds the others.
        cells: numbers of the bins common enough to be compared, counted over edges, then levels, shape (n_cells,).
        shares: of those bins in the reference (0-1), shape (n_cells,).
        phi: their coefficients below the diagonal, row by row.
        limits: column -> for each sample size of the reference profile, the distance that counts as drift.
    """

    model_config = ConfigDict(frozen=True)

    edges: dict[str, tuple[float, ...]]
    levels: dict[str, tuple[str, ...]]
    cells: tuple[int, ...]
    shares: tuple[float, ...]
    phi: tuple[float, ...]
    limits: dict[str, tuple[float, ...]]


class Associations:
    """Measures how far frames, as `comparable` returns them, are from a profile."""

    def __init__(self, profile: AssociationProfile) -> None:
        """Args: profile, of the reference; its limits are not used."""
        self._bins: dict[str, tuple[float, ...] | tuple[str, ...]] = {**profile.edges, **profile.levels}
        self._cells = np.array(profile.cells, dtype=np.intp)
        self._shares = np.array(profile.shares)
        column = np.repeat(np.arange(len(self._bins)), [len(bins) + 1 for bins in self._bins.values()])[self._cells]
        present, owner = np.unique(column, return_inverse=True)
        self.columns = [list(self._bins)[i] for i in present]
        self._member = np.eye(len(present))[owner]
        self._left_out = (owner[:, None] == owner) | (np.outer(self._shares, self._shares) < MIN_PAIR_SHARE)
        self._phi = np.zeros_like(self._left_out, dtype=np.float64)
        self._phi[np.tril_indices(len(owner), -1)] = profile.phi
        self._phi += self._phi.T

    def against(self, indicators: NDArray[np.float32]) -> Self:
        """The same for other rows to compare with, given by their bins, shape (n_rows, n_cells)."""
        other = copy(self)
        products = (indicators.T @ indicators).astype(np.float64) / len(indicators)
        other._phi = _coefficients(products, self._shares)
        return other

    def products(self, frame: pd.DataFrame) -> Floats:
        """How many rows are in each pair of bins, shape (n_cells, n_cells); those of parts of a batch add up."""
        indicators = _indicators(frame, self._bins)[:, self._cells]
        with _one_thread():
            return (indicators.T @ indicators).astype(np.float64)

    def distances(self, products: NDArray[np.floating], rows: int) -> Floats:
        """How far each pair of columns is from the reference: the sum of squared differences of their coefficients.

        Args:
            products: how many rows are in each pair of bins, see `products`.
            rows: how many there are.

        Returns:
            Shape (n_columns, n_columns) in the order of `columns`; 0 for a column with itself.
        """
        difference = np.where(self._left_out, 0.0, _coefficients(products / rows, self._shares) - self._phi)
        pairs: Floats = self._member.T @ difference**2 @ self._member
        return pairs


def build_associations(
    frame: pd.DataFrame,
    numbers: list[str],
    categories: list[str],
    *,
    drawn: Sequence[Halves],
    sizes: tuple[int, ...],
    false_alarm_rate: float,
) -> AssociationProfile:
    """Measure how the columns of a reference go together, and how far samples of its patients are from that.

    Args:
        frame: as `comparable` returns it.
        numbers: its columns of numbers.
        categories: its columns of categories.
        drawn: samples of the frame, see `null_samples`.
        sizes: rows of a sample, ascending, at most those that were drawn.
        false_alarm_rate: 0-1, for all columns together.
    """
    edges = {name: tuple(np.unique(np.quantile(frame[name], _QUANTILES, method="inverted_cdf"))) for name in numbers}
    levels = {name: _common(frame[name]) for name in categories}
    indicators = _indicators(frame, {**edges, **levels})
    shares = indicators.mean(axis=0, dtype=np.float64)
    cells = np.flatnonzero((shares >= MIN_SHARE) & (shares <= 1 - MIN_SHARE))
    # `take`, because indexing would leave the columns contiguous, and rows are what is drawn.
    indicators, shares = indicators.take(cells, axis=1), shares[cells]
    phi = _coefficients((indicators.T @ indicators).astype(np.float64) / len(frame), shares)
    profile = AssociationProfile(
        edges=edges,
        levels=levels,
        cells=tuple(cells.tolist()),
        shares=tuple(np.round(shares, 6).tolist()),
        phi=tuple(np.round(phi[np.tril_indices(len(cells), -1)], _DECIMALS).tolist()),
        limits={},
    )
    associations = Associations(profile)
    null: list[list[Floats]] = [[] for _ in sizes]
    with _one_thread():
        for halves in drawn:
            known = associations.against(indicators[halves.known])
            for sample in halves.samples:
                products = np.zeros_like(phi)
                for of_size, (start, size) in zip(null, pairwise((0, *sizes)), strict=True):
                    added = indicators[sample[start:size]]
                    products += added.T @ added
                    of_size.append(np.sqrt(known.distances(products, size).sum(axis=0)))
    limits = [family_limits(np.stack(of_size), false_alarm_rate) for of_size in null]
    by_column = np.stack(limits, axis=1).tolist()
    return profile.model_copy(update={"limits": dict(zip(associations.columns, map(tuple, by_column), strict=True))})


def _one_thread() -> threadpool_limits:
    """Let BLAS compute with one thread: on busy cores two wait for each other longer than products of this size take one."""
    return threadpool_limits(1, user_api="blas")


def _common(column: pd.Series) -> tuple[str, ...]:
    shares = column.value_counts(normalize=True)
    return tuple(shares.index[shares >= MIN_SHARE][:_LEVELS])


def _indicators(frame: pd.DataFrame, bins: dict[str, tuple[float, ...] | tuple[str, ...]]) -> NDArray[np.float32]:
    parts = []
    for name, ends in bins.items():
        if pd.api.types.is_numeric_dtype(frame[name]):
            codes = np.searchsorted(np.array(ends), frame[name].to_numpy())
        else:
            # Category by category, not row by row.
            column = frame[name].cat
            number = {value: i for i, value in enumerate(ends)}
            codes = np.array([number.get(value, len(ends)) for value in column.categories])[column.codes]
        parts.append(codes[:, None] == np.arange(len(ends) + 1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _coefficients(products: Floats, reference_shares: Floats) -> Floats:
    """Phi coefficients from the shares of pairs, shape kept.

    A bin that nearly vanished has no less than a quarter of its variance in the reference: few rows would move it far.
    """
    shares = np.diagonal(products)
    floor = reference_shares * (1 - reference_shares) / 4
    spread = np.sqrt(np.maximum(shares * (1 - shares), floor))
    phi: Floats = (products - np.outer(shares, shares)) / np.outer(spread, spread)
    return phi
