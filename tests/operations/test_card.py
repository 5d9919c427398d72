"""The model card is in the bundle, in MLflow and in the report; without a hospital's statements, promotion warns or is rejected."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest
from bundles import register_tiny_bundle
from cards import stated
from summaries import DATA

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import CARD, CARD_PAGE, Bundle, load_bundle
from healthpredict.bundle.recalibrate import recalibrate_bundle
from healthpredict.config import Settings
from healthpredict.errors import BundleError, ConfigurationError, NotFound
from healthpredict.monitoring.alarms import Alarm
from healthpredict.operations.built_card import log_card, make_card, without_place
from healthpredict.operations.card import FORMATS, _card, champion_card, croissant, model_card, render
from healthpredict.operations.governance import read_governance
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.promote import promote
from healthpredict.reporting.model_card.card import ModelCard
from healthpredict.reporting.summary import BatchSummary

EFFECT = ("Per 100 flags, 4.1 [1.0, 7.2] readmissions are prevented.",)


def with_governance(settings: Settings, path: Path, mode: str = "warn") -> Installation:
    """An installation whose governance.yaml states everything. YAML contains JSON."""
    path.write_text(stated().model_dump_json())
    changed = {"governance_path": path, "promotion": settings.promotion.model_copy(update={"require_governance": mode})}
    return Installation(settings.model_copy(update=changed))


def rejecting(settings: Settings) -> Installation:
    promotion = settings.promotion.model_copy(update={"require_governance": "reject"})
    return Installation(settings.model_copy(update={"promotion": promotion}))


@pytest.fixture
def carded(bundle: Bundle, rollout_settings: Settings, tmp_path: Path) -> Bundle:
    """The tiny bundle with a card, by way of a recalibration that changes nothing."""
    installation = with_governance(rollout_settings, tmp_path / "governance.yaml")
    return recalibrate_bundle(
        bundle,
        tmp_path / "carded",
        Calibrator(slope=1, intercept=0),
        version=2,
        run_id="run-2",
        trigger="batch-01",
        batch="batch-01",
        threshold=0.3,
        make_card=make_card(installation, bundle.encoder, None),
    )


def test_the_card_is_part_of_the_bundle(carded: Bundle) -> None:
    assert carded.card is not None
    found = ModelCard.model_validate_json(carded.card.data)
    assert (found.version, found.trained_version, found.run_id, found.bundle_digest) == (2, 1, "run-2", None)
    assert found.test == carded.manifest.test
    assert found.code_systems == carded.manifest.code_systems
    assert found.governance == stated()
    assert "number_inpatient" in found.data.columns
    assert b"A statement about use.users." in carded.card.page
    for name, data in ((CARD, carded.card.data), (CARD_PAGE, carded.card.page)):
        assert carded.manifest.files[name] == hashlib.sha256(data).hexdigest()


def test_a_bundle_without_a_card_still_loads(bundle: Bundle) -> None:
    assert CARD not in bundle.manifest.files
    assert load_bundle(bundle.path).card is None


def test_an_altered_card_is_found(carded: Bundle) -> None:
    path = carded.path / CARD
    path.write_bytes(path.read_bytes().replace(b"0.66", b"0.99"))
    with pytest.raises(BundleError, match=r"Changed after the bundle was built: card\.json"):
        load_bundle(carded.path)


def test_mlflow_has_the_card_of_the_run(carded: Bundle, rollout_settings: Settings) -> None:
    registry = Installation(rollout_settings).registry
    run_id = registry.open_run("a run with a card", {})
    log_card(registry, run_id, carded)
    stored = Path(registry.client.download_artifacts(run_id, f"model_card/{CARD_PAGE}"))
    assert carded.card is not None
    assert stored.read_bytes() == carded.card.page
    registry.close_run(run_id)


def test_the_card_of_a_version_knows_ledger_and_alias(rollout_settings: Settings, tmp_path: Path) -> None:
    for _ in range(2):
        register_tiny_bundle(rollout_settings, tmp_path)
    installation = with_governance(rollout_settings, tmp_path / "governance.yaml")
    assert champion_card(installation, (), ()) is None
    promote(installation, 2, force=True, because="a test")
    champion, first = model_card(installation, "champion"), model_card(installation, "1")
    assert (champion.version, champion.status, first.status) == (2, "champion, in service", "not promoted")
    assert champion.bundle_digest == installation.registry.version(2).bundle_digest
    assert champion.history.forced
    assert champion.missing == ()
    for form in FORMATS:
        assert render(champion, form)
    assert ModelCard.model_validate_json(render(champion, "json")) == champion


def test_what_is_known_of_the_use_of_the_champion(rollout_settings: Settings, tmp_path: Path) -> None:
    register_tiny_bundle(rollout_settings, tmp_path)
    installation = with_governance(rollout_settings, tmp_path / "governance.yaml")
    promote(installation, 1, force=True, because="a test")
    alarm = Alarm(about="age [90-100): sensitivity", sentence="For age [90-100), it is low.", lasts=True)
    for name, alarms in {"batch-01": [alarm.model_dump()], "batch-02": []}.items():
        installation.ledger.append("batch", batch=name, decision="warn", alarms=alarms, trained_version=1)
    done = {"decision": "warn", "reasons": (), "time": "2026-11-01T00:00:00Z", "champion_before": 1, "champion": 1}
    counts: dict[str, dict[str, int]] = {"batch-01": {}, "batch-02": {"diag_1": 0}}
    batches = [BatchSummary(name=name, unknown_diagnoses=counts[name], **done) for name in counts]
    found = champion_card(installation, batches, EFFECT)
    assert found is not None
    assert found.monitoring is not None
    assert found.monitoring.alarms == ("For age [90-100), it is low. batch-02 no longer shows it.",)
    shown = {batch.name: batch.unknown_diagnoses for batch in found.monitoring.batches}
    assert found.monitoring.effect == EFFECT
    assert shown == {"batch-01": None, "batch-02": {"diag_1": 0}}, "they were not counted in batch-01"


def test_a_rate_that_another_version_flagged_is_not_delivered_performance(
    rollout_settings: Settings, tmp_path: Path
) -> None:
    register_tiny_bundle(rollout_settings, tmp_path)
    known = {"auroc": 0.66, "auroc_frozen": 0.65, "offset": 0.01, "promised_alert_rate": 0.2}
    done = {"decision": "stable", "reasons": (), "time": "2026-11-01T00:00:00Z", "champion": 1} | known
    batches = [
        BatchSummary(name="batch-01", champion_before=None, alert_rate=0.9, **done),
        BatchSummary(name="batch-02", champion_before=1, alert_rate=0.21, **done),
    ]
    installation = Installation(rollout_settings)
    found = _card(installation, installation.registry.version(1), batches, EFFECT).monitoring
    assert found is not None
    assert found.effect == (), "this version is not in service"
    assert found.delivered is not None
    assert (found.delivered.batches, found.delivered.highest_alert_rate) == (2, 0.21)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/data/export/encounters.csv", "encounters.csv"),
        ("FHIR export var/export/", "FHIR export export"),
        ("FHIR export s3://hospital-bucket/phi/march", "FHIR export march"),
        ("https://user:word@archive.example/set.zip?signature=x", "https://archive.example/set.zip"),
    ],
)
def test_a_card_does_not_say_where_the_data_are(source: str, shown: str) -> None:
    assert without_place(DATA.model_copy(update={"source": source})).source == shown


@pytest.mark.parametrize("version", ["first", "-1", "1.0", ""])
def test_what_is_no_version_is_refused(rollout_settings: Settings, version: str) -> None:
    with pytest.raises(ConfigurationError, match="is no version: give its number, or champion"):
        model_card(Installation(rollout_settings), version)


def test_without_statements_a_promotion_warns(
    rollout_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = register_tiny_bundle(rollout_settings, tmp_path)
    installation = Installation(rollout_settings)
    installation.ledger.append("gate", version=version, promote=True, reasons=[])
    with caplog.at_level(logging.WARNING):
        promote(installation, version)
    assert "the model card of version 1 lacks 22 required texts of the hospital" in caplog.text
    event = installation.ledger.last("promotion")
    assert event is not None
    assert (event["version"], event["forced"]) == (version, False)


def test_without_statements_a_promotion_is_rejected_until_they_are_made(
    rollout_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = register_tiny_bundle(rollout_settings, tmp_path)
    installation = rejecting(rollout_settings)
    installation.ledger.append("gate", version=version, promote=True, reasons=[])
    with pytest.raises(ConfigurationError, match=r"Not promoted: the model card of version 1 lacks \d+ required texts"):
        promote(installation, version)
    assert installation.ledger.last("promotion") is None
    assert installation.registry.by_alias("champion") is None
    complete = with_governance(rollout_settings, tmp_path / "governance.yaml", "reject")
    with caplog.at_level(logging.WARNING):
        promote(complete, version)
    assert "lacks" not in caplog.text
    assert complete.registry.champion().version == version
    # What already serves is not taken out of service for want of a text.
    promote(rejecting(rollout_settings), version)


def test_force_promotes_without_statements_and_is_recorded(rollout_settings: Settings, tmp_path: Path) -> None:
    version = register_tiny_bundle(rollout_settings, tmp_path)
    installation = rejecting(rollout_settings)
    installation.ledger.append("gate", version=version, promote=True, reasons=[])
    promote(installation, version, force=True, because="an emergency")
    event = installation.ledger.last("promotion")
    assert event is not None
    assert (event["forced"], event["reason"]) == (True, "an emergency")


def test_a_governance_file_that_cannot_be_read_is_named(rollout_settings: Settings, tmp_path: Path) -> None:
    absent = rollout_settings.model_copy(update={"governance_path": tmp_path / "absent.yaml"})
    with pytest.raises(ConfigurationError, match=r"There is no file .*absent\.yaml"):
        read_governance(Installation(absent))
    (tmp_path / "latin.yaml").write_bytes("use: {users: Ärzte}".encode("latin-1"))
    latin = rollout_settings.model_copy(update={"governance_path": tmp_path / "latin.yaml"})
    with pytest.raises(ConfigurationError, match=r"latin\.yaml is not UTF-8 text"):
        read_governance(Installation(latin))


def test_croissant_describes_the_prepared_file(settings: Settings, source: str) -> None:
    installation = Installation(settings)
    with pytest.raises(ConfigurationError, match="contains no data"):
        croissant(installation)
    prepare(installation, source)
    described = json.loads(croissant(installation))
    file = Path(settings.data_uri) / described["distribution"][0]["contentUrl"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == described["distribution"][0]["sha256"]
    file.unlink()
    with pytest.raises(NotFound, match="does not contain the data set that was prepared"):
        croissant(installation)


def test_the_card_names_the_data_set_without_the_folder_of_its_file(
    bundle: Bundle, settings: Settings, source: str
) -> None:
    installation = Installation(settings)
    prepare(installation, source)
    card = make_card(installation, bundle.encoder, None)(bundle.manifest)
    prepared = ModelCard.model_validate_json(card.data).data.prepared
    assert prepared is not None
    assert (prepared.source, prepared.encounters) == ("source.csv", 400)
    assert str(Path(source).parent).encode() not in card.data + card.page + croissant(installation)
