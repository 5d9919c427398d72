"""Local polynomial regression on both sides of a threshold, with the bandwidths of Calonico, Cattaneo & Titiunik 2014.

A margin is the risk minus the threshold; a patient is flagged from 0 on. See `effect`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.gain import clustered_error
from healthpredict.evaluation.interval import Floats

FEWEST_ENCOUNTERS: Final = 100
"""On each side of the threshold, within the bandwidth. With fewer, the normal distribution is a poor approximation."""
FEWEST_MARGINS: Final = 10
"""Distinct margins, as `FEWEST_ENCOUNTERS`. A cubic needs more than four; 10 is the minimum in rdrobust."""
_PILOT_FACTOR: Final = 2.576
"""Factor of the pilot bandwidth for the triangular kernel, as in rdrobust."""
_NORMAL_IQR: Final = 1.349
"""Interquartile range of a standard normal distribution."""
_REGULARIZATION: Final = 3
"""Weight of the variance of an estimated bias, without which a bandwidth is huge where that bias happens to be small (Imbens &
Kalyanaraman 2012, doi 10.1093/restud/rdr043)."""


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


def fit_polynomial(margin: Floats, bandwidth: float | Floats, degree: int) -> _Polynomial:
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


class Jump:
    """The jump of an outcome at the threshold."""

    def __init__(self, margin: Floats, bandwidth: float, bias_bandwidth: float) -> None:
        linear, self._quadratic = fit_polynomial(margin, bandwidth, 1), fit_polynomial(margin, bias_bandwidth, 2)
        self.uncorrected = linear.jump(0)
        self._corrected = self.uncorrected - _bias(linear, 0, self._quadratic)

    def estimate(self, outcome: Floats, patient_id: NDArray[np.int64]) -> tuple[float, float]:
        """Return the bias-corrected jump and its standard error."""
        influence = self._corrected * self._quadratic.residual(outcome)
        return float(self._corrected @ outcome), clustered_error(influence, patient_id)


def bandwidths(outcome: Floats, margin: Floats, patient_id: NDArray[np.int64]) -> tuple[float, float]:
    """Return the MSE-optimal bandwidths of the local linear regression and of the local quadratic regression for its bias.

    A bandwidth depends on the bias, so on the next derivative, which needs a bandwidth too. The first bias is that of a quartic on
    the whole range of each side. For stability, every bandwidth but the first result is at least `_smallest_bandwidth`.
    """
    below, flagged = -margin[margin < 0], margin[margin >= 0]
    largest = float(max(below.max(), flagged.max()))
    smallest = max(_smallest_bandwidth(below), _smallest_bandwidth(flagged))
    q25, q75 = np.quantile(margin, (0.25, 0.75))
    spread = min(each for each in (margin.std(ddof=1), (q75 - q25) / _NORMAL_IQR) if each > 0)
    pilot = float(np.clip(_PILOT_FACTOR * spread * len(margin) ** (-1 / 5), smallest, largest))
    bandwidth: float | Floats = np.where(margin < 0, below.max(), flagged.max())
    results: list[float] = []
    for derivative, degree, regularization in ((3, 3, 0), (2, 2, _REGULARIZATION), (0, 1, _REGULARIZATION)):
        higher, lower = fit_polynomial(margin, bandwidth, degree + 1), fit_polynomial(margin, pilot, degree)
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
