"""Accept the files in `interventions/`: usable interventions go to `known/interventions/`, and the others are counted and reported.

No record about an encounter means that it is not known what was done, and not that nothing was done.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.data.batches import INITIAL
from healthpredict.data.interventions import DECIDED, check_interventions
from healthpredict.data.raw import read_interventions
from healthpredict.errors import BatchRefused
from healthpredict.operations.accept_batch import batch_ids
from healthpredict.operations.accept_outcomes import known_outcomes
from healthpredict.operations.arrivals import (
    DeliveredFile,
    delivered_interventions,
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
from healthpredict.storage.uris import exists, list_uris

_EVENT = "interventions_file"
"""Kind of the event in the ledger: never rename it."""
_TOLERANCE = pd.Timedelta(days=1)
"""A date without a time or a zone may seem to be before the prediction."""


class Flagged(BaseModel):
    """The flagged encounters of a batch, and what is known about them. This is stored: never rename a field.

    Attributes:
        encounters: number of flagged encounters at risk.
        known: number of those of which it is known what was done: something was accepted or overridden, or nothing was offered.
        accepted: number of those with an accepted intervention.
    """

    model_config = ConfigDict(frozen=True)

    encounters: int
    known: int
    accepted: int


class AcceptedInterventions(AcceptedReport):
    """The interventions in a batch that are in use. This is stored as JSON and in the ledger: never rename a field.

    Attributes:
        known: number of encounters of the batch with a usable row. Unlike `Flagged.known`, it includes open offers.
        accepted: number of those in which an intervention was accepted by a clinician.
        kinds: kind -> number of encounters in which it was accepted.
        flagged: None if it is not known which encounters were flagged, as for the initial data.
    """

    known: int
    accepted: int
    kinds: dict[str, int]
    flagged: Flagged | None


def accept_interventions(installation: Installation) -> NewReports[AcceptedInterventions]:
    """Accept every new or changed file of interventions, and append one ledger event for each content.

    If a file cannot be used, the interventions that were accepted before stay in use. Notices are logged as well.

    Raises:
        StorageError: something cannot be read or written; the next call continues.
    """
    layout, ledger = installation.layout, installation.ledger

    def append(accepted: AcceptedInterventions) -> None:
        ledger.append(_EVENT, key=f"{_EVENT} {accepted.batch} {accepted.delivered.sha256}", **accepted.event)

    files = new_files(
        delivered_interventions(installation), partial(_is_predicted, layout), partial(known_interventions, layout)
    )
    check = partial(_check_file, installation)
    return accept_files(files, check, append, layout.known_interventions, layout.interventions_check)


def known_interventions(layout: Layout, name: str) -> AcceptedInterventions | None:
    """Return the record of a batch's interventions, or None if no file of interventions was read."""
    if not exists(layout.interventions_check(name)):
        return None
    return AcceptedInterventions.model_validate(read_json(layout.interventions_check(name)))


def all_interventions(layout: Layout) -> list[AcceptedInterventions]:
    """Return the records of all batches with interventions."""
    records = (read_json(uri) for uri in list_uris(layout.interventions_checks, suffix=".json"))
    return [AcceptedInterventions.model_validate(record) for record in records]


def pending_interventions(installation: Installation) -> list[str]:
    """Return one sentence for each file in `interventions/` that is pending or ignored."""
    return pending_files(
        delivered_interventions(installation), partial(_is_predicted, installation.layout), "predicted"
    )


def _is_predicted(layout: Layout, name: str) -> bool:
    """Whether a batch is accepted and has its flags. The initial data has none."""
    return exists(layout.accepted(name)) and (name == INITIAL or exists(layout.predictions(name)))


