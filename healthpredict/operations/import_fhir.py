"""Import a FHIR R4 Bulk Data export: index admissions become batches, and what followed becomes their outcomes."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd

from healthpredict.data.columns import ENCOUNTER_COLUMNS, OUTCOME_COLUMN
from healthpredict.data.contract import FEATURE_COLUMNS
from healthpredict.data.import_params import ImportParams
from healthpredict.data.prepared import FHIR_SOURCE
from healthpredict.data.raw import format_raw
from healthpredict.errors import BatchRefused, ConfigurationError, NothingToPredict
from healthpredict.fhir.snomed import parse_map
from healthpredict.fhir.terminology import Terminology
from healthpredict.operations.describe_export import NO_STAY, DescribedExport, describe_export
from healthpredict.operations.extend_batches import extend_batches
from healthpredict.operations.fetch import Fetched
from healthpredict.operations.fhir_report import ImportedExport, LeftOut
from healthpredict.operations.find_export import find_export
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare_fetched, read_prepared
from healthpredict.operations.resource_groups import no_cycle_collection
from healthpredict.operations.sort_export import SortedExport, sort_export
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import write_json
from healthpredict.storage.uris import delete, exists, join, write_file

DATA_FILE: Final = "fhir.csv"
REPORT_FILE: Final = "fhir-import.json"
NOT_REFERRED: Final = "no order or administration that counts refers to it"
_SORTED: Final = 0.6
_DESCRIBED: Final = 0.96
"""Shares (0-1) of the progress bar at which each part ends; the rest is for writing."""

Progress = Callable[[float], None]
"""Receives the share (0-1) that is done."""


def import_fhir(installation: Installation, folder: str, progress: Progress = lambda _: None) -> ImportedExport:
    """Import an export. A later export of the same hospital adds its new stays as a batch, and the outcomes that have become known.

    Args:
        installation: where the data goes; its settings `fhir` have the rules. If they have a Ray address, that cluster describes
            the stays.
        folder: local folder or `s3://bucket/prefix` of NDJSON files, perhaps gzip files, with or without a `manifest.json`.
        progress: called with the share (0-1) that is done.

    Returns:
        What was used and left out, which is also written beside the data as JSON, even if the export is refused.

    Raises:
        SourceError: there is no export, or it is incomplete.
        NothingToPredict: it has no index admission.
        BatchRefused: too many rows break the contract, or a file of earlier batches or outcomes cannot be read.
        ConfigurationError: the `data_uri` contains other data that the ledger refers to, or the hospital's map of codes cannot be
            read.
        StorageError: something cannot be read or written. The next call starts over, or adds what is missing.
        ClusterError: the Ray cluster failed. Nothing was written.
    """
    layout, params = installation.layout, installation.settings.fhir
    terminology = _terminology_of(params)
    export = find_export(folder)
    size = max(1, sum(file.stored.size for file in export.files))
    with tempfile.TemporaryDirectory() as temporary:
        quarantine = Path(temporary) / "broken.ndjson"
        done = 0

        def read(some: int) -> None:
            nonlocal done
            done += some
            progress(min(1.0, done / size) * _SORTED)

        def described(share: float) -> None:
            progress(_SORTED + (_DESCRIBED - _SORTED) * share)

        groups = Path(temporary) / "groups"
        groups.mkdir()
        with no_cycle_collection():
            with quarantine.open("wb") as broken:
                sorted_export = sort_export(export, groups, read, broken)
            until = export.until or sorted_export.last_day
            found = describe_export(
                sorted_export,
                terminology,
                params,
                until or date.min,
                progress=described,
                ray_address=installation.settings.ray_address,
            )
        notices = export.notices
        if export.until is None and sorted_export.in_future:
            notices += (
                f"The export is taken to end on {until}. Days after today were ignored (encounters: {sorted_export.in_future:,}).",
            )
        report = _report(folder, notices, until, sorted_export, found)
        try:
            report = _write_batches(installation, report, found.rows)
        except BatchRefused:
            _write_report(layout, report, quarantine)
            raise
        # After the batches, because a first import clears the quarantine.
        _write_report(layout, report, quarantine)
    progress(1.0)
    return report


def _write_report(layout: Layout, report: ImportedExport, quarantine: Path) -> None:
    """Write the report and the broken lines, instead of those of the last import."""
    uri = join(layout.root, "quarantine", "fhir-lines.ndjson")
    if report.broken_lines:
        write_file(uri, quarantine)
    else:
        delete(uri)
    write_json(layout.raw(REPORT_FILE), report.model_dump(mode="json"))


def _write_batches(
    installation: Installation, report: ImportedExport, rows: list[dict[str, str | None]]
) -> ImportedExport:
    """Write the rows as batches and outcomes. Returns: the report with the names of the batches."""
    if not rows:
        why = report.why_left_out or "it has no inpatient stay"
        if report.broken_lines:
            why += f"; {report.broken_lines:,} lines cannot be read, see quarantine/fhir-lines.ndjson"
        raise NothingToPredict(report.source, f"it has no index admission: {why}")
    layout = installation.layout
    rows.sort(key=lambda row: int(row["encounter_id"] or 0))
    raw = pd.DataFrame(rows, columns=[*ENCOUNTER_COLUMNS, OUTCOME_COLUMN], dtype="str")
    raw = raw.where(raw.notna())
    if exists(layout.prepared) and read_prepared(installation).from_fhir:
        batches, absent = extend_batches(installation, raw)
        notices = report.notices
        if absent:
            notices += (
                f"{absent:,} encounters of earlier batches are no index admissions of this export. A later export of the same "
                "hospital has to contain them, because they are the history of its patients.",
            )
        return report.model_copy(update={"batches": batches, "notices": notices})
    fetched = Fetched(format_raw(raw), f"{FHIR_SOURCE}{report.source}", DATA_FILE, from_fhir=True)
    return report.model_copy(update={"batches": prepare_fetched(installation, fetched).batches})


def _terminology_of(params: ImportParams) -> Terminology:
    if params.snomed_map is None:
        return Terminology()
    try:
        lines = params.snomed_map.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The map {params.snomed_map} of HEALTHPREDICT_FHIR__SNOMED_MAP cannot be read."
        ) from error
    return Terminology(parse_map(lines, str(params.snomed_map)))


def _report(
    folder: str, notices: tuple[str, ...], until: date | None, export: SortedExport, found: DescribedExport
) -> ImportedExport:
    medications, roles = len(export.medications.keys() & found.used_medications), len(found.used_roles)
    used = found.used + Counter({"Medication": medications, "PractitionerRole": roles})
    left_out = export.left_out + found.left_out
    left_out["Medication", NOT_REFERRED] += export.read["Medication"] - medications
    left_out["PractitionerRole", NO_STAY] += export.read["PractitionerRole"] - roles
    rows = len(found.rows)
    outcomes = Counter(row[OUTCOME_COLUMN] for row in found.rows if row[OUTCOME_COLUMN] is not None)
    features = {column.name for column in FEATURE_COLUMNS}
    unknown: dict[str, dict[str, int]] = {}
    for (name, reason), number in found.unknown.most_common():
        if name in features:
            unknown.setdefault(name, {})[reason] = number
    return ImportedExport(
        source=folder,
        until=until.isoformat() if until else None,
        notices=notices,
        resources=dict(export.read),
        used=dict(used),
        left_out=tuple(
            LeftOut(kind=kind, reason=reason, number=number)
            for (kind, reason), number in left_out.most_common()
            if number
        ),
        broken_lines=export.broken_lines,
        broken=tuple(f"{line.file}, line {line.line}: {line.problem}" for line in export.first_broken),
        persons=found.persons,
        stays=rows,
        stays_left_out=dict(found.stays_left_out.most_common()),
        outcomes=dict(outcomes),
        no_outcome=dict(found.no_outcome),
        planned=found.planned,
        unknown=unknown,
        limited=dict(found.limited),
        unknown_codes=dict(found.unknown_codes.most_common()),
    )
