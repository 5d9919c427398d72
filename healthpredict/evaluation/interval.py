"""A value with its 95 % interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Floats = NDArray[np.float64]
Outcomes = NDArray[np.bool_] | Floats
"""Outcomes without intervention: bool if all were observed, float if any is an estimate, which may be below 0 or above 1 (see
`untreated`). Do not convert bool to float: without interventions, all figures must be the same to the last bit as for the observed
outcomes."""


class Interval(BaseModel):
    """A value with its 95 % interval. Ledger, checks and bundles contain intervals: never rename a field."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """The standard error, if the estimate has a normal distribution."""
        return (self.high - self.low) / (2 * 1.96)

    def __neg__(self) -> Interval:
        """Return the same difference the other way round."""
        return Interval(value=-self.value, low=-self.high, high=-self.low)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def normal_interval(value: float, error: float) -> Interval:
    """Return the 95 % interval of an estimate with a normal distribution."""
    return Interval(value=value, low=value - 1.96 * error, high=value + 1.96 * error)


def percentile_interval(value: float, draws: Floats) -> Interval:
    """Return a value with the percentile interval of its bootstrap resamples. Resamples in which it is not defined are left out."""
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high))
