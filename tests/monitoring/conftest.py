"""One reference for all tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_hospital import draw

from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile, build_profile


@pytest.fixture(scope="session")
def reference() -> tuple[pd.DataFrame, np.ndarray]:
    return draw(4000, seed=1)


@pytest.fixture(scope="session")
def profile(reference: tuple[pd.DataFrame, np.ndarray]) -> ReferenceProfile:
    encounters, risk = reference
    return build_profile(
        encounters, risk=risk, unseen_risk=risk, patient_id=encounters["patient_id"].to_numpy(), policy=DriftPolicy()
    )
