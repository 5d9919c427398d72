"""The reference profile: the distributions of the champion's training data, without data of single patients.

A profile contains how often each value of each feature occurs, the relations between features, and the distances from which a batch
counts as drifted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.data.contract import BY_FIELD, FEATURE_COLUMNS, Kind
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.subgroups import subgroups_of
from healthpredict.monitoring.association import (
    JOINT_METHODS,
    AssociationProfile,
    Associations,
    build_associations,
    null_associations,
)
from healthpredict.monitoring.distances import DISTANCES, MISSING, OTHER, Method
from healthpredict.monitoring.null import (
    CodedColumn,
    effective_size,
    family_limits,
    null_distances,
    null_samples,
    sample_size,
)
from healthpredict.monitoring.params import DriftPolicy

RISK: Final = "readmission_risk"
NUMBERS: Final = (*(c.field for c in FEATURE_COLUMNS if c.kind is Kind.COUNT), RISK)
"""The columns that are compared as numbers. All others are categories."""
COLUMNS: Final = (*(c.field for c in FEATURE_COLUMNS), RISK)
"""The columns that are compared."""
ORDERED: Final = ("age",)
"""Categories with an order, for which cumulative shares are compared as well. Sorted as text, they are in order."""
MIN_CATEGORY_COUNT: Final = 10
"""Categories rarer than this in the reference are pooled as "(other)": a rare one could identify a person."""

SMALLEST_LIMIT: Final = 1e-9
"""The limit of a column that is constant in the reference. With a limit of 0, a distance of 0 would be drift."""


class ColumnProfile(BaseModel):
    """One feature, or the risk, in the reference.

    Attributes:
        rows: number of encounters.
        counts: value -> rows; numbers written as text, missing values under "(missing)".
        limits: method -> for each of the profile's `sample_sizes`, the distance that counts as drift.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    counts: dict[str, int]
    limits: dict[Method, tuple[float, ...]]


class ReferenceProfile(BaseModel):
    """The distributions that batches are compared with, and the limits. Every bundle contains one as JSON: never rename a field.

    Attributes:
        min_changed_rows: see `DriftPolicy`.
        sample_sizes: effective sample sizes of the limits, ascending.
        columns: field name -> profile, in the contract's order, and `readmission_risk` last.
        associations: the relations between the features.
        subgroups: columns of a group -> group with enough encounters -> its mean out-of-fold risk.
    """

    model_config = ConfigDict(frozen=True)

    min_changed_rows: int
    sample_sizes: tuple[float, ...]
    columns: dict[str, ColumnProfile]
    associations: AssociationProfile
    subgroups: dict[str, dict[str, float]]

    def limit(self, column: str, method: Method, rows: int) -> float:
        """Return the distance from which `column` counts as drifted in a batch of `rows` encounters."""
        profile = self.columns[column]
        if method in JOINT_METHODS:
            return self._interpolate(self.associations.limits[column][method], rows, profile.rows)
        limit = self._interpolate(profile.limits[method], rows, profile.rows)
        if column in NUMBERS:
            return max(limit, SMALLEST_LIMIT)
        # Limits come from samples of the reference, which never contain a value that the reference lacks, but every batch has some.
        return max(limit, self.least_distance(method, rows))

    def least_distance(self, method: Method, rows: int) -> float:
        """Return the distance if `min_changed_rows` of `rows` encounters changed. Not for the Wasserstein distance."""
        changed = min(self.min_changed_rows, rows)
        values = np.array([MISSING if method is Method.MISSING else OTHER, "any"])
        return float(DISTANCES[method](values, np.array([0, rows]), np.array([changed, rows - changed])))

    def _interpolate(self, limits: tuple[float, ...], rows: int, reference_rows: int) -> float:
        """Return the limit for a batch of `rows` encounters.

        Distances by chance are inversely proportional to the square root of the sample size, so limit x sqrt(size) is nearly
        constant. It is interpolated between the sizes of the profile, and constant beyond them.
        """
        size = effective_size(rows, reference_rows)
        scaled = np.multiply(limits, np.sqrt(self.sample_sizes))
        return float(np.interp(np.log(size), np.log(self.sample_sizes), scaled) / np.sqrt(size))


