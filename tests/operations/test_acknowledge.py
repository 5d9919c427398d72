"""An alarm stays open until a person acknowledges it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError
from healthpredict.operations.acknowledge import acknowledge, acknowledged_groups, open_alarms
from healthpredict.operations.installation import Installation


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    return Installation(Settings())


def batch(installation: Installation, name: str, *about: str, trained_version: int = 1) -> None:
    alarms = [{"about": what, "sentence": f"{what} in {name}."} for what in about]
    installation.ledger.append("batch", batch=name, alarms=alarms, trained_version=trained_version)


def still_open(installation: Installation) -> list[tuple[str, str, str]]:
    return [(alarm.about, alarm.since, alarm.sentence) for alarm in open_alarms(Installation(installation.settings))]


def test_an_alarm_is_open_until_it_is_acknowledged(installation: Installation) -> None:
    installation.ledger.append("batch", batch="batch-01")  # by an earlier version of this system
    batch(installation, "batch-02", "payer_code", "age [90-100)")
    batch(installation, "batch-03", "payer_code")
    assert still_open(installation) == [
        ("payer_code", "batch-02", "payer_code in batch-03."),
        ("age [90-100)", "batch-02", "age [90-100) in batch-02."),
    ]
    acknowledge(installation, "payer_code", "new insurer")
    assert [about for about, *_ in still_open(installation)] == ["age [90-100)"]
    batch(installation, "batch-04", "payer_code")
    assert ("payer_code", "batch-04", "payer_code in batch-04.") in still_open(installation), "a new change is new"


def test_a_group_is_known_while_the_same_model_is_in_service(installation: Installation) -> None:
    batch(installation, "batch-02", "age [90-100)", trained_version=3)
    acknowledge(installation, "age [90-100)", "called by hand")
    assert acknowledged_groups(installation, 3) == {"age [90-100)"}
    assert acknowledged_groups(installation, 4) == set()


def test_what_is_not_open_is_refused(installation: Installation) -> None:
    batch(installation, "batch-02", "payer_code")
    with pytest.raises(ConfigurationError, match=r"no open alarm about 'age'. Open alarms: 'payer_code'"):
        acknowledge(installation, "age", "x")
    assert not installation.ledger.events("acknowledgement")


def test_the_command_that_is_shown_works(installation: Installation) -> None:
    batch(installation, "batch-02", "sex and age Female, [90-100)")
    command = open_alarms(installation)[0].command
    assert command == """healthpredict acknowledge 'sex and age Female, [90-100)' --because "..." """.strip()
    result = CliRunner().invoke(app, ["acknowledge", "sex and age Female, [90-100)", "--because", "known"])
    assert result.exit_code == 0, result.output
    assert still_open(installation) == []
    event = Installation(installation.settings).ledger.last("acknowledgement")
    assert event is not None
    assert event["because"] == "known"
