"""The encounters that count, and their label."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.data.contract import DEATH_OR_HOSPICE
from healthpredict.data.schema import codes_of

Outcome = Literal["within_30_days", "any"]

_COUNTED: dict[Outcome, tuple[str, ...]] = {"within_30_days": ("<30",), "any": ("<30", ">30")}


def select_cohort(encounters: pd.DataFrame) -> pd.DataFrame:
    """Return the encounters whose patients are at risk of readmission: neither dead nor in a hospice at discharge.

    Args:
        encounters: an encounters frame.

    Returns:
        The same columns, order kept, rows numbered anew.
    """
    return encounters[is_at_risk(encounters)].reset_index(drop=True)


def is_at_risk(encounters: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether the patient of each encounter is neither dead nor in a hospice at discharge, shape (n_encounters,)."""
    codes, dispositions = codes_of(encounters["discharge_disposition_id"])
    # The last is for code -1, a missing value.
    at_risk: NDArray[np.bool_] = np.array([*(value not in DEATH_OR_HOSPICE for value in dispositions), True])[codes]
    return at_risk


def add_label(encounters: pd.DataFrame, outcomes: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Add the label to the encounters whose outcome is known.

    Args:
        encounters: an encounters frame.
        outcomes: an outcomes frame: `encounter_id` (once each) and `readmitted`.
        outcome: which readmissions count.

    Returns:
        The encounters with an outcome, order kept, with a bool column `readmitted_within_30_days`. The column keeps its
        name when `outcome` is "any", so that one name is the label everywhere.
    """
    label = outcomes["readmitted"].isin(_COUNTED[outcome])
    known = pd.DataFrame({"encounter_id": outcomes["encounter_id"], "readmitted_within_30_days": label})
    return encounters.merge(known, on="encounter_id", how="inner", validate="many_to_one")
