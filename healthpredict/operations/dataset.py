"""The batches that have arrived, those that have matured, and the side of each patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.data.batches import INITIAL, matured, natural_key
from healthpredict.data.split import side_of
from healthpredict.errors import ConfigurationError
from healthpredict.operations.accept_batch import accepted_names
from healthpredict.operations.accept_outcomes import known_outcomes
from healthpredict.operations.arrivals import delivered_batches
from healthpredict.operations.installation import Installation
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_json
from healthpredict.storage.uris import exists, read_bytes

LABEL = "readmitted_within_30_days"


def arrived_batches(installation: Installation) -> list[str]:
    """Names of all batches that have arrived: `initial`, then the others in natural order, even if the file was removed since."""
    names = {*accepted_names(installation.layout), *delivered_batches(installation).files}
    return [INITIAL, *sorted(names - {INITIAL}, key=natural_key)]


def arriving_batch(installation: Installation, name: str | None) -> str:
    """Return `name` if a batch of this name has arrived, or the newest batch if `name` is None.

    Raises:
        ConfigurationError: no batch of this name has arrived.
    """
    arrived = arrived_batches(installation)
    if name is not None and name not in arrived:
        raise ConfigurationError(
            f"There is no batch {name!r} in {installation.layout.batches_folder}. "
            f"The newest is {arrived[-1]!r}; `healthpredict status` lists what is done and pending."
        )
    return name or arrived[-1]


def matured_batches(installation: Installation, arriving: str) -> list[str]:
    """Batches that have matured when `arriving` arrives, in natural order. If none is old enough, the initial data, if it has."""
    layout = installation.layout
    known = matured(arrived_batches(installation), arriving, installation.settings.label_delay) or [INITIAL]
    return [name for name in known if has_matured(layout, name)]


def has_matured(layout: Layout, name: str) -> bool:
    """Whether a batch was accepted and enough of its outcomes are known to learn from it."""
    outcomes = known_outcomes(layout, name) if exists(layout.accepted(name)) else None
    return outcomes is not None and outcomes.matured


def cohort_rows(installation: Installation, names: Sequence[str]) -> int:
    """Return the number of encounters at risk in accepted batches."""
    return sum(read_json(installation.layout.accepted(name))["cohort_rows"] for name in names)


def newest_batches(rows: Sequence[int], enough: int) -> int:
    """Return the position of the first batch of the newest ones, which together have `enough` encounters. 0 if all have fewer.

    Args:
        rows: encounters of each batch, in order; at least one batch.
        enough: at least 1.
    """
    total = 0
    for position in reversed(range(len(rows))):
        total += rows[position]
        if total >= enough:
            return position
    return 0


def sides(encounters: pd.DataFrame) -> NDArray[np.str_]:
    """The `Side` of each encounter's patient, shape (n_encounters,)."""
    return side_of(encounters["patient_id"].to_numpy())


def data_digest(installation: Installation, names: Sequence[str]) -> str:
    """SHA-256 of the accepted encounters, the known outcomes and the known interventions of some batches, as stored.

    It is stored with each model: never change the order. A batch without interventions has the same digest as in earlier versions.
    """
    layout = installation.layout
    digest = hashlib.sha256()
    for name in names:
        interventions = layout.known_interventions(name)
        reported = [interventions] if exists(interventions) else []
        for uri in (layout.processed(name), layout.known_outcomes(name), *reported):
            digest.update(hashlib.sha256(read_bytes(uri)).digest())
    return digest.hexdigest()
