"""Batches from what the API predicted: the shipped log is cut into batches, and their outcomes follow.

A batch made here is a batch like any other, in raw form with pseudonyms for patients: what follows from it is the same.
"""

from __future__ import annotations

import hashlib
import logging
from io import BytesIO
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.contract import COLUMNS, Kind
from healthpredict.data.raw import ENCOUNTER_COLUMNS, OUTCOMES_COLUMNS, format_raw, parse_outcomes
from healthpredict.data.schema import check_outcomes
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import exists, join, list_uris, local_copy, read_bytes, write_bytes

_logger = logging.getLogger(__name__)
_NAMES = {column.field: column.name for column in COLUMNS if column.kind is not Kind.OUTCOME}


class Collected(BaseModel):
    """What became of the log.

    Attributes:
        batch: the new batch; None where there are not enough encounters yet.
        waiting: encounters that are not in a batch yet.
        matured: batches whose outcomes are known from now on.
    """

    model_config = ConfigDict(frozen=True)

    batch: str | None
    waiting: int
    matured: list[str]


def collect_live(settings: Settings) -> Collected:
    """Cut a batch from the shipped predictions where there are enough, and add outcomes to the batches that have nearly all.

    Of several predictions for one encounter the last counts, the last of all being nearest to discharge. Dry runs, and
    encounters without the id of encounter or patient, are left out: nothing can be learned from them.

    Args:
        settings: where the store is, and how many encounters make a batch.

    Raises:
        StorageError: something cannot be read or written; done again it goes on.
    """
    layout = Layout(settings.data_uri)
    known = [uri.rpartition("/")[2].removesuffix(".json") for uri in list_uris(layout.batches_folder, suffix=".json")]
    for name in known:
        if not exists(layout.batch(name)):  # killed between the two
            _write_batch(layout, name)
    taken = {uri for name in known for uri in read_json(layout.collected(name))["objects"]}
    fresh = [_name(uri) for uri in list_uris(layout.logged_predictions, suffix=".parquet")]
    fresh = [name for name in fresh if name not in taken]
    waiting = len(_encounters(layout, fresh, known))
    batch = None
    if waiting >= settings.live.min_rows:
        batch = f"live-{len(known) + 1:06d}"
        # First what it is made of, so that after a kill the same batch is made.
        write_json(layout.collected(batch), {"objects": fresh, "after": known}, exclusive=True)
        _write_batch(layout, batch)
        known.append(batch)
        waiting = 0
    return Collected(batch=batch, waiting=waiting, matured=_add_outcomes(settings, layout, known))


def record_outcomes(settings: Settings, source_uri: str) -> int:
    """Note the outcomes of a csv, as `POST /outcomes` does for those it is sent.

    Args:
        settings: where the store is.
        source_uri: csv of `encounter_id` and `readmitted`, local or s3. Noted again, it changes nothing.

    Returns:
        How many.

    Raises:
        BatchRefused: the file breaks the contract, or more rows of it than allowed.
        NotFound: there is no such file.
        StorageError: it cannot be read or written.
    """
    with local_copy(source_uri) as path:
        data = path.read_bytes()
    checked = check_outcomes(parse_outcomes(data, source_uri), source_uri, settings.contract)
    if len(checked.quarantine):
        _logger.warning("Outcomes left out: %s", checked.reasons)
    digest = hashlib.sha256(data).hexdigest()
    frame = checked.encounters.assign(time=pd.Timestamp.now("UTC"), readmitted=lambda f: f["readmitted"].astype(str))
    write_frame(join(Layout(settings.data_uri).logged_outcomes, f"file-{digest[:32]}.parquet"), frame)
    return len(frame)


def _write_batch(layout: Layout, name: str) -> None:
    made_of = read_json(layout.collected(name))
    encounters = _encounters(layout, made_of["objects"], made_of["after"])
    raw = encounters.rename(columns=_NAMES)[list(ENCOUNTER_COLUMNS)].astype("str")
    write_bytes(layout.batch(name), format_raw(raw))


def _encounters(layout: Layout, objects: list[str], earlier: list[str]) -> pd.DataFrame:
    """The encounters of some shipped objects that are in no earlier batch, in the order of time."""
    if not objects:
        return pd.DataFrame()
    logged = pd.concat([_read(join(layout.logged_predictions, name)) for name in objects], ignore_index=True)
    usable = logged[~logged["dry_run"] & logged["encounter_id"].notna() & logged["patient_id"].notna()]
    last = usable.sort_values("time", kind="stable").drop_duplicates("encounter_id", keep="last")
    before = [number for name in earlier for number in _ids(layout, name)]
    return last[~last["encounter_id"].isin(before)].reset_index(drop=True)


def _read(uri: str) -> pd.DataFrame:
    frame: pd.DataFrame = pd.read_parquet(BytesIO(read_bytes(uri)), dtype_backend="numpy_nullable")
    return frame


def _ids(layout: Layout, batch: str) -> list[int]:
    ids: Any = pd.read_csv(BytesIO(read_bytes(layout.batch(batch))), usecols=["encounter_id"])["encounter_id"]
    return list(ids)


def _add_outcomes(settings: Settings, layout: Layout, names: list[str]) -> list[str]:
    """Write the outcomes of batches that have enough of them; once written they stay, because models were trained on them."""
    pending = [name for name in names if not exists(layout.outcomes(name))]
    objects = list_uris(layout.logged_outcomes, suffix=".parquet") if pending else []
    if not objects:
        return []
    reported = pd.concat([read_frame(uri, ["encounter_id", "readmitted", "time"]) for uri in objects])
    latest = reported.sort_values("time", kind="stable").drop_duplicates("encounter_id", keep="last")
    matured = []
    for name in pending:
        ids = _ids(layout, name)
        of_batch = latest[latest["encounter_id"].isin(ids)]
        # Readmissions are known before their absence is: with few outcomes nearly everyone would have come back.
        if len(of_batch) >= settings.live.known_share * len(ids):
            write_bytes(layout.outcomes(name), format_raw(of_batch[list(OUTCOMES_COLUMNS)].astype("str")))
            matured.append(name)
    return matured


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
