"""What was done in the encounters of a batch, and what may explain it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class ServedBatch:
    """What was predicted and done in the encounters of a batch, all of shape (n_encounters,).

    Attributes:
        treatment: what was done.
        risk: as it was served (0-1); NaN if there is none.
        version: of the model that served it; missing if there is none.
        accepted_kinds: kinds of interventions that were accepted, as a frozenset; missing if there are none.
        silent: whether no flag could be issued.
    """

    treatment: Treatment
    risk: Floats
    version: pd.Series[int]
    accepted_kinds: pd.Series[Any]
    silent: NDArray[np.bool_]


def read_served(layout: Layout, name: str, encounters: pd.DataFrame) -> ServedBatch | None:
    """Read what was predicted and done in the encounters of a batch, in their order.

    Returns:
        None if no intervention in the batch was reported, or if no flag was issued in it, as far as it is known.
    """
    if not (exists(layout.known_interventions(name)) and exists(layout.predictions(name))):
        return None
    reported = read_frame(layout.known_interventions(name))
    predicted = encounters[["encounter_id"]].merge(
        read_frame(layout.predictions(name)), on="encounter_id", how="left", validate="one_to_one"
    )
    # Live batches of earlier versions of this system have neither.
    columns = predicted.reindex(columns=["high_risk", "hold_out_probability"])
    shown = columns["high_risk"].eq(True).to_numpy(dtype=np.bool_)
    probability = np.nan_to_num(columns["hold_out_probability"].to_numpy(dtype=np.float64))
    held_back = (probability > 0) & ~shown
    if reported.empty or not shown.any():
        return None
    kinds = reported[reported["response"] == "accepted"].groupby("encounter_id")["kind"].agg(frozenset)
    accepted = _encounters_with(reported, encounters, ("accepted",))
    # Of an encounter with an open offer, it is not known what will be done.
    closed = _encounters_with(reported, encounters, (*DECIDED, "none")) & ~_encounters_with(
        reported, encounters, ("offered",)
    )
    treatment = Treatment(
        flagged=shown | held_back,
        treated=accepted & shown,
        known=accepted | closed,
        held_back=held_back,
        hold_out_probability=probability,
    )
    return ServedBatch(
        treatment,
        predicted[RISK].to_numpy(dtype=np.float64),
        predicted["model_version"],
        encounters["encounter_id"].map(kinds),
        columns["high_risk"].isna().to_numpy(dtype=np.bool_),
    )


def _encounters_with(reported: pd.DataFrame, encounters: pd.DataFrame, responses: Iterable[str]) -> NDArray[np.bool_]:
    """Whether one of these responses was reported for each encounter."""
    numbers = reported.loc[reported["response"].isin(list(responses)), "encounter_id"]
    return encounters["encounter_id"].isin(numbers).to_numpy(dtype=np.bool_)


def explaining_variables(encounters: pd.DataFrame, risk: Floats) -> Floats:
    """Return what may explain an intervention: risk, demographic and administrative columns, and counts.

    Args:
        encounters: an encounters frame.
        risk: as it was served, NaN if there is none, shape (n_encounters,).

    Returns:
        shape (n_encounters, n_variables), without missing values.
    """
    # An encounter without a risk was not flagged, so its value is not used.
    log_odds = logit(np.clip(np.nan_to_num(risk), SMALLEST_RISK, 1 - SMALLEST_RISK))
    categories = encounters[list(_CATEGORIES)].astype("str").fillna("")
    one_hot = OneHotEncoder(min_frequency=_RAREST, sparse_output=False).fit_transform(categories)
    counts = encounters[list(_COUNTS)].to_numpy(dtype=np.float64)
    return np.column_stack([log_odds, log_odds**2, counts, one_hot])
