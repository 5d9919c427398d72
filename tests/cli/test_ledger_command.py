"""`healthpredict ledger` prints events, and reads what it printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path / "state"))


def test_printed_events_are_restored_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 2):
        Installation().ledger.append("promotion", version=version)
    printed = CliRunner().invoke(app, ["ledger"]).stdout
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "other"))
    assert CliRunner().invoke(app, ["ledger", "--restore"], input=printed).exit_code == 0
    assert [event["version"] for event in Installation().ledger.events()] == [1, 2]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"kind": "promotion"}'])
def test_a_line_that_is_no_event_is_named(line: str) -> None:
    error = CliRunner().invoke(app, ["ledger", "--restore"], input=f"{line}\n").exception
    assert isinstance(error, ConfigurationError)
    assert "Line 1 of the standard input is not an event" in str(error)
    assert Installation().ledger.events() == []


def test_two_commands_at_once_are_refused() -> None:
    error = CliRunner().invoke(app, ["ledger", "--restore", "--verify"]).exception
    assert isinstance(error, ConfigurationError)
