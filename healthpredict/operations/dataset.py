"""Which batches have arrived, which of them have matured, and on which side a patient is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL, matured, natural_key
from healthpredict.data.split import side_of
from healthpredict.errors import ConfigurationError
from healthpredict.operations.accept_batch import accepted_names
from healthpredict.operations.accept_outcomes import known_outcomes
from healthpredict.operations.arrivals import delivered_batches
from healthpredict.storage.layout import Layout
from healthpredict.storage.uris import exists, read_bytes

LABEL = "readmitted_within_30_days"


def arrived_batches(settings: Settings) -> list[str]:
    """Names of all batches that have arrived, in natural order, `initial` first; accepted ones stay if their file goes."""
    names = {*accepted_names(Layout(settings.data_uri)), *delivered_batches(settings).files}
    return [INITIAL, *sorted(names - {INITIAL}, key=natural_key)]


def arriving_batch(settings: Settings, name: str | None) -> str:
    """The batch of this name, or the newest if there is no name.

    Raises:
        ConfigurationError: no batch of this name has arrived.
    """
    arrived = arrived_batches(settings)
    if name is not None and name not in arrived:
        raise ConfigurationError(
            f"There is no batch {name!r} in {Layout(settings.data_uri).batches_folder}. "
            f"The newest is {arrived[-1]!r}; `healthpredict status` lists what is done and pending."
        )
    return name or arrived[-1]


def matured_batches(settings: Settings, arriving: str) -> list[str]:
    """Accepted batches whose outcomes are known when `arriving` arrives; the initial data is history and always is."""
    layout = Layout(settings.data_uri)
    known = matured(arrived_batches(settings), arriving, settings.label_delay) or [INITIAL]
    return [name for name in known if has_matured(layout, name)]


def has_matured(layout: Layout, name: str) -> bool:
    """Whether a batch was accepted and enough of its outcomes are known to learn from it."""
    outcomes = known_outcomes(layout, name) if exists(layout.accepted(name)) else None
    return outcomes is not None and outcomes.matured


def sides(encounters: pd.DataFrame) -> NDArray[np.str_]:
    """The `Side` of each encounter's patient, shape (n_encounters,)."""
    return side_of(encounters["patient_id"].to_numpy())


def data_digest(settings: Settings, names: Sequence[str]) -> str:
    """sha256 over the accepted encounters and the known outcomes of some batches, as stored."""
    layout = Layout(settings.data_uri)
    digest = hashlib.sha256()
    for name in names:
        for uri in (layout.processed(name), layout.known_outcomes(name)):
            digest.update(hashlib.sha256(read_bytes(uri)).digest())
    return digest.hexdigest()
