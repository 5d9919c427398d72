"""Match the feedback on cards with the predictions that they showed. `ship_log` records the result in the ledger."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from healthpredict.operations.installation import Installation
from healthpredict.storage.uris import list_uris, read_bytes

INTERVENTIONS: Final = "interventions"
"""Kind of the event in the ledger: never rename it."""
_PREDICTION: Final = ("request_id", "encounter_id", "model_version", "readmission_risk", "high_risk", "dry_run")
_OBJECTS_SEARCHED: Final = 1000
"""Feedback comes soon after its card, so the newest objects of predictions contain it."""
_WAIT_SECONDS: Final = 3600
"""Feedback waits this long for its prediction, whose file may be shipped later. Then it is recorded without one."""


def interventions(installation: Installation, feedback: pa.Table) -> list[dict[str, Any]] | None:
    """Return what clinicians did with cards, as the ledger stores it: never rename a key.

    Args:
        installation: with the shipped predictions.
        feedback: columns as in `prediction_log.lines.FeedbackLine`.

    Returns:
        For each row, the prediction that the card showed, and what became of the card. The fields of the prediction are None if
        there is none with this id. Comments of clinicians are left out, because they may name a patient. None instead of a list
        if feedback still waits for its prediction: try again later.
    """
    rows = feedback.to_pylist()
    shown = _predictions(installation, {row["request_id"] for row in rows})
    waits = time.time() - max((row["time"].timestamp() for row in rows), default=0.0) < _WAIT_SECONDS
    if waits and any(row["request_id"] not in shown for row in rows):
        return None
    return [
        {
            **(shown.get(row["request_id"]) or dict.fromkeys(_PREDICTION) | {"request_id": row["request_id"]}),
            "outcome": row["outcome"],
            "acted_at": row["acted_at"].isoformat(),
            "accepted": row["accepted"],
            "reason": row["reason"],
        }
        for row in rows
    ]


def _predictions(installation: Installation, request_ids: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    newest_first = list_uris(installation.layout.logged_predictions, suffix=".parquet")[::-1][:_OBJECTS_SEARCHED]
    wanted = pc.field("request_id").isin(list(request_ids))
    for uri in newest_first:
        if len(found) == len(request_ids):
            break
        table = pq.read_table(BytesIO(read_bytes(uri)), columns=list(_PREDICTION)).filter(wanted)
        found |= {row["request_id"]: row for row in table.to_pylist()}
    return found
