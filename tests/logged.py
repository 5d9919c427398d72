"""Files of a prediction log, as the API leaves them: read, or made up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from bundles import as_records, draw_encounters

from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.prediction_log.lines import (
    FeedbackLine,
    LogEntry,
    OutcomeLine,
    lines_text,
    patients_text,
    prediction_text,
    read_feedback,
    read_outcomes,
    read_predictions,
)
from healthpredict.prediction_log.rolled_file import (
    FEEDBACK,
    OUTCOMES,
    PREDICTIONS,
    LogLimits,
    RolledFile,
    closed_files,
)

RECORD = as_records(draw_encounters(1))[0]
_LINE = {
    "time": 1_800_000_000_000_000,
    "request_id": "00" * 16,
    "endpoint": "/predict",
    "dry_run": False,
    "model_version": 1,
    "bundle_digest": "0" * 64,
    "readmission_risk": 0.25,
    "high_risk": False,
    "hold_out_probability": None,
}


def lines_of(folder: Path, kind: str = PREDICTIONS) -> list[dict[str, Any]]:
    """The lines of the closed files, the oldest file first."""
    return [line for path in closed_files(folder, kind) for line in rows(path.read_bytes(), kind)]


def rows(text: bytes, kind: str = PREDICTIONS) -> list[dict[str, Any]]:
    """Lines as dictionaries."""
    read = {PREDICTIONS: read_predictions, OUTCOMES: read_outcomes, FEEDBACK: read_feedback}[kind]
    columns: Mapping[str, Sequence[Any]] = read(text)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def prediction(encounter_id: int | None, patient_id: int | None = 1, **changes: Any) -> dict[str, Any]:
    """What a line says: that of an encounter without anything remarkable, with changes."""
    return {**_LINE, "encounter_id": encounter_id, "patient_id": patient_id, **RECORD, **changes}


def encounter_of(line: dict[str, Any]) -> list[Any]:
    """The encounter of what a line says, as the API notes it."""
    return [line[column.field] for column in RECORD_COLUMNS]


def entry_of(line: dict[str, Any]) -> LogEntry:
    """The prediction that leads to a line."""
    return LogEntry(
        time_ns=line["time"] * 1000,
        endpoint=line["endpoint"],
        dry_run=line["dry_run"],
        answer=line,
        encounter=encounter_of(line),
        hold_out_probability=line["hold_out_probability"],
    )


def outcome(encounter_id: int, readmitted: str = "NO", time: int = 1_800_000_000_000_000) -> dict[str, Any]:
    """What a line says."""
    return {"time": time, "encounter_id": encounter_id, "readmitted": readmitted}


def feedback(request_id: str, time: int, **changes: Any) -> dict[str, Any]:
    """What a line says."""
    said = {"outcome": "overridden", "accepted": [], "reason": None, "reason_system": None, "comment": None}
    return {"time": time, "request_id": request_id, "acted_at": time, **said, **changes}


def write_log(folder: Path, *files: list[dict[str, Any]]) -> list[Path]:
    """Closed files with lines that say this, in this order; the patients are as given."""
    return [path for lines in files for path in _write(folder, lines)]


def _write(folder: Path, lines: list[dict[str, Any]]) -> Iterator[Path]:
    if "patient_id" in lines[0]:
        kind, text = PREDICTIONS, _predictions(lines)
    elif "acted_at" in lines[0]:
        kind, text = FEEDBACK, lines_text([FeedbackLine(**line) for line in lines])
    else:
        kind, text = OUTCOMES, lines_text([OutcomeLine(**line) for line in lines])
    before = closed_files(folder, kind) if folder.exists() else []
    file = RolledFile(folder, kind, LogLimits())
    file.append(text, len(lines))
    file.close()
    return (path for path in closed_files(folder, kind) if path not in before)


def _predictions(lines: list[dict[str, Any]]) -> bytes:
    header = msgspec.json.decode(patients_text([], bytes(32))) | {"patients": [line["patient_id"] for line in lines]}
    predictions = [entry_of(line) for line in lines]
    return msgspec.json.encode(header) + b"\n" + b"".join(prediction_text(each)[1] for each in predictions)
