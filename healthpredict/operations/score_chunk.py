"""The risks of a piece of a file, and its rows that have none."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from healthpredict.bundle.model import Bundle
from healthpredict.data.cohort import is_at_risk
from healthpredict.data.params import ContractParams
from healthpredict.data.raw import ENCOUNTER_COLUMNS
from healthpredict.data.schema import split_encounters
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.risks import risks_of

_KEEP_ALL: Final = ContractParams(max_bad_share=1.0)
_REJECTED: Final = pa.schema([(column, pa.string()) for column in (*ENCOUNTER_COLUMNS, "reason")])
NOT_AT_RISK: Final = "ended in death or hospice: not at risk of readmission"


class ScoredChunk(NamedTuple):
    """What became of the rows of a chunk.

    Attributes:
        predicted: `encounter_id`, `readmission_risk`, `high_risk`.
        rejected: the rows that could not be predicted, in raw form, with `reason`.
    """

    predicted: pa.Table
    rejected: pa.Table


def score_chunk(bundle: Bundle, raw: pd.DataFrame, name: str) -> ScoredChunk:
    """Predict the encounters of a raw frame. Args: bundle; raw; name, of the file, for messages."""
    checked = split_encounters(raw, name, _KEEP_ALL)
    encounters = checked.encounters
    at_risk, ids = is_at_risk(encounters), encounters["encounter_id"]
    rejected = raw[~is_at_risk(raw)]
    if len(checked.quarantine):
        rejected = rejected[rejected["encounter_id"].isin(ids[~at_risk].astype(str))]
    rejected = rejected.assign(reason=NOT_AT_RISK)
    # Of all, because leaving some out would copy every column.
    risk = risks_of(bundle, encounters)[at_risk] if len(encounters) else np.empty(0)
    predicted = pa.table(
        {"encounter_id": ids.to_numpy()[at_risk], RISK: risk, "high_risk": risk >= bundle.manifest.threshold}
    )
    # Arrow makes texts of the categories: pandas would take twice as long.
    without = pa.Table.from_pandas(pd.concat((checked.quarantine, rejected)), preserve_index=False).cast(_REJECTED)
    return ScoredChunk(predicted, without)
