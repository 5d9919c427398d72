"""Score one chunk of a file: the risk of each encounter, or the reason why it has none."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.bundle.model import Bundle
from healthpredict.data.cohort import is_at_risk
from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.data.schema import check_rows
from healthpredict.operations.risks import risks_of

NOT_AT_RISK: Final = "ended in death or hospice: not at risk of readmission"


class ScoredChunk(NamedTuple):
    """The result for each row of a chunk, in its order.

    Attributes:
        encounter_id: id of the encounter; 0 if the row breaks the contract, shape (n_rows,).
        risk: calibrated risk (0-1); NaN if the row was not predicted, shape (n_rows,).
        reason: why the row was not predicted, "" if it was, shape (n_rows,).
    """

    encounter_id: NDArray[np.int64]
    risk: NDArray[np.float64]
    reason: NDArray[np.object_]


def score_chunk(bundle: Bundle, raw: pd.DataFrame, diagnosis_coding: str | None = None) -> ScoredChunk:
    """Predict the encounters of a raw frame. Args: diagnosis_coding, see `check_rows`."""
    checked = check_rows(raw, RECORD_COLUMNS, diagnosis_coding)
    valid = checked.valid
    encounters = checked.frame if valid.all() else checked.frame[valid]
    ids, risk = np.zeros(len(raw), dtype=np.int64), np.full(len(raw), np.nan)
    ids[valid] = encounters["encounter_id"]
    checked.reject(np.flatnonzero(valid)[~is_at_risk(encounters)], NOT_AT_RISK)
    predicted = checked.valid
    if len(encounters):
        # Predict all valid rows, because a selection would copy every column.
        risk[valid] = risks_of(bundle, encounters)
        risk[~predicted] = np.nan
    return ScoredChunk(ids, risk, checked.reasons)
