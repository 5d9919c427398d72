"""Data, joint and prediction drift of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field

from healthpredict.errors import NotEnoughData
from healthpredict.monitoring.association import Associations
from healthpredict.monitoring.distances import DISTANCES, OTHER, Counts, Method, Values
from healthpredict.monitoring.profile import NUMBERS, RISK, ReferenceProfile, comparable


class ColumnDrift(BaseModel):
    """How far one column of a batch is from the reference, by one method.

    Attributes:
        column: field name of a feature, or `readmission_risk`.
        method: how it was compared.
        score: the distance; its scale is the method's.
        threshold: the score that counts as drift.
        partner: the column whose relation to this one changed most; only of `Method.ASSOCIATION`.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    method: Method
    score: float
    threshold: float
    partner: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold

    @property
    def severity(self) -> float:
        """The score in units of the threshold: drift from 1 on."""
        return self.score / self.threshold


class DataDrift(BaseModel):
    """How far a batch is from the reference.

    Attributes:
        rows: encounters of the batch.
        columns: the features one by one, in the contract's order, by each of their methods.
        joint: how each feature goes together with all others.
        prediction: the readmission risk, by each of its methods.
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
        return _severest(self.columns)

    @property
    def drifted_together(self) -> list[ColumnDrift]:
        """The features whose relation to others drifted, the severest first."""
        return _severest(self.joint)

    @property
    def drifted_risk(self) -> ColumnDrift | None:
        """The risk by its severest method, where it drifted."""
        return next(iter(_severest(self.prediction)), None)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted_share(self) -> float:
        """Share (0-1) of the features that drifted on their own."""
        return len(self.drifted) / len(self.features)


def _severest(columns: tuple[ColumnDrift, ...]) -> list[ColumnDrift]:
    ranked = sorted((column for column in columns if column.drifted), key=lambda c: c.severity, reverse=True)
    first: dict[str, ColumnDrift] = {}
    for column in ranked:
        first.setdefault(column.column, column)
    return list(first.values())


def detect_data_drift(profile: ReferenceProfile, encounters: pd.DataFrame, risk: NDArray[np.float64]) -> DataDrift:
    """Compare a batch with the reference.

    Args:
        profile: of the reference.
        encounters: the batch, with every feature of the contract, shape (n_encounters, ...).
        risk: readmission risks (0-1) of the same encounters, shape (n_encounters,).

    Raises:
        NotEnoughData: the batch has no encounters.
    """
    if encounters.empty:
        raise NotEnoughData("Drift needs encounters; this batch has none.")
    current = comparable(encounters, risk)
    compared = [column for name in profile.columns for column in _compare(profile, name, current[name])]
    return DataDrift(
        rows=len(current),
        columns=tuple(column for column in compared if column.column != RISK),
        joint=tuple(_compare_together(profile, current)),
        prediction=tuple(column for column in compared if column.column == RISK),
    )


def count_values(profile: ReferenceProfile, name: str, current: pd.Series) -> tuple[Values, Counts, Counts]:
    """Count the values of one column.

    Args:
        profile: of the reference.
        name: of the column.
        current: the column of a batch, as `comparable` returns it.

    Returns:
        The distinct values of both sides, those that the reference lacks as "(other)"; how often each occurs in the reference; how
        often in the batch.
    """
    known = profile.columns[name].counts
    if name in NUMBERS:
        found, often = np.unique(current.to_numpy(), return_counts=True)
        expected = np.array(list(known), dtype=np.float64)
        values = np.union1d(expected, found)
        reference, counts = np.zeros((2, len(values)), dtype=np.int64)
        reference[np.searchsorted(values, expected)] = list(known.values())
        counts[np.searchsorted(values, found)] = often
        return values, reference, counts
    occurrences = dict.fromkeys([*known, OTHER], 0)
    codes = np.bincount(current.cat.codes, minlength=len(current.cat.categories))
    for value, often in zip(current.cat.categories, codes.tolist(), strict=True):
        occurrences[value if value in known else OTHER] += often
    reference = np.array([known.get(value, 0) for value in occurrences])
    return np.array(list(occurrences)), reference, np.array(list(occurrences.values()))


def _compare(profile: ReferenceProfile, name: str, current: pd.Series) -> Iterator[ColumnDrift]:
    counted = count_values(profile, name, current)
    for method in profile.columns[name].limits:
        score = float(DISTANCES[method](*counted))
        yield ColumnDrift(column=name, method=method, score=score, threshold=profile.limit(name, method, len(current)))


def _compare_together(profile: ReferenceProfile, current: pd.DataFrame) -> Iterator[ColumnDrift]:
    associations = Associations(profile.associations)
    pairs = associations.of(current)
    for name, others in zip(associations.columns, pairs, strict=True):
        yield ColumnDrift(
            column=name,
            method=Method.ASSOCIATION,
            score=float(np.sqrt(others.sum())),
            threshold=profile.limit(name, Method.ASSOCIATION, len(current)),
            partner=associations.columns[int(others.argmax())],
        )
