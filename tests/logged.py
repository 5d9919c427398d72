"""Files of a prediction log, as the API leaves them: read, or made up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundles import as_records, draw_encounters

from healthpredict.storage.rolled_file import OUTCOMES, PREDICTIONS, LogLimits, RolledFile, closed_files

RECORD = as_records(draw_encounters(1))[0]


def lines_of(folder: Path, kind: str = PREDICTIONS) -> list[dict[str, Any]]:
    """The lines of the closed files, the oldest file first."""
    return [json.loads(line) for path in closed_files(folder, kind) for line in path.read_bytes().splitlines()]


def prediction(encounter_id: int | None, patient_id: int | None = 1, **changes: Any) -> dict[str, Any]:
    """A line; changes to it, or to its encounter."""
    encounter = {"encounter_id": encounter_id, **RECORD}
    encounter |= {name: changes.pop(name) for name in tuple(changes) if name in encounter}
    line = {
        "time": 1_800_000_000_000_000,
        "request_id": "00" * 16,
        "endpoint": "/predict",
        "dry_run": False,
        "model_version": 1,
        "bundle_digest": "0" * 64,
        "readmission_risk": 0.25,
        "high_risk": False,
        "patient_id": patient_id,
        "encounter": encounter,
    }
    return line | changes


def outcome(encounter_id: int, readmitted: str = "NO", time: int = 1_800_000_000_000_000) -> dict[str, Any]:
    """A line."""
    return {"time": time, "encounter_id": encounter_id, "readmitted": readmitted}


def write_log(folder: Path, *files: list[dict[str, Any]]) -> list[Path]:
    """Closed files with these lines, in this order."""
    return [path for lines in files for path in _write(folder, lines)]


def _write(folder: Path, lines: list[dict[str, Any]]) -> Iterator[Path]:
    kind = PREDICTIONS if "encounter" in lines[0] else OUTCOMES
    before = closed_files(folder, kind) if folder.exists() else []
    file = RolledFile(folder, kind, LogLimits())
    file.append("".join(f"{json.dumps(line)}\n" for line in lines).encode(), len(lines))
    file.close()
    return (path for path in closed_files(folder, kind) if path not in before)
