"""One fitted encoder for all tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from labelled import label_and_fold, labelled_encounters

from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import fit_encoder


@pytest.fixture(scope="session")
def training() -> pd.DataFrame:
    return labelled_encounters(4000, seed=3)


@pytest.fixture(scope="session")
def fitted(training: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    """The encoder and the cross-fitted matrix."""
    return fit_encoder(training, *label_and_fold(training))


@pytest.fixture(scope="session")
def encoder(fitted: tuple[Encoder, np.ndarray]) -> Encoder:
    return fitted[0]
