"""Concept drift: whether the champion still tells patients apart. Only matured outcomes can show it.

The champion is compared with its own evaluation at promotion, and with a shadow: the champion's recipe, fitted on newer outcomes.
Batches are checked one after another, and repeated checks must not make a false alarm more likely. So the evidence is an
e-process, whose chance of ever reaching 1 / rate without drift is at most that rate (Ville's inequality; Ramdas et al. 2023,
"Game-theoretic statistics and safe anytime-valid inference", doi 10.1214/23-STS894).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erf, exp, hypot, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.interval import Interval, Outcomes, normal_interval
from healthpredict.evaluation.metrics import Evaluation, evaluate, has_two_classes
from healthpredict.monitoring.params import DriftPolicy

_FALL: Final = 0.02
"""The fall of the AUROC since promotion that justifies a retraining. The evidence grows fastest for falls of about this size."""
_GAIN: Final = 0.01
"""The same for the AUROC that the shadow gains over the champion."""


class Evidence(BaseModel):
    """The evidence of the batches since the champion was trained.

    Attributes:
        e_value: evidence of a change. Without a change, its chance of ever reaching 1 / rate is at most that rate.
        change: AUROC of the compared model minus the AUROC that it is compared with, over all batches.
    """

    model_config = ConfigDict(frozen=True)

    e_value: float
    change: Interval


class ConceptDrift(BaseModel):
    """The champion on matured outcomes.

    Attributes:
        promoted: the evaluation at promotion.
        matured: the evaluation on the matured outcomes, or None if there are too few.
        fall: evidence that the AUROC fell since promotion, or None if `matured` is None.
        behind: evidence that the shadow is better than the champion, or None if there was no shadow.
        drifted: whether the champion should be retrained because of this.
        reasons: what drifted, or why it is unknown; empty if nothing drifted.
    """

    model_config = ConfigDict(frozen=True)

    promoted: Evaluation
    matured: Evaluation | None
    fall: Evidence | None = None
    behind: Evidence | None = None
    drifted: bool
    reasons: tuple[str, ...]


def detect_concept_drift(
    label: Outcomes,
    risk: NDArray[np.float64],
    patient_id: NDArray[np.int64],
    promoted: Evaluation,
    policy: DriftPolicy,
    *,
    batch: NDArray[np.intp] | None = None,
    shadow_gains: Sequence[Interval] = (),
) -> ConceptDrift:
    """Compare the champion on matured outcomes with its evaluation at promotion, and with the shadow.

    Args:
        label: outcomes, shape (n_encounters,), may be empty.
        risk: the champion's readmission risks (0-1) of the same encounters, none of which it was trained on.
        patient_id: shape (n_encounters,).
        promoted: the champion's evaluation at promotion.
        policy: how much worse it may get.
        batch: the number of each encounter's batch, in order, shape (n_encounters,). None means that there is one batch.
        shadow_gains: by batch, the AUROC of a shadow that was fitted on all earlier outcomes, minus the champion's.
    """
    batch = np.zeros(len(label), dtype=np.intp) if batch is None else batch
    try:
        matured = evaluate(label, risk, patient_id)
    except NotEnoughData as error:
        return ConceptDrift(promoted=promoted, matured=None, drifted=False, reasons=(str(error),))
    parts = [batch == number for number in np.unique(batch)]
    # A part with one class only has no AUROC.
    parts = [part for part in parts if has_two_classes(label[part])] if len(parts) > 1 else []
    now = [evaluate(label[part], risk[part], patient_id[part]).auroc for part in parts] or [matured.auroc]
    fall = _evidence(now, promoted.auroc, _FALL, falls=True)
    behind = _evidence(shadow_gains, None, _GAIN, falls=False) if shadow_gains else None
    enough = 2 / policy.concept_false_alarm_rate  # two comparisons
    reasons = []
    if fall.e_value >= enough and -fall.change.value >= policy.min_auroc_drop:
        reasons.append(f"AUROC fell from {promoted.auroc} at promotion to {matured.auroc}")
    if behind is not None and behind.e_value >= enough:
        reasons.append(f"a model fitted on newer outcomes gains {behind.change} AUROC over the champion")
    return ConceptDrift(
        promoted=promoted,
        matured=matured,
        fall=fall,
        behind=behind,
        drifted=bool(reasons),
        reasons=tuple(reasons),
    )


def _evidence(batches: Sequence[Interval], reference: Interval | None, scale: float, *, falls: bool) -> Evidence:
    """Weigh the values of the batches against a reference, or against 0 if there is none."""
    weights = np.array([1 / _error(interval) ** 2 for interval in batches])
    change = float(weights @ [interval.value for interval in batches] / weights.sum())
    error = 1 / sqrt(weights.sum())
    if reference is not None:
        change, error = change - reference.value, hypot(error, _error(reference))
    e_value = evidence_of_change(-change if falls else change, error, scale)
    return Evidence(e_value=e_value, change=normal_interval(change, error))


def evidence_of_change(change: float, error: float, scale: float) -> float:
    """Return the e-value of a positive change against no change.

    The reference and the values of the batches are independent and approximately normal. The likelihood ratio of "all batches
    differ from the reference by d" against "none differs" depends only on the weighted mean of the differences. It is
    mixed over d > 0 with a half-normal distribution (Robbins 1970, doi 10.1214/aoms/1177696786).

    Args:
        change: weighted mean of the differences from the reference.
        error: its standard error, including that of the reference.
        scale: of the half-normal distribution: the change to detect.
    """
    total = error**2 + scale**2
    exponent = min(change**2 * scale**2 / (2 * error**2 * total), 700.0)
    mixture = error / sqrt(total) * exp(exponent)
    z = change * scale / (error * sqrt(total))
    return mixture * (1 + erf(z / sqrt(2)))


def _error(interval: Interval) -> float:
    """Return the standard error behind a 95 % interval. It is never zero, even if the value hardly varies."""
    return max(interval.error, 1e-6)
