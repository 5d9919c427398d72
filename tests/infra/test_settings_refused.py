"""Insecure, incomplete and ambiguous settings are refused, with what to write instead."""

from __future__ import annotations

import pytest
from engine import CONFIG, REGION, STACK, Exited, Recorder, run_program
from settings import ConfigError, read_settings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJlRtA6Y6PbBWdRFPtWVbcIXwSlWx9jMQUGLhyDIPsx5"


def refusal(**changes: str | None) -> str:
    """The error message for the tests' settings with these changes."""
    values = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    with pytest.raises(ConfigError) as raised:
        read_settings(STACK, REGION, values)
    return str(raised.value)


def rejected_by_the_program(engine: Recorder, **changes: str) -> str:
    """The only error that the program reports. No resource was declared before it."""
    # The exit code with which Pulumi shows no traceback.
    with pytest.raises(Exited, match="32"):
        run_program(engine, **changes)
    assert [each for each in engine.stack.resources if each.name != "call"] == []
    (error,) = engine.stack.errors
    return error


def test_pulumi_reports_the_error_before_it_creates_anything() -> None:
    assert "/32" in rejected_by_the_program(Recorder(), sshCidr="0.0.0.0/0", sshPublicKey=KEY)


def test_an_unknown_setting_is_named() -> None:
    assert "stoptime" in rejected_by_the_program(Recorder(), stoptime="17:00")


def test_an_instance_type_that_the_region_does_not_offer_is_named() -> None:
    engine = Recorder()
    engine.locations = []
    error = rejected_by_the_program(engine, instanceType="t9.large")
    assert "'t9.large'" in error and REGION in error


def test_a_stack_whose_file_is_being_written_is_read_again() -> None:
    engine = Recorder()
    engine.outputs = {"region": "eu-central-1"}
    engine.incomplete_reads = 3
    assert "this stack is in 'eu-central-1'" in rejected_by_the_program(engine)
    assert engine.incomplete_reads == 0


@pytest.mark.parametrize("name", ["somebody-elses", "health-predict-other-data-1a2b3c4", "health-predict-test-data-"])
def test_a_bucket_of_another_stack_is_not_adopted(name: str) -> None:
    assert "adoptBucket" in refusal(adoptBucket=name)


@pytest.mark.parametrize("name", ["Prod", "averylongnameofastack", "1", "prod_eu", "prod-eu", ""])
def test_a_stack_name_that_could_not_be_used_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="stack"):
        read_settings(name, REGION, CONFIG)


def test_a_missing_region_is_refused() -> None:
    with pytest.raises(ConfigError, match="aws:region"):
        read_settings(STACK, "", CONFIG)


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "203.0.113.0/24", "0.0.0.0/1"])
def test_ssh_from_more_than_one_address_is_refused(cidr: str) -> None:
    message = refusal(sshCidr=cidr, sshPublicKey=KEY)
    assert "sshCidr" in message and "/32" in message


@pytest.mark.parametrize("cidr", ["::/0", "everyone", "203.0.113.7/33", ""])
def test_ssh_from_an_invalid_address_is_refused(cidr: str) -> None:
    assert "sshCidr" in refusal(sshCidr=cidr, sshPublicKey=KEY)


def test_ssh_without_a_key_is_refused() -> None:
    assert "sshPublicKey" in refusal(sshCidr="203.0.113.7/32")


def test_a_private_key_is_refused_and_not_shown() -> None:
    message = refusal(sshCidr="203.0.113.7/32", sshPublicKey="-----BEGIN OPENSSH PRIVATE KEY-----")
    assert "sshPublicKey" in message and "PRIVATE" not in message


@pytest.mark.parametrize("mail", [None, "", "nobody", "a@b", "a@b.org,c@d.org"])
def test_a_missing_or_wrong_alert_mail_is_refused(mail: str | None) -> None:
    assert "alertMail" in refusal(alertMail=mail)


def test_the_message_for_a_missing_alert_mail_says_why_it_is_needed() -> None:
    assert "nobody would get the mails" in refusal(alertMail=None)


@pytest.mark.parametrize("commit", ["main", "v1.0", "0123456", "0123456789ABCDEF0123456789abcdef01234567", None])
def test_a_source_that_is_no_full_commit_is_refused(commit: str | None) -> None:
    assert "sourceCommit" in refusal(sourceCommit=commit)


@pytest.mark.parametrize("repository", ["http://example.org/r", "https://me:token@example.org/r", "git@example.org:r"])
def test_a_source_without_tls_or_with_a_token_is_refused(repository: str) -> None:
    message = refusal(sourceRepository=repository)
    assert "sourceRepository" in message and "token" not in message.partition("Expected")[0]


def test_two_sources_are_refused() -> None:
    assert "sourceArchive" in refusal(sourceArchive="https://example.org/r.tar.gz", sourceSha256="a" * 64)


def test_an_archive_without_its_digest_is_refused() -> None:
    message = refusal(sourceRepository=None, sourceCommit=None, sourceArchive="https://example.org/r.tar.gz")
    assert "sourceSha256" in message


def test_an_archive_with_its_digest_is_accepted() -> None:
    stack = run_program(
        sourceRepository=None, sourceCommit=None, sourceArchive="https://example.org/r.tar.gz", sourceSha256="a" * 64
    )
    assert stack.named("Parameter", "/config/source-sha256").inputs["value"] == "a" * 64


@pytest.mark.parametrize("kind", ["t4g.large", "m7gd.xlarge", "c6gn.large", "x2gd.large", "a1.large"])
def test_an_instance_type_with_an_arm_processor_is_refused(kind: str) -> None:
    assert "ARM" in refusal(instanceType=kind)


@pytest.mark.parametrize("kind", ["t3a.large", "m7i-flex.large", "g4dn.xlarge", "r6id.large", "trn1.2xlarge"])
def test_an_instance_type_with_an_x86_processor_is_accepted(kind: str) -> None:
    assert read_settings(STACK, REGION, {**CONFIG, "instanceType": kind}).instance_type == kind


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stopTime", "25:00"),
        ("stopTime", "1020"),
        ("startTime", "9:00"),
        ("startTime", "17:00"),
        ("startDays", "FRI-MON"),
        ("startDays", "weekdays"),
        ("timezone", "Berlin"),
        ("maxHours", "-1"),
        ("budgetUsd", "nan"),
        ("budgetUsd", "0"),
        ("diskGb", "8"),
        ("diskGb", "20.7"),
        ("maxHours", "9.5"),
        ("cpuCredits", "endless"),
        ("spot", "maybe"),
        ("hostGeneration", "0"),
        ("instanceType", "large"),
    ],
)
def test_a_setting_with_a_wrong_value_is_named(key: str, value: str) -> None:
    message = refusal(**{key: value})
    assert key in message or value in message
