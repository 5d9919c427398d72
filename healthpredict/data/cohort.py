"""Select the cohort and add the label."""

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
        The same columns in the same order, with a new index.
    """
    return encounters[is_at_risk(encounters)].reset_index(drop=True)


def is_at_risk(encounters: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whether each encounter ended neither in death nor in a hospice, shape (n_encounters,)."""
    codes, dispositions = codes_of(encounters["discharge_disposition_id"])
    # The code of a missing value is -1, which indexes the last entry.
    at_risk: NDArray[np.bool_] = np.array([*(value not in DEATH_OR_HOSPICE for value in dispositions), True])[codes]
    return at_risk


def add_label(encounters: pd.DataFrame, outcomes: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """Add the label to the encounters whose outcome is known.

    Args:
        encounters: an encounters frame.
        outcomes: an outcomes frame: `encounter_id` (once each) and `readmitted`.
        outcome: which readmissions count.

    Returns:
        The encounters with an outcome, in the same order, with a bool column `readmitted_within_30_days`. The column has this
        name also if `outcome` is "any", so that the label has one name everywhere.
    """
    label = outcomes["readmitted"].isin(_COUNTED[outcome])
    known = pd.DataFrame({"encounter_id": outcomes["encounter_id"], "readmitted_within_30_days": label})
    return encounters.merge(known, on="encounter_id", how="inner", validate="many_to_one")
