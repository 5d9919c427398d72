"""Plant interventions into a batch that was predicted, and their effect into its outcomes, for demonstrations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from healthpredict.data.plant_interventions import interventions_of, plant_answers, prevent
from healthpredict.data.raw import format_raw, read_outcomes
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.arrivals import write_with_marker
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import batch_events
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import exists, read_bytes


def plant_interventions(installation: Installation, name: str, outcomes: bytes, effect: float) -> None:
    """Write the interventions in the flagged encounters of a batch, then its outcomes, without the readmissions that are prevented.

    The random state follows from the name of the batch, so a second call writes the same: keep the order of the flagged encounters
    and of the draws. A batch without predictions, such as a refused one, has no interventions.

    Args:
        installation: where the batch is done.
        name: of the batch.
        outcomes: the content of its file of outcomes.
        effect: share (0-1) of the readmissions within 30 days of treated patients that is prevented.

    Raises:
        StorageError: something cannot be read or written.
    """
    layout = installation.layout
    raw = read_outcomes(outcomes, f"the outcomes of {name}").frame
    if exists(layout.predictions(name)):
        flagged = _flagged(installation, name)
        rng = np.random.default_rng(list(name.encode()))
        accepted = plant_answers(flagged["age"].astype("str"), flagged[RISK].to_numpy(dtype=np.float64), rng)
        encounter_id = flagged["encounter_id"].to_numpy(dtype=np.int64)
        if len(flagged):
            # Not the time of this call, because a second call must write the same.
            acted_at = batch_events(installation)[name]["time"]
            _write(layout.interventions(name), format_raw(interventions_of(encounter_id, accepted, acted_at)))
        raw = prevent(raw, encounter_id[accepted], effect, rng)
    _write(layout.outcomes(name), format_raw(raw))


def _flagged(installation: Installation, name: str) -> pd.DataFrame:
    """Return `encounter_id`, `age` and the risk of the flagged encounters of a batch, in the order of `encounter_id`."""
    layout = installation.layout
    predicted = read_frame(layout.predictions(name), ["encounter_id", RISK, "high_risk"])
    flagged = predicted[predicted["high_risk"].eq(True)]
    encounters = read_frame(layout.processed(name), ["encounter_id", "age"])
    return flagged.merge(encounters, on="encounter_id", validate="one_to_one").sort_values("encounter_id")


def _write(uri: str, data: bytes) -> None:
    # Otherwise the loop would read an unchanged file again.
    if not exists(uri) or read_bytes(uri) != data:
        write_with_marker(uri, data)
