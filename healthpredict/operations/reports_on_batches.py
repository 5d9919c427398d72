"""What outcomes and interventions have in common: both are reported about a batch after it, in a file with its name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.errors import Removed
from healthpredict.operations.arrivals import DeliveredFile, Fingerprint, Folder
from healthpredict.storage.tables import write_frame, write_json

_logger = logging.getLogger(__name__)


class AcceptedReport(BaseModel):
    """What is in use of the reports on a batch. This is stored as JSON and in the ledger: never rename a field.

    Attributes:
        batch: its name.
        delivered: the file that was read last.
        rows: number of rows of that file; 0 if it could not be used.
        problems: sentences on what cannot be used or is unusual, without values of patients.
    """

    model_config = ConfigDict(frozen=True)

    batch: str
    delivered: Fingerprint
    rows: int
    problems: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """What the operator should know."""
        return [f"{self.delivered.file}: {problem}" for problem in self.problems]

    @property
    def event(self) -> dict[str, Any]:
        """The facts of its event in the ledger."""
        return self.model_dump(mode="json", exclude={"delivered"}) | self.delivered.model_dump()


R = TypeVar("R", bound=AcceptedReport)


class NewReports(NamedTuple, Generic[R]):
    """The files that were read, and notices for the operator."""

    accepted: list[R]
    notices: list[str]


def new_files(
    folder: Folder, ready: Callable[[str], bool], known: Callable[[str], AcceptedReport | None]
) -> list[DeliveredFile]:
    """Return the complete files that are new or changed.

    Args:
        folder: as delivered.
        ready: whether reports on the batch of this name can be accepted.
        known: returns what was accepted for a batch, or None.
    """
    found = []
    for name, delivered in folder.files.items():
        if delivered.waits is None and ready(name):
            before = known(name)
            if before is None or before.delivered.version != delivered.stored.version:
                found.append(delivered)
    return found


def accept_files(
    files: Iterable[DeliveredFile],
    check: Callable[[DeliveredFile], tuple[R, pd.DataFrame | None]],
    append: Callable[[R], object],
    usable_uri: Callable[[str], str],
    record_uri: Callable[[str], str],
) -> NewReports[R]:
    """Check and store files, and append an event for each. Notices are logged as well.

    Args:
        files: see `new_files`.
        check: returns the record of a file, and what to use from now on, or None if that in use stays. It may raise `Removed`.
        append: appends the event of a record to the ledger.
        usable_uri: of what is in use of the reports on a batch.
        record_uri: of the record of a batch.

    Raises:
        StorageError: something cannot be read or written; the next call continues.
    """
    new: NewReports[R] = NewReports([], [])
    for delivered in files:
        try:
            accepted, usable = check(delivered)
        except Removed as error:
            new.notices.append(str(error))
            continue
        if usable is not None:
            write_frame(usable_uri(accepted.batch), usable)
        append(accepted)
        # Written last: its existence means that the other files are complete.
        write_json(record_uri(accepted.batch), accepted.model_dump(mode="json"))
        new.accepted.append(accepted)
        new.notices.extend(accepted.sentences)
    for notice in new.notices:
        _logger.warning("%s", notice)
    return new


def pending_files(folder: Folder, ready: Callable[[str], bool], awaited: str) -> list[str]:
    """Return one sentence for each file that is pending or ignored. Args: see `new_files`; awaited, "accepted" or "predicted"."""
    arriving = [f"{found.file} is pending: {found.waits}." for found in folder.files.values() if found.waits]
    early = [
        f"{found.file} is pending: there is no {awaited} batch {name!r}."
        for name, found in folder.files.items()
        if not found.waits and not ready(name)
    ]
    return [*arriving, *early, *(f"Ignored: {what}" for what in folder.ignored)]
