"""Concept drift: whether risks still mean what they meant at promotion. Only matured outcomes can show it.

Batches are checked one after another, and repeated checks must not make a false alarm more likely. So the evidence is an
e-process, whose chance of ever reaching 1 / rate without drift is at most that rate (Ville's inequality; Ramdas et al. 2023,
"Game-theoretic statistics and safe anytime-valid inference", doi 10.1214/23-STS894).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erf, exp, hypot, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.metrics import Evaluation, Interval, evaluate
from healthpredict.monitoring.params import DriftPolicy


class _Watched(NamedTuple):
    """A monitored metric: the change to detect, whether only a fall matters, and the sentences for a rise and a fall."""

    scale: float
    only_fall: bool
    risen: str
    fallen: str


# The scales are changes that justify a retraining. The evidence grows fastest for changes of about this size.
_WATCHED: Final = {
    "auroc": _Watched(0.02, True, "", "AUROC fell from {then} at promotion to {now}"),
    "calibration_in_the_large": _Watched(
        0.01,
        False,
        "risks are too high, by {now} on average (at promotion {then})",
        "risks are too low, by {now} on average (at promotion {then})",
    ),
    "calibration_slope": _Watched(
        0.2,
        False,
        "risks are not extreme enough: calibration slope {now}, at promotion {then}",
        "risks are too extreme: calibration slope {now}, at promotion {then}",
    ),
}


class Evidence(BaseModel):
    """The evidence of the batches since promotion about one metric.

    Attributes:
        metric: name of a field of `Evaluation`.
        e_value: evidence of a change. Without a change, its chance of ever reaching 1 / rate is at most that rate.
        change: the metric over all batches since promotion, minus its value at promotion.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    e_value: float
    change: Interval


class ConceptDrift(BaseModel):
    """The champion on matured outcomes, compared with its evaluation at promotion.

    Attributes:
        promoted: the evaluation at promotion.
        matured: the evaluation on the matured outcomes, or None if there are too few.
        evidence: of a change, by metric; empty if `matured` is None.
        drifted: whether the champion got worse by more than the policy allows.
        reasons: what drifted, or why it is unknown; empty if nothing drifted.
    """

    model_config = ConfigDict(frozen=True)

    promoted: Evaluation
    matured: Evaluation | None
    evidence: tuple[Evidence, ...] = ()
    drifted: bool
    reasons: tuple[str, ...]


def detect_concept_drift(
    label: NDArray[np.bool_],
    risk: NDArray[np.float64],
    patient_id: NDArray[np.int64],
    promoted: Evaluation,
    policy: DriftPolicy,
    *,
    batch: NDArray[np.intp] | None = None,
) -> ConceptDrift:
    """Compare the champion on matured outcomes with its evaluation at promotion.

    Args:
        label: whether the patient was readmitted, shape (n_encounters,), may be empty.
        risk: the champion's readmission risks (0-1) of the same encounters, none of which it was trained on.
        patient_id: shape (n_encounters,).
        promoted: the champion's evaluation at promotion.
        policy: how much worse it may get.
        batch: the number of each encounter's batch, in order, shape (n_encounters,). None means that there is one batch.
    """
    batch = np.zeros(len(label), dtype=np.intp) if batch is None else batch
    try:
        matured = evaluate(label, risk, patient_id)
    except NotEnoughData as error:
        return ConceptDrift(promoted=promoted, matured=None, drifted=False, reasons=(str(error),))
    parts = [batch == number for number in np.unique(batch)]
    # A part with one class only has no AUROC.
    parts = [part for part in parts if 0 < label[part].sum() < part.sum()] if len(parts) > 1 else []
    each = [evaluate(label[part], risk[part], patient_id[part]) for part in parts] or [matured]
    evidence = tuple(_evidence(metric, promoted, each) for metric in _WATCHED)
    enough = len(_WATCHED) / policy.concept_false_alarm_rate
    reasons = tuple(
        _sentence(found, promoted, matured) for found in evidence if found.e_value >= enough and _matters(found, policy)
    )
    return ConceptDrift(promoted=promoted, matured=matured, evidence=evidence, drifted=bool(reasons), reasons=reasons)


def _matters(found: Evidence, policy: DriftPolicy) -> bool:
    least = {
        "auroc": policy.min_auroc_drop,
        "calibration_in_the_large": policy.min_calibration_offset,
        "calibration_slope": policy.min_slope_change,
    }
    return abs(found.change.value) >= least[found.metric]


def _sentence(found: Evidence, promoted: Evaluation, matured: Evaluation) -> str:
    watched = _WATCHED[found.metric]
    words = watched.risen if found.change.value > 0 else watched.fallen
    return words.format(then=getattr(promoted, found.metric), now=getattr(matured, found.metric))


def _evidence(metric: str, promoted: Evaluation, batches: Sequence[Evaluation]) -> Evidence:
    then: Interval = getattr(promoted, metric)
    now: list[Interval] = [getattr(batch, metric) for batch in batches]
    weights = np.array([1 / _error(interval) ** 2 for interval in now])
    change = float(weights @ [interval.value for interval in now] / weights.sum()) - then.value
    error = hypot(_error(then), 1 / sqrt(weights.sum()))
    watched = _WATCHED[metric]
    e_value = evidence_of_change(-change, error, watched.scale, one_sided=watched.only_fall)
    interval = Interval(value=change, low=change - 1.96 * error, high=change + 1.96 * error)
    return Evidence(metric=metric, e_value=e_value, change=interval)


def evidence_of_change(change: float, error: float, scale: float, *, one_sided: bool) -> float:
    """Return the e-value of a change against no change.

    The promoted value and those of the batches are independent and approximately normal. The likelihood ratio of "all batches
    differ from the promoted value by d" against "none differs" depends only on the weighted mean of the differences. It is
    mixed over d with a normal distribution around zero (Robbins 1970, doi 10.1214/aoms/1177696786).

    Args:
        change: weighted mean of the differences from the promoted value.
        error: its standard error, including that of the promoted value.
        scale: standard deviation of d, the change to detect.
        one_sided: whether only d > 0 counts.
    """
    total = error**2 + scale**2
    exponent = min(change**2 * scale**2 / (2 * error**2 * total), 700.0)
    mixture = error / sqrt(total) * exp(exponent)
    if not one_sided:
        return mixture
    z = change * scale / (error * sqrt(total))
    return mixture * (1 + erf(z / sqrt(2)))


def _error(interval: Interval) -> float:
    """Return the standard error behind a 95 % interval. It is never zero, even if the metric hardly varies."""
    return max((interval.high - interval.low) / (2 * 1.96), 1e-6)
