"""The fast path for one row predicts the same as the path for many rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import calibrate, calibrate_one

COEFFICIENTS = st.floats(-50, 50)


@given(slope=COEFFICIENTS, intercept=COEFFICIENTS, probability=st.floats(0, 1))
@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_one_probability_is_calibrated_as_many_are(slope: float, intercept: float, probability: float) -> None:
    calibrator = Calibrator(slope=slope, intercept=intercept)
    assert calibrate_one(calibrator, probability) == pytest.approx(calibrate(calibrator, np.array([probability]))[0])


def test_not_a_number_stays_one() -> None:
    assert math.isnan(calibrate_one(Calibrator(slope=1, intercept=0), math.nan))
