"""Check reported outcomes: which can be used, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from healthpredict.data.schema import OUTCOMES_CONTRACT, check_rows


@dataclass(frozen=True, slots=True)
class CheckedOutcomes:
    """The outcomes of a file.

    Attributes:
        usable: `encounter_id` (int64, once each) and `readmitted`, shape (n_usable, 2).
        rows: number of rows of the file.
        reasons: problem -> number of rows with it.
        contradicting: number of encounters with two different outcomes, which are not used.
    """

    usable: pd.DataFrame
    rows: int
    reasons: dict[str, int]
    contradicting: int

    @property
    def problems(self) -> list[str]:
        """Sentences about what is not used and why, without values of patients."""
        found = [f"{rows} of {self.rows} rows are not used: {reason}." for reason, rows in self.reasons.items()]
        if self.contradicting:
            found.append(f"{self.contradicting} encounters have contradictory outcomes, which are not used.")
        return found


def check_outcomes(raw: pd.DataFrame) -> CheckedOutcomes:
    """Select the outcomes that can be used. Args: raw, the columns `encounter_id` and `readmitted` as text."""
    checked = check_rows(raw, OUTCOMES_CONTRACT)
    reasons = {str(reason): int(rows) for reason, rows in pd.Series(checked.reasons).value_counts().items() if reason}
    distinct = checked.frame[checked.valid].drop_duplicates()
    contradicting = distinct["encounter_id"].duplicated(keep=False)
    return CheckedOutcomes(
        usable=distinct[~contradicting].reset_index(drop=True),
        rows=len(raw),
        reasons=reasons,
        contradicting=int(distinct.loc[contradicting, "encounter_id"].nunique()),
    )
