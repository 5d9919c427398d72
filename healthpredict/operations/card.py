"""The model card of a version, with what the ledger and monitoring know today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final, Literal, get_args

from healthpredict.errors import ConfigurationError, NotFound
from healthpredict.operations.acknowledge import read_alarms
from healthpredict.operations.built_card import card_of, profile_of, without_place
from healthpredict.operations.detect_drift import read_check
from healthpredict.operations.governance import read_governance
from healthpredict.operations.installation import Installation
from healthpredict.operations.measure_effect import measure_effect
from healthpredict.operations.prepare import read_prepared
from healthpredict.operations.read_labelled import read_matured
from healthpredict.operations.summarise import delivered_performance, summarise_batches
from healthpredict.registry.models import ModelVersion
from healthpredict.reporting.croissant import as_croissant
from healthpredict.reporting.effect import describe_effect
from healthpredict.reporting.model_card.card import BatchPerformance, History, ModelCard, Monitoring
from healthpredict.reporting.model_card.chai import as_chai_xml
from healthpredict.reporting.model_card.fhir import as_fhir
from healthpredict.reporting.model_card.page import as_html
from healthpredict.reporting.summary import BatchSummary
from healthpredict.storage.uris import list_uris, read_bytes
from healthpredict.training.gate import GateDecision

Format = Literal["html", "json", "xml", "fhir"]
FORMATS: tuple[Format, ...] = get_args(Format)
CHAMPION: Final = "champion"


def model_card(installation: Installation, version: str) -> ModelCard:
    """Build the card of a version from its bundle, the ledger, monitoring and governance.yaml.

    Args:
        installation: where all of them are.
        version: of the registry, or `champion`.

    Raises:
        ConfigurationError: this is no version; or see `read_governance`.
        RegistryError: there is no such version or no champion, or MLflow failed.
        StorageError: something cannot be read.
    """
    registry = installation.registry
    if version != CHAMPION and not version.isdecimal():
        raise ConfigurationError(f"{version!r} is no version: give its number, or {CHAMPION}.")
    found = registry.champion() if version == CHAMPION else registry.version(int(version))
    matured = read_matured(installation)
    effect = describe_effect(matured.overlap, measure_effect(installation, matured)) if matured else ()
    return _card(installation, found, summarise_batches(installation, matured), effect)


def champion_card(
    installation: Installation, batches: Sequence[BatchSummary], effect: tuple[str, ...]
) -> ModelCard | None:
    """Build the card of the champion, or return None if there is no champion. Errors as `model_card`.

    Args:
        installation: where everything is.
        batches: all that are done, see `summarise_batches`.
        effect: see `effect_sentences`.
    """
    found = installation.registry.by_alias(CHAMPION)
    return None if found is None else _card(installation, found, batches, effect)


def _card(
    installation: Installation, found: ModelVersion, batches: Sequence[BatchSummary], effect: tuple[str, ...]
) -> ModelCard:
    bundle = installation.registry.fetch_bundle(found)
    history = _history(installation, found.version)
    monitoring = _monitoring(installation, batches, found.version, in_service=history.in_service)
    return card_of(
        installation,
        bundle.manifest,
        bundle.encoder,
        profile_of(bundle),
        read_governance(installation),
        bundle_digest=bundle.digest,
        history=history,
        monitoring=monitoring.model_copy(update={"effect": effect if history.in_service else ()}),
    )


def render(card: ModelCard, form: Format) -> bytes:
    """Render a card in one of the formats, in UTF-8."""
    match form:
        case "html":
            return as_html(card).encode()
        case "json":
            return card.model_dump_json(indent=2).encode()
        case "xml":
            return as_chai_xml(card)
        case "fhir":
            return json.dumps(as_fhir(card), indent=2).encode()


def croissant(installation: Installation) -> bytes:
    """Return the Croissant description of the data set that was prepared, as JSON-LD in UTF-8.

    Raises:
        ConfigurationError: nothing was prepared.
        NotFound: the data set is not in the store any more.
    """
    prepared = without_place(read_prepared(installation))
    folder = installation.layout.raw("")
    for uri in list_uris(folder):
        if hashlib.sha256(read_bytes(uri)).hexdigest() == prepared.sha256:
            name = uri.rstrip("/").rpartition("/")[2]
            return json.dumps(as_croissant(prepared, f"raw/{name}"), indent=2).encode()
    raise NotFound(f"{folder} does not contain the data set that was prepared. Run `healthpredict prepare` again.")


def _history(installation: Installation, version: int) -> History:
    ledger = installation.ledger
    gate = ledger.last("gate", version=version)
    promotions = [event for event in ledger.events("promotion") if event["version"] == version]
    champion = installation.registry.by_alias(CHAMPION)
    return History(
        gate=None if gate is None else GateDecision.model_validate(gate),
        promoted_at=tuple(event["time"] for event in promotions),
        forced=any(event.get("forced", False) for event in promotions),
        in_service=champion is not None and champion.version == version,
    )


def _monitoring(
    installation: Installation, batches: Sequence[BatchSummary], version: int, *, in_service: bool
) -> Monitoring:
    # A batch can change the champion: its check is about the version before, and the version after predicts it.
    own = [batch for batch in batches if batch.champion == version]
    predicted = [
        batch
        if batch.champion_before == version
        else batch.model_copy(update={"alert_rate": None, "unknown_diagnoses": None})
        for batch in own
    ]
    checked = [batch for batch in batches if batch.champion_before == version and batch.subgroups]
    newest = checked[-1] if checked else None
    return Monitoring(
        batches=tuple(
            BatchPerformance(
                name=batch.name,
                time=batch.time,
                rows=batch.rows,
                decision=batch.decision,
                auroc=batch.auroc,
                offset=batch.offset,
                alert_rate=batch.alert_rate,
                unknown_diagnoses=batch.unknown_diagnoses or None,
            )
            for batch in predicted
        ),
        delivered=delivered_performance(predicted),
        checked=newest.name if newest else None,
        subgroups=newest.subgroups if newest else (),
        calibration=read_check(installation, newest.name).calibration if newest else None,
        alarms=tuple(alarm.story for alarm in read_alarms(installation).open) if in_service else (),
    )
