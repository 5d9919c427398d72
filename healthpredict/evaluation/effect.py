"""Readmissions prevented per flag: a regression discontinuity at the threshold, and a weighted difference among flagged patients.

Patients just above and just below the threshold have almost the same risk, but only those above it are flagged. So the jump of the
readmissions at the threshold is the effect of a flag, whether or not an intervention follows (sharp design, intention to treat).
The weighted difference describes all flagged patients, but it is right only if no unmeasured variable decides who is treated.
At the threshold, the two estimate the same number, so each checks the other.

All functions take the same arrays, without nulls, of the encounters of flagged and of other patients:

- `readmitted`: the observed outcome, shape (n_encounters,).
- `margin`: risk minus the threshold that was in force, shape (n_encounters,); a patient is flagged from 0 on.
- `without`: estimated probability of a readmission without an intervention, as a doubly robust pseudo-outcome (Robins, Rotnitzky &
  Zhao 1994, doi 10.1080/01621459.1994.10476818), shape (n_encounters,). It may be below 0 or above 1. Equals `readmitted` below the
  threshold, where nobody is treated.
- `patient_id`: shape (n_encounters,). Errors are clustered by patient.

Leave out encounters that reached the threshold and were not flagged: held out, or predicted in silent mode.
A `Discontinuity` argument is the result of `regression_discontinuity` for the same encounters.

Every interval has a level of 95 %. An effect is positive if flags prevent readmissions; .02 is one readmission in 50 flags.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.gain import clustered_error
from healthpredict.evaluation.interval import Floats, Interval, normal_interval

FEWEST_ENCOUNTERS: Final = 100
"""On each side of the threshold, within the bandwidth. With fewer, the normal distribution is a poor approximation."""
FEWEST_READMISSIONS: Final = 20
"""As `FEWEST_ENCOUNTERS`."""
FEWEST_PATIENTS: Final = 50
"""As `FEWEST_ENCOUNTERS`. With fewer clusters, a clustered error is too small (Cameron & Miller 2015, doi 10.3368/jhr.50.2.317)."""
FEWEST_MARGINS: Final = 10
"""Distinct margins, as `FEWEST_ENCOUNTERS`. A cubic needs more than four; 10 is the minimum in rdrobust."""
BINS_PER_SIDE: Final = 10
"""Of the plot. Within a bandwidth, 10 bins of at least 10 encounters show a trend."""

_PILOT: Final = 2.576
"""Factor of the pilot bandwidth for the triangular kernel, as in rdrobust."""
_NORMAL_IQR: Final = 1.349
"""Interquartile range of a standard normal distribution."""
_REGULARIZATION: Final = 3
"""Weight of the variance of an estimated bias, without which a bandwidth is huge where that bias happens to be small (Imbens &
Kalyanaraman 2012, doi 10.1093/restud/rdr043)."""


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
    """The effect of a flag on all flagged patients.

    Attributes:
        prevented: readmissions prevented per flag.
        n_flagged: encounters that were flagged.
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


class Bin(BaseModel):
    """Encounters with neighbouring margins: their mean margin, their share of readmissions (0-1) and their number."""

    model_config = ConfigDict(frozen=True)

    margin: float
    readmitted: Interval
    rows: int


class Side(BaseModel):
    """One side of a plot of readmissions against margins.

    Attributes:
        bins: in ascending order of the margin.
        at_threshold: readmissions (0-1) at a margin of 0 on the fitted line. The line may leave the range 0-1.
        at_end: readmissions on that line where it ends, one bandwidth from the threshold.
    """

    model_config = ConfigDict(frozen=True)

    bins: tuple[Bin, ...]
    at_threshold: float
    at_end: float


class ThresholdPlot(BaseModel):
    """Readmissions against margins on both sides of the threshold, within one bandwidth (in units of risk)."""

    model_config = ConfigDict(frozen=True)

    bandwidth: float
    below: Side
    flagged: Side


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
    bandwidth, bias_bandwidth = _bandwidths(outcome, margin, patient_id)
    if reason := _too_few_near(readmitted, margin, patient_id, bandwidth):
        return TooFewEncounters(reason=reason)
    jump = _Jump(margin, bandwidth, bias_bandwidth)
    return Discontinuity(
        prevented=-normal_interval(*jump.estimate(outcome, patient_id)),
        uncorrected=-float(jump.uncorrected @ outcome),
        bandwidth=bandwidth,
        bias_bandwidth=bias_bandwidth,
        n_below=int(((margin < 0) & (margin > -bandwidth)).sum()),
        n_flagged=int(((margin >= 0) & (margin < bandwidth)).sum()),
    )


