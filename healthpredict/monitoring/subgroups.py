"""Drift and performance by sex, race and age band."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.metrics import Interval
from healthpredict.evaluation.report import evaluate_subgroups, subgroups_of
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile

_N_BOOTSTRAP = 100


class SubgroupDrift(BaseModel):
    """Drift and performance of one group.

    Attributes:
        column: `gender`, `race` or `age`.
        value: the group.
        rows: encounters of the batch.
        risk: their mean risk (0-1).
        reference_risk: their mean risk in the training data, or None if the group was too small there.
        auroc: on matured outcomes, or None if there are too few.
        calibration_in_the_large: mean risk minus readmitted share on matured outcomes, or None if there are too few.
        alarm: what is wrong, or None.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    value: str
    rows: int
    risk: float
    reference_risk: float | None
    auroc: Interval | None = None
    calibration_in_the_large: Interval | None = None
    alarm: str | None = None


def detect_subgroup_drift(
    profile: ReferenceProfile,
    encounters: pd.DataFrame,
    risk: NDArray[np.float64],
    matured: tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.float64]] | None,
    policy: DriftPolicy,
) -> tuple[SubgroupDrift, ...]:
    """Check each sex, race and age band of the batch that has enough encounters.

    Args:
        profile: of the reference.
        encounters: the batch, shape (n_encounters, ...).
        risk: of the batch, shape (n_encounters,).
        matured: encounters with known outcomes that the champion was not trained on, their outcomes and their risks; None if there
            are none.
        policy: size of the smallest group, and the largest offset.
    """
    measured = {}
    if matured is not None:
        groups = evaluate_subgroups(*matured, policy.min_subgroup_rows, _N_BOOTSTRAP)
        measured = {(group.column, group.value): group for group in groups}
    found = []
    for column, value, rows in subgroups_of(encounters, policy.min_subgroup_rows):
        group = measured.get((column, value))
        found.append(
            SubgroupDrift(
                column=column,
                value=value,
                rows=int(rows.sum()),
                risk=float(risk[rows].mean()),
                reference_risk=profile.subgroups.get(column, {}).get(value),
                auroc=group.auroc if group else None,
                calibration_in_the_large=group.calibration_in_the_large if group else None,
                alarm=_alarm(group.calibration_in_the_large, policy) if group else None,
            )
        )
    return tuple(found)


def _alarm(offset: Interval, policy: DriftPolicy) -> str | None:
    if offset.low > policy.max_subgroup_offset:
        return f"risks are too high, by {offset} on average"
    if offset.high < -policy.max_subgroup_offset:
        return f"risks are too low, by {offset} on average"
    return None
