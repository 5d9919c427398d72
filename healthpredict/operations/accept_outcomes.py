"""Accept the files in `outcomes/`: usable outcomes go to `known/`, and the others are counted and reported.

A batch has matured when the outcomes of enough of its encounters at risk are known. A readmission is known before its absence is,
so the first few outcomes are nearly all readmissions.
"""

from __future__ import annotations

import contextlib
from functools import partial

import pandas as pd

from healthpredict.data.batches import INITIAL
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.raw import read_outcomes
from healthpredict.errors import BatchRefused, Removed
from healthpredict.operations.accept_batch import batch_ids
from healthpredict.operations.arrivals import (
    DeliveredFile,
    delivered_outcomes,
    fingerprint_of,
    open_delivered,
)
from healthpredict.operations.installation import Installation
from healthpredict.operations.reports_on_batches import (
    AcceptedReport,
    NewReports,
    accept_files,
    new_files,
    pending_files,
)
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json
from healthpredict.storage.uris import exists


class AcceptedOutcomes(AcceptedReport):
    """The outcomes of a batch that are in use. This is stored as JSON and in the ledger: never rename a field.

    Attributes:
        known: number of encounters at risk with a known outcome.
        at_risk: number of encounters at risk.
        matured: whether enough outcomes are known to learn from them.
    """

    known: int
    at_risk: int
    matured: bool


def accept_outcomes(installation: Installation) -> NewReports[AcceptedOutcomes]:
    """Accept every new or changed file of outcomes, and append one ledger event for each content.

    If a file cannot be used, the outcomes that were accepted before stay in use. Notices are logged as well.

    Raises:
        StorageError: something cannot be read or written; the next call continues.
    """
    layout, ledger = installation.layout, installation.ledger

    def append(accepted: AcceptedOutcomes) -> None:
        if accepted.batch != INITIAL:  # `prepare` records these itself
            key = f"outcomes {accepted.batch} {accepted.delivered.sha256}"
            ledger.append("outcomes", key=key, **accepted.event)

    check = partial(_check_file, installation)
    return accept_files(_new_files(installation), check, append, layout.known_outcomes, layout.outcomes_check)


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
    return pending_files(delivered_outcomes(installation), partial(_is_accepted, installation.layout), "accepted")


def _is_accepted(layout: Layout, name: str) -> bool:
    return exists(layout.accepted(name))


def _new_files(installation: Installation) -> list[DeliveredFile]:
    """Return the complete files of accepted batches that are new or changed."""
    layout = installation.layout
    return new_files(delivered_outcomes(installation), partial(_is_accepted, layout), partial(known_outcomes, layout))


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
