"""Read the encounters of batches whose outcomes are known."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from healthpredict.config import Settings
from healthpredict.data.cohort import add_label
from healthpredict.errors import NotEnoughData
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame


def read_labelled(settings: Settings, names: Sequence[str]) -> pd.DataFrame:
    """Read the cohort of accepted batches with its label.

    Args:
        settings: where the data is, and which readmissions count.
        names: the batches; only matured ones, see `healthpredict.data.batches.matured`.

    Returns:
        An encounters frame with `readmitted_within_30_days`, in the order of the names. Encounters whose outcome is not known
        are left out.

    Raises:
        NotEnoughData: no names.
        NotFound: a batch, or its outcomes, were not accepted.
    """
    if not names:
        raise NotEnoughData("No batch has known outcomes yet. Wait for the next one.")
    return pd.concat([_read(settings, name) for name in names], ignore_index=True)


def _read(settings: Settings, name: str) -> pd.DataFrame:
    layout = Layout(settings.data_uri)
    return add_label(read_frame(layout.processed(name)), read_frame(layout.known_outcomes(name)), settings.outcome)
