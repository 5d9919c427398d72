"""Move closed files of the prediction log to the store, as Parquet, each exactly once."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.contract import BY_FIELD, COLUMNS, Kind
from healthpredict.storage.layout import Layout
from healthpredict.storage.lock import exclusive
from healthpredict.storage.rolled_file import CLOSED, OUTCOMES, PREDICTIONS, adopt_left_files, closed_files
from healthpredict.storage.uris import join, write_bytes

_logger = logging.getLogger(__name__)
_TYPES: Final = {
    column.field: pa.int64() if column.kind in (Kind.ID, Kind.COUNT) else pa.string()
    for column in COLUMNS
    if column.kind is not Kind.OUTCOME
}
_TIME: Final = pa.timestamp("us", tz="UTC")
_SCHEMAS: Final = {
    PREDICTIONS: pa.schema(
        {
            "time": pa.int64(),
            "request_id": pa.string(),
            "endpoint": pa.string(),
            "dry_run": pa.bool_(),
            "model_version": pa.int64(),
            "bundle_digest": pa.string(),
            "readmission_risk": pa.float64(),
            "high_risk": pa.bool_(),
            "encounter": pa.struct(list(_TYPES.items())),
        }
    ),
    OUTCOMES: pa.schema(
        {"time": pa.int64(), "encounter_id": _TYPES["encounter_id"], BY_FIELD["readmitted"].field: pa.string()}
    ),
}


class Shipped(BaseModel):
    """What was moved.

    Attributes:
        files: closed files that are in the store now, and here no more.
        predictions: their rows.
        outcomes: likewise.
        broken: files that are not lines of JSON of the log; they stay, renamed.
    """

    model_config = ConfigDict(frozen=True)

    files: int
    predictions: int
    outcomes: int
    broken: int


def ship_log(settings: Settings, folder: Path) -> Shipped:
    """Move every closed file of a log to `predictions/log/` and `outcomes/log/`.

    An object has the name of its file. A file is removed only when its object is written, so that after a kill or a failure
    the same file makes the same object again: no row is lost, and none is there twice.

    Args:
        settings: where the store is.
        folder: of the log; what killed processes left there is taken as well.

    Raises:
        AlreadyRunning: another process ships this folder.
        StorageError: the store cannot be written; what was not moved stays.
    """
    layout = Layout(settings.data_uri)
    targets = {PREDICTIONS: layout.logged_predictions, OUTCOMES: layout.logged_outcomes}
    rows = dict.fromkeys(targets, 0)
    files = broken = 0
    with exclusive(folder / "ship-log.lock", f"Shipping {folder}"):
        adopt_left_files(folder)
        for kind, target in targets.items():
            for path in closed_files(folder, kind):
                table = _read(path, kind)
                if table is None:
                    path.rename(path.with_suffix(".broken"))
                    broken += 1
                    continue
                buffer = BytesIO()
                pq.write_table(table, buffer, compression="zstd")
                write_bytes(join(target, f"{path.name.removesuffix(CLOSED)}.parquet"), buffer.getvalue())
                path.unlink(missing_ok=True)
                files += 1
                rows[kind] += table.num_rows
    return Shipped(files=files, predictions=rows[PREDICTIONS], outcomes=rows[OUTCOMES], broken=broken)


def _read(path: Path, kind: str) -> pa.Table | None:
    """The rows of a file, the encounter's fields as columns; None where it is no log."""
    options = pa.json.ParseOptions(explicit_schema=_SCHEMAS[kind], unexpected_field_behavior="error")
    try:
        table = pa.json.read_json(path, parse_options=options)
    except pa.ArrowInvalid:
        # Arrow's message may quote a row, which is a patient's.
        _logger.error("%s is not a file of the %s log; renamed to .broken, look at it", path, kind)
        return None
    table = table.set_column(table.schema.get_field_index("time"), "time", table["time"].cast(_TIME))
    if kind == OUTCOMES:
        return table
    flat = table.flatten()
    return flat.rename_columns([name.removeprefix("encounter.") for name in flat.column_names])