def build_profile(
    encounters: pd.DataFrame,
    *,
    risk: NDArray[np.float64],
    unseen_risk: NDArray[np.float64],
    patient_id: NDArray[np.int64],
    policy: DriftPolicy,
    seed: int = 0,
) -> ReferenceProfile:
    """Build the profile of a reference.

    The risks of batches are compared with the champion's own risks for patients that it was not fitted on. The risks of its
    training rows have a wider spread, and out-of-fold risks come from other models, so both would differ from the risks of a batch
    without drift.

    Args:
        encounters: frame with every feature of the contract, shape (n_encounters, ...).
        risk: out-of-fold readmission risks (0-1) of the same encounters, shape (n_encounters,), for the limits.
        unseen_risk: the champion's risks for encounters of the same period whose patients it was not fitted on, shape (n_unseen,).
        patient_id: shape (n_encounters,).
        policy: false-alarm rate, methods and sample sizes.
        seed: of the resampling.

    Raises:
        NotEnoughData: there are no encounters, or none of patients that the champion was not fitted on.
    """
    if encounters.empty or not len(unseen_risk):
        raise NotEnoughData("A reference profile needs encounters on every side of the split; there are too few.")
    frame = comparable(encounters, risk)
    coded = {name: _code_column(name, frame[name], policy) for name in COLUMNS}
    sizes = tuple(sorted({sample_size(size, len(frame)) for size in policy.sample_sizes}))
    samples = null_samples(patient_id, sizes[-1], policy.samples, seed)
    numbers = [name for name in NUMBERS if name != RISK]
    unlimited, indicators = build_associations(frame, numbers, [name for name in COLUMNS if name not in NUMBERS])
    associations = Associations(unlimited)
    null = np.concatenate(
        [
            null_distances(list(coded.values()), samples, sizes),
            null_associations(associations, indicators, samples, sizes),
        ],
        axis=-1,
    )
    limits = np.stack([family_limits(distances, policy.false_alarm_rate) for distances in null], axis=1)
    limits_in_order = iter(map(tuple, limits.tolist()))
    counts = {name: np.bincount(column.codes, minlength=len(column.values)) for name, column in coded.items()}
    counts_of = {name: _as_counts(column.values, counts[name]) for name, column in coded.items()}
    for name in set(COLUMNS) - set(NUMBERS):
        counts_of[name] = _add_expected_rare(counts_of[name])
    counts_of[RISK] = _as_counts(*np.unique(np.round(unseen_risk, 3), return_counts=True))
    return ReferenceProfile(
        min_changed_rows=policy.min_changed_rows,
        sample_sizes=tuple(effective_size(size, len(frame) - sizes[-1]) for size in sizes),
        columns={
            name: ColumnProfile(
                rows=sum(counts_of[name].values()),
                counts=counts_of[name],
                limits={method: next(limits_in_order) for method in column.methods},
            )
            for name, column in coded.items()
        },
        associations=unlimited.model_copy(
            update={
                "limits": {
                    name: {method: next(limits_in_order) for method in JOINT_METHODS} for name in associations.columns
                }
            }
        ),
        subgroups=_mean_risks(encounters, risk, policy.min_subgroup_rows),
    )


def comparable(encounters: pd.DataFrame, risk: NDArray[np.float64]) -> pd.DataFrame:
    """Select the columns that are compared: the contract's features and the risk.

    Returns:
        Numbers as floats. Risks are rounded to .001, so that a profile contains counts and not the risks of single patients.
        Categories as categories, with "(missing)" for missing values.
    """
    columns = {
        name: encounters[name].astype(np.float64) if name in NUMBERS else _with_missing(encounters[name])
        for name in COLUMNS
        if name != RISK
    }
    return pd.DataFrame(columns).assign(**{RISK: np.round(risk, 3)})


def _mean_risks(encounters: pd.DataFrame, risk: NDArray[np.float64], min_rows: int) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for column, value, rows in subgroups_of(encounters, min_rows):
        means.setdefault(column, {})[value] = round(float(risk[rows].mean()), 4)
    return means


def _with_missing(column: pd.Series) -> pd.Series:
    categorical = column.astype("category").array
    values = [*map(str, categorical.categories), MISSING]
    codes = np.where(categorical.codes < 0, len(values) - 1, categorical.codes)
    return pd.Series(pd.Categorical.from_codes(codes.astype(np.intp), categories=pd.Index(values)), index=column.index)


def _code_column(name: str, column: pd.Series, policy: DriftPolicy) -> CodedColumn:
    if name in NUMBERS:
        values, codes = np.unique(column, return_inverse=True)
        return CodedColumn(codes, values, policy.count_methods)
    used = column.cat.remove_unused_categories().cat
    common = np.bincount(used.codes) >= MIN_CATEGORY_COUNT
    pooled = np.where(common | (used.categories == MISSING), used.categories, OTHER)
    values, number = np.unique(pooled.astype(np.str_), return_inverse=True)
    contract = BY_FIELD[name]
    methods = list(policy.category_methods)
    if name in ORDERED:
        methods.append(Method.KOLMOGOROV_SMIRNOV)
    if contract.nullable:
        methods.append(Method.MISSING)
    if contract.kind is Kind.CODE:
        methods.append(Method.UNSEEN)
    return CodedColumn(number[used.codes], values, tuple(methods))


def _add_expected_rare(counts: dict[str, int]) -> dict[str, int]:
    """Add to "(other)" the rows with rare or unseen values that a new sample of the same population will have.

    Values that occur less than `MIN_CATEGORY_COUNT` times in the reference are expected to have as many rows in a new sample as
    values that occur at most `MIN_CATEGORY_COUNT` times have in the reference (Good-Turing estimate; Good 1953,
    doi 10.1093/biomet/40.3-4.237, eq. 2).
    """
    at_the_edge = sum(count for value, count in counts.items() if value != MISSING and count == MIN_CATEGORY_COUNT)
    return counts | {OTHER: counts.get(OTHER, 0) + at_the_edge} if at_the_edge else counts


def _as_counts(values: NDArray[np.generic], counts: NDArray[np.intp]) -> dict[str, int]:
    keys = [f"{value:g}" for value in values] if np.issubdtype(values.dtype, np.number) else values.tolist()
    return dict(zip(keys, counts.tolist(), strict=True))
