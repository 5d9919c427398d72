"""Accept what was delivered to `outcomes/`: usable outcomes go to `known/`, and the others are counted and reported.

A batch has matured when the outcomes of enough of its encounters at risk are known: readmissions are known before their
absence is, so with few outcomes nearly everyone would have come back.
"""

from __future__ import annotations

import logging

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.raw import read_outcomes
from healthpredict.errors import BatchRefused
from healthpredict.operations.accept_batch import batch_ids
from healthpredict.operations.arrivals import Delivered, Fingerprint, delivered_outcomes, fingerprint_of
from healthpredict.operations.context import open_ledger
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import exists, local_copy

_logger = logging.getLogger(__name__)


class AcceptedOutcomes(BaseModel):
    """What became of the outcomes of a batch.

    Attributes:
        batch: its name.
        delivered: the file that was looked at last.
        rows: of that file; 0 if it could not be read.
        known: encounters at risk with a known outcome, of `at_risk`.
        at_risk: encounters of the cohort.
        matured: whether enough outcomes are known to learn from them.
        problems: what cannot be used, and notices, in sentences without values of patients.
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
        """What a person should know."""
        return [f"{self.delivered.file}: {problem}" for problem in self.problems]


def accept_outcomes(settings: Settings) -> list[AcceptedOutcomes]:
    """Accept every file of outcomes that is new or changed, and append one event for each content to the ledger.

    A file that cannot be used leaves what was known before in use.

    Raises:
        StorageError: something cannot be read or written; done again, it goes on.
    """
    layout, ledger = Layout(settings.data_uri), open_ledger(settings)
    new = []
    for delivered in _to_look_at(settings, layout):
        accepted, usable = _judge(settings, layout, delivered)
        if usable is not None:
            write_frame(layout.known_outcomes(accepted.batch), usable)
        if accepted.batch != INITIAL:  # that is part of `prepare`, which has its own record
            facts = accepted.model_dump(mode="json", exclude={"delivered"}) | accepted.delivered.model_dump()
            ledger.append("outcomes", key=f"outcomes {accepted.batch} {accepted.delivered.sha256}", **facts)
        # Last, because it says that the rest is there.
        write_json(layout.outcomes_check(accepted.batch), accepted.model_dump(mode="json"))
        for sentence in accepted.sentences:
            _logger.warning("%s", sentence)
        new.append(accepted)
    return new


def look_at_outcomes(settings: Settings) -> list[AcceptedOutcomes]:
    """What is known of every accepted batch, newly delivered files included; nothing is written."""
    layout = Layout(settings.data_uri)
    new = {delivered.name: _judge(settings, layout, delivered)[0] for delivered in _to_look_at(settings, layout)}
    names = [name for name in delivered_outcomes(settings).files if exists(layout.accepted(name))]
    found = {name: new.get(name) or known_outcomes(layout, name) for name in names}
    return [accepted for accepted in found.values() if accepted is not None]


def known_outcomes(layout: Layout, name: str) -> AcceptedOutcomes | None:
    """What became of the outcomes of a batch; None if none were accepted."""
    if not exists(layout.outcomes_check(name)):
        return None
    return AcceptedOutcomes.model_validate(read_json(layout.outcomes_check(name)))


def waiting_outcomes(settings: Settings) -> list[str]:
    """What is in `outcomes/` and not read, or not yet, in sentences."""
    layout, folder = Layout(settings.data_uri), delivered_outcomes(settings)
    waiting = [f"{found.file} is pending: {found.waits}." for found in folder.files.values() if found.waits]
    early = [
        f"{found.file} is pending: there is no accepted batch {name!r}."
        for name, found in folder.files.items()
        if not found.waits and not exists(layout.accepted(name))
    ]
    return [*waiting, *early, *(f"Ignored: {what}" for what in folder.ignored)]


def _to_look_at(settings: Settings, layout: Layout) -> list[Delivered]:
    """Files of accepted batches that are whole, and new or changed."""
    found = []
    for name, delivered in delivered_outcomes(settings).files.items():
        if delivered.waits is None and exists(layout.accepted(name)):
            known = known_outcomes(layout, name)
            if known is None or known.delivered.version != delivered.stored.version:
                found.append(delivered)
    return found


def _judge(settings: Settings, layout: Layout, delivered: Delivered) -> tuple[AcceptedOutcomes, pd.DataFrame | None]:
    """What a file is worth, and the outcomes to use from now on; None if those that are in use stay."""
    before = known_outcomes(layout, delivered.name)
    cohort = read_frame(layout.processed(delivered.name), ["encounter_id"])["encounter_id"]
    usable, rows, problems = None, 0, []
    with local_copy(delivered.stored.uri) as path:
        seen = fingerprint_of(delivered, path)
        try:
            table = read_outcomes(path, delivered.file)
        except BatchRefused as error:
            problems.append(f"It is not used: {error.problem}.")
        else:
            rows = len(table.frame)
            checked = check_outcomes(table.frame)
            ids = checked.usable["encounter_id"]
            strangers = int((~ids.isin(batch_ids(layout, delivered.name))).sum())
            usable = checked.usable[ids.isin(cohort)].reset_index(drop=True)
            problems += [*table.notices, *checked.problems]
            if strangers:
                problems.append(f"{strangers} outcomes match no encounter of the batch and are not used.")
    known = 0 if usable is None else len(usable)
    enough = known >= settings.known_share * len(cohort) or (delivered.name == INITIAL and known > 0)
    if usable is not None and not enough:
        problems.append(
            f"The outcomes of {known} of {len(cohort)} encounters at risk are known, fewer than {settings.known_share:.0%}; "
            "the batch is not learned from until more are."
        )
    if before is not None and before.known > known:
        problems.append(f"The {before.known} outcomes that were accepted before stay in use.")
        usable, known, enough = None, before.known, before.matured
    accepted = AcceptedOutcomes(
        batch=delivered.name,
        delivered=seen,
        rows=rows,
        known=known,
        at_risk=len(cohort),
        matured=enough,
        problems=tuple(problems),
    )
    return accepted, usable
