"""One setting after the other is changed: what `pulumi up` updates and what it replaces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from engine import INFRA, REGION
from pulumi_fixtures import NewProgram
from pulumi_stack import Program

pytestmark = pytest.mark.pulumi
_PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
SSH = {
    "sshCidr": "203.0.113.7/32",
    "sshPublicKey": _PUBLIC_KEY.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
}


@dataclass(frozen=True)
class Change:
    """Settings, and the kinds of the resources that `up` then creates, updates, replaces and deletes."""

    settings: dict[str, str | None]
    create: list[str] = field(default_factory=list)
    update: list[str] = field(default_factory=list)
    replace: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)


NAME_THE_HOST = ["MetricAlarm"] * 3 + ["RolePolicy"] * 2 + ["Schedule"] * 2
CHANGES = [
    Change({"alertMail": "other@example.org"}, update=["Budget"], replace=["TopicSubscription"]),
    Change({"sourceRepository": "https://example.org/fork.git"}, update=["Parameter"]),
    Change({"sourceCommit": "f" * 40}, update=["Parameter"]),
    # Settings that need each other.
    Change(
        {
            "sourceRepository": None,
            "sourceCommit": None,
            "sourceArchive": "https://example.org/1.tar.gz",
            "sourceSha256": "a" * 64,
        },
        create=["Parameter", "Parameter"],
        delete=["Parameter", "Parameter"],
    ),
    Change({"instanceType": "t3.xlarge"}, update=["Instance"]),
    Change({"diskGb": "50"}, update=["Instance"]),
    # With the next hostGeneration.
    Change({"spot": "true"}),
    Change({"cpuCredits": "unlimited"}, update=["Instance", "MetricAlarm"]),
    Change({"startTime": "08:00"}, update=["Schedule"]),
    Change({"stopTime": "18:00"}, update=["Schedule"]),
    Change({"startDays": "MON-SAT"}, update=["Schedule"]),
    Change({"timezone": "Europe/Berlin"}, update=["Schedule", "Schedule"]),
    Change({"maxHours": "9"}, update=["Parameter"]),
    Change({"silent": "true"}, create=["Parameter"]),
    Change({"budgetUsd": "40"}, update=["Budget"]),
    Change({"keepData": "true"}, update=["Bucket", "Repository"]),
    # The key takes effect with the next hostGeneration, the address immediately.
    Change(SSH, create=["KeyPair", "SecurityGroupIngressRule"]),
    Change({"hostGeneration": "2"}, create=["Instance"], update=NAME_THE_HOST, delete=["Instance"]),
]
REPLACE_THE_HOST = {"hostGeneration"}
# Covered by test_pulumi_teardown.py.
ELSEWHERE = {"adoptBucket"}


@pytest.fixture(scope="module")
def program(new_program: NewProgram) -> Program:
    """The stack after its first `up`. Each test changes one more setting."""
    program = new_program("settings")
    program.up()
    return program


def test_every_setting_of_the_example_is_changed_here() -> None:
    named = set(re.findall(r"health-predict:(\w+)", (INFRA / "Pulumi.example.yaml").read_text()))
    assert {name for change in CHANGES for name in change.settings} == named - ELSEWHERE


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "-".join(change.settings))
def test_a_setting_changes_only_what_it_is_for(program: Program, change: Change) -> None:
    before = program.host()["InstanceId"]
    run = program.up(**change.settings)
    for operation in ("create", "update", "replace", "delete"):
        assert run.kinds(operation) == getattr(change, operation), run.text
    assert (program.host()["InstanceId"] != before) is bool(REPLACE_THE_HOST & set(change.settings))


def test_another_region_is_refused_before_anything_changes(program: Program) -> None:
    before = program.export()
    program.region = "eu-central-1"
    try:
        for skip_preview in (False, True):
            run = program.up(fails=True, preview=not skip_preview)
            assert "aws:region is 'eu-central-1', but this stack is in 'us-east-1'." in run.text
            assert run.steps == []
        assert program.export() == before
    finally:
        program.region = REGION
        program.configure()
    assert program.up().steps == []