def _check_file(
    installation: Installation, delivered: DeliveredFile
) -> tuple[AcceptedInterventions, pd.DataFrame | None]:
    """Check a file.

    Returns:
        Its record, and the interventions to use from now on, or None if those in use stay.

    Raises:
        Removed: the file does not exist any more.
    """
    layout, name = installation.layout, delivered.name
    before = known_interventions(layout, name)
    usable, problems, rows = None, [], 0
    with open_delivered(delivered) as path:
        read = fingerprint_of(delivered, path)
        try:
            table = read_interventions(path, delivered.file)
        except BatchRefused as error:
            problems.append(f"It is not used: {error.problem}.")
        else:
            checked = check_interventions(table.frame, pd.Timestamp.now("UTC"))
            usable, rows = _of_batch(layout, name, checked.usable, problems), checked.rows
            problems = [*table.notices, *checked.problems, *problems]
    if before is not None and (usable is None or usable["encounter_id"].nunique() < before.known):
        problems.append(f"The interventions in {before.known} encounters that were accepted before stay in use.")
        return before.model_copy(update={"delivered": read, "rows": rows, "problems": tuple(problems)}), None
    facts: dict[str, Any] = {"known": 0, "accepted": 0, "kinds": {}, "flagged": None}
    if usable is not None:
        problems += _unusual(layout, name, usable)
        facts = _facts(layout, name, usable)
    return (
        AcceptedInterventions(batch=name, delivered=read, rows=rows, problems=tuple(problems), **facts),
        usable,
    )


def _of_batch(layout: Layout, name: str, usable: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Return the interventions in encounters of the batch, without those that are too early. Adds to `problems`."""
    of_batch = usable["encounter_id"].isin(batch_ids(layout, name))
    if not of_batch.all():
        problems.append(f"{(~of_batch).sum()} interventions match no encounter of the batch and are not used.")
    usable = usable[of_batch]
    predicted = _first_predictions(layout, name)
    if predicted is not None:
        early = usable["acted_at"] < usable["encounter_id"].map(predicted) - _TOLERANCE
        if early.any():
            problems.append(
                f"{early.sum()} interventions are dated more than a day before the first prediction and are not used."
            )
        usable = usable[~early]
    return usable.reset_index(drop=True)


def _first_predictions(layout: Layout, name: str) -> pd.Series[pd.Timestamp] | None:
    """The time of each encounter's first prediction, by encounter, or None: files of batches have no times."""
    if not exists(layout.live_predictions(name)):
        return None
    predicted = read_frame(layout.live_predictions(name))
    # Live batches of earlier versions of this system have no times.
    return predicted.set_index("encounter_id")["first_predicted"] if "first_predicted" in predicted else None


def _unusual(layout: Layout, name: str, usable: pd.DataFrame) -> list[str]:
    found = []
    new = _new_encounters(layout, name, usable)
    outcomes = known_outcomes(layout, name)
    if new and outcomes is not None and outcomes.matured:
        found.append(
            f"Interventions in {new} encounters were reported after the outcomes of the batch, so whoever reported them may have "
            "known the outcome."
        )
    earlier = {kind for other in all_interventions(layout) if other.batch != name for kind in other.kinds}
    kinds = set(usable.loc[usable["response"] == "accepted", "kind"])
    if earlier and kinds - earlier:
        found.append(f"Kinds that were accepted in no other batch: {', '.join(sorted(kinds - earlier))}.")
    answers = set(usable["response"]).intersection(DECIDED)
    if len(answers) == 1:
        found.append(f"Every answer is {answers.pop()}, so the effect cannot be known from this batch.")
    return found


def _new_encounters(layout: Layout, name: str, usable: pd.DataFrame) -> int:
    """Count the encounters with a row that was not accepted before."""
    if not exists(layout.known_interventions(name)):
        return int(usable["encounter_id"].nunique())
    both = usable.merge(read_frame(layout.known_interventions(name)), how="left", indicator=True)
    return int(both.loc[both["_merge"] == "left_only", "encounter_id"].nunique())


def _facts(layout: Layout, name: str, usable: pd.DataFrame) -> dict[str, Any]:
    accepted = usable[usable["response"] == "accepted"]
    answered = set(usable.loc[usable["response"] != "offered", "encounter_id"])
    treated = set(accepted["encounter_id"])
    flagged = None
    if exists(layout.predictions(name)) and "high_risk" in (predicted := read_frame(layout.predictions(name))):
        high = set(predicted.loc[predicted["high_risk"].eq(True), "encounter_id"])
        flagged = Flagged(encounters=len(high), known=len(high & answered), accepted=len(high & treated))
    return {
        "known": int(usable["encounter_id"].nunique()),
        "accepted": len(treated),
        "kinds": {str(kind): int(rows) for kind, rows in accepted["kind"].value_counts().items()},
        "flagged": flagged,
    }
