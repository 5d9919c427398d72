"""Groups of patients, and the performance of a model in each group compared with that in all other patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import erfc, sqrt
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.bootstrap import bootstrap_sums, group_equal
from healthpredict.evaluation.interval import Floats, Interval, Outcomes, percentile_interval

if TYPE_CHECKING:
    # The API reads a `TestReport` from a bundle and does not import pandas.
    import pandas as pd

GROUPINGS: Final = (("gender",), ("race",), ("age",), ("payer_code",), ("gender", "age"))
"""Columns whose values make up a group."""
MISSING: Final = "(missing)"
"""The group of patients whose value is missing."""
MIN_DENOMINATOR: Final = 50
"""Smallest number of encounters that a rate is computed from. With fewer, its distribution is too far from normal."""

Metric = Literal["sensitivity", "false_positive_rate", "ppv", "offset"]


class GroupMetric(BaseModel):
    """A metric of a group.

    Attributes:
        value: in the group.
        gap: `value` minus the value in all other encounters.
        p_value: of the hypothesis that the gap is 0; for `offset`, that the value is 0, which is right for every group. It is
            corrected for the number of groups and metrics (Holm 1979, https://www.jstor.org/stable/4615733).
    """

    model_config = ConfigDict(frozen=True)

    value: Interval
    gap: Interval
    p_value: float


class GroupPerformance(BaseModel):
    """The performance of a model in one group.

    Attributes:
        column: what the group is made of, such as `age`, or `gender and age`.
        value: the group, such as `[90-100)`.
        rows: encounters.
        readmitted: those of them that were readmitted; rounded if outcomes were estimated.
        metrics: sensitivity, false-positive rate and positive predictive value at the threshold, and `offset`, which is mean risk
            minus readmitted share. A metric is left out if the group, or the others, have fewer than `MIN_DENOMINATOR`
            encounters for it.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    value: str
    rows: int
    readmitted: int
    metrics: dict[Metric, GroupMetric]


def subgroups_of(encounters: pd.DataFrame, min_rows: int) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield column, value and rows, shape (n_encounters,), of each group of `GROUPINGS` that has `min_rows` encounters."""
    for columns in GROUPINGS:
        coded = [_coded(encounters, column) for column in columns]
        first, group = group_equal(*(codes for codes, _ in coded))
        names = [", ".join(values[codes[row]] for codes, values in coded) for row in first]
        for name, number in sorted(zip(names, range(len(names)), strict=True)):
            rows = group == number
            if rows.sum() >= min_rows:
                yield " and ".join(columns), name, rows


def group_performance(
    encounters: pd.DataFrame,
    label: Outcomes,
    risk: Floats,
    *,
    threshold: float,
    min_rows: int,
    n_bootstrap: int,
    seed: int = 0,
) -> tuple[GroupPerformance, ...]:
    """Measure the performance in every group that has enough encounters.

    P-values are those of the normal distribution, with the standard error of a bootstrap over patients.

    Args:
        encounters: frame with `patient_id` and the columns of `GROUPINGS`, shape (n_encounters, ...).
        label: outcomes, shape (n_encounters,).
        risk: probability 0-1, shape (n_encounters,).
        threshold: a risk at or above it is flagged.
        min_rows: smaller groups are left out.
        n_bootstrap: resamples of patients.
        seed: of the resampling.
    """
    groups = list(subgroups_of(encounters, min_rows))
    if not groups:
        return ()
    flagged = risk >= threshold
    columns = dict.fromkeys(column for grouping in GROUPINGS for column in grouping)
    codes = [_coded(encounters, column)[0] for column in columns]
    # A cell is the encounters with the same values and flag. Every group is a union of cells, so one pass over the encounters of a
    # resample is enough for all groups. Cells are also split by outcome, to keep the order of the sums and so their last bits.
    first, cell = group_equal(*codes, (label > 0).astype(np.intp), flagged.astype(np.intp))
    member = np.stack([rows[first] for _, _, rows in groups], axis=1).astype(np.float64)
    terms = (np.ones(len(label)), risk, np.asarray(label, dtype=np.float64))
    sums = np.array([[np.bincount(cell, term) for term in terms]])
    drawn = bootstrap_sums(cell, terms, encounters["patient_id"].to_numpy(), n_bootstrap, seed)
    measured = _measure(sums, flagged[first], member)
    draws = _measure(drawn, flagged[first], member)
    found = {
        (metric, i): _group_metric(metric, values, draws[metric], i)
        for metric, values in measured.items()
        for i in range(len(groups))
        if values.encounters[0, i] >= MIN_DENOMINATOR
    }
    corrected = dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
    return tuple(
        GroupPerformance(
            column=column,
            value=name,
            rows=int(rows.sum()),
            readmitted=round(label[rows].sum()),
            metrics={
                metric: one.model_copy(update={"p_value": corrected[metric, i]})
                for (metric, group), one in found.items()
                if group == i
            },
        )
        for i, (column, name, rows) in enumerate(groups)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's method: the probability that any of them is below a level by chance is at most that level."""
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(adjusted, 1.0)
    return [float(p) for p in corrected]


class _Measured(NamedTuple):
    """A metric of each group in each resample, all of shape (n_resamples, n_groups)."""

    value: Floats
    gap: Floats
    encounters: Floats
    """Number of encounters that the metric is computed from: in the group or among the others, whichever is smaller."""


def _measure(sums: Floats, flagged: NDArray[np.bool_], member: Floats) -> dict[Metric, _Measured]:
    """Compute all metrics from sums over cells.

    Args:
        sums: number of encounters, sum of their risks and number of readmitted ones, shape (n_resamples, 3, n_cells).
        flagged: whether the encounters of a cell are flagged, shape (n_cells,).
        member: 1 if a cell belongs to a group, otherwise 0, shape (n_cells, n_groups).
    """
    counts, risks, readmitted = sums[:, 0], sums[:, 1], sums[:, 2]
    not_readmitted = counts - readmitted
    parts: dict[Metric, tuple[Floats, Floats]] = {
        "sensitivity": (readmitted * flagged, readmitted),
        "false_positive_rate": (not_readmitted * flagged, not_readmitted),
        "ppv": (readmitted * flagged, counts * flagged),
        "offset": (risks - readmitted, counts),
    }
    measured: dict[Metric, _Measured] = {}
    for metric, (part, whole) in parts.items():
        inside, total = part @ member, whole @ member
        outside, other = part.sum(axis=1, keepdims=True) - inside, whole.sum(axis=1, keepdims=True) - total
        with np.errstate(invalid="ignore", divide="ignore"):
            measured[metric] = _Measured(inside / total, inside / total - outside / other, np.minimum(total, other))
    return measured


def _group_metric(metric: Metric, measured: _Measured, draws: _Measured, i: int) -> GroupMetric:
    value, gap = float(measured.value[0, i]), float(measured.gap[0, i])
    tested, resampled = (value, draws.value) if metric == "offset" else (gap, draws.gap)
    error = float(np.nanstd(resampled[:, i]))
    return GroupMetric(
        value=percentile_interval(value, draws.value[:, i]),
        gap=percentile_interval(gap, draws.gap[:, i]),
        p_value=erfc(abs(tested) / (error * sqrt(2))) if error > 0 else 1.0,
    )


def _coded(encounters: pd.DataFrame, column: str) -> tuple[NDArray[np.intp], list[str]]:
    """Return the code of each encounter's value, shape (n_encounters,), and the values."""
    codes, values = encounters[column].factorize(use_na_sentinel=False)
    return codes, [value if isinstance(value, str) else MISSING for value in values]
