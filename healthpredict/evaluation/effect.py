"""Readmissions prevented per flag: a discontinuity at the threshold, a weighted difference among flagged patients, a hold-out.

Patients just above and just below the threshold have almost the same risk, but only those above it are flagged. So the jump of the
readmissions at the threshold is the effect of a flag, whether or not an intervention follows (sharp design, intention to treat).
The weighted difference describes all flagged patients, but it is right only if no unmeasured variable decides who is treated.
At the threshold, the two estimate the same number, so each checks the other.

The functions take arrays from this list, without nulls, of the encounters of flagged and of other patients:

- `readmitted`: the observed outcome, shape (n_encounters,).
- `margin`: risk minus the threshold that was in force, shape (n_encounters,); a patient is flagged from 0 on. Its sign must agree
  with the flag, although served risks are rounded.
- `flagged`, `treated`: whether a flag was issued, and whether an intervention was accepted then, shape (n_encounters,).
- `without`: estimated probability of a readmission without an intervention, as a doubly robust pseudo-outcome (Robins, Rotnitzky &
  Zhao 1994, doi 10.1080/01621459.1994.10476818), shape (n_encounters,). It may be below 0 or above 1. Equals `readmitted` below the
  threshold, where nobody is treated.
- `patient_id`: shape (n_encounters,). Errors are clustered by patient.

Leave out encounters that reached the threshold and were not flagged: held back (except for `hold_out_difference`), or in silence.
A `Discontinuity` argument is the result of `regression_discontinuity` for the same encounters.

Every interval has a level of 95 %. An effect is positive if flags prevent readmissions; .02 is one readmission in 50 flags.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.gain import clustered_error
from healthpredict.evaluation.interval import Floats, Interval, normal_interval
from healthpredict.evaluation.local_polynomial import (
    FEWEST_ENCOUNTERS,
    FEWEST_MARGINS,
    Jump,
    bandwidths,
)

FEWEST_READMISSIONS: Final = 20
"""As `FEWEST_ENCOUNTERS`."""
FEWEST_PATIENTS: Final = 50
"""As `FEWEST_ENCOUNTERS`. With fewer clusters, a clustered error is too small (Cameron & Miller 2015, doi 10.3368/jhr.50.2.317)."""


class TooFewEncounters(BaseModel):
    """There is no estimate. The reason is a sentence without a final period."""

    model_config = ConfigDict(frozen=True)

    reason: str


class Discontinuity(BaseModel):
    """The effect of a flag at the threshold, from a regression discontinuity.

    Attributes:
        prevented: readmissions prevented per flag, with its robust bias-corrected interval.
        uncorrected: the same from the local linear regression alone, which the plot's lines show. It is less noisy and more biased.
        bandwidth: of the local linear regression, in units of risk. Encounters beyond it have no weight.
        bias_bandwidth: of the local quadratic regression that estimates the bias.
        n_below: encounters within the bandwidth that were not flagged.
        n_flagged: encounters within the bandwidth that were flagged.
    """

    model_config = ConfigDict(frozen=True)

    prevented: Interval
    uncorrected: float
    bandwidth: float
    bias_bandwidth: float
    n_below: int
    n_flagged: int


class WeightedDifference(BaseModel):
    """The mean effect on flagged patients.

    Attributes:
        prevented: readmissions prevented per flag, or per intervention.
        n_flagged: encounters that were flagged, or would have been without a hold-out.
    """

    model_config = ConfigDict(frozen=True)

    prevented: Interval
    n_flagged: int


class ThresholdComparison(BaseModel):
    """Both estimates for the same patients: those at the threshold.

    Attributes:
        discontinuity: readmissions prevented per flag, from the regression discontinuity.
        weighted: the same from the weighted difference.
        difference: `discontinuity` minus `weighted`.
    """

    model_config = ConfigDict(frozen=True)

    discontinuity: Interval
    weighted: Interval
    difference: Interval

    @property
    def agree(self) -> bool:
        """Whether the interval of the difference contains 0."""
        return self.difference.low <= 0 <= self.difference.high


def regression_discontinuity(
    readmitted: NDArray[np.bool_], margin: Floats, patient_id: NDArray[np.int64]
) -> Discontinuity | TooFewEncounters:
    """Estimate the effect of a flag at the threshold from a sharp regression discontinuity.

    This is a local linear regression with a triangular kernel on each side, with the MSE-optimal bandwidths and the robust
    bias-corrected interval of Calonico, Cattaneo & Titiunik 2014 (doi 10.3982/ECTA11757). If each patient has one encounter, the
    package rdrobust returns the same with `bwselect="mserd"` and `vce="hc0"`.
    """
    if reason := _too_few_near(readmitted, margin, patient_id, np.inf):
        return TooFewEncounters(reason=reason)
    outcome = readmitted.astype(np.float64)
    bandwidth, bias_bandwidth = bandwidths(outcome, margin, patient_id)
    if reason := _too_few_near(readmitted, margin, patient_id, bandwidth):
        return TooFewEncounters(reason=reason)
    jump = Jump(margin, bandwidth, bias_bandwidth)
    return Discontinuity(
        prevented=-normal_interval(*jump.estimate(outcome, patient_id)),
        uncorrected=-float(jump.uncorrected @ outcome),
        bandwidth=bandwidth,
        bias_bandwidth=bias_bandwidth,
        n_below=int(((margin < 0) & (margin > -bandwidth)).sum()),
        n_flagged=int(((margin >= 0) & (margin < bandwidth)).sum()),
    )


def weighted_difference(
    readmitted: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
    without: Floats,
    patient_id: NDArray[np.int64],
    treated: NDArray[np.bool_] | None = None,
) -> WeightedDifference | TooFewEncounters:
    """Estimate the mean effect of a flag on all flagged patients: their readmissions without interventions minus the observed ones.

    With `treated`, the result is the effect of an intervention instead: the same difference, divided by the share of flagged
    patients with an intervention.

    The interval takes the pseudo-outcome as given. That is right to first order if its models were fitted on other encounters
    (Chernozhukov et al. 2018, doi 10.1111/ectj.12097).
    """
    if reason := _too_few(readmitted[flagged], patient_id[flagged], "flagged encounters"):
        return TooFewEncounters(reason=reason)
    prevented = without[flagged] - readmitted[flagged]
    counted = np.ones(len(prevented)) if treated is None else treated[flagged].astype(np.float64)
    mean = float(prevented.sum() / counted.sum())
    error = clustered_error((prevented - mean * counted) / counted.sum(), patient_id[flagged])
    return WeightedDifference(prevented=normal_interval(mean, error), n_flagged=len(prevented))


def hold_out_difference(
    readmitted: NDArray[np.bool_], held_back: NDArray[np.bool_], probability: Floats, patient_id: NDArray[np.int64]
) -> WeightedDifference | TooFewEncounters:
    """Estimate the effect of a flag from a random hold-out: the readmissions of held-back patients minus those of the others.

    Each patient is weighted by the inverse of the known probability of what happened (Horvitz & Thompson 1952, doi
    10.1080/01621459.1952.10483446), so nothing else needs to be known.

    Args:
        readmitted: of encounters whose flags could be held back, shape (n_encounters,).
        held_back: whether they were, shape (n_encounters,).
        probability: that they were to be held back, above 0 and below 1, shape (n_encounters,).
        patient_id: shape (n_encounters,).
    """
    for group, name in ((held_back, "held-back flags"), (~held_back, "other flags of the hold-out")):
        if reason := _too_few(readmitted[group], patient_id[group], name):
            return TooFewEncounters(reason=reason)
    influence, difference = np.zeros(len(readmitted)), 0.0
    for group, weight, sign in ((held_back, 1 / probability, 1), (~held_back, 1 / (1 - probability), -1)):
        share = weight[group] / weight[group].sum()
        mean = float(share @ readmitted[group])
        difference += sign * mean
        influence[group] = sign * share * (readmitted[group] - mean)
    interval = normal_interval(difference, clustered_error(influence, patient_id))
    return WeightedDifference(prevented=interval, n_flagged=len(readmitted))


def compare_at_threshold(
    found: Discontinuity,
    readmitted: NDArray[np.bool_],
    margin: Floats,
    without: Floats,
    patient_id: NDArray[np.int64],
) -> ThresholdComparison:
    """Compare a regression discontinuity with the weighted difference of the same patients.

    The weighted difference at the threshold is a local linear regression with the bandwidths and the bias correction of the
    discontinuity. So their difference is minus the jump of `without` at the threshold: without interventions, nothing should jump
    there. Its interval accounts for the covariance of the two estimates. If it excludes 0, an unmeasured variable decides who is
    treated, or interventions were not recorded, or something else happens at the threshold. If it is wide, it says little.
    """
    jump = Jump(margin, found.bandwidth, found.bias_bandwidth)
    # Nobody is treated below the threshold.
    without = np.where(margin >= 0, without, readmitted)
    return ThresholdComparison(
        discontinuity=found.prevented,
        weighted=normal_interval(*jump.estimate(without - readmitted, patient_id)),
        difference=-normal_interval(*jump.estimate(without, patient_id)),
    )


def _too_few_near(
    readmitted: NDArray[np.bool_], margin: Floats, patient_id: NDArray[np.int64], bandwidth: float
) -> str | None:
    """Return why the encounters within the bandwidth are too few on one side, or `None` if they are enough."""
    within = f" within {bandwidth:.3f} of the threshold" if np.isfinite(bandwidth) else ""
    for flagged, name in ((False, "encounters without a flag"), (True, "flagged encounters")):
        side = ((margin >= 0) == flagged) & (np.abs(margin) < bandwidth)
        if reason := _too_few(readmitted[side], patient_id[side], name + within):
            return reason
        if (n_margins := len(np.unique(margin[side]))) < FEWEST_MARGINS:
            return f"{name}{within} have {n_margins} distinct risks; {FEWEST_MARGINS} are needed"
    return None


def _too_few(readmitted: NDArray[np.bool_], patient_id: NDArray[np.int64], name: str) -> str | None:
    n, n_patients, n_readmitted = len(readmitted), len(np.unique(patient_id)), int(readmitted.sum())
    if n >= FEWEST_ENCOUNTERS and n_patients >= FEWEST_PATIENTS and n_readmitted >= FEWEST_READMISSIONS:
        return None
    return (
        f"{n} {name}, of {n_patients} patients, with {n_readmitted} readmissions; {FEWEST_ENCOUNTERS}, of "
        f"{FEWEST_PATIENTS} patients, with {FEWEST_READMISSIONS} readmissions are needed"
    )
