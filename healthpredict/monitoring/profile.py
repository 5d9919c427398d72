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
        counts: value -> rows; numbers written as text, missing values under "(missing)".
        limits: for each of the profile's `sample_sizes`, the distance that counts as drift.
    """

    model_config = ConfigDict(frozen=True)

    method: Method
    counts: dict[str, int]
    limits: tuple[float, ...]

    @property
    def categories(self) -> pd.CategoricalDtype:
        """The values of a category column that are told apart."""
        return pd.CategoricalDtype(pd.Index(dict.fromkeys([*self.counts, OTHER])))


class ReferenceProfile(BaseModel):
    """The distributions that batches are compared with, and the limits of what is chance.

    Attributes:
        rows: reference encounters.
        min_changed_rows: see `DriftPolicy`.
        sample_sizes: effective sample sizes that the limits belong to, ascending.
        columns: field name -> profile, in the contract's order, and `readmission_risk` last.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
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
        size = effective_size(rows, self.rows)
        scaled = np.multiply(profile.limits, np.sqrt(self.sample_sizes))
        limit = float(np.interp(np.log(size), np.log(self.sample_sizes), scaled) / np.sqrt(size))
        if profile.method is Method.WASSERSTEIN:
            return max(limit, SMALLEST_LIMIT)
        # No sample of the reference can show a value that it lacks, yet rare ones turn up in any batch.
        changed = min(self.min_changed_rows, rows)
        return max(limit, float(jensen_shannon(np.array([rows, 0]), np.array([rows - changed, changed]))))


def build_profile(
    encounters: pd.DataFrame,
    risk: NDArray[np.float64],
    patient_id: NDArray[np.int64],
    policy: DriftPolicy,
    seed: int = 0,
) -> ReferenceProfile:
    """Build the profile of a reference.

    Args:
        encounters: frame with every feature of the contract, shape (n_encounters, ...).
        risk: readmission risks (0-1) of the same encounters, shape (n_encounters,), from a model that was not fitted on
            them (out-of-fold): risks of a model's own training rows are spread wider than any batch's will be.
        patient_id: shape (n_encounters,).
        policy: the false-alarm rate and how the limits are drawn.
        seed: of the resampling.

    Raises:
        NotEnoughData: there are no encounters.
    """
    if encounters.empty:
        raise NotEnoughData("A reference profile needs encounters; this frame has none.")
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
    return ReferenceProfile(
        rows=len(frame),
        min_changed_rows=policy.min_changed_rows,
        sample_sizes=policy.sample_sizes,
        columns={
            name: ColumnProfile(method=METHODS[name], counts=counts[name], limits=tuple(column_limits))
            for name, column_limits in zip(counts, limits.tolist(), strict=True)
        },
    )


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
