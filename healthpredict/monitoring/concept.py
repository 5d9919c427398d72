"""Concept drift: whether risks still mean what they meant at promotion. Only matured outcomes can show it."""

from __future__ import annotations

from math import hypot

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.metrics import Evaluation, Interval, evaluate
from healthpredict.monitoring.params import DriftPolicy


class ConceptDrift(BaseModel):
    """The champion on matured outcomes, beside what it showed at promotion.

    Attributes:
        promoted: the evaluation at promotion.
        matured: the evaluation on the matured outcomes; None where there are too few.
        drop: AUROC at promotion minus AUROC now, above zero where the champion got worse; None where `matured` is.
        drifted: whether the champion got worse by more than the policy allows.
        reasons: what drifted, or why nothing can be said; empty where all is well.
    """

    model_config = ConfigDict(frozen=True)

    promoted: Evaluation
    matured: Evaluation | None
    drop: Interval | None
    drifted: bool
    reasons: tuple[str, ...]


def detect_concept_drift(
    label: NDArray[np.bool_],
    risk: NDArray[np.float64],
    patient_id: NDArray[np.int64],
    promoted: Evaluation,
    policy: DriftPolicy,
) -> ConceptDrift:
    """Compare the champion on matured outcomes with what it showed at promotion.

    Args:
        label: whether the patient was readmitted, shape (n_encounters,), may be empty.
        risk: the champion's readmission risks (0-1) of the same encounters, none of which it was trained on.
        patient_id: shape (n_encounters,).
        promoted: the champion's evaluation at promotion.
        policy: how much worse it may get.
    """
    try:
        matured = evaluate(label, risk, patient_id)
    except NotEnoughData as error:
        return ConceptDrift(promoted=promoted, matured=None, drop=None, drifted=False, reasons=(str(error),))
    drop = _difference(promoted.auroc, matured.auroc)
    offset = matured.calibration_in_the_large
    reasons = []
    if drop.value >= policy.max_auroc_drop and drop.low > 0:
        reasons.append(f"AUROC fell from {promoted.auroc} at promotion to {matured.auroc}")
    if offset.low > policy.max_calibration_offset:
        reasons.append(f"risks are too high, by {offset} on average")
    if offset.high < -policy.max_calibration_offset:
        reasons.append(f"risks are too low, by {offset} on average")
    return ConceptDrift(promoted=promoted, matured=matured, drop=drop, drifted=bool(reasons), reasons=tuple(reasons))


def _difference(first: Interval, second: Interval) -> Interval:
    """First minus second of two independent estimates.

    The limits are recovered from those of the two estimates (MOVER: Zou & Donner 2008, doi 10.1002/sim.3095).
    """
    value = first.value - second.value
    return Interval(
        value=value,
        low=value - hypot(first.value - first.low, second.high - second.value),
        high=value + hypot(first.high - first.value, second.value - second.low),
    )
