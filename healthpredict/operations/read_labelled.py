"""Read the encounters of batches whose outcomes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from healthpredict.data.cohort import add_label
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.interval import Floats, Outcomes
from healthpredict.evaluation.untreated import Overlap, Treatment, untreated_outcomes
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.installation import Installation
from healthpredict.operations.treatment import explaining_variables, has_interventions, joined, read_treatment
from healthpredict.storage.tables import read_frame

LEARNED: Final = "learned"
UNTREATED: Final = "readmitted_without_intervention"


@dataclass(frozen=True)
class Labelled:
    """The encounters of batches with known outcomes.

    Attributes:
        parts: an encounters frame for each batch, without encounters of unknown outcome. It has three more columns.
            `readmitted_within_30_days`: whether the patient was readmitted.
            `readmitted_without_intervention`: what the outcome would have been without intervention: 0 or 1, or an estimate (see
            `evaluation.untreated`), or missing for a whole batch if it cannot be known. Models are judged by it.
            `learned`: whether a model may learn from the encounter, because no intervention was accepted, as far as it is known.
        overlap: of all batches together; None if no outcome was changed by an intervention, as far as it is known.
    """

    parts: tuple[pd.DataFrame, ...]
    overlap: Overlap | None

    @property
    def frame(self) -> pd.DataFrame:
        """All batches in one frame."""
        return pd.concat(self.parts, ignore_index=True)


def read_labelled(installation: Installation, names: Sequence[str]) -> Labelled:
    """Read the cohort of accepted batches with its outcomes, observed and without intervention.

    The outcomes without intervention are estimated from all batches together. If these do not tell, the batches without reported
    interventions are still judged by their observed outcomes.

    Args:
        installation: where the data is.
        names: batches whose outcomes were accepted, see `matured_batches`.

    Raises:
        NotEnoughData: `names` is empty.
        NotFound: a batch or its outcomes were not accepted.
    """
    if not names:
        raise NotEnoughData("No batch has known outcomes yet. Wait for the next one.")
    parts = [_read(installation, name) for name in names]
    layout, treatments = installation.layout, {}
    for position, (name, part) in enumerate(zip(names, parts, strict=True)):
        part[UNTREATED], part[LEARNED] = part[LABEL].astype(np.float64), True
        if has_interventions(layout, name):
            treatments[position] = read_treatment(layout, name, part)
            part[LEARNED] = treatments[position][0].untreated
    if not treatments:
        return Labelled(tuple(parts), None)
    changed = [parts[position] for position in treatments]
    outcome, overlap = _untreated(changed, list(treatments.values()))
    for part, values in zip(changed, np.split(outcome, np.cumsum([len(part) for part in changed])[:-1]), strict=True):
        part[UNTREATED] = values
    return Labelled(tuple(parts), overlap)


def judged(labelled: pd.DataFrame) -> pd.DataFrame:
    """Select the encounters whose outcome without intervention is observed or estimated."""
    return labelled[labelled[UNTREATED].notna()].reset_index(drop=True)


def judged_outcomes(labelled: pd.DataFrame) -> Outcomes:
    """Return the outcomes without intervention, bool if all were observed, shape (n_encounters,)."""
    values = labelled[UNTREATED].to_numpy(dtype=np.float64)
    return values.astype(np.bool_) if np.isin(values, (0.0, 1.0)).all() else values


def _untreated(
    parts: Sequence[pd.DataFrame], treatments: Sequence[tuple[Treatment, Floats]]
) -> tuple[Floats, Overlap | None]:
    encounters = pd.concat(parts, ignore_index=True)
    treatment, risk = joined([each for each, _ in treatments]), np.concatenate([risk for _, risk in treatments])
    found = untreated_outcomes(
        encounters[LABEL].to_numpy(dtype=np.bool_),
        treatment,
        explaining_variables(encounters, risk),
        encounters["patient_id"].to_numpy(dtype=np.int64),
    )
    known = found.overlap is None or found.overlap.is_enough
    return found.outcome if known else np.full(len(encounters), np.nan), found.overlap


def _read(installation: Installation, name: str) -> pd.DataFrame:
    layout = installation.layout
    return add_label(
        read_frame(layout.processed(name)), read_frame(layout.known_outcomes(name)), installation.settings.outcome
    )
