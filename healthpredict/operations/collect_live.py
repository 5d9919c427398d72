"""Live batches: cut them from the shipped predictions of the API, record outcomes from files, and write the outcomes of each batch.

A live batch has the raw columns, with pseudonyms for patients, and is processed like any other.

`batches/live-NNNNNN.json` lists the objects of a live batch. If this file or one of these objects is damaged, restore it
from a backup or, on S3, from an earlier version. Do not delete it: a batch that was not written yet could then never be written,
and encounters could get into two batches.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from healthpredict.data.columns import OUTCOMES_COLUMNS
from healthpredict.data.contract import DIAGNOSES, RECORD_COLUMNS
from healthpredict.data.diagnosis import unambiguous
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.raw import format_raw, read_outcomes
from healthpredict.errors import StorageError
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.accept_batch import accepted_ids
from healthpredict.operations.arrivals import LIVE_CONTENTS, write_with_marker
from healthpredict.operations.collect_interventions import write_live_interventions
from healthpredict.operations.installation import Installation
from healthpredict.operations.record_file import RecordedFile, is_recorded, record_file
from healthpredict.operations.ship_log import USABLE, usable_rows
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import delete, exists, join, list_uris, read_bytes

_logger = logging.getLogger(__name__)
_RAW_NAMES: Final = {column.field: column.name for column in RECORD_COLUMNS}
_REPORTED_COLUMNS: Final = (*OUTCOMES_COLUMNS, "time")
_MANY_OBJECTS: Final = 100
"""If there are more objects of outcomes than this, they are merged into one, because S3 takes some 30 ms to read each."""


class Collected(BaseModel):
    """The result of cutting batches.

    Attributes:
        batches: names of the new batches.
        waiting: number of predictions that are in no batch yet.
        matured: names of the batches whose outcomes this call wrote.
    """

    model_config = ConfigDict(frozen=True)

    batches: list[str]
    waiting: int
    matured: list[str]


class _BatchContents(BaseModel):
    """The contents of a live batch, as stored in JSON: never rename a field.

    Attributes:
        objects: names of objects of the prediction log, which no other batch contains.
        encounter_ids: the encounters in these objects that are new.
    """

    objects: list[str]
    encounter_ids: list[int]


def collect_live(installation: Installation) -> Collected:
    """Cut batches from the shipped predictions while there are enough, and write the outcomes of each batch once enough are known.

    Interventions are written whenever something was reported.

    If a batch has several predictions for one encounter, the last one counts, because it is nearest to discharge. Encounters of
    earlier batches, dry runs, and predictions without an encounter or patient id are left out.

    Raises:
        StorageError: something cannot be read or written. The next call continues.
    """
    layout, min_rows = installation.layout, installation.settings.live.min_rows
    batches = _read_contents(layout)
    for name, contents in batches.items():
        if not exists(layout.batch(name)):  # an earlier run was killed between the two writes
            _write_batch(layout, name, contents)
    taken = {name for contents in batches.values() for name in contents.objects}
    names = map(_name, list_uris(layout.logged_predictions, suffix=".parquet"))
    fresh = [name for name in names if name not in taken and usable_rows(name)]
    new = []
    if sum(map(usable_rows, fresh)) >= min_rows:
        for contents in _cut_batches(layout, fresh, _earlier_ids(layout, batches.values()), min_rows):
            name = f"live-{len(batches) + 1:06d}"
            # Contents first, so that the next run writes the same batch if this one is killed.
            write_json(layout.collected(name), contents.model_dump(), exclusive=True)
            _write_batch(layout, name, contents)
            batches[name] = contents
            new.append(name)
            taken.update(contents.objects)
    waiting = sum(usable_rows(name) for name in fresh if name not in taken)
    write_live_interventions(installation, {name: contents.encounter_ids for name, contents in batches.items()})
    return Collected(batches=new, waiting=waiting, matured=_add_outcomes(installation, batches))


def _read_contents(layout: Layout) -> dict[str, _BatchContents]:
    """Return the contents of the live batches so far, by name."""
    found = {}
    for uri in list_uris(layout.batches_folder, suffix=".json"):
        if LIVE_CONTENTS.fullmatch(_name(uri)):
            try:
                found[_name(uri).removesuffix(".json")] = _BatchContents.model_validate(read_json(uri))
            except ValidationError as error:
                raise StorageError(f"{uri} is damaged. Restore it from a backup.") from error
    return found


def record_outcomes(installation: Installation, source_uri: str) -> RecordedFile:
    """Record the outcomes of a file, as `POST /outcomes` does with its body. Errors are those of `record_file`.

    Args:
        installation: where the data is.
        source_uri: local path or `s3://` URI of a csv or Parquet file with `encounter_id` and `readmitted`.
    """
    return record_file(installation.layout.logged_outcomes, source_uri, read_outcomes, check_outcomes)


def _earlier_ids(layout: Layout, batches: Iterable[_BatchContents]) -> set[int]:
    """Return the `encounter_id` of each encounter in any batch, because none may be in two batches."""
    return {*(number for contents in batches for number in contents.encounter_ids), *accepted_ids(layout)}


def _cut_batches(layout: Layout, names: list[str], earlier: set[int], min_rows: int) -> Iterator[_BatchContents]:
    """Yield the contents of batches. Each takes the next objects until it has enough new encounters."""
    used = set(earlier)
    objects: list[str] = []
    ids: dict[int, None] = {}
    for name in names:
        objects.append(name)
        ids |= dict.fromkeys(number for number in _read(layout, name)["encounter_id"].to_pylist() if number not in used)
        if len(ids) >= min_rows:
            yield _BatchContents(objects=objects, encounter_ids=list(ids))
            used |= ids.keys()
            objects, ids = [], {}


def _write_batch(layout: Layout, name: str, contents: _BatchContents) -> None:
    logged = pa.concat_tables((_read(layout, name) for name in contents.objects), promote_options="default")
    keys = logged.select(["time", "encounter_id"]).to_pandas()
    last = keys.sort_values("time", kind="stable").drop_duplicates("encounter_id", keep="last")
    chosen = logged.take(last.index[last["encounter_id"].isin(contents.encounter_ids)].to_numpy())
    # Objects of earlier versions of this system have no probability.
    names = ("encounter_id", RISK, "high_risk", "hold_out_probability", "model_version")
    predicted = chosen.select([name for name in names if name in chosen.column_names]).to_pandas()
    first = keys.groupby("encounter_id")["time"].min()
    predicted = predicted.assign(first_predicted=predicted["encounter_id"].map(first))
    write_frame(layout.live_predictions(name), predicted)
    raw = pa.table({raw: chosen[field].cast(pa.string()) for field, raw in _RAW_NAMES.items()}).to_pandas()
    raw[[*DIAGNOSES]] = raw[[*DIAGNOSES]].map(unambiguous, na_action="ignore")
    write_with_marker(layout.batch(name), format_raw(raw))


def _read(layout: Layout, name: str) -> pa.Table:
    """Read the usable rows of an object."""
    uri = join(layout.logged_predictions, name)
    try:
        return pq.read_table(BytesIO(read_bytes(uri))).filter(USABLE)
    except pa.ArrowInvalid as error:
        raise StorageError(
            f"{uri} is not a readable table of the prediction log ({error}). Restore it from a backup. "
            "If there is none, and no file batches/live-*.json lists it, remove it."
        ) from error


def _add_outcomes(installation: Installation, batches: dict[str, _BatchContents]) -> list[str]:
    """Write the outcomes of batches that have enough of them, and return their names.

    Outcomes are written once, because models are trained on them.
    """
    layout, known_share = installation.layout, installation.settings.known_share
    pending = {name: contents for name, contents in batches.items() if not exists(layout.outcomes(name))}
    if not pending:
        return []
    latest = _read_reported(layout).sort_values("time", kind="stable").drop_duplicates("encounter_id", keep="last")
    matured = []
    for name, contents in pending.items():
        of_batch = latest[latest["encounter_id"].isin(contents.encounter_ids)]
        # A readmission is known before its absence is, so the first few outcomes are nearly all readmissions.
        if len(of_batch) >= known_share * len(contents.encounter_ids):
            csv = format_raw(of_batch[list(OUTCOMES_COLUMNS)].astype("str"))
            write_with_marker(layout.outcomes(name), csv, exclusive=True)
            matured.append(name)
    return matured


def _read_reported(layout: Layout) -> pd.DataFrame:
    """Read all reported outcomes. Many small objects are merged into a large one."""
    uris = list_uris(layout.logged_outcomes, suffix=".parquet")
    # Objects of recorded files are not merged, because their names show which files were recorded.
    mergeable = [uri for uri in uris if not is_recorded(uri)]
    reported = _concatenate(read_frame(uri, _REPORTED_COLUMNS) for uri in mergeable)
    if len(mergeable) > _MANY_OBJECTS:
        digest = hashlib.sha256("\n".join(mergeable).encode()).hexdigest()
        write_frame(join(layout.logged_outcomes, f"merged-{digest[:32]}.parquet"), reported)
        # After a kill from here on, some outcomes exist twice until the next merge.
        for uri in mergeable:
            delete(uri)
    return _concatenate([reported, *(read_frame(uri, _REPORTED_COLUMNS) for uri in uris if uri not in mergeable)])


def _concatenate(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled).drop_duplicates() if filled else pd.DataFrame(columns=_REPORTED_COLUMNS)


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
