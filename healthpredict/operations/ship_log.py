"""Move closed files of the prediction log to the data URI as Parquet, each exactly once."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from healthpredict.data.contract import RECORD_COLUMNS, Kind
from healthpredict.errors import NotFound, StorageError
from healthpredict.operations.installation import Installation
from healthpredict.operations.record_feedback import INTERVENTIONS, interventions
from healthpredict.prediction_log.lines import read_feedback, read_outcomes, read_predictions
from healthpredict.prediction_log.rolled_file import (
    CLOSED,
    FEEDBACK,
    OUTCOMES,
    PREDICTIONS,
    adopt_left_files,
    closed_files,
)
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import delete, join, read_bytes, write_bytes

_logger = logging.getLogger(__name__)
_TIME: Final = pa.timestamp("us", tz="UTC")
_PREDICTIONS: Final = pa.schema(
    {
        "time": _TIME,
        "request_id": pa.string(),
        "endpoint": pa.string(),
        "dry_run": pa.bool_(),
        "model_version": pa.int64(),
        "bundle_digest": pa.string(),
        "readmission_risk": pa.float64(),
        "high_risk": pa.bool_(),
        "hold_out_probability": pa.float64(),
    }
    | {column.field: pa.int64() if column.kind in (Kind.ID, Kind.COUNT) else pa.string() for column in RECORD_COLUMNS}
)
_OUTCOMES: Final = pa.schema({"time": _TIME, "encounter_id": pa.int64(), "readmitted": pa.string()})
_FEEDBACK: Final = pa.schema(
    {
        "time": _TIME,
        "request_id": pa.string(),
        "outcome": pa.string(),
        "acted_at": _TIME,
        "accepted": pa.list_(pa.string()),
        "reason": pa.string(),
        "reason_system": pa.string(),
        "comment": pa.string(),
    }
)
_FORMATS: Final = {
    PREDICTIONS: (read_predictions, _PREDICTIONS),
    OUTCOMES: (read_outcomes, _OUTCOMES),
    FEEDBACK: (read_feedback, _FEEDBACK),
}
"""How the lines of each kind of file are read, and the schema of its objects."""
USABLE: Final = ~pc.field("dry_run") & pc.field("encounter_id").is_valid() & pc.field("patient_id").is_valid()
"""Filter for predictions to learn from: those of real encounters that can be matched with an outcome."""


class Shipped(BaseModel):
    """What was moved.

    Attributes:
        files: number of files that were moved.
        predictions: number of predictions in them.
        outcomes: number of outcomes in them.
        broken: number of files that are not in the format of this log. They were renamed and not moved.
        feedback: number of rows of feedback in them.
    """

    model_config = ConfigDict(frozen=True)

    files: int
    predictions: int
    outcomes: int
    broken: int
    feedback: int = 0


def ship_log(installation: Installation, folder: Path) -> Shipped:
    """Move every closed file of a log to `predictions/log/`, `outcomes/log/` and `interventions/log/`.

    Feedback is also appended to the ledger, with the predictions that it is about.

    The name of an object follows from that of its file, and the file is deleted after the object is written. So after a kill or a
    failure the same object is written again: no row is lost or stored twice.

    Args:
        installation: where the data goes.
        folder: folder of the log. Files that killed processes left there are moved too.

    Raises:
        AlreadyRunning: another process ships this folder.
        StorageError: the data URI or the folder cannot be written. Files that were not moved stay.
    """
    with exclusive(folder / "ship-log.lock", f"Shipping {folder}"):
        try:
            adopt_left_files(folder)
            return _ship(installation, folder)
        except OSError as error:
            raise StorageError(
                f"The log {folder} cannot be moved ({error.strerror}). Give this user access."
            ) from error


def usable_rows(uri: str) -> int:
    """Return the number of `USABLE` rows of an object of predictions, from its name. It is 0 for a file of another origin."""
    rows = uri.removesuffix(".parquet").rpartition("-")[2]
    return int(rows) if rows.isdecimal() else 0


def _ship(installation: Installation, folder: Path) -> Shipped:
    layout = installation.layout
    # Feedback last, because it needs the predictions that it is about.
    targets = {
        PREDICTIONS: layout.logged_predictions,
        OUTCOMES: layout.logged_outcomes,
        FEEDBACK: layout.logged_feedback,
    }
    rows = dict.fromkeys(targets, 0)
    files = broken = 0
    closed = [(kind, path) for kind in targets for path in closed_files(folder, kind)]
    for kind, path in closed:
        try:
            table = _parse(read_bytes(str(path)), kind)
        except NotFound:
            continue  # the API deleted it, because the log reached its size limit
        except ValueError:
            _logger.error("%s is not a file of the %s log. It was renamed to .broken: look at it.", path, kind)
            path.rename(path.with_suffix(".broken"))
            broken += 1
            continue
        name = _object_name(path, kind, table)
        if kind == FEEDBACK:
            done = interventions(installation, table)
            if done is None:
                continue  # the file waits until its predictions are shipped
            installation.ledger.append(INTERVENTIONS, key=name, cards=done)
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        write_bytes(join(targets[kind], name), buffer.getvalue())
        delete(str(path))
        files += 1
        rows[kind] += table.num_rows
    return Shipped(
        files=files,
        predictions=rows[PREDICTIONS],
        outcomes=rows[OUTCOMES],
        feedback=rows[FEEDBACK],
        broken=broken,
    )


def _object_name(path: Path, kind: str, table: pa.Table) -> str:
    name = path.name.removesuffix(CLOSED)
    return f"{name}-{table.filter(USABLE).num_rows}.parquet" if kind == PREDICTIONS else f"{name}.parquet"


def _parse(text: bytes, kind: str) -> pa.Table:
    read, schema = _FORMATS[kind]
    return pa.table(read(text), schema=schema)
