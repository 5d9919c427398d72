"""An alarm stays open until a person acknowledges it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError
from healthpredict.operations.acknowledge import acknowledge, read_alarms
from healthpredict.operations.installation import Installation
from healthpredict.storage.tables import write_json
from healthpredict.storage.uris import write_bytes

OLD = "age [90-100): sensitivity"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    return Installation(Settings())


def batch(installation: Installation, name: str, *about: str, trained_version: int = 1) -> None:
    alarms = [{"about": what, "sentence": f"{what} in {name}.", "lasts": what == OLD} for what in about]
    installation.ledger.append("batch", batch=name, alarms=alarms, trained_version=trained_version)


def still_open(installation: Installation) -> list[tuple[str, str, str]]:
    alarms = read_alarms(Installation(installation.settings)).open
    return [(alarm.about, alarm.first_batch, alarm.newest_batch) for alarm in alarms]


def test_an_alarm_is_open_until_it_is_acknowledged(installation: Installation) -> None:
    installation.ledger.append("batch", batch="batch-01")  # by an earlier version of this system
    batch(installation, "batch-02", "payer_code", OLD)
    batch(installation, "batch-03", "payer_code", OLD)
    # Each change is an alarm of its own; a state is one.
    expected = [
        ("payer_code", "batch-02", "batch-02"),
        (OLD, "batch-02", "batch-03"),
        ("payer_code", "batch-03", "batch-03"),
    ]
    assert still_open(installation) == expected
    acknowledge(installation, "payer_code", "batch-02", "new insurer")
    assert still_open(installation) == expected[1:], "nobody has seen the later change yet"
    acknowledge(installation, "payer_code", "batch-03", "its codes")
    assert still_open(installation) == [expected[1]]
    assert read_alarms(installation).acknowledgements == (
        "payer_code (batch-02): new insurer",
        "payer_code (batch-03): its codes",
    )


def test_an_acknowledgement_closes_earlier_alarms_about_the_same(installation: Installation) -> None:
    batch(installation, "batch-02", "payer_code")
    batch(installation, "batch-03", "payer_code")
    acknowledge(installation, "payer_code", "batch-03", "known")
    assert still_open(installation) == []


def test_a_state_that_was_acknowledged_while_the_loop_was_at_work_stays_acknowledged(
    installation: Installation,
) -> None:
    batch(installation, "batch-02", OLD, trained_version=3)
    acknowledge(installation, OLD, "batch-02", "called by hand")
    batch(installation, "batch-03", OLD, trained_version=3)  # checked before that
    assert still_open(installation) == []
    assert read_alarms(installation).acknowledged_states == {(OLD, 3)}


def test_a_state_ends_with_its_model(installation: Installation) -> None:
    batch(installation, "batch-02", OLD, trained_version=3)
    batch(installation, "batch-03", trained_version=4)
    assert still_open(installation) == []
    batch(installation, "batch-04", OLD, trained_version=4)
    assert still_open(installation) == [(OLD, "batch-04", "batch-04")]


def test_a_state_that_ends_stays_open_and_says_so(installation: Installation) -> None:
    batch(installation, "batch-02", OLD)
    batch(installation, "batch-03", "payer_code")
    batch(installation, "batch-04")
    ended, change = read_alarms(installation).open
    assert (ended.ended, ended.story) == ("batch-03", f"{OLD} in batch-02. batch-03 no longer shows it.")
    assert change.story == "payer_code in batch-03.", "a change does not end"
    batch(installation, "batch-05", OLD)
    assert [alarm.ended for alarm in read_alarms(installation).open if alarm.about == OLD] == [None]
    acknowledge(installation, OLD, "batch-05", "known")
    assert OLD not in str(still_open(installation))


def test_the_alarms_of_a_batch_that_is_not_done_are_open(installation: Installation) -> None:
    """A later step failed, such as a training. The check is never repeated."""
    batch(installation, "batch-02", OLD)
    write_bytes(f"{installation.settings.data_uri}/batches/batch-03.csv", b"encounter_id\n1\n")
    assert still_open(installation) == [(OLD, "batch-02", "batch-02")]
    raised = [{"about": what, "sentence": f"{what}.", "lasts": what == OLD} for what in (OLD, "age", "race")]
    write_json(installation.layout.check("batch-03"), {"trained_version": 1, "alarms": raised})
    assert still_open(installation) == [
        (OLD, "batch-02", "batch-03"),
        ("age", "batch-03", "batch-03"),
        ("race", "batch-03", "batch-03"),
    ]
    acknowledge(installation, "age", "batch-03", "known")
    acknowledge(installation, OLD, "batch-03", "known")
    assert still_open(installation) == [("race", "batch-03", "batch-03")]
    installation.ledger.append("batch", batch="batch-03", decision="warn", alarms=raised, trained_version=1)
    assert still_open(installation) == [("race", "batch-03", "batch-03")]


def test_the_ledger_of_an_earlier_version_is_read(installation: Installation) -> None:
    """It wrote the name of the payer for people."""
    about, now = "payer code MC: positive predictive value", "payer_code MC: positive predictive value"
    raised = [{"about": about, "sentence": "It is low.", "lasts": True}]
    installation.ledger.append("batch", batch="batch-02", alarms=raised, trained_version=1)
    assert still_open(installation) == [(now, "batch-02", "batch-02")]
    installation.ledger.append("acknowledgement", about=about, batch="batch-02", because="known", trained_version=1)
    assert still_open(installation) == []
    assert read_alarms(installation).known_under(1) == {now}


def test_what_is_not_open_is_refused_and_a_reason_is_needed(installation: Installation) -> None:
    batch(installation, "batch-02", "payer_code")
    with pytest.raises(ConfigurationError, match=r"about 'age' of batch-02. Open alarms: 'payer_code' of batch-02"):
        acknowledge(installation, "age", "batch-02", "x")
    with pytest.raises(ConfigurationError, match="Give a reason"):
        acknowledge(installation, "payer_code", "batch-02", " ")
    assert not installation.ledger.events("acknowledgement")


def test_the_command_that_is_shown_works(installation: Installation) -> None:
    batch(installation, "batch-02", OLD)
    command = shlex.split(read_alarms(installation).open[0].command)
    assert command[0] == "healthpredict"
    result = CliRunner().invoke(app, command[1:])
    assert result.exit_code == 0, result.output
    assert still_open(installation) == []
