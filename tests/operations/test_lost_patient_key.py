"""A lost patient key is an error with instructions, and is never made anew while a log needs the old one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation
from healthpredict.operations.patient_key import ensure_patient_key, start_new_patient_key
from healthpredict.prediction_log.patient_key import fingerprint, make_patient_key, read_patient_key
from healthpredict.storage.layout import Layout
from healthpredict.storage.uris import join, write_bytes


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path / "state"))
    return Settings()


def log_waiting(settings: Settings) -> None:
    settings.prediction_log_path.mkdir(parents=True)
    (settings.prediction_log_path / "predictions-20260101T000000.000000-00000000.open").touch()


def log_shipped(settings: Settings) -> None:
    write_bytes(join(Layout(settings.data_uri).logged_predictions, "predictions-1-1.parquet"), b"")


def test_the_ledger_names_the_key_once_and_not_the_key_itself(settings: Settings) -> None:
    keys = {ensure_patient_key(Installation(settings)) for _ in range(3)}
    (key,) = keys
    (event,) = Installation(settings).ledger.events("patient_key")
    assert event["fingerprint"] == fingerprint(key)
    assert event["fingerprint"] not in key.hex()
    assert len(event["fingerprint"]) == 16


@pytest.mark.parametrize("log", [log_waiting, log_shipped])
@pytest.mark.parametrize("named", [True, False], ids=["named", "of an older version"])
def test_a_lost_key_is_not_made_anew_while_a_log_needs_it(settings: Settings, log: object, named: bool) -> None:
    if named:
        ensure_patient_key(Installation(settings))
        settings.patient_key_path.unlink()
    assert callable(log)
    log(settings)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"Restore the file from a backup.*keys patient --new --because"):
            ensure_patient_key(Installation(settings))
    assert not settings.patient_key_path.exists()


def test_another_key_than_the_ledger_names_is_an_error(settings: Settings) -> None:
    first = fingerprint(ensure_patient_key(Installation(settings)))
    log_waiting(settings)
    settings.patient_key_path.unlink()
    make_patient_key(settings.patient_key_path)
    with pytest.raises(ConfigurationError, match=rf"but predictions were logged with the key {first}"):
        ensure_patient_key(Installation(settings))


def test_a_key_that_nothing_was_logged_with_may_be_replaced(settings: Settings) -> None:
    ensure_patient_key(Installation(settings))
    settings.patient_key_path.unlink()
    key = ensure_patient_key(Installation(settings))
    assert Installation(settings).ledger.events("patient_key")[-1]["fingerprint"] == fingerprint(key)


def test_a_key_of_an_older_version_is_taken_over(settings: Settings) -> None:
    make_patient_key(settings.patient_key_path)
    log_shipped(settings)
    key = ensure_patient_key(Installation(settings))
    assert Installation(settings).ledger.events("patient_key")[-1]["fingerprint"] == fingerprint(key)


def test_a_person_may_start_anew_with_a_reason(settings: Settings) -> None:
    first = ensure_patient_key(Installation(settings))
    log_shipped(settings)
    with pytest.raises(ConfigurationError, match="--because"):
        start_new_patient_key(Installation(settings), " ")
    result = CliRunner().invoke(app, ["keys", "patient", "--new", "--because", "the disk was lost"])
    assert result.exit_code == 0
    second = ensure_patient_key(Installation(settings))
    assert second != first
    assert Installation(settings).ledger.events("patient_key")[-1]["because"] == "the disk was lost"
    kept = settings.patient_key_path.with_name(f"patient-key.{fingerprint(first)}")
    assert read_patient_key(kept) == first
    assert kept.name in result.output.replace("\n", "")


def test_commands_refuse_to_start_without_the_key(settings: Settings) -> None:
    log_shipped(settings)
    for command in (["keys", "patient"], ["serve", "--bundle", "nowhere"]):
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, ConfigurationError), command
