"""Evaluate a model on the test side, as a whole and by subgroup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.decision_curve import DecisionCurve, decision_curve
from healthpredict.evaluation.interval import Floats, Interval, Outcomes
from healthpredict.evaluation.metrics import Evaluation, evaluate, has_two_classes
from healthpredict.evaluation.subgroups import subgroups_of

if TYPE_CHECKING:
    # The API reads a `TestReport` from a bundle and does not import pandas.
    import pandas as pd

BASELINE_COLUMN = "number_inpatient"
"""Inpatient visits in the year before: the strongest single variable, which a model must beat."""


class Subgroup(BaseModel):
    """Metrics of a model on one group of patients, such as `gender` `Female`; see `Evaluation`."""

    model_config = ConfigDict(frozen=True)

    column: str
    value: str
    rows: int
    auroc: Interval
    calibration_in_the_large: Interval


class TestReport(BaseModel):
    """Metrics of a model on patients that it was not trained on.

    Attributes:
        evaluation: discrimination and calibration.
        baseline_auroc: of `BASELINE_COLUMN` alone on the same encounters.
        threshold: a risk at or above it is `high_risk`.
        alert_rate: share of encounters at or above the threshold.
        sensitivity: share of readmitted encounters at or above the threshold.
        subgroups: groups with enough rows and both classes.
        decision_curve: usefulness by threshold; None in bundles of earlier versions of this system.
    """

    __test__ = False  # not a pytest class
    model_config = ConfigDict(frozen=True)

    evaluation: Evaluation
    baseline_auroc: Interval
    threshold: float
    alert_rate: float
    sensitivity: float
    subgroups: tuple[Subgroup, ...]
    decision_curve: DecisionCurve | None = None


def report_on(
    encounters: pd.DataFrame,
    label: Outcomes,
    risk: Floats,
    *,
    threshold: float,
    min_subgroup_rows: int,
    n_bootstrap: int,
) -> TestReport:
    """Evaluate risks on test-side encounters.

    Args:
        encounters: frame with `patient_id`, `BASELINE_COLUMN` and the columns of `GROUPINGS`, shape (n_encounters, ...).
        label: outcomes, shape (n_encounters,).
        risk: probability 0-1, shape (n_encounters,).
        threshold: a risk at or above it is `high_risk`.
        min_subgroup_rows: smaller groups are left out.
        n_bootstrap: resamples behind each interval.

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    patient_id = encounters["patient_id"].to_numpy()
    baseline = encounters[BASELINE_COLUMN].to_numpy(dtype=np.float64)
    high = risk >= threshold
    return TestReport(
        evaluation=evaluate(label, risk, patient_id, n_bootstrap=n_bootstrap),
        baseline_auroc=evaluate(label, baseline, patient_id, n_bootstrap=n_bootstrap).auroc,
        threshold=threshold,
        alert_rate=float(high.mean()),
        sensitivity=float((high * label).sum() / label.sum()),
        subgroups=evaluate_subgroups(encounters, label, risk, min_subgroup_rows, n_bootstrap),
        decision_curve=decision_curve(label, risk, baseline, patient_id, threshold=threshold, n_bootstrap=n_bootstrap),
    )


def evaluate_subgroups(
    encounters: pd.DataFrame, label: Outcomes, risk: Floats, min_rows: int, n_bootstrap: int
) -> tuple[Subgroup, ...]:
    """Evaluate each group that has at least `min_rows` encounters and both classes; see `GROUPINGS`."""
    found = []
    for column, value, rows in subgroups_of(encounters, min_rows):
        if not has_two_classes(label[rows]):
            continue
        patient_id = encounters["patient_id"].to_numpy()[rows]
        measured = evaluate(label[rows], risk[rows], patient_id, n_bootstrap=n_bootstrap)
        found.append(
            Subgroup(
                column=column,
                value=value,
                rows=measured.rows,
                auroc=measured.auroc,
                calibration_in_the_large=measured.calibration_in_the_large,
            )
        )
    return tuple(found)
