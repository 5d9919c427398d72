"""A recalibration is registered once for each batch, and promoted like any other version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import draw_encounters, register_tiny_bundle
from scipy.special import expit, logit

from healthpredict.config import Settings
from healthpredict.evaluation.interval import Interval
from healthpredict.monitoring.alert_rate import AlertRate
from healthpredict.monitoring.calibration import CalibrationCheck
from healthpredict.monitoring.data_drift import DataDrift
from healthpredict.monitoring.policy import DriftDecision
from healthpredict.operations.detect_drift import DriftCheck, read_check
from healthpredict.operations.installation import Installation
from healthpredict.operations.promote import promote
from healthpredict.operations.recalibrate import Recalibrated, recalibrate
from healthpredict.operations.risks import risks_of
from healthpredict.operations.roll_back import roll_back
from healthpredict.storage.tables import read_json, write_frame, write_json

ENCOUNTERS = draw_encounters(500, seed=9)
POINT = Interval(value=0.0, low=0.0, high=0.0)
SHIFT = CalibrationCheck(rows=8000, readmissions=900, offset=POINT, correction="intercept", intercept=-0.2)


@pytest.fixture
def installation(rollout_settings: Settings, tmp_path: Path) -> Installation:
    """Version 1 is the champion, and batch-02 is accepted."""
    installation = Installation(rollout_settings)
    assert register_tiny_bundle(rollout_settings, tmp_path) == 1
    promote(installation, 1, force=True, because="a test")
    write_frame(installation.layout.processed("batch-02"), ENCOUNTERS)
    return installation


def check(installation: Installation, calibration: CalibrationCheck | None = SHIFT, rows: int = 500) -> None:
    """Write the check of batch-02."""
    found = DriftCheck(
        batch="batch-02",
        champion=1,
        trained_version=1,
        rows=rows,
        data=DataDrift(rows=500, columns=(), joint=(), prediction=()),
        concept=None,
        subgroups=(),
        newest_matured="batch-01",
        calibration=calibration,
        alert_rate=AlertRate(promised=0.2, flagged=POINT, broken=True),
        decision=DriftDecision(state="recalibrate", reasons=("risks are too high.",), columns=()),
        override=None,
        report_uri="",
        seconds={},
    )
    write_json(
        installation.layout.check("batch-02"), found.model_dump(mode="json", exclude={"data": {"drifted_share"}})
    )


def recalibrated(installation: Installation) -> Recalibrated:
    found = recalibrate(installation, "batch-02")
    assert found is not None
    return found


def test_risks_are_corrected_and_the_promised_share_of_the_batch_is_flagged(installation: Installation) -> None:
    check(installation)
    found = recalibrated(installation)
    registry = installation.registry
    old, new = (registry.fetch_bundle(registry.version(version)) for version in (1, found.version))
    before, after = risks_of(old, ENCOUNTERS), risks_of(new, ENCOUNTERS)
    np.testing.assert_allclose(after, expit(logit(before) - 0.2), atol=1e-9)
    assert (after >= new.manifest.threshold).mean() == pytest.approx(0.2, abs=0.003)
    assert new.manifest.calibrated_on == "batch-01"
    assert (found.of, found.correction, found.reasons) == (1, "intercept", ("risks are too high.",))


def test_without_enough_outcomes_only_the_threshold_changes(installation: Installation) -> None:
    check(installation, calibration=None)
    registry = installation.registry
    found = registry.fetch_bundle(registry.version(recalibrated(installation).version))
    old = registry.fetch_bundle(registry.version(1))
    np.testing.assert_allclose(risks_of(found, ENCOUNTERS), risks_of(old, ENCOUNTERS), atol=1e-12)
    assert found.manifest.threshold != old.manifest.threshold


def test_it_is_registered_once_even_if_it_was_killed_before_it_was_recorded(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(installation)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(installation.ledger), "append", killed)
        recalibrate(installation, "batch-02")
    first = recalibrated(installation)
    assert recalibrated(installation) == first
    assert [version.version for version in installation.registry.versions()] == [1, first.version]
    assert len(installation.ledger.events("recalibration")) == 1


def test_it_is_promoted_without_a_gate(installation: Installation) -> None:
    check(installation)
    version = recalibrated(installation).version
    assert promote(installation, version).version == version
    assert installation.registry.champion().version == version


def test_if_the_champion_changed_since_the_check_nothing_is_registered(
    installation: Installation, tmp_path: Path
) -> None:
    check(installation)
    promote(installation, register_tiny_bundle(installation.settings, tmp_path), force=True, because="a person did")
    assert recalibrate(installation, "batch-02") is None
    assert len(installation.registry.versions()) == 2
    assert installation.ledger.events("recalibration") == []


def test_outcomes_that_the_calibrator_has_not_used_are_tested_again(installation: Installation) -> None:
    check(installation, calibration=SHIFT.model_copy(update={"correction": "none", "intercept": 0.0}))
    registry = installation.registry
    old = registry.fetch_bundle(registry.version(1)).manifest
    found = registry.fetch_bundle(registry.version(recalibrated(installation).version)).manifest
    assert found.calibrated_on == old.calibrated_on != "batch-01"


def test_a_batch_that_is_too_small_does_not_set_the_threshold(installation: Installation) -> None:
    check(installation, rows=3)
    registry = installation.registry
    old, new = (registry.fetch_bundle(registry.version(v)) for v in (1, recalibrated(installation).version))
    before, after = risks_of(old, ENCOUNTERS), risks_of(new, ENCOUNTERS)
    np.testing.assert_array_equal(after >= new.manifest.threshold, before >= old.manifest.threshold)
    assert new.manifest.threshold < old.manifest.threshold


def test_the_check_of_an_earlier_version_of_this_system_can_be_read(installation: Installation) -> None:
    check(installation)
    uri = installation.layout.check("batch-02")
    stored = read_json(uri)
    for new in ("trained_version", "newest_matured", "calibration", "alert_rate", "gain", "shadow_gain"):
        del stored[new]
    write_json(uri, stored | {"decision": stored["decision"] | {"state": "retrain"}})
    found = read_check(installation, "batch-02")
    assert (found.trained_version, found.alert_rate) == (1, None)
    assert not found.recalibrate


def test_a_repeated_call_does_not_replace_the_champion_that_a_person_chose(
    installation: Installation, tmp_path: Path
) -> None:
    check(installation)
    recalibrated(installation)
    promote(installation, register_tiny_bundle(installation.settings, tmp_path), force=True, because="a person did")
    assert recalibrate(installation, "batch-02") is None


def test_a_repeated_call_does_not_undo_a_roll_back(installation: Installation) -> None:
    check(installation)
    version = recalibrated(installation).version
    promote(installation, version)
    assert recalibrated(installation).version == version
    roll_back(installation)
    assert recalibrate(installation, "batch-02") is None


def test_the_run_is_closed_even_if_the_call_was_killed_before_it(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(installation)
    closed: list[str] = []

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(installation.registry), "close_run", killed)
        recalibrate(installation, "batch-02")
    monkeypatch.setattr(type(installation.registry), "close_run", lambda _, run_id: closed.append(run_id))
    version = recalibrated(installation).version
    assert closed == [installation.registry.version(version).run_id]
