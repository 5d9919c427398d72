"""Export a data set as a FHIR R4 Bulk Data export, with made-up dates."""

from __future__ import annotations

import gzip
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec
import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.data.columns import OUTCOME_COLUMN
from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.data.raw import read_history
from healthpredict.data.schema import check_rows
from healthpredict.errors import BatchRefused, ConfigurationError
from healthpredict.fhir.write.dated import DatedRow, Row, date_rows
from healthpredict.fhir.write.resources import FOLLOW_UP_DAYS, write_person, write_roles
from healthpredict.operations.installation import Installation
from healthpredict.storage.uris import join, list_folder, local_copy, write_bytes, write_file

_FIRST_DAY: Final = date(1999, 1, 1)
_DAYS: Final = 3652
"""Ten years, as in the data set."""
_encode: Final = msgspec.json.Encoder().encode


class ExportedData(BaseModel):
    """The result of an export.

    Attributes:
        folder: where it is.
        encounters: rows that were written.
        left_out: rows that break the contract or have no outcome, which were not written.
        patients: distinct persons.
        resources: type -> number of resources.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    encounters: int
    left_out: int
    patients: int
    resources: dict[str, int]


def export_fhir(
    installation: Installation,
    source: str,
    folder: str,
    *,
    compress: bool = True,
    progress: Callable[[float], None] = lambda _: None,
) -> ExportedData:
    """Write a data set as NDJSON files and a manifest.

    Args:
        installation: for its setting of diagnosis codes.
        source: path or `s3://` URI of a csv or Parquet file with `readmitted`.
        folder: local folder or `s3://bucket/prefix`, empty or new.
        compress: write `.ndjson.gz`.
        progress: called with the share (0-1) that is done.

    Raises:
        BatchRefused: the source cannot be read, columns are missing, or no row can be written.
        ConfigurationError: the folder is not empty.
        StorageError: something cannot be read or written.
    """
    if list_folder(folder).objects:
        raise ConfigurationError(f"{folder} is not empty. Name another folder for the export.")
    with local_copy(source) as path:
        raw = read_history(path, source).frame
    checked = check_rows(raw, RECORD_COLUMNS, installation.settings.contract.diagnosis_coding)
    usable = checked.valid & raw[OUTCOME_COLUMN].notna().to_numpy()
    if not usable.any():
        raise BatchRefused(source, "no row matches the contract and has an outcome, so there is nothing to export")
    table = checked.frame[usable].assign(**{OUTCOME_COLUMN: raw.loc[usable, OUTCOME_COLUMN]})
    table = table.sort_values("encounter_id", kind="stable").reset_index(drop=True)
    n_patients = table["patient_id"].nunique()
    last = datetime.min.replace(tzinfo=UTC)
    patients = 0
    with tempfile.TemporaryDirectory() as temporary:
        with _Files(Path(temporary), compress=compress) as files:
            for resource in write_roles(sorted(table["medical_specialty"].dropna().unique())):
                files.write(resource)
            for patient_id, stays in _persons(table):
                patients += 1
                last = max(last, stays[-1].end)
                for resource in write_person(patient_id, stays):
                    files.write(resource)
                if not patients & 255:
                    progress(0.95 * patients / n_patients)
        names = {kind: _file_name(kind, compress=compress) for kind in files.counts}
        for name in names.values():
            write_file(join(folder, name), Path(temporary) / name)
    time = last + timedelta(days=FOLLOW_UP_DAYS)
    manifest = {
        "transactionTime": time.isoformat(),
        "request": "healthpredict export-fhir",
        "requiresAccessToken": False,
        "output": [{"type": kind, "url": name, "count": files.counts[kind]} for kind, name in names.items()],
        "error": [],
    }
    write_bytes(join(folder, "manifest.json"), _encode(manifest))
    progress(1.0)
    return ExportedData(
        folder=folder,
        encounters=len(table),
        left_out=len(raw) - len(table),
        patients=patients,
        resources=dict(files.counts),
    )


def _persons(table: pd.DataFrame) -> Iterator[tuple[int, Sequence[DatedRow]]]:
    """Yield each person with dated stays. The first possible day of a stay follows from its rank in the table."""
    plain = table.astype(object).where(table.notna(), None)
    rows = cast("list[dict[str, Any]]", plain.to_dict("records"))
    by_person: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        by_person.setdefault(row["patient_id"], []).append(position)
    for patient_id, positions in by_person.items():
        days = [_FIRST_DAY + timedelta(days=_DAYS * position // len(rows)) for position in positions]
        own: list[Row] = [rows[position] for position in positions]
        yield patient_id, date_rows(own, days)


def _file_name(kind: str, *, compress: bool) -> str:
    return f"{kind}.ndjson.gz" if compress else f"{kind}.ndjson"


class _Files:
    """One NDJSON file for each type of resource."""

    def __init__(self, folder: Path, *, compress: bool) -> None:
        self._folder, self._compress = folder, compress
        self._files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, resource: dict[str, Any]) -> None:
        kind = resource["resourceType"]
        file = self._files.get(kind)
        if file is None:
            file = self._files[kind] = self._open(kind)
        file.write(_encode(resource) + b"\n")
        self.counts[kind] += 1

    def _open(self, kind: str) -> BinaryIO:
        path = self._folder / _file_name(kind, compress=self._compress)
        if self._compress:
            return cast("BinaryIO", self._stack.enter_context(gzip.open(path, "wb", compresslevel=1)))
        return self._stack.enter_context(path.open("wb"))
