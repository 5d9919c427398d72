"""What goes wrong is said, written down, and leaves the champion alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from accepting import accept
from bundles import stored_bundle
from installation import environment
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.errors import (
    AlreadyRunning,
    BatchRefused,
    BundleError,
    NoChampion,
    NotEnoughData,
    RegistryError,
    RolloutError,
    StorageError,
)
from healthpredict.operations.arrivals import DeliveredFile
from healthpredict.operations.detect_drift import detect_drift
from healthpredict.operations.drift_loop import Steps, drift_loop
from healthpredict.operations.gate import gate
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.prepare import prepare
from healthpredict.operations.roll_out import local_target, roll_out
from healthpredict.operations.search import TrainingRequest
from healthpredict.operations.train import train
from healthpredict.storage.layout import Layout
from healthpredict.storage.lock import exclusive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, small_source: str, cluster: str
) -> Iterator[tuple[Settings, dict[str, str]]]:
    """An installation with a champion that answers and three batches that wait. Tests may add events, not batches."""
    variables = environment(tmp_path_factory.mktemp("served"))
    patch = pytest.MonkeyPatch()
    for name, value in variables.items():
        patch.setenv(name, value)
    settings = Settings()
    prepare(Installation(settings), small_source)
    outcome = train(Installation(settings), TrainingRequest(trigger="initial", arriving="batch-01"))
    roll_out(Installation(settings), outcome.challenger.version)
    patch.undo()
    yield settings, variables
    local_target(Installation(settings)).stop()


@pytest.fixture
def settings(served: tuple[Settings, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The installation; afterwards its champion is still the first version, and still answers."""
    settings, variables = served
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield settings
    monkeypatch.undo()
    champion = Installation(settings).registry.by_alias("champion")
    assert champion is not None
    assert champion.version == 1
    model = httpx.get(f"http://127.0.0.1:{settings.api_port}/model", trust_env=False).json()
    assert model["bundle_digest"] == champion.bundle_digest


def always_retrain(steps: Steps) -> Steps:
    """The same steps with a detection that asks for retraining."""

    def detect(installation: Installation, name: str) -> Any:
        check = detect_drift(installation, name)
        return check.model_copy(update={"decision": check.decision.model_copy(update={"state": "retrain"})})

    return replace(steps, detect=detect)


def test_second_loop_says_who_runs_and_leaves(settings: Settings) -> None:
    before = Installation(settings).ledger.events()
    with exclusive(settings.state_path / "drift-loop.lock", "The drift loop"), pytest.raises(AlreadyRunning) as caught:
        drift_loop(Installation(settings))
    assert f"process {os.getpid()}" in str(caught.value)
    assert caught.value.exit_code == 11
    assert Installation(settings).ledger.events() == before


def test_failed_training_leaves_the_batch_for_the_next_start(settings: Settings) -> None:
    def fail(*_: object) -> Any:
        raise NotEnoughData("One class only. Wait for more matured outcomes.")

    with pytest.raises(NotEnoughData):
        drift_loop(Installation(settings), always_retrain(Steps(train=fail)))
    assert find_pending(Installation(settings)).names[0] == "batch-01"


def test_failed_rollout_is_in_the_ledger_and_the_old_version_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenger = train(Installation(settings), TrainingRequest(trigger="manual", arriving="batch-02")).challenger
    model = stored_bundle(Installation(settings).registry, challenger.version) / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"was altered: model\.onnx"):
        roll_out(Installation(settings), challenger.version)
    model.write_bytes(content)

    monkeypatch.setattr("healthpredict.rollout.verify.TOLERANCE", -1.0)
    with pytest.raises(RolloutError, match="golden rows"):
        roll_out(Installation(settings), challenger.version)
    failures = Installation(settings).ledger.events("rollout_failed")
    assert [event["version"] for event in failures[-2:]] == [challenger.version] * 2
    assert "golden rows" in failures[-1]["problem"]