def weighted_difference(
    readmitted: NDArray[np.bool_], margin: Floats, without: Floats, patient_id: NDArray[np.int64]
) -> WeightedDifference | TooFewEncounters:
    """Estimate the mean effect of a flag on all flagged patients: their readmissions without interventions minus the observed ones.

    The interval takes the pseudo-outcome as given. That is right to first order if its models were fitted on other encounters
    (Chernozhukov et al. 2018, doi 10.1111/ectj.12097).
    """
    flagged = margin >= 0
    if reason := _too_few(readmitted[flagged], patient_id[flagged], "flagged encounters"):
        return TooFewEncounters(reason=reason)
    prevented = without[flagged] - readmitted[flagged]
    mean = float(prevented.mean())
    error = clustered_error((prevented - mean) / len(prevented), patient_id[flagged])
    return WeightedDifference(prevented=normal_interval(mean, error), n_flagged=len(prevented))


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
    jump = _Jump(margin, found.bandwidth, found.bias_bandwidth)
    # Nobody is treated below the threshold.
    without = np.where(margin >= 0, without, readmitted)
    return ThresholdComparison(
        discontinuity=found.prevented,
        weighted=normal_interval(*jump.estimate(without - readmitted, patient_id)),
        difference=-normal_interval(*jump.estimate(without, patient_id)),
    )


def plot_around_threshold(
    found: Discontinuity, readmitted: NDArray[np.bool_], margin: Floats, patient_id: NDArray[np.int64]
) -> ThresholdPlot:
    """Return what a plot of a regression discontinuity shows: on each side, the local linear regression and `BINS_PER_SIDE` bins.

    Bins are quantile-spaced (Calonico, Cattaneo & Titiunik 2015, doi 10.1080/01621459.2015.1017578): they have almost the same
    number of encounters. Equal margins are always in the same bin, so there may be fewer bins.
    """
    below, flagged = (
        _plot_side(within, found.bandwidth * end, readmitted, margin, patient_id)
        for within, end in (
            ((margin < 0) & (margin > -found.bandwidth), -1),
            ((margin >= 0) & (margin < found.bandwidth), 1),
        )
    )
    return ThresholdPlot(bandwidth=found.bandwidth, below=below, flagged=flagged)


class _Polynomial(NamedTuple):
    """A polynomial in the margin, fitted on each side of the threshold.

    Attributes:
        weights: of each encounter's outcome in each coefficient of its own side, shape (degree + 1, n_encounters).
        powers: of the margins, shape (degree + 1, n_encounters).
        flagged: shape (n_encounters,).
    """

    weights: Floats
    powers: Floats
    flagged: NDArray[np.bool_]

    def residual(self, outcome: Floats) -> Floats:
        """Return the outcome minus the polynomial of its side, shape (n_encounters,). It has no meaning beyond the bandwidth."""
        below, flagged = (self.weights[:, side] @ outcome[side] for side in (~self.flagged, self.flagged))
        return np.asarray(outcome - np.where(self.flagged, flagged @ self.powers, below @ self.powers))

    def jump(self, derivative: int) -> Floats:
        """Return the weight of each outcome in the jump of a coefficient at the threshold, shape (n_encounters,)."""
        return np.asarray(np.where(self.flagged, 1, -1) * self.weights[derivative])


def _fit(margin: Floats, bandwidth: float | Floats, degree: int) -> _Polynomial:
    """Fit by least squares with a triangular kernel. Each encounter may have a bandwidth of its own."""
    unit = np.max(bandwidth) ** np.arange(degree + 1)[:, None]
    powers = margin ** np.arange(degree + 1)[:, None]
    root = np.sqrt(np.clip(1 - np.abs(margin) / bandwidth, 0, None))
    weights = np.zeros_like(powers)
    for side in ((margin < 0) & (root > 0), (margin >= 0) & (root > 0)):
        # The pseudo-inverse is also defined if there are fewer distinct margins than coefficients.
        weights[:, side] = np.linalg.pinv((powers[:, side] / unit * root[side]).T) * root[side] / unit
    return _Polynomial(weights, powers, margin >= 0)


def _bias(lower: _Polynomial, derivative: int, higher: _Polynomial) -> Floats:
    """Return the weight of each outcome in the bias of a polynomial's jump, which the next power's coefficient causes."""
    weights, power = lower.jump(derivative), higher.powers[-1]
    below, flagged = (weights[side] @ power[side] for side in (~lower.flagged, lower.flagged))
    return np.asarray(np.where(lower.flagged, flagged, below) * higher.weights[-1])


class _Jump:
    """The jump of an outcome at the threshold."""

    def __init__(self, margin: Floats, bandwidth: float, bias_bandwidth: float) -> None:
        linear, self._quadratic = _fit(margin, bandwidth, 1), _fit(margin, bias_bandwidth, 2)
        self.uncorrected = linear.jump(0)
        self._corrected = self.uncorrected - _bias(linear, 0, self._quadratic)

    def estimate(self, outcome: Floats, patient_id: NDArray[np.int64]) -> tuple[float, float]:
        """Return the bias-corrected jump and its standard error."""
        influence = self._corrected * self._quadratic.residual(outcome)
        return float(self._corrected @ outcome), clustered_error(influence, patient_id)


