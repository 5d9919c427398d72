"""The risks of a piece of a file, and its rows that have none."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from healthpredict.bundle.model import Bundle
from healthpredict.data.cohort import select_cohort
from healthpredict.data.params import ContractParams
from healthpredict.data.schema import check_encounters
from healthpredict.operations.detect_drift import RISK
from healthpredict.operations.risks import risks_of

_KEEP_ALL: Final = ContractParams(max_bad_share=1.0)
NOT_AT_RISK: Final = "ended in death or hospice: not at risk of readmission"


class ScoredChunk(NamedTuple):
    """What became of the rows of a chunk.

    Attributes:
        predicted: `encounter_id`, `readmission_risk`, `high_risk`.
        rejected: the rows that could not be predicted, in raw form, with `reason`.
    """

    predicted: pd.DataFrame
    rejected: pd.DataFrame


def score_chunk(bundle: Bundle, raw: pd.DataFrame, name: str) -> ScoredChunk:
    """Predict the encounters of a raw frame. Args: bundle; raw; name, of the file, for messages."""
    checked = check_encounters(raw, name, _KEEP_ALL)
    at_risk = select_cohort(checked.encounters)
    gone = checked.encounters["encounter_id"][~checked.encounters["encounter_id"].isin(at_risk["encounter_id"])]
    rejected = raw[raw["encounter_id"].isin(gone.astype(str))].assign(reason=NOT_AT_RISK)
    risk = risks_of(bundle, at_risk) if len(at_risk) else np.empty(0)
    predicted = pd.DataFrame(
        {"encounter_id": at_risk["encounter_id"], RISK: risk, "high_risk": risk >= bundle.manifest.threshold}
    )
    return ScoredChunk(predicted, pd.concat([checked.quarantine, rejected], ignore_index=True))
