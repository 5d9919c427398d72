"""The risks of whole tables of encounters; `Bundle.risk` is for one."""

from __future__ import annotations

import pandas as pd

from healthpredict.bundle.model import Bundle
from healthpredict.evaluation.metrics import Floats
from healthpredict.features.frame import encode_frame


def risks_of(bundle: Bundle, encounters: pd.DataFrame) -> Floats:
    """Encode and predict an encounters frame; calibrated probabilities in its order, shape (n_encounters,)."""
    return bundle.risks(encode_frame(bundle.encoder, encounters))
