"""Data, joint and prediction drift of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field

from healthpredict.errors import NotEnoughData
from healthpredict.monitoring.association import Associations, distances
from healthpredict.monitoring.distances import DISTANCES, OTHER, Counts, Floats, Method, Values, category_distances
from healthpredict.monitoring.profile import NUMBERS, RISK, ReferenceProfile, comparable

_CHUNK_ROWS: Final = 50_000
"""Rows that are counted at a time, so that ten million encounters take little additional memory."""


class ColumnDrift(BaseModel):
    """The distance between one column of a batch and the reference, by one method.

    Attributes:
        column: field name of a feature, or `readmission_risk`.
        method: of comparison.
        score: the distance, on the scale of the method.
        threshold: smallest score that counts as drift.
        partner: for joint drift, the column whose relation to this one changed most; otherwise None.
        category: if single categories are compared, the one that changed most; otherwise None.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    method: Method
    score: float
    threshold: float
    partner: str | None = None
    category: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold

    @property
    def severity(self) -> float:
        """The score in units of the threshold. Drift begins at 1."""
        return self.score / self.threshold


class DataDrift(BaseModel):
    """The distances between a batch and the reference.

    Attributes:
        rows: encounters of the batch.
        columns: each feature on its own, in the contract's order, by each method.
        joint: the relations of each feature to all others, by each method.
        prediction: the readmission risk, by each method.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    columns: tuple[ColumnDrift, ...]
    joint: tuple[ColumnDrift, ...]
    prediction: tuple[ColumnDrift, ...]

    @property
    def features(self) -> list[str]:
        """The features, in the contract's order."""
        return list(dict.fromkeys(column.column for column in self.columns))

    @property
    def drifted(self) -> list[ColumnDrift]:
        """The features that drifted on their own, each by its severest method, the severest first."""
        return _drifted(self.columns)

    @property
    def drifted_together(self) -> list[ColumnDrift]:
        """The features whose relation to others drifted, the severest first."""
        return _drifted(self.joint)

    @property
    def drifted_risk(self) -> ColumnDrift | None:
        """The risk by its severest method, if it drifted."""
        return next(iter(_drifted(self.prediction)), None)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted_share(self) -> float:
        """Share (0-1) of the features that drifted on their own."""
        return len(self.drifted) / len(self.features)


def severest(columns: Iterable[ColumnDrift]) -> dict[str, ColumnDrift]:
    """Return each column by its severest method, the severest column first."""
    first: dict[str, ColumnDrift] = {}
    for column in sorted(columns, key=lambda c: c.severity, reverse=True):
        first.setdefault(column.column, column)
    return first


def _drifted(columns: Iterable[ColumnDrift]) -> list[ColumnDrift]:
    return [column for column in severest(columns).values() if column.drifted]


@dataclass(frozen=True)
class BatchCounts:
    """The counts of a batch: encounters, column -> value -> rows (as in `comparable`), and `Associations.products`."""

    rows: int
    occurrences: dict[str, Counter[Any]]
    products: Floats


def detect_data_drift(profile: ReferenceProfile, encounters: pd.DataFrame, risk: NDArray[np.float64]) -> DataDrift:
    """Compare a batch with the reference.

    Args:
        profile: of the reference.
        encounters: the batch, with every feature of the contract, shape (n_encounters, ...).
        risk: readmission risks (0-1) of the same encounters, shape (n_encounters,).

    Raises:
        NotEnoughData: the batch has no encounters.
    """
    return compare(profile, count_batch(profile, encounters, risk))


