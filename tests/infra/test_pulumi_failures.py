"""What goes wrong in `pulumi up` is one sentence without a traceback, and the next `up` continues."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from as_role import owner, permissions_enforced
from engine import INFRA
from pulumi_fixtures import NewProgram
from pulumi_stack import Program, offer_ubuntu, provider
from test_pulumi_settings import SSH

from healthpredict.cloud.account import choose_stack
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import find_host
from healthpredict.cloud.leftovers import find_leftovers

pytestmark = pytest.mark.pulumi
POLICY = (INFRA / "deployer-policy.json").read_text()
LOCKED = (
    "the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock file with "
    "`pulumi cancel`."
)


@pytest.fixture(scope="module")
def failing(new_program: NewProgram) -> Program:
    """A stack without resources."""
    return new_program("failing")


@pytest.fixture(scope="module")
def program(failing: Program) -> Program:
    """The stack after an `up` that succeeded."""
    failing.up(diskGb=None, instanceType=None)
    return failing


def errors(printed: str) -> list[str]:
    """The errors below `Diagnostics`, without what the engine adds to each failed run."""
    _, _, diagnostics = printed.partition("Diagnostics:")
    found = [line.strip() for line in diagnostics.splitlines() if line.strip().startswith("error: ")]
    added = {"error: update failed", "error: preview failed", "error: Resource monitor has terminated, shutting down"}
    return [line.removeprefix("error: ") for line in found if line not in added]


# Settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"diskGb": "3000"}, "diskGb is '3000'. Expected: a whole number from 20 to 500."),
        ({"instanceType": "t99.large"}, "instanceType is 't99.large', which us-east-1 does not offer."),
    ],
)
def test_a_wrong_setting_is_rejected_with_its_sentence_only(
    failing: Program, settings: dict[str, str], sentence: str
) -> None:
    run = failing.up(fails=True, **settings)
    (error,) = errors(run.text)
    assert error.startswith(sentence)
    # The engine's own ones.
    assert {step.kind for step in run.steps} <= {"Stack", "aws", "pulumi"}
    failing.configure(**dict.fromkeys(settings))


# AWS


def test_up_continues_after_each_error_of_aws(failing: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models import EC2Backend
    from moto.s3.exceptions import S3ClientError
    from moto.s3.models import S3Backend

    def refuse(error: Exception) -> Any:
        def call(*_: Any, **__: Any) -> None:
            raise error

        return call

    with monkeypatch.context() as patched:
        taken = S3ClientError("BucketAlreadyExists", "The requested bucket name is not available.")
        patched.setattr(S3Backend, "create_bucket", refuse(taken))
        (error,) = errors(failing.up(fails=True).text)
        assert "BucketAlreadyExists" in error and "The requested bucket name is not available" in error
    with monkeypatch.context() as patched:
        limit = EC2ClientError("VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit.")
        patched.setattr(EC2Backend, "run_instances", refuse(limit))
        (error,) = errors(failing.up(fails=True, hostGeneration="2").text)
        assert "VcpuLimitExceeded" in error and "more vCPU capacity" in error
    run = failing.up()
    assert "Instance" in run.kinds("create") and "Vpc" not in run.kinds("create")
    assert failing.up().steps == []
    assert len(failing.made().all("Bucket")) == len(failing.hosts()) == 1


def test_a_smaller_disk_is_rejected_in_the_preview(program: Program) -> None:
    before = program.state_files()
    run = program.up(fails=True, preview=True, diskGb="30", budgetUsd="99")
    (error,) = errors(run.text)
    assert "diskGb is 30, but the disk of the host has 40 GB, and AWS cannot shrink it. Set diskGb to 40" in error
    assert program.state_files() == before
    # With the next host, the disk may be smaller.
    assert "Instance" in program.preview(hostGeneration="9").kinds("create")
    program.configure(diskGb=None, budgetUsd=None, hostGeneration=None)


# Two at a time, and a crash


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Let EC2 create an instance only when the second event is set. The first one tells that it was asked."""
    from moto.ec2.models import EC2Backend

    asked, go_on = threading.Event(), threading.Event()
    original = EC2Backend.run_instances

    def wait(*arguments: Any, **named: Any) -> Any:
        asked.set()
        go_on.wait(120)
        return original(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(EC2Backend, "run_instances", wait)
        try:
            yield asked, go_on
        finally:
            go_on.set()


def start_up(program: Program) -> subprocess.Popen[bytes]:
    """Start `pulumi up`."""
    return subprocess.Popen(
        program.command("up", "--yes", "--skip-preview"),
        cwd=program.infra, env=program.environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it started, as when the machine stops."""
    started = psutil.Process(process.pid)
    for each in [*started.children(recursive=True), started]:
        each.kill()
    process.wait(60)


def test_a_second_up_at_the_same_time_is_refused_and_the_first_one_ends(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.configure(hostGeneration="3")
    with held_up(monkeypatch) as (asked, go_on), start_up(program) as first:
        assert asked.wait(60)
        assert LOCKED in program.up(fails=True).text
        go_on.set()
        assert first.wait(120) == 0
    assert program.up().steps == []
    assert len(program.hosts()) == 1


def test_after_a_crash_cancel_makes_up_possible_again_and_the_superfluous_host_is_named(
    program: Program, monkeypatch: pytest.MonkeyPatch, aws_environment: None
) -> None:
    program.configure(hostGeneration="4")
    with held_up(monkeypatch) as (asked, go_on), start_up(program) as crashing:
        assert asked.wait(60)
        kill(crashing)
        assert LOCKED in program.up(fails=True).text
        program.pulumi("cancel", "--yes")
        go_on.set()
        assert "interrupted while creating" in program.up().text
    program.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    again = program.up()
    assert again.steps == [] and "interrupted" not in again.text
    # AWS created the host after the crash, so the state does not have it.
    (superfluous,) = {host["InstanceId"] for host in wait_for_hosts(program, 2)} - {program.outputs()["instance_id"]}
    with pytest.raises(CloudError, match=f"{superfluous}.*terminate"):
        find_host(choose_stack(None, None, program.infra))
    program.client("ec2").terminate_instances(InstanceIds=[superfluous])
    assert find_host(choose_stack(None, None, program.infra)).instance == program.outputs()["instance_id"]


def wait_for_hosts(program: Program, number: int) -> list[dict[str, Any]]:
    """The instances, once there are so many."""
    for _ in range(100):
        if len(program.hosts()) == number:
            break
        time.sleep(0.1)
    return program.hosts()


# Permissions


class Deployer:
    """An IAM user with one policy, who may run `pulumi up`."""

    def __init__(self, endpoint: str) -> None:
        self._iam = owner(endpoint, "iam")
        self._iam.create_user(UserName="deployer")
        key = self._iam.create_access_key(UserName="deployer")["AccessKey"]
        self.credentials = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        made = self._iam.create_policy(PolicyName="deployer", PolicyDocument=POLICY)
        self._arn = made["Policy"]["Arn"]
        self._iam.attach_user_policy(UserName="deployer", PolicyArn=self._arn)

    def may(self, *, except_for: str = "") -> None:
        """Give the user the permissions of the documented policy, except for one action."""
        document = json.loads(POLICY)
        for statement in document["Statement"]:
            statement["Action"] = [each for each in as_list(statement["Action"]) if each != except_for]
        versions = self._iam.list_policy_versions(PolicyArn=self._arn)["Versions"]
        self._iam.create_policy_version(PolicyArn=self._arn, PolicyDocument=json.dumps(document), SetAsDefault=True)
        for version in versions:
            self._iam.delete_policy_version(PolicyArn=self._arn, VersionId=version["VersionId"])


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_the_documented_policy_permits_up_refresh_and_destroy_and_a_missing_permission_is_named(
    engine: dict[str, str],
    moto_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    aws_environment: None,
) -> None:
    offer_ubuntu()
    user = Deployer(moto_endpoint)
    for name, value in user.credentials.items():
        monkeypatch.setenv(name, value)
    # An earlier session would keep its credentials.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with provider(engine, moto_endpoint, user.credentials) as environment:
        program = Program(tmp_path, environment, "deployer")
        for action, sentence in (
            ("ec2:Describe*", "AWS did not return the instance types"),
            ("iam:CreateRole", "is not authorized to perform: iam:CreateRole"),
        ):
            user.may(except_for=action)
            with permissions_enforced(monkeypatch):
                found = errors(program.up(fails=True).text)
            assert found and all(sentence in error for error in found), found
        user.may()
        with permissions_enforced(monkeypatch):
            program.up(**SSH, maxHours="9", cpuCredits="unlimited", diskGb="50")
            program.up(sourceCommit="f" * 40, stopTime="18:00", budgetUsd="40", instanceType="t3.xlarge", diskGb="60")
            program.refresh()
            assert program.up().steps == []
            assert find_leftovers(choose_stack(None, None, program.infra))
            program.destroy()
            assert find_leftovers(choose_stack(None, None, program.infra)) == []


def test_the_policy_fits_into_a_managed_policy() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html, without white space
    assert len("".join(POLICY.split())) <= 6144