def test_first_model_that_does_not_pass_the_gate_ends_the_loop_with_the_reasons(
    tmp_path: Path, small_source: str, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (environment(tmp_path) | {"HEALTHPREDICT_PROMOTION__MAX_ECE": "0.000001"}).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    prepare(Installation(settings), small_source)
    for _ in range(2):
        with pytest.raises(
            NoChampion, match=r"Version 1 did not pass .* Calibration error .* above .*promote 1 --force"
        ):
            drift_loop(Installation(settings))
    assert len(Installation(settings).ledger.events("training")) == 1, "the second start found it done"
    assert find_pending(Installation(settings)).names == ["batch-01", "batch-02", "batch-03"]

    def refuse(_: Installation, file: DeliveredFile) -> Any:
        raise BatchRefused(file.name, "it is a test")

    try:
        assert CliRunner().invoke(app, ["promote", "1", "--force", "--because", "a test"]).exit_code == 0
        assert drift_loop(Installation(settings), Steps(accept=refuse)).done == [
            "batch-01",
            "batch-02",
            "batch-03",
        ]
    finally:
        local_target(Installation(settings)).stop()


def test_gate_decides_once_for_each_arrival(settings: Settings) -> None:
    before = len(Installation(settings).ledger.events("gate"))
    first = gate(Installation(settings), 1, "batch-03")
    assert gate(Installation(settings), 1, "batch-03") == first
    assert len(Installation(settings).ledger.events("gate")) == before + 1


def test_batch_without_matured_outcomes_is_checked_without_concept_drift(settings: Settings) -> None:
    layout = Layout(settings.data_uri)
    accept(settings, "batch-01")
    check = detect_drift(Installation(settings), "batch-01")
    assert check.concept is None, "all that has matured is in the training data"
    Path(layout.check("batch-01")).unlink()


def test_mlflow_that_cannot_be_written_is_a_clear_error(settings: Settings, tmp_path: Path) -> None:
    broken = settings.model_copy(
        update={"tracking_uri": f"sqlite:///{tmp_path}/none/../mlflow.db", "state_path": tmp_path}
    )
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be taken for one" * 10)
    with pytest.raises(RegistryError, match=r"mlflow\.db .*cannot be upgraded.*The file is unchanged"):
        drift_loop(Installation(broken))


def test_full_disk_leaves_no_half_written_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(settings, "batch-01")
    layout = Layout(settings.data_uri)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        detect_drift(Installation(settings), "batch-01")
    assert not Path(layout.check("batch-01")).exists()
    assert not list(Path(layout.root).rglob(".*")), "no temporary file is left"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["promote", "99"], 2, "has not passed the gate"),
        (["trace", "99"], 8, "has no version 99. Known versions: 1"),
        (["score", "nowhere.csv", "out.parquet"], 7, "there is no such file"),
        (["prepare", "--source", "nowhere.csv"], 7, "nowhere.csv"),
    ],
)
def test_command_says_what_is_wrong(settings: Settings, arguments: list[str], code: int, words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    error = result.exception
    assert error is not None
    assert words in str(error)
    assert error.exit_code == code


def test_refused_batch_is_written_down_and_the_loop_goes_on(settings: Settings) -> None:
    """Last of this module: it does all batches."""
    layout = Layout(settings.data_uri)
    for suffix in (layout.processed("batch-01"), layout.accepted("batch-01"), layout.check("batch-01")):
        Path(suffix).unlink(missing_ok=True)
    delivered = Path(layout.batch("batch-01")).read_bytes()
    Path(layout.batch("batch-01")).write_bytes(delivered.replace(b"time_in_hospital", b"days", 1))
    Path(f"{layout.batch('batch-01')}.done").touch()

    def stable(installation: Installation, name: str) -> Any:
        check = detect_drift(installation, name)
        return check.model_copy(update={"decision": check.decision.model_copy(update={"state": "stable"})})

    assert drift_loop(Installation(settings), Steps(detect=stable)).done == [
        "batch-01",
        "batch-02",
        "batch-03",
    ]
    first, *others = Installation(settings).ledger.events("batch")
    assert first["decision"] == "refused"
    assert "missing columns: time_in_hospital" in first["reasons"][0]
    assert [event["decision"] for event in others] == ["stable", "stable"]
    assert b"days" in Path(layout.batch("batch-01")).read_bytes(), "it was left where it was"