def count_batch(profile: ReferenceProfile, encounters: pd.DataFrame, risk: NDArray[np.float64]) -> BatchCounts:
    """Count the values and relations of a batch. Arguments and errors as `detect_data_drift`."""
    if encounters.empty:
        raise NotEnoughData("Drift needs encounters; this batch has none.")
    associations = Associations(profile.associations)
    occurrences: dict[str, Counter[Any]] = {name: Counter() for name in profile.columns}
    products = []
    for start in range(0, len(encounters), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        current = comparable(encounters.iloc[rows], risk[rows])
        for name, counter in occurrences.items():
            counter.update(_occurrences(current[name]))
        products.append(associations.products(current))
    return BatchCounts(len(encounters), occurrences, np.sum(products, axis=0))


def compare(profile: ReferenceProfile, batch: BatchCounts, before: BatchCounts | None = None) -> DataDrift:
    """Compare the counts of a batch with the reference, or with an earlier batch, if it is given."""
    if before is not None:
        profile = _as_reference(profile, before)
    compared = [column for name in profile.columns for column in _compare_alone(profile, name, batch)]
    return DataDrift(
        rows=batch.rows,
        columns=tuple(column for column in compared if column.column != RISK),
        joint=tuple(_compare_together(profile, batch, before)),
        prediction=tuple(column for column in compared if column.column == RISK),
    )


def _as_reference(profile: ReferenceProfile, before: BatchCounts) -> ReferenceProfile:
    """Return the profile with the counts of an earlier batch. Its limits are then those for two batches."""
    columns = {}
    for name, column in profile.columns.items():
        values, _, rows = count_values(profile, name, before.occurrences[name])
        counts = dict(zip(map(str, values.tolist()), rows.tolist(), strict=True))
        columns[name] = column.model_copy(update={"rows": before.rows, "counts": counts})
    return profile.model_copy(update={"columns": columns})


def _occurrences(column: pd.Series) -> dict[Any, int]:
    counts = column.value_counts(sort=False)
    return dict(zip(counts.index.tolist(), counts.tolist(), strict=True))


def count_values(profile: ReferenceProfile, name: str, occurrences: Mapping[Any, int]) -> tuple[Values, Counts, Counts]:
    """Align the counts of one column with those of the reference.

    Args:
        profile: of the reference.
        name: of the column.
        occurrences: value -> rows of a batch, of a column as `comparable` returns it.

    Returns:
        The distinct values of both sides, with "(other)" for those that the reference lacks; their counts in the reference; their
        counts in the batch.
    """
    known = profile.columns[name].counts
    if name in NUMBERS:
        found = np.array(sorted(occurrences), dtype=np.float64)
        expected = np.array(list(known), dtype=np.float64)
        values = np.union1d(expected, found)
        reference, counts = np.zeros((2, len(values)), dtype=np.int64)
        reference[np.searchsorted(values, expected)] = list(known.values())
        counts[np.searchsorted(values, found)] = [occurrences[value] for value in found.tolist()]
        return values, reference, counts
    counts_of = dict.fromkeys([*known, OTHER], 0)
    for value, rows in occurrences.items():
        counts_of[value if value in known else OTHER] += rows
    reference = np.array([known.get(value, 0) for value in counts_of])
    return np.array(list(counts_of)), reference, np.array(list(counts_of.values()))


def _compare_alone(profile: ReferenceProfile, name: str, batch: BatchCounts) -> Iterator[ColumnDrift]:
    values, reference, counts = count_values(profile, name, batch.occurrences[name])
    for method in profile.columns[name].limits:
        yield ColumnDrift(
            column=name,
            method=method,
            score=float(DISTANCES[method](values, reference, counts)),
            threshold=profile.limit(name, method, batch.rows),
            category=values[category_distances(reference, counts).argmax()] if method is Method.ONE_CATEGORY else None,
        )


def _compare_together(
    profile: ReferenceProfile, batch: BatchCounts, before: BatchCounts | None
) -> Iterator[ColumnDrift]:
    associations = Associations(profile.associations)
    earlier = None if before is None else associations.coefficients(before.products, before.rows)
    changes = associations.pair_changes(associations.coefficients(batch.products, batch.rows), earlier)
    for method, scores in distances(changes).items():
        for name, score, by_partner in zip(associations.columns, scores, np.abs(changes[method]), strict=True):
            yield ColumnDrift(
                column=name,
                method=method,
                score=float(score),
                threshold=profile.limit(name, method, batch.rows),
                partner=associations.columns[int(by_partner.argmax())],
            )
