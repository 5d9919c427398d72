"""Write the interventions in live batches: from the feedback on cards, and from files that were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import pandas as pd

from healthpredict.data.columns import INTERVENTION_NAMES
from healthpredict.data.interventions import check_interventions
from healthpredict.data.raw import format_raw, read_interventions
from healthpredict.operations.arrivals import write_with_marker
from healthpredict.operations.installation import Installation
from healthpredict.operations.record_feedback import INTERVENTIONS
from healthpredict.operations.record_file import RecordedFile, is_recorded, record_file
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import exists, list_uris, read_bytes

CARD: Final = "card"
"""The kind of an intervention that a clinician overrode as a whole, with all suggestions of the card. Stored: never rename it."""


def record_interventions(installation: Installation, source_uri: str) -> RecordedFile:
    """Record the interventions in encounters that the API predicted. Errors are those of `record_file`.

    Args:
        installation: where the data is.
        source_uri: local path or `s3://` URI of a csv or Parquet file with the columns of `INTERVENTION_COLUMNS`.
    """
    check = partial(check_interventions, now=pd.Timestamp.now("UTC"))
    return record_file(installation.layout.logged_feedback, source_uri, read_interventions, check)


def write_live_interventions(installation: Installation, batches: Mapping[str, Sequence[int]]) -> None:
    """Write what was reported for each live batch to `interventions/`, if it changed.

    Args:
        installation: where the data is.
        batches: name of a live batch -> its encounters.

    Raises:
        StorageError: something cannot be read or written.
    """
    layout = installation.layout
    reported = _reported(installation)
    if reported.empty:
        return
    for name, encounters in batches.items():
        of_batch = reported[reported["encounter_id"].isin(encounters)]
        if len(of_batch):
            uri, csv = layout.interventions(name), format_raw(of_batch.astype("str").where(of_batch.notna()))
            if not exists(uri) or read_bytes(uri) != csv:
                write_with_marker(uri, csv)


def unmatched_cards(installation: Installation) -> int:
    """Return the number of answers to cards that match no logged prediction, perhaps because nobody was shown the card."""
    return sum(card["encounter_id"] is None for card in _cards(installation))


def _cards(installation: Installation) -> list[dict[str, Any]]:
    events = installation.ledger.events(INTERVENTIONS)
    return [{**card, "time": event["time"]} for event in events for card in event["cards"]]


def _reported(installation: Installation) -> pd.DataFrame:
    """Return what was reported, in the columns of `INTERVENTION_COLUMNS`: the last report of an encounter and a kind."""
    rows = [
        (card["encounter_id"], kind, card["outcome"], card["reason"], card["acted_at"], card["time"])
        for card in _cards(installation)
        if card["encounter_id"] is not None and not card["dry_run"]
        for kind in (card["accepted"] if card["outcome"] == "accepted" else [CARD])
    ]
    names = [*INTERVENTION_NAMES, "time"]
    frames = [pd.DataFrame(rows, columns=names)] if rows else []
    for uri in list_uris(installation.layout.logged_feedback, suffix=".parquet"):
        if is_recorded(uri):
            recorded = read_frame(uri, names)
            # As text, like those of the cards. Earlier versions of this system stored text.
            times = {
                name: pd.to_datetime(recorded[name], utc=True, format="ISO8601").map(
                    pd.Timestamp.isoformat, na_action="ignore"
                )
                for name in ("acted_at", "time")
            }
            frames.append(recorded.assign(**times))
    if not frames:
        return pd.DataFrame(columns=list(INTERVENTION_NAMES))
    reported = pd.concat(frames, ignore_index=True)
    order = pd.to_datetime(reported.pop("time"), utc=True, format="ISO8601").argsort(kind="stable")
    reported = reported.iloc[order].reset_index(drop=True)
    # A report of `none` cancels all earlier reports on the encounter, and any later report cancels it.
    position, encounter = reported.index.to_series(), reported["encounter_id"]
    last_nothing = position.where(reported["response"] == "none").groupby(encounter).transform("max")
    is_newest = position == position.groupby(encounter).transform("max")
    in_force = reported[is_newest | last_nothing.isna() | (position > last_nothing)]
    return in_force.drop_duplicates(["encounter_id", "kind"], keep="last")
