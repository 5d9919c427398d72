"""The state of the installation, for operators."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.operations.accept_interventions import all_interventions, pending_interventions
from healthpredict.operations.accept_outcomes import pending_outcomes, preview_outcomes
from healthpredict.operations.acknowledge import read_alarms
from healthpredict.operations.backup import MAX_HOURS as BACKUP_HOURS
from healthpredict.operations.check_ledger import last_ledger_check
from healthpredict.operations.collect_interventions import unmatched_cards
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.record_rollout import last_unknown
from healthpredict.operations.roll_out import serving
from healthpredict.storage.ledger import Ledger


class Status(BaseModel):
    """The state of the installation.

    Attributes:
        champion: version of the champion, or None if there is none.
        family: of the champion.
        auroc: AUROC of the champion on the test side at its training, with its interval.
        serving: version and URL of the API, or why they are unknown; None if nothing serves, or if the rollout target is `none`.
        last_batch: the last batch done, with its decision.
        last_event: the last event of the ledger.
        pending: batches that have arrived and are not done.
        alarms: open alarms, with the command that acknowledges each.
        interventions: what was done for flagged encounters, as far as it was reported.
        known_outcomes: batch -> number of encounters at risk with a known outcome, including new files.
        sentences: notices about delivered files that are pending, changed, ignored or unusable.
        ledger: result and time of the last ledger check on this host.
        backup: age and place of the newest backup.
    """

    model_config = ConfigDict(frozen=True)

    champion: int | None
    family: str | None
    auroc: str | None
    serving: str | None
    last_batch: dict[str, Any] | None
    last_event: dict[str, Any] | None
    pending: list[str]
    alarms: list[str]
    interventions: str
    known_outcomes: dict[str, int]
    sentences: list[str]
    ledger: str
    backup: str


def status(installation: Installation) -> Status:
    """Read the registry, the ledger and the data, and query the API.

    Raises:
        RegistryError: MLflow failed.
        StorageError: the ledger cannot be read.
    """
    registry, ledger = installation.registry, installation.ledger
    champion = registry.by_alias("champion")
    manifest = registry.fetch_bundle(champion).manifest if champion else None
    events = ledger.events()
    pending, outcomes = find_pending(installation), preview_outcomes(installation)
    batch = ledger.last("batch")
    shown = ("batch", "time", "decision", "reasons")
    return Status(
        champion=champion.version if champion else None,
        family=manifest.family if manifest else None,
        auroc=str(manifest.test.evaluation.auroc) if manifest else None,
        serving=_serving(installation),
        last_batch={key: batch[key] for key in shown} if batch else None,
        last_event={key: events[-1][key] for key in ("sequence", "time", "kind")} if events else None,
        pending=pending.names,
        alarms=[
            f"{alarm.newest_batch}: {alarm.story} To acknowledge it: {alarm.command}"
            for alarm in read_alarms(installation).open
        ],
        interventions=_interventions(installation),
        known_outcomes={found.batch: found.known for found in outcomes},
        sentences=[
            *pending.sentences,
            *pending_outcomes(installation),
            *pending_interventions(installation),
            *(sentence for found in outcomes for sentence in found.sentences),
        ],
        ledger=_ledger_check(installation),
        backup=_backup_age(ledger),
    )


def _serving(installation: Installation) -> str | None:
    try:
        found = serving(installation)
    except (RolloutError, ConfigurationError) as error:
        found = f"unknown: {error}"
    unknown = last_unknown(installation)
    return found if unknown is None else f"{found or 'nothing'} (the last rollout ended unknown: {unknown['problem']})"


def _interventions(installation: Installation) -> str:
    records = all_interventions(installation.layout)
    flagged = [record.flagged for record in records if record.flagged is not None]
    cards = unmatched_cards(installation)
    unmatched = f" {cards} answers to cards match no logged prediction." if cards else ""
    if not any(record.known for record in records):
        return f"not known: nothing was reported.{unmatched}"
    known, accepted = sum(flags.known for flags in flagged), sum(flags.accepted for flags in flagged)
    unknown = sum(flags.encounters for flags in flagged) - known
    share = f" ({accepted / known:.0%})" if known else ""
    return (
        f"accepted in {accepted}{share} of the {known} flagged encounters of which it is known; not known of {unknown} others in "
        f"batches with reports.{unmatched}"
    )


def _backup_age(ledger: Ledger) -> str:
    made = ledger.last("backup")
    if made is None:
        return "none yet: healthpredict backup"
    hours = (datetime.now(UTC) - datetime.fromisoformat(made["time"])).total_seconds() / 3600
    late = " TOO OLD:" if hours > BACKUP_HOURS else ""
    return f"{late} {hours:.1f} hours old, {made['uri']}".strip()


def _ledger_check(installation: Installation) -> str:
    check = last_ledger_check(installation)
    if check is None:
        return "not checked yet: healthpredict ledger --verify"
    result = f"ALTERED. {check.altered.problem}" if check.altered else f"unaltered, {check.events} events"
    return f"{result} (checked {check.time:%Y-%m-%d %H:%M} UTC)"
