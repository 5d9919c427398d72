"""The encounters that count, and their label."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from healthpredict.data.contract import DEATH_OR_HOSPICE

Outcome = Literal["within_30_days", "any"]

_COUNTED: dict[Outcome, tuple[str, ...]] = {"within_30_days": ("<30",), "any": ("<30", ">30")}


def select_cohort(encounters: pd.DataFrame) -> pd.DataFrame:
    """Return the encounters whose patients are at risk of readmission: neither dead nor in a hospice at discharge.

    Args:
        encounters: an encounters frame.

    Returns:
        The same columns, order kept, rows numbered anew.
    """
    at_risk = ~encounters["discharge_disposition_id"].isin(DEATH_OR_HOSPICE)
    return encounters[at_risk].reset_index(drop=True)


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
