"""The reference profile: what the champion's training data looked like, without any patient in it.

A profile holds how often each value of each feature occurs, and for each feature the distance from which a batch counts
as drifted.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.errors import NotEnoughData
from healthpredict.monitoring.distances import Floats, Method, jensen_shannon
from healthpredict.monitoring.null import Codes, effective_size, family_limits, null_distances
from healthpredict.monitoring.params import DriftPolicy

RISK: Final = "readmission_risk"
METHODS: Final = {
    **{c.field: Method.WASSERSTEIN if c.kind is Kind.COUNT else Method.JENSEN_SHANNON for c in FEATURE_COLUMNS},
    RISK: Method.WASSERSTEIN,
}
# No value that the contract allows begins with a round bracket.
MISSING: Final = "(missing)"
OTHER: Final = "(other)"
MIN_CATEGORY_COUNT: Final = 10
"""Categories rarer than this in the reference are pooled as "(other)": a rare one could point at a person."""

SMALLEST_LIMIT: Final = 1e-9
"""Of a column that is constant in the reference: Evidently calls a distance equal to its limit drift, also 0."""


class ColumnProfile(BaseModel):
    """One feature, or the risk, in the reference.

    Attributes:
        method: how it is compared.
        rows: encounters that it was seen on.
        counts: value -> rows; numbers written as text, missing values under "(missing)".
        limits: for each of the profile's `sample_sizes`, the distance that counts as drift.
    """

    model_config = ConfigDict(frozen=True)

    method: Method
    rows: int
    counts: dict[str, int]
    limits: tuple[float, ...]

    @property
    def categories(self) -> pd.CategoricalDtype:
        """The values of a category column that are told apart."""
        return pd.CategoricalDtype(pd.Index(dict.fromkeys([*self.counts, OTHER])))


class ReferenceProfile(BaseModel):
    """The distributions that batches are compared with, and the limits of what is chance.

    Attributes:
        min_changed_rows: see `DriftPolicy`.
        sample_sizes: effective sample sizes that the limits belong to, ascending.
        columns: field name -> profile, in the contract's order, and `readmission_risk` last.
    """

    model_config = ConfigDict(frozen=True)

    min_changed_rows: int
    sample_sizes: tuple[int, ...]
    columns: dict[str, ColumnProfile]

    def recognise(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Replace the categories that the reference lacks by "(other)".

        Args:
            frame: as `comparable` returns it.

        Returns:
            The same shape; category columns have the categories of the reference as dtype.
        """
        recognised = {
            name: frame[name].where(frame[name].isin(list(column.counts)), OTHER).astype(column.categories)
            for name, column in self.columns.items()
            if column.method is Method.JENSEN_SHANNON
        }
        return frame.assign(**recognised)

    def limit(self, column: str, rows: int) -> float:
        """The distance from which `column` counts as drifted in a batch of `rows` encounters.

        Distances shrink with the square root of the sample size, so limit x sqrt(size) is nearly constant: that is
        interpolated between the sizes that were drawn, and kept beyond them.
        """
        profile = self.columns[column]
        size = effective_size(rows, profile.rows)
        scaled = np.multiply(profile.limits, np.sqrt(self.sample_sizes))
        limit = float(np.interp(np.log(size), np.log(self.sample_sizes), scaled) / np.sqrt(size))
        if profile.method is Method.WASSERSTEIN:
            return max(limit, SMALLEST_LIMIT)
        # No sample of the reference can show a value that it lacks, yet rare ones turn up in any batch.
        changed = min(self.min_changed_rows, rows)
        return max(limit, float(jensen_shannon(np.array([rows, 0]), np.array([rows - changed, changed]))))


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

    The risks of batches are compared with those that the champion itself gives patients it was not fitted on. Risks of its own
    training rows are spread wider, and out-of-fold risks come from other models: both differ from any batch's without drift.

    Args:
        encounters: frame with every feature of the contract, shape (n_encounters, ...).
        risk: out-of-fold readmission risks (0-1) of the same encounters, shape (n_encounters,): how risks vary by chance.
        unseen_risk: the champion's risks for encounters of the same time whose patients it was not fitted on, shape (n_unseen,).
        patient_id: shape (n_encounters,).
        policy: the false-alarm rate and how the limits are drawn.
        seed: of the resampling.

    Raises:
        NotEnoughData: there are no encounters, or none of patients that the champion was not fitted on.
    """
    if encounters.empty or not len(unseen_risk):
        raise NotEnoughData("A reference profile needs encounters on every side of the split; there are too few.")
    frame = comparable(encounters, risk)
    counts: dict[str, dict[str, int]] = {}
    coded: list[tuple[Codes, Floats | None]] = []
    for name, method in METHODS.items():
        is_number = method is Method.WASSERSTEIN
        values, codes = np.unique(frame[name] if is_number else _pool_rare(frame[name]), return_inverse=True)
        occurrences = np.bincount(codes).tolist()
        keys = [f"{value:g}" for value in values] if is_number else values.tolist()
        counts[name] = dict(zip(keys, occurrences, strict=True))
        coded.append((codes, values if is_number else None))
    # Each column's share of the false-alarm rate must be at least one sample.
    n_resamples = ceil(len(METHODS) / policy.false_alarm_rate)
    limits = np.stack(
        [
            family_limits(null_distances(coded, patient_id, size, n_resamples, seed), policy.false_alarm_rate)
            for size in policy.sample_sizes
        ],
        axis=1,
    )
    counts[RISK] = _spread(np.round(unseen_risk, 3), len(frame))
    rows = dict.fromkeys(counts, len(frame)) | {RISK: len(unseen_risk)}
    return ReferenceProfile(
        min_changed_rows=policy.min_changed_rows,
        sample_sizes=policy.sample_sizes,
        columns={
            name: ColumnProfile(method=METHODS[name], rows=rows[name], counts=counts[name], limits=tuple(column_limits))
            for name, column_limits in zip(counts, limits.tolist(), strict=True)
        },
    )


def _spread(values: NDArray[np.float64], rows: int) -> dict[str, int]:
    """The distribution of some values over as many rows as the other columns have: Evidently compares one table."""
    quantiles = np.quantile(values, (np.arange(rows) + 0.5) / rows, method="inverted_cdf")
    distinct, occurrences = np.unique(quantiles, return_counts=True)
    return dict(zip((f"{value:g}" for value in distinct), occurrences.tolist(), strict=True))


def comparable(encounters: pd.DataFrame, risk: NDArray[np.float64]) -> pd.DataFrame:
    """Select what is compared: the contract's features and the risk.

    Returns:
        Numbers as float, risks rounded to a thousandth so that a profile holds counts and not the numbers of single
        patients; categories as text, "(missing)" where missing, because Evidently leaves missing values out.
    """
    columns = {
        name: encounters[name].astype(np.float64)
        if method is Method.WASSERSTEIN
        else encounters[name].astype(object).where(encounters[name].notna(), MISSING)
        for name, method in METHODS.items()
        if name != RISK
    }
    return pd.DataFrame(columns).assign(**{RISK: np.round(risk, 3)})


def _pool_rare(column: pd.Series) -> pd.Series:
    occurrences = column.value_counts()
    rare = occurrences.index[occurrences < MIN_CATEGORY_COUNT].difference([MISSING])
    return column.mask(column.isin(rare), OTHER)
