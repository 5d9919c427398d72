"""Accept the files in `outcomes/`: usable outcomes go to `known/`, and the others are counted and reported.

A batch has matured when the outcomes of enough of its encounters at risk are known. A readmission is known before its absence is,
so the first few outcomes are nearly all readmissions.
"""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.data.batches import INITIAL
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.raw import read_outcomes
from healthpredict.errors import BatchRefused, Removed
from healthpredict.operations.accept_batch import batch_ids
from healthpredict.operations.arrivals import (
    DeliveredFile,
    Fingerprint,
    delivered_outcomes,
    fingerprint_of,
    open_delivered,
)
from healthpredict.operations.installation import Installation
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import exists

_logger = logging.getLogger(__name__)


class AcceptedOutcomes(BaseModel):
    """The outcomes of a batch that are in use. This is stored as JSON and in the ledger: never rename a field.

    Attributes:
        batch: its name.
        delivered: the file that was read last.
        rows: number of rows of that file; 0 if it could not be used.
        known: number of encounters at risk with a known outcome.
        at_risk: number of encounters at risk.
        matured: whether enough outcomes are known to learn from them.
        problems: sentences on what cannot be used or is unusual, without values of patients.
    """

    model_config = ConfigDict(frozen=True)

    batch: str
    delivered: Fingerprint
    rows: int
    known: int
    at_risk: int
    matured: bool
    problems: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """What the operator should know."""
        return [f"{self.delivered.file}: {problem}" for problem in self.problems]


class NewOutcomes(NamedTuple):
    """The files of outcomes that were read, and notices for the operator."""

    accepted: list[AcceptedOutcomes]
    notices: list[str]


def accept_outcomes(installation: Installation) -> NewOutcomes:
    """Accept every new or changed file of outcomes, and append one ledger event for each content.

    If a file cannot be used, the outcomes that were accepted before stay in use. Notices are logged as well.

    Raises:
        StorageError: something cannot be read or written; the next call continues.
    """
    layout, ledger = installation.layout, installation.ledger
    new = NewOutcomes([], [])
    for delivered in _new_files(installation):
        try:
            accepted, usable = _check_file(installation, delivered)
        except Removed as error:
            new.notices.append(str(error))
            continue
        if usable is not None:
            write_frame(layout.known_outcomes(accepted.batch), usable)
        if accepted.batch != INITIAL:  # `prepare` records these itself
            facts = accepted.model_dump(mode="json", exclude={"delivered"}) | accepted.delivered.model_dump()
            ledger.append("outcomes", key=f"outcomes {accepted.batch} {accepted.delivered.sha256}", **facts)
        # Written last: its existence means that the other files are complete.
        write_json(layout.outcomes_check(accepted.batch), accepted.model_dump(mode="json"))
        new.accepted.append(accepted)
        new.notices.extend(accepted.sentences)
    for notice in new.notices:
        _logger.warning("%s", notice)
    return new


def preview_outcomes(installation: Installation) -> list[AcceptedOutcomes]:
    """Return the record that each batch with outcomes would have after `accept_outcomes`. Nothing is written."""
    layout = installation.layout
    new = {}
    for delivered in _new_files(installation):
        with contextlib.suppress(Removed):
            new[delivered.name], _ = _check_file(installation, delivered)
    names = [name for name in delivered_outcomes(installation).files if exists(layout.accepted(name))]
    found = {name: new.get(name) or known_outcomes(layout, name) for name in names}
    return [accepted for accepted in found.values() if accepted is not None]


def known_outcomes(layout: Layout, name: str) -> AcceptedOutcomes | None:
    """Return the record of a batch's outcomes, or None if no file of outcomes was read."""
    if not exists(layout.outcomes_check(name)):
        return None
    return AcceptedOutcomes.model_validate(read_json(layout.outcomes_check(name)))


def pending_outcomes(installation: Installation) -> list[str]:
    """Return one sentence for each file in `outcomes/` that is pending or ignored."""
    layout, folder = installation.layout, delivered_outcomes(installation)
    arriving = [f"{found.file} is pending: {found.waits}." for found in folder.files.values() if found.waits]
    early = [
        f"{found.file} is pending: there is no accepted batch {name!r}."
        for name, found in folder.files.items()
        if not found.waits and not exists(layout.accepted(name))
    ]
    return [*arriving, *early, *(f"Ignored: {what}" for what in folder.ignored)]


def _new_files(installation: Installation) -> list[DeliveredFile]:
    """Return the complete files of accepted batches that are new or changed."""
    layout, found = installation.layout, []
    for name, delivered in delivered_outcomes(installation).files.items():
        if delivered.waits is None and exists(layout.accepted(name)):
            known = known_outcomes(layout, name)
            if known is None or known.delivered.version != delivered.stored.version:
                found.append(delivered)
    return found


def _check_file(installation: Installation, delivered: DeliveredFile) -> tuple[AcceptedOutcomes, pd.DataFrame | None]:
    """Check a file.

    Returns:
        Its record, and the outcomes to use from now on, or None if those in use stay.

    Raises:
        Removed: the file does not exist any more.
    """
    layout, known_share = installation.layout, installation.settings.known_share
    before = known_outcomes(layout, delivered.name)
    cohort = read_frame(layout.processed(delivered.name), ["encounter_id"])["encounter_id"]
    table, usable, problems = None, None, []
    with open_delivered(delivered) as path:
        read = fingerprint_of(delivered, path)
        try:
            table = read_outcomes(path, delivered.file)
        except BatchRefused as error:
            problems.append(f"It is not used: {error.problem}.")
    if table is not None:
        checked = check_outcomes(table.frame)
        ids = checked.usable["encounter_id"]
        unmatched = int((~ids.isin(batch_ids(layout, delivered.name))).sum())
        usable = checked.usable[ids.isin(cohort)].reset_index(drop=True)
        problems += [*table.notices, *checked.problems]
        if unmatched:
            problems.append(f"{unmatched} outcomes match no encounter of the batch and are not used.")
    known = 0 if usable is None else len(usable)
    enough = known >= known_share * len(cohort) or (delivered.name == INITIAL and known > 0)
    if usable is not None and not enough:
        problems.append(
            f"The outcomes of {known} of {len(cohort)} encounters at risk are known, fewer than {known_share:.0%}; "
            "the batch is not used for training until more are."
        )
    if before is not None and before.known > known:
        problems.append(f"The {before.known} outcomes that were accepted before stay in use.")
        usable, known, enough = None, before.known, before.matured
    accepted = AcceptedOutcomes(
        batch=delivered.name,
        delivered=read,
        rows=0 if table is None else len(table.frame),
        known=known,
        at_risk=len(cohort),
        matured=enough,
        problems=tuple(problems),
    )
    return accepted, usable
