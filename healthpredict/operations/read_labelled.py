"""Read the encounters of batches whose outcomes are known."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd

from healthpredict.config import Settings
from healthpredict.data.cohort import add_label
from healthpredict.data.raw import parse_outcomes
from healthpredict.data.schema import check_outcomes
from healthpredict.errors import NotEnoughData
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import read_bytes

_logger = logging.getLogger(__name__)


def read_labelled(settings: Settings, names: Sequence[str]) -> pd.DataFrame:
    """Read the cohort of accepted batches with its label.

    Args:
        settings: where the data is, and which readmissions count.
        names: the batches; only matured ones, see `healthpredict.data.batches.matured`.

    Returns:
        An encounters frame with `readmitted_within_30_days`, in the order of the names. Encounters whose outcome is missing
        or breaks the contract are left out; the file of outcomes stays as it is.

    Raises:
        NotEnoughData: no names.
        NotFound: a batch was not accepted, or has no outcomes.
        BatchRefused: the outcomes break the contract.
    """
    if not names:
        raise NotEnoughData("No batch has known outcomes yet. Wait for the next one.")
    return pd.concat([_read(settings, name) for name in names], ignore_index=True)


def _read(settings: Settings, name: str) -> pd.DataFrame:
    layout = Layout(settings.data_uri)
    raw = parse_outcomes(read_bytes(layout.outcomes(name)), name)
    checked = check_outcomes(raw, name, settings.contract)
    if len(checked.quarantine):
        _logger.warning("Outcomes of %s left out: %s", name, checked.reasons)
    return add_label(read_frame(layout.processed(name)), checked.encounters, settings.outcome)
