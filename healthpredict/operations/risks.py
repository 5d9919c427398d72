"""The risks of a frame of encounters. `Bundle.risk` predicts for a single record."""

from __future__ import annotations

import pandas as pd

from healthpredict.bundle.model import Bundle
from healthpredict.evaluation.interval import Floats
from healthpredict.features.frame import encode_frame


def risks_of(bundle: Bundle, encounters: pd.DataFrame) -> Floats:
    """Return the calibrated risk (0-1) of each encounter of an encounters frame, shape (n_encounters,)."""
    return bundle.risks(encode_frame(bundle.encoder, encounters))
