"""A decision by hand is used by the next batch, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.monitoring.policy import Override
from healthpredict.operations.decide_by_hand import pending_override
from healthpredict.operations.installation import Installation


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    return Settings()


def decide(state: str, because: str) -> None:
    result = CliRunner().invoke(app, ["decide", state, "--because", because])
    assert result.exit_code == 0, result.output


def test_nothing_is_pending_at_first(settings: Settings) -> None:
    assert pending_override(Installation(settings)) is None


def test_the_newest_decision_is_pending_until_a_batch_has_used_it(settings: Settings) -> None:
    decide("stable", "known outage of the laboratory feed")
    decide("retrain", "new laboratory system")
    pending = pending_override(Installation(settings))
    assert pending == (2, Override(state="retrain", because="new laboratory system"))
    Installation(settings).ledger.append("batch", batch="batch-01", override=None)
    assert pending_override(Installation(settings)) == pending, "a batch that was under way has not used it"
    Installation(settings).ledger.append("batch", batch="batch-02", override=2)
    assert pending_override(Installation(settings)) is None


def test_a_state_that_does_not_exist_is_refused(settings: Settings) -> None:
    assert CliRunner().invoke(app, ["decide", "maybe", "--because", "x"]).exit_code == 2


def test_a_reason_is_needed(settings: Settings) -> None:
    result = CliRunner().invoke(app, ["decide", "retrain", "--because", ""])
    assert result.exit_code != 0
    assert pending_override(Installation(settings)) is None
