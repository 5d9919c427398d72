"""Read the encounters of batches whose outcomes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from healthpredict.data.cohort import add_label
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.interval import Outcomes
from healthpredict.evaluation.untreated import Overlap, Treatment, untreated_outcomes
from healthpredict.operations.dataset import LABEL, arrived_batches, has_matured
from healthpredict.operations.installation import Installation
from healthpredict.operations.treatment import ServedBatch, explaining_variables, read_served
from healthpredict.storage.tables import read_frame

FOR_TRAINING: Final = "for_training"
UNTREATED: Final = "readmitted_without_intervention"
"""Columns of frames in memory, see `Labelled`; they are not stored."""


@dataclass(frozen=True)
class Labelled:
    """The encounters of batches with known outcomes.

    Attributes:
        names: of the batches.
        parts: an encounters frame for each batch, without encounters of unknown outcome, with three more columns.
            `readmitted_within_30_days`: whether the patient was readmitted.
            `readmitted_without_intervention`: what the outcome would have been if nobody had been flagged: 0 or 1, or an estimate
            (see `evaluation.untreated`), or missing for a whole batch if it cannot be known. Models are judged by it.
            `for_training`: whether models are fitted to the encounter: not if an intervention was accepted after a flag, or if
            it is not known what was done.
        served: what was predicted and done in each batch, see `read_served`.
        overlap: of all batches together; None if all outcomes were observed.
    """

    names: tuple[str, ...]
    parts: tuple[pd.DataFrame, ...]
    served: tuple[ServedBatch | None, ...]
    overlap: Overlap | None

    @property
    def by_name(self) -> dict[str, pd.DataFrame]:
        """Name of a batch -> its part, in order."""
        return dict(zip(self.names, self.parts, strict=True))

    @property
    def frame(self) -> pd.DataFrame:
        """All batches in one frame."""
        return pd.concat(self.parts, ignore_index=True)


def read_labelled(installation: Installation, names: Sequence[str]) -> Labelled:
    """Read the cohort of accepted batches with its outcomes, observed and without intervention.

    The outcomes without intervention are estimated from all of these batches together, so pass all that are known. If too few
    flagged patients had no intervention, models can only be judged on the batches in which no flag changed an outcome.

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
    served = [read_served(installation.layout, name, part) for name, part in zip(names, parts, strict=True)]
    changed = []
    for part, of_part in zip(parts, served, strict=True):
        part[UNTREATED], part[FOR_TRAINING] = part[LABEL].astype(np.float64), True
        if of_part is not None and not of_part.treatment.untreated.all():
            part[FOR_TRAINING] = of_part.treatment.untreated
            changed.append((part, of_part))
    overlap = _estimate(changed) if changed else None
    return Labelled(tuple(names), tuple(parts), tuple(served), overlap)


def read_matured(installation: Installation) -> Labelled | None:
    """Read all batches that have matured by now, or return None if there are none. Errors are those of `read_labelled`."""
    names = [name for name in arrived_batches(installation) if has_matured(installation.layout, name)]
    return read_labelled(installation, names) if names else None


def with_outcome(labelled: pd.DataFrame) -> pd.DataFrame:
    """Select the encounters whose outcome without intervention is observed or estimated."""
    return labelled[labelled[UNTREATED].notna()].reset_index(drop=True)


def outcomes_of(labelled: pd.DataFrame) -> Outcomes:
    """Return the outcomes without intervention, bool if all were observed, shape (n_encounters,)."""
    values = labelled[UNTREATED].to_numpy(dtype=np.float64)
    # Outcomes that were all observed are bool, not 0.0 and 1.0: see `Outcomes`.
    return values.astype(np.bool_) if np.isin(values, (0.0, 1.0)).all() else values


def _estimate(changed: Sequence[tuple[pd.DataFrame, ServedBatch]]) -> Overlap | None:
    """Estimate the outcomes without intervention, and write them into the parts."""
    parts = [part for part, _ in changed]
    encounters, risk = pd.concat(parts, ignore_index=True), np.concatenate([served.risk for _, served in changed])
    found = untreated_outcomes(
        encounters[LABEL].to_numpy(dtype=np.bool_),
        Treatment.joined([served.treatment for _, served in changed]),
        explaining_variables(encounters, risk),
        encounters["patient_id"].to_numpy(dtype=np.int64),
    )
    ends = np.cumsum([len(part) for part in parts])[:-1]
    for part, outcome in zip(parts, np.split(found.outcome, ends), strict=True):
        part[UNTREATED] = outcome if found.problem is None else np.nan
    return found.overlap


def _read(installation: Installation, name: str) -> pd.DataFrame:
    layout = installation.layout
    return add_label(
        read_frame(layout.processed(name)), read_frame(layout.known_outcomes(name)), installation.settings.outcome
    )
