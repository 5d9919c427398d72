"""Usefulness of risks at a threshold: how many patients are flagged, how many of them return, and the net benefit.

Net benefit (Vickers & Elkin 2006, doi 10.1177/0272989X06295361) counts true alarms and subtracts false alarms, each of which
weighs t / (1 - t) at a threshold t: a team that flags patients from a risk of .10 on accepts nine false alarms for one true alarm.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.bootstrap import bootstrap_sums, group_equal
from healthpredict.evaluation.interval import Floats, Interval, Outcomes, percentile_interval
from healthpredict.evaluation.logistic import fitted_risks
from healthpredict.evaluation.metrics import require_two_classes

THRESHOLDS: Final = tuple(percent / 100 for percent in range(1, 31))
"""Thresholds of a decision curve. Few patients have a risk above .30."""


class DecisionPoint(BaseModel):
    """The usefulness of a model at one threshold. Net benefits are per encounter; that of flagging nobody is 0.

    Attributes:
        threshold: a risk at or above it is flagged.
        alert_rate: share of encounters that are flagged.
        sensitivity: share of readmitted encounters that are flagged.
        ppv: share of flagged encounters that are readmitted; None if none is flagged.
        net_benefit: net benefit of the model.
        treat_all: net benefit of flagging everybody.
        baseline: net benefit of the baseline variable.
        advantage: net benefit of the model minus the largest of the baseline, of flagging everybody and of flagging nobody.
    """

    model_config = ConfigDict(frozen=True)

    threshold: float
    alert_rate: Interval
    sensitivity: Interval
    ppv: Interval | None
    net_benefit: Interval
    treat_all: Interval
    baseline: Interval
    advantage: Interval

    @property
    def number_needed_to_evaluate(self) -> Interval | None:
        """How many flagged patients are evaluated to find one who returns; None if nobody is flagged or none of them returns."""
        if self.ppv is None or self.ppv.value == 0:
            return None
        return Interval(
            value=1 / self.ppv.value,
            low=1 / self.ppv.high,
            high=1 / self.ppv.low if self.ppv.low else float("inf"),
        )


class DecisionCurve(BaseModel):
    """The usefulness of a model by threshold.

    Attributes:
        rows: encounters.
        points: at `THRESHOLDS`.
        at_threshold: at the model's own threshold.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    points: tuple[DecisionPoint, ...]
    at_threshold: DecisionPoint

    @property
    def selected(self) -> tuple[DecisionPoint, ...]:
        """The points at every fifth percent, for tables."""
        return self.points[4::5]


def decision_curve(
    label: Outcomes,
    risk: Floats,
    baseline: Floats,
    patient_id: NDArray[np.int64],
    *,
    threshold: float,
    n_bootstrap: int,
    seed: int = 0,
) -> DecisionCurve:
    """Compute the usefulness of risks by threshold, beside flagging everybody, flagging nobody, and one variable alone.

    A logistic regression on these encounters turns the variable into a risk, as in the package dcurves. It is fitted once, on the
    data that the variable is judged on. That favours the variable a little over the model.

    Args:
        label: outcomes, shape (n_encounters,).
        risk: probability 0-1, shape (n_encounters,).
        baseline: the one variable, shape (n_encounters,).
        patient_id: shape (n_encounters,).
        threshold: the model's own, above 0 and below 1.
        n_bootstrap: resamples of patients behind each interval.
        seed: of the resampling.

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    require_two_classes(label)
    thresholds = np.array([*THRESHOLDS, threshold])
    risks = (risk, fitted_risks(baseline, label))
    # Encounters that reach the same thresholds count alike, so sums over such groups are enough.
    n_reached = [np.searchsorted(np.sort(thresholds), values, side="right") for values in risks]
    first, group = group_equal(*n_reached)
    flagged = np.concatenate([values[first, None] >= thresholds for values in risks], axis=1)
    terms = [np.ones(len(label)), np.asarray(label, dtype=np.float64)]
    sums = np.array([[np.bincount(group, term) for term in terms]])
    value = _measure(sums, flagged, thresholds)
    draws = _measure(bootstrap_sums(group, terms, patient_id, n_bootstrap, seed), flagged, thresholds)
    points = [
        DecisionPoint(
            threshold=float(at),
            ppv=None
            if np.isnan(value["ppv"][0, i])
            else percentile_interval(float(value["ppv"][0, i]), draws["ppv"][:, i]),
            advantage=_advantage(value, draws, i),
            **{
                name: percentile_interval(float(each[0, i]), draws[name][:, i])
                for name, each in value.items()
                if name != "ppv"
            },
        )
        for i, at in enumerate(thresholds)
    ]
    return DecisionCurve(rows=len(label), points=tuple(points[:-1]), at_threshold=points[-1])


def _measure(sums: Floats, reached: NDArray[np.bool_], thresholds: Floats) -> dict[str, Floats]:
    """Compute each value of a `DecisionPoint`, shape (n_resamples, n_thresholds).

    Args:
        sums: number of encounters and of readmitted ones, by group, shape (n_resamples, 2, n_groups).
        reached: whether the risks of a group, and then its baseline, reach each threshold, shape (n_groups, 2 x n_thresholds).
        thresholds: shape (n_thresholds,).
    """
    flagged, baseline_flagged = np.hsplit(sums[:, 0] @ reached, 2)
    hits, baseline_hits = np.hsplit(sums[:, 1] @ reached, 2)
    total, readmitted = (sums[:, term].sum(axis=1, keepdims=True) for term in (0, 1))
    odds = thresholds / (1 - thresholds)
    with np.errstate(invalid="ignore"):
        return {
            "alert_rate": flagged / total,
            "sensitivity": hits / readmitted,
            "ppv": hits / flagged,
            "net_benefit": (hits - odds * (flagged - hits)) / total,
            "treat_all": (readmitted - odds * (total - readmitted)) / total,
            "baseline": (baseline_hits - odds * (baseline_flagged - baseline_hits)) / total,
        }


def _advantage(value: dict[str, Floats], draws: dict[str, Floats], i: int) -> Interval:
    # The third alternative, flagging nobody, has a net benefit of 0.
    best = max(("treat_all", "baseline"), key=lambda name: float(value[name][0, i]))
    if value[best][0, i] < 0:
        return percentile_interval(float(value["net_benefit"][0, i]), draws["net_benefit"][:, i])
    return percentile_interval(
        float(value["net_benefit"][0, i] - value[best][0, i]), draws["net_benefit"][:, i] - draws[best][:, i]
    )
