"""Check reported interventions: which can be used, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from healthpredict.data.contract import INTERVENTION_COLUMNS
from healthpredict.data.schema import check_rows

DECIDED = ("accepted", "overridden")


@dataclass(frozen=True, slots=True)
class CheckedInterventions:
    """The interventions of a file.

    Attributes:
        usable: `encounter_id` (int64), `kind`, `response`, `reason` (str), and `acted_at` (UTC), once for each encounter and kind,
            shape (n_usable, 5). `kind` and `acted_at` are missing only if `response` is none.
        rows: number of rows of the file.
        reasons: problem -> number of rows with it.
        repeated: number of rows that repeat an earlier one, or report an offer whose answer is reported too.
        contradicting: number of encounters with contradictory rows, none of which is used.
    """

    usable: pd.DataFrame
    rows: int
    reasons: dict[str, int]
    repeated: int
    contradicting: int

    @property
    def problems(self) -> list[str]:
        """Sentences about what is not used and why, without values of patients."""
        found = [f"{rows} of {self.rows} rows are not used: {reason}." for reason, rows in self.reasons.items()]
        if self.repeated:
            found.append(f"{self.repeated} rows repeat others and are counted once.")
        if self.contradicting:
            found.append(f"{self.contradicting} encounters have contradictory interventions, which are not used.")
        return found


def check_interventions(raw: pd.DataFrame, now: pd.Timestamp) -> CheckedInterventions:
    """Select the interventions that can be used.

    Two rows contradict each other if they report different answers to the same kind of intervention, or an intervention and none.

    Args:
        raw: the columns of `INTERVENTION_COLUMNS` as text; `reason` may be absent.
        now: the current time, UTC. A later intervention is an error.
    """
    checked = check_rows(raw.reindex(columns=[column.name for column in INTERVENTION_COLUMNS]), INTERVENTION_COLUMNS)
    frame = checked.frame.assign(
        acted_at=pd.to_datetime(checked.frame["acted_at"], utc=True, errors="coerce", format="ISO8601"),
        response=checked.frame["response"].astype("str"),
    )
    given = frame["response"] != "none"
    checked.reject((given & frame["kind"].isna()).to_numpy(), "kind is missing")
    checked.reject((given & checked.frame["acted_at"].isna()).to_numpy(), "acted_at is missing")
    checked.reject((checked.frame["acted_at"].notna() & frame["acted_at"].isna()).to_numpy(), "acted_at is not a date")
    # A day, because a date without a zone may be that of another one.
    checked.reject((frame["acted_at"] > now + pd.Timedelta(days=1)).to_numpy(), "acted_at is in the future")
    reasons = {str(reason): int(rows) for reason, rows in pd.Series(checked.reasons).value_counts().items() if reason}
    valid = frame[checked.valid]
    usable, contradicting = _one_answer_each(valid)
    return CheckedInterventions(
        usable=usable,
        rows=len(raw),
        reasons=reasons,
        repeated=len(valid) - len(usable) - int(valid["encounter_id"].isin(contradicting).sum()),
        contradicting=len(contradicting),
    )


def _one_answer_each(valid: pd.DataFrame) -> tuple[pd.DataFrame, set[int]]:
    """Return the last row of each encounter and kind, and the encounters with contradictory rows, which are left out."""
    answers = valid[valid["response"].isin(DECIDED)].drop_duplicates(["encounter_id", "kind", "response"])
    contradicting = set(answers.loc[answers.duplicated(["encounter_id", "kind"]), "encounter_id"])
    nothing = valid["response"] == "none"
    contradicting |= set(valid.loc[nothing, "encounter_id"]) & set(valid.loc[~nothing, "encounter_id"])
    rest = valid[~valid["encounter_id"].isin(contradicting)]
    # An answer counts more than the offer, whatever their times are.
    order = rest.assign(decided=rest["response"].isin(DECIDED)).sort_values(["decided", "acted_at"], kind="stable")
    last = order.drop_duplicates(["encounter_id", "kind"], keep="last").sort_index()
    return last.drop(columns="decided").reset_index(drop=True), contradicting
