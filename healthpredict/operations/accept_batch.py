"""Accept a batch: valid encounters of the cohort go to `processed/`, bad rows to `quarantine/`."""

from __future__ import annotations

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.data.cohort import is_at_risk
from healthpredict.data.raw import read_encounters
from healthpredict.data.schema import check_encounters
from healthpredict.errors import NothingToPredict, Removed, StillArriving
from healthpredict.operations.arrivals import (
    DeliveredFile,
    Fingerprint,
    delivered_batches,
    fingerprint_of,
    open_delivered,
)
from healthpredict.operations.installation import Installation
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import exists, list_uris


class AcceptedBatch(BaseModel):
    """The result of accepting a batch. It is stored as JSON: never rename a field.

    Attributes:
        name: name of the batch.
        rows: number of rows of the file.
        cohort_rows: number of valid rows of the cohort, which go to `processed/`.
        quarantined: number of bad rows, which go to `quarantine/`. The remaining rows ended in death or hospice.
        reasons: reason -> number of quarantined rows, the most frequent first. A row may have several reasons.
        delivered: the accepted file; None if an earlier version of this system accepted it.
        read_as: format, encoding and compression of the file, for people.
        notices: what was unusual about it, in sentences.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int
    cohort_rows: int
    quarantined: int
    reasons: dict[str, int]
    delivered: Fingerprint | None = None
    read_as: str = ""
    notices: tuple[str, ...] = ()
    seconds: Seconds

    @property
    def sentences(self) -> list[str]:
        """What the operator should know."""
        found = [f"{self.name}: {notice}" for notice in self.notices]
        if self.quarantined:
            reasons = "; ".join(f"{reason} ({rows} rows)" for reason, rows in self.reasons.items())
            found.append(f"{self.name}: {self.quarantined} of {self.rows} rows are in quarantine: {reasons}.")
        return found


def accept_batch(installation: Installation, delivered: DeliveredFile) -> AcceptedBatch:
    """Check a batch and write its valid and its bad rows. A batch that was accepted before stays unchanged.

    Args:
        installation: where the data is.
        delivered: the file of the batch. A row that repeats an `encounter_id` of another accepted batch is bad.

    Raises:
        BatchRefused: the file or too many of its rows break the contract; nothing was written.
        NothingToPredict: the file has no rows, or none of its encounters is at risk; at most the quarantine was written.
        StillArriving: the file changed or was removed while it was read; nothing was written.
        StorageError: something cannot be read or written. The next call starts over.
    """
    layout, name = installation.layout, delivered.name
    if exists(layout.accepted(name)):
        return AcceptedBatch.model_validate(read_json(layout.accepted(name)))
    seconds: Seconds = {}
    with timed(seconds, "accept"):
        with open_delivered(delivered) as path:
            read = fingerprint_of(delivered, path)
            table = read_encounters(path, delivered.file)
        now = delivered_batches(installation).files.get(name)
        if now is None:
            raise Removed(delivered.file)
        if now.stored.version != read.version:
            raise StillArriving(delivered.file, "it changed while it was read")
        if table.frame.empty:
            raise NothingToPredict(delivered.file, "it has a header and no rows")
        checked = check_encounters(
            table.frame, delivered.file, installation.settings.contract, accepted_ids(layout, without=name)
        )
        at_risk = is_at_risk(checked.encounters)
        cohort = checked.encounters[at_risk].reset_index(drop=True)
        write_frame(layout.quarantine(name), checked.quarantine)
        if cohort.empty:
            raise NothingToPredict(
                delivered.file,
                f"nobody in it is at risk of readmission: of its {len(table.frame)} encounters, {len(checked.encounters)} "
                f"ended in death or hospice, and {len(checked.quarantine)} are bad rows",
            )
        write_frame(layout.excluded(name), checked.encounters.loc[~at_risk, ["encounter_id"]].reset_index(drop=True))
        write_frame(layout.processed(name), cohort)
    accepted = AcceptedBatch(
        name=name,
        rows=len(table.frame),
        cohort_rows=len(cohort),
        quarantined=len(checked.quarantine),
        reasons=checked.reasons,
        delivered=read,
        read_as=table.read_as,
        notices=table.notices,
        seconds=seconds,
    )
    # Written last: its existence means that the other files are complete.
    write_json(layout.accepted(name), accepted.model_dump())
    result = f"{len(cohort):,} encounters at risk, {len(checked.quarantine):,} rows in quarantine"
    log_step(name, "accept", seconds["accept"], result)
    return accepted


def batch_ids(layout: Layout, name: str) -> pd.Series:
    """The `encounter_id` of all valid encounters of an accepted batch, whether at risk or not."""
    uris = [uri for uri in (layout.processed(name), layout.excluded(name)) if exists(uri)]
    ids: pd.Series = pd.concat([read_frame(uri, ["encounter_id"])["encounter_id"] for uri in uris])
    return ids


def accepted_ids(layout: Layout, without: str | None = None) -> list[int]:
    """The `encounter_id` of all valid encounters of all accepted batches, except those of the batch `without`."""
    return [number for name in accepted_names(layout) if name != without for number in batch_ids(layout, name).tolist()]


def accepted_names(layout: Layout) -> list[str]:
    """The names of all accepted batches, in no particular order."""
    # `accept_batch` writes these files last.
    marks = [uri for uri in list_uris(layout.processed_folder, suffix=".json") if uri != layout.prepared]
    return [uri.rpartition("/")[2].removesuffix(".json") for uri in marks]
