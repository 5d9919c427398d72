"""What was done in the encounters of a batch, and what may explain it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.preprocessing import OneHotEncoder

from healthpredict.data.contract import RECORD_COLUMNS, Kind
from healthpredict.data.interventions import DECIDED
from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.logistic import SMALLEST_RISK
from healthpredict.evaluation.untreated import Treatment
from healthpredict.monitoring.profile import RISK
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import exists

_CATEGORIES: Final = (
    "race",
    "gender",
    "age",
    "admission_type_id",
    "discharge_disposition_id",
    "admission_source_id",
    "payer_code",
    "medical_specialty",
)
_COUNTS: Final = tuple(column.name for column in RECORD_COLUMNS if column.kind is Kind.COUNT)
_RAREST: Final = 0.01
"""Values of a smaller share of the encounters are taken together."""


def has_interventions(layout: Layout, name: str) -> bool:
    """Whether interventions in a batch were reported and accepted, and it is known which encounters were flagged."""
    return exists(layout.known_interventions(name)) and exists(layout.predictions(name))


def read_treatment(layout: Layout, name: str, encounters: pd.DataFrame) -> tuple[Treatment, Floats]:
    """Read what was done in the encounters of a batch for which `has_interventions` is true.

    Returns:
        What was done, and the risk that was served (0-1), both in the order of the encounters.
    """
    reported = read_frame(layout.known_interventions(name))
    treated = encounters["encounter_id"].isin(reported.loc[reported["response"] == "accepted", "encounter_id"])
    answered = reported["response"].isin((*DECIDED, "none"))
    known = encounters["encounter_id"].isin(reported.loc[answered, "encounter_id"])
    predicted = encounters[["encounter_id"]].merge(read_frame(layout.predictions(name)), on="encounter_id", how="left")
    # Live batches of earlier versions of this system have neither.
    columns = predicted.reindex(columns=["high_risk", "hold_out_probability"])
    shown = columns["high_risk"].eq(True).to_numpy(dtype=np.bool_)
    probability = np.nan_to_num(columns["hold_out_probability"].to_numpy(dtype=np.float64))
    held_back = (probability > 0) & ~shown
    treatment = Treatment(
        flagged=shown | held_back,
        treated=treated.to_numpy(dtype=np.bool_),
        known=known.to_numpy(dtype=np.bool_),
        held_back=held_back,
        hold_out_probability=probability,
    )
    return treatment, predicted[RISK].to_numpy(dtype=np.float64)


def joined(treatments: Sequence[Treatment]) -> Treatment:
    """Return what was done in several batches as one."""
    names = Treatment.__dataclass_fields__
    return Treatment(**{name: np.concatenate([getattr(each, name) for each in treatments]) for name in names})


def explaining_variables(encounters: pd.DataFrame, risk: Floats) -> Floats:
    """Return what may explain an intervention: risk, demographic and administrative columns, and counts.

    Args:
        encounters: an encounters frame.
        risk: as it was served, shape (n_encounters,).

    Returns:
        shape (n_encounters, n_variables), without missing values.
    """
    log_odds = logit(np.clip(risk, SMALLEST_RISK, 1 - SMALLEST_RISK))
    categories = encounters[list(_CATEGORIES)].astype("str").fillna("")
    one_hot = OneHotEncoder(min_frequency=_RAREST, sparse_output=False).fit_transform(categories)
    counts = encounters[list(_COUNTS)].to_numpy(dtype=np.float64)
    return np.column_stack([log_odds, log_odds**2, counts, one_hot])
