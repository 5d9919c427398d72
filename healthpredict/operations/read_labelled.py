"""Read the encounters of batches whose outcomes are known."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from healthpredict.data.cohort import add_label
from healthpredict.errors import NotEnoughData
from healthpredict.operations.installation import Installation
from healthpredict.storage.tables import read_frame


def read_labelled(installation: Installation, names: Sequence[str]) -> pd.DataFrame:
    """Read the cohort of accepted batches with its label.

    Args:
        installation: where the data is.
        names: batches whose outcomes were accepted, see `matured_batches`.

    Returns:
        An encounters frame with `readmitted_within_30_days`, in the order of the names, without encounters of unknown outcome.

    Raises:
        NotEnoughData: `names` is empty.
        NotFound: a batch or its outcomes were not accepted.
    """
    if not names:
        raise NotEnoughData("No batch has known outcomes yet. Wait for the next one.")
    return pd.concat([_read(installation, name) for name in names], ignore_index=True)


def _read(installation: Installation, name: str) -> pd.DataFrame:
    layout = installation.layout
    return add_label(
        read_frame(layout.processed(name)), read_frame(layout.known_outcomes(name)), installation.settings.outcome
    )