def _bandwidths(outcome: Floats, margin: Floats, patient_id: NDArray[np.int64]) -> tuple[float, float]:
    """Return the MSE-optimal bandwidths of the local linear regression and of the local quadratic regression for its bias.

    A bandwidth depends on the bias, so on the next derivative, which needs a bandwidth too. The first bias is that of a quartic on
    the whole range of each side. For stability, every bandwidth but the first result is at least `_smallest_bandwidth`.
    """
    below, flagged = -margin[margin < 0], margin[margin >= 0]
    largest = float(max(below.max(), flagged.max()))
    smallest = max(_smallest_bandwidth(below), _smallest_bandwidth(flagged))
    q25, q75 = np.quantile(margin, (0.25, 0.75))
    spread = min(each for each in (margin.std(ddof=1), (q75 - q25) / _NORMAL_IQR) if each > 0)
    pilot = float(np.clip(_PILOT * spread * len(margin) ** (-1 / 5), smallest, largest))
    bandwidth: float | Floats = np.where(margin < 0, below.max(), flagged.max())
    results: list[float] = []
    for derivative, degree, regularization in ((3, 3, 0), (2, 2, _REGULARIZATION), (0, 1, _REGULARIZATION)):
        higher, lower = _fit(margin, bandwidth, degree + 1), _fit(margin, pilot, degree)
        variance = clustered_error(lower.jump(derivative) * lower.residual(outcome), patient_id) ** 2
        bias = _bias(lower, derivative, higher)
        bias_variance = clustered_error(bias * higher.residual(outcome), patient_id) ** 2
        squared_bias = float(bias @ outcome) ** 2 + regularization * bias_variance
        # The squared bias grows with this power of the bandwidth, and the variance shrinks with the other one.
        growth, decay = 2 * (degree + 1 - derivative), 1 + 2 * derivative
        ratio = decay * variance / (growth * squared_bias) if squared_bias else np.inf
        results.append(min(pilot * ratio ** (1 / (growth + decay)), largest))
        bandwidth = max(results[-1], smallest)
    return results[2], max(results[1], smallest)


def _smallest_bandwidth(distance: Floats) -> float:
    """Return the distance from the threshold within which one side has `FEWEST_ENCOUNTERS` and `FEWEST_MARGINS`."""
    return float(max(np.sort(distance)[FEWEST_ENCOUNTERS - 1], np.unique(distance)[FEWEST_MARGINS - 1]))


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


def _plot_side(
    within: NDArray[np.bool_],
    end: float,
    readmitted: NDArray[np.bool_],
    margin: Floats,
    patient_id: NDArray[np.int64],
) -> Side:
    """Return one side of the plot; its line ends at the margin `end`."""
    order = np.flatnonzero(within)[np.argsort(margin[within], kind="stable")]
    ordered = margin[order]
    starts = np.searchsorted(ordered, ordered[np.arange(BINS_PER_SIDE) * len(ordered) // BINS_PER_SIDE])
    bins = np.split(order, np.unique(starts)[1:])
    intercept, slope = _fit(margin, abs(end), 1).weights[:, within] @ readmitted[within]
    return Side(
        bins=tuple(
            Bin(margin=margin[rows].mean(), readmitted=_share(readmitted[rows], patient_id[rows]), rows=len(rows))
            for rows in bins
        ),
        at_threshold=intercept,
        at_end=intercept + slope * end,
    )


def _share(readmitted: NDArray[np.bool_], patient_id: NDArray[np.int64]) -> Interval:
    """Return a share with its Wilson interval (1927, doi 10.2307/2276774), in which patients count instead of encounters.

    The number is the effective sample size (Korn & Graubard 1998, Survey Methodology 24, 193-201).
    """
    share, n = float(readmitted.mean()), float(len(np.unique(patient_id)))
    if 0 < share < 1:
        variance = clustered_error((readmitted - share) / len(readmitted), patient_id) ** 2
        # Patients whose encounters differ more than by chance do not add information.
        n = share * (1 - share) / max(variance, share * (1 - share) / len(readmitted))
    centre, half = share + 1.96**2 / (2 * n), 1.96 * np.sqrt(share * (1 - share) / n + (1.96 / (2 * n)) ** 2)
    scale = 1 + 1.96**2 / n
    low, high = np.clip((centre - half) / scale, 0, share), np.clip((centre + half) / scale, share, 1)
    return Interval(value=share, low=float(low), high=float(high))
