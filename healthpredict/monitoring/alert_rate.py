"""The alert rate: the share of encounters that the champion flags as `high_risk`. It is a promise to those who follow them up."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest

from healthpredict.evaluation.interval import Floats, Interval
from healthpredict.monitoring.params import DriftPolicy


class AlertRate(BaseModel):
    """The alert rate of a batch, by the champion that served when the batch arrived.

    Attributes:
        promised: share of encounters (0-1) that the threshold should flag.
        flagged: share that it flags, with the exact 95 % interval (Clopper-Pearson).
        broken: whether the difference is larger than the policy allows, and not by chance.
    """

    model_config = ConfigDict(frozen=True)

    promised: float
    flagged: Interval
    broken: bool


def check_alert_rate(risk: Floats, threshold: float, promised: float, policy: DriftPolicy) -> AlertRate:
    """Compare the share of encounters at or above the threshold with the promised share.

    Args:
        risk: shape (n_encounters,), not empty.
        threshold: a risk at or above it is `high_risk`.
        promised: share of encounters (0-1).
        policy: the largest difference that is allowed.
    """
    flagged = binomtest(int((risk >= threshold).sum()), len(risk))
    low, high = flagged.proportion_ci(method="exact")
    value = float(flagged.statistic)
    return AlertRate(
        promised=promised,
        flagged=Interval(value=value, low=float(low), high=float(high)),
        broken=abs(value - promised) > policy.alert_rate_tolerance and not low <= promised <= high,
    )
