"""Drift and performance in groups of patients, and the alarms that they raise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.interval import Outcomes
from healthpredict.evaluation.subgroups import (
    GROUPINGS,
    GroupMetric,
    Metric,
    group_performance,
    subgroups_of,
)
from healthpredict.monitoring.alarms import Alarm
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.monitoring.words import name_of

_N_BOOTSTRAP: Final = 200
_LEVEL: Final = 0.05
"""Probability that any group raises an alarm by chance, if the model is equally good in all groups. The p-values are corrected
for the number of groups and metrics."""
_SMALLEST_LOSS: Final = 0.05
"""Smallest loss of sensitivity or positive predictive value, against all other patients, that raises an alarm."""
_Problem = Literal["sensitivity", "positive predictive value", "risks too high", "risks too low"]
"""Part of `Alarm.about`: never reword it."""
_LOWER_IS_WORSE: Final[dict[Metric, tuple[_Problem, str]]] = {
    "sensitivity": ("sensitivity", "sensitivity"),
    "ppv": ("positive predictive value", "positive predictive value"),
}
"""Metrics that raise an alarm: their problem, and their name in the sentence. The false-positive rate raises none: where more
patients return, even perfect risks flag more of those who do not (Chouldechova 2017, doi 10.1089/big.2016.0047)."""


class SubgroupDrift(BaseModel):
    """Drift and performance of one group.

    Attributes:
        column: the column or columns that define the group, such as `age`, or `gender and age`.
        value: the group's value of the column, or `(missing)`.
        rows: encounters of the batch.
        risk: their mean risk (0-1), or None if the batch has too few of them.
        reference_risk: mean risk of the group in the training data, or None if it was too small there.
        known_rows: encounters with known outcomes that the champion was not trained on.
        metrics: the champion's performance on the `known_rows`, see `GroupPerformance`; empty if there are too few.
        alarm: what is wrong, or None.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    value: str
    rows: int
    risk: float | None
    reference_risk: float | None
    known_rows: int = 0
    metrics: dict[Metric, GroupMetric] = {}
    alarm: str | None = None


def detect_subgroup_drift(
    profile: ReferenceProfile,
    encounters: pd.DataFrame,
    risk: NDArray[np.float64],
    matured: tuple[pd.DataFrame, Outcomes, NDArray[np.float64]] | None,
    *,
    threshold: float,
    policy: DriftPolicy,
) -> tuple[SubgroupDrift, ...]:
    """Check each group that has enough encounters in the batch or among those with known outcomes.

    Args:
        profile: of the reference.
        encounters: the batch, shape (n_encounters, ...).
        risk: of the batch, shape (n_encounters,).
        matured: all encounters with known outcomes that the champion was not trained on, their outcomes and their risks; None if
            there are none.
        threshold: the champion's. A risk at or above it is flagged.
        policy: size of the smallest group, and the largest offset.
    """
    smallest = policy.min_subgroup_rows
    arrived = {(column, value): rows for column, value, rows in subgroups_of(encounters, 1)}
    measured = {}
    if matured is not None:
        groups = group_performance(*matured, threshold=threshold, min_rows=smallest, n_bootstrap=_N_BOOTSTRAP)
        measured = {(group.column, group.value): group for group in groups}
    found = []
    order = [" and ".join(columns) for columns in GROUPINGS]
    for column, value in sorted({*arrived, *measured}, key=lambda group: (order.index(group[0]), group[1])):
        rows, group = arrived.get((column, value)), measured.get((column, value))
        count = 0 if rows is None else int(rows.sum())
        if group is None and count < smallest:
            continue
        metrics = group.metrics if group else {}
        found.append(
            SubgroupDrift(
                column=column,
                value=value,
                rows=count,
                risk=float(risk[rows].mean()) if rows is not None and count >= smallest else None,
                reference_risk=profile.subgroups.get(column, {}).get(value),
                known_rows=group.rows if group else 0,
                metrics=metrics,
                alarm="; ".join(sentence for _, sentence in _problems(metrics, policy)) or None,
            )
        )
    return tuple(found)


def subgroup_alarms(groups: Sequence[SubgroupDrift], policy: DriftPolicy) -> tuple[Alarm, ...]:
    """Return an alarm for each problem of each group."""
    return tuple(
        Alarm(
            about=f"{group.column} {group.value}: {problem}",
            sentence=f"For {name_of(group.column)} {group.value}, {sentence}.",
            lasts=True,
        )
        for group in groups
        for problem, sentence in _problems(group.metrics, policy)
    )


def _problems(metrics: dict[Metric, GroupMetric], policy: DriftPolicy) -> Iterator[tuple[_Problem, str]]:
    """Yield each problem: its stored name, and a clause for the sentence of the alarm."""
    for metric, (problem, name) in _LOWER_IS_WORSE.items():
        found = metrics.get(metric)
        if found is not None and found.p_value < _LEVEL and found.gap.value <= -_SMALLEST_LOSS:
            yield problem, f"the {name} is {found.value}, lower than for other patients by {-found.gap}"
    offset = metrics.get("offset")
    if offset is None or offset.p_value >= _LEVEL or abs(offset.value.value) < policy.max_subgroup_offset:
        return
    # If the risks of all patients are off, the calibration of the model is at fault, not that of a group.
    if offset.value.value > 0 and offset.gap.low > 0:
        yield "risks too high", f"risks are too high, by {offset.value} on average"
    elif offset.value.value < 0 and offset.gap.high < 0:
        yield "risks too low", f"risks are too low, by {-offset.value} on average"
