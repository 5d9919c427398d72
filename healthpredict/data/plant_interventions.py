"""Plant interventions with a known effect, to test whether it is measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.data.columns import INTERVENTION_NAMES, OUTCOME_COLUMN

KIND = "telephone-call"
_REASON = "not-needed"
_MEAN_LOG_ODDS = np.log(0.6 / 0.4)
"""Clinicians accept an intervention for 60 % of the flagged patients."""
_OLD = 70
"""Years."""
_PER_OLD = 0.5
"""What age adds to the log-odds of an acceptance."""
_PER_RISK = 5.0
"""What risk adds to these log-odds: 0.5 for each 0.1."""


def plant_answers(age: pd.Series[str], risk: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw for which flagged patients of a batch clinicians accept an intervention.

    They accept 60 % on average, and more for patients who are older or have a higher risk than the other flagged ones. As these
    patients also return more often, the two groups can only be compared after weighting.

    Args:
        age: bands such as `[70-80)`, shape (n_flagged,).
        risk: 0-1, shape (n_flagged,).
        rng: of the draws.

    Returns:
        shape (n_flagged,).
    """
    is_old = age.str.extract(r"\[(\d+)-", expand=False).astype(np.float64).ge(_OLD).to_numpy(dtype=np.float64)
    log_odds = _MEAN_LOG_ODDS + _PER_OLD * (is_old - is_old.mean()) + _PER_RISK * (risk - risk.mean())
    return np.asarray(rng.random(len(risk)) < 1 / (1 + np.exp(-log_odds)))


def interventions_of(encounter_id: NDArray[np.int64], accepted: NDArray[np.bool_], acted_at: str) -> pd.DataFrame:
    """Return the interventions as a raw frame, in the columns of `INTERVENTION_COLUMNS`, one row for each flagged encounter.

    Args:
        encounter_id: flagged encounters, shape (n_flagged,).
        accepted: whether the intervention was accepted; otherwise it was overridden. Shape (n_flagged,).
        acted_at: ISO 8601.
    """
    columns = {
        "encounter_id": encounter_id.astype(str),
        "kind": KIND,
        "response": np.where(accepted, "accepted", "overridden"),
        "reason": pd.Series(_REASON, index=range(len(accepted)), dtype="str").mask(accepted),
        "acted_at": acted_at,
    }
    return pd.DataFrame(columns)[list(INTERVENTION_NAMES)]


def prevent(
    outcomes: pd.DataFrame, treated: NDArray[np.int64], effect: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Prevent a share of the readmissions within 30 days of treated patients: `<30` becomes `NO`.

    Args:
        outcomes: raw frame with `encounter_id` and `readmitted`, shape (n_outcomes, ...).
        treated: encounters with an accepted intervention, in an order that is always the same, shape (n_treated,).
        effect: probability (0-1) with which each of these readmissions is prevented.
        rng: of the draws. With the same state, a larger effect prevents the same readmissions and others.
    """
    protected = treated[rng.random(len(treated)) < effect]
    of_protected = pd.to_numeric(outcomes["encounter_id"], errors="coerce").isin(protected)
    prevented = of_protected & outcomes[OUTCOME_COLUMN].eq("<30")
    return outcomes.assign(**{OUTCOME_COLUMN: outcomes[OUTCOME_COLUMN].mask(prevented, "NO")})
