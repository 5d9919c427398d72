"""Take an arrived batch in: valid cohort encounters to `processed/`, bad rows to `quarantine/`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.cohort import select_cohort
from healthpredict.data.raw import parse_raw
from healthpredict.data.schema import check_encounters
from healthpredict.operations.context import Seconds, timed
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import exists, list_uris, read_bytes


class AcceptedBatch(BaseModel):
    """What became of the rows of a batch.

    Attributes:
        name: the batch.
        rows: rows that arrived.
        cohort_rows: valid rows of the cohort, now in `processed/`.
        quarantined: bad rows, now in `quarantine/`. The other rows ended in death or hospice.
        reasons: reason to number of quarantined rows, the most frequent first; a row may have several.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int
    cohort_rows: int
    quarantined: int
    reasons: dict[str, int]
    seconds: Seconds


def accept_batch(settings: Settings, name: str) -> AcceptedBatch:
    """Check a batch and write its valid and its bad rows. A batch that was accepted before is left as it is.

    Args:
        settings: where the data is, and how strict the contract is.
        name: the batch, `batches/<name>.csv`. A row that repeats an `encounter_id` of another accepted batch is bad.

    Raises:
        BatchRefused: the file or too many of its rows break the contract; nothing was written.
        NotFound: there is no such batch.
        StorageError: something cannot be read or written; accepting it again does it all again.
    """
    layout = Layout(settings.data_uri)
    if exists(layout.accepted(name)):
        return AcceptedBatch.model_validate(read_json(layout.accepted(name)))
    seconds: Seconds = {}
    with timed(seconds, "accept"):
        raw = parse_raw(read_bytes(layout.batch(name)), name, with_outcome=False)
        others = [uri for uri in list_uris(layout.processed_folder, suffix=".parquet") if uri != layout.processed(name)]
        earlier_ids = [number for uri in others for number in read_frame(uri, ["encounter_id"])["encounter_id"]]
        checked = check_encounters(raw, name, settings.contract, earlier_ids)
        cohort = select_cohort(checked.encounters)
        write_frame(layout.quarantine(name), checked.quarantine)
        write_frame(layout.processed(name), cohort)
    accepted = AcceptedBatch(
        name=name,
        rows=len(raw),
        cohort_rows=len(cohort),
        quarantined=len(checked.quarantine),
        reasons=checked.reasons,
        seconds=seconds,
    )
    # Last, because it says that the rest is there.
    write_json(layout.accepted(name), accepted.model_dump())
    return accepted
