"""Find, start and stop the host that the Pulumi program created, and read its status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from as_role import Role, permissions_enforced
from engine import REGION
from engine import Stack as Made
from typer.testing import CliRunner

from healthpredict.cli.cloud import app
from healthpredict.cloud import host as host_module
from healthpredict.cloud.account import Stack, choose_stack
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import find_host, read_status, start_host, stop_host
from healthpredict.errors import ConfigurationError


@pytest.fixture(autouse=True)
def running(stack: Stack) -> Iterator[None]:
    """The host runs before every test."""
    boto3.client("ec2").start_instances(InstanceIds=[find_host(stack).instance])
    yield


def test_the_host_is_found_by_its_tags(stack: Stack, made: Made) -> None:
    found = find_host(stack)
    assert found.instance == made.outputs["instance_id"]
    assert (found.state, found.instance_type) == ("running", "t3.large")


def test_the_host_stops_and_starts(stack: Stack) -> None:
    assert stop_host(stack).state == "stopped"
    assert start_host(stack).state == "running"


def test_stopping_twice_is_not_an_error(stack: Stack) -> None:
    stop_host(stack)
    assert stop_host(stack).state == "stopped"


def test_the_status_shows_state_health_and_schedules(stack: Stack) -> None:
    tag = {"Key": "HealthPredictHealth", "Value": "ok 2026-11-24T08:15Z prefect=ok"}
    boto3.client("ec2").create_tags(Resources=[find_host(stack).instance], Tags=[tag])
    status = read_status(stack)
    assert status.host.health == tag["Value"]
    assert status.schedules == {
        "start": "cron(0 9 ? * MON,TUE,WED,THU,FRI *) UTC",
        "stop": "cron(0 17 ? * * *) UTC",
    }


@pytest.mark.parametrize(("ping", "reachable"), [("Online", True), ("ConnectionLost", False)])
def test_the_status_says_whether_the_session_manager_reaches_the_host(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, ping: str, reachable: bool
) -> None:
    # Moto has no instance information.
    class Ssm:
        def describe_instance_information(self, **_: object) -> dict[str, object]:
            return {"InstanceInformationList": [{"PingStatus": ping}]}

    real = host_module.client
    monkeypatch.setattr(host_module, "client", lambda s, name: Ssm() if name == "ssm" else real(s, name))
    assert read_status(stack).session is reachable


def test_a_disabled_schedule_is_shown_as_such(stack: Stack) -> None:
    scheduler = boto3.client("scheduler")
    given = scheduler.get_schedule(GroupName=stack.prefix, Name=f"{stack.prefix}-start")
    keys = ("Name", "GroupName", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "Target")
    same = {key: given[key] for key in keys}
    scheduler.update_schedule(**same, State="DISABLED")
    try:
        assert read_status(stack).schedules["start"].endswith("(disabled)")
    finally:
        scheduler.update_schedule(**same, State="ENABLED")


def test_the_commands_print_the_result(stack: Stack) -> None:
    options = ["--infra", str(stack.folder)]
    stopped = CliRunner().invoke(app, ["stop", *options])
    assert "is stopped" in stopped.output
    assert "is running" in CliRunner().invoke(app, ["start", *options]).output
    shown = CliRunner().invoke(app, ["status", *options]).output
    assert "running" in shown and "cron(0 17 ? * * *) UTC" in shown
    assert json.loads(CliRunner().invoke(app, ["status", "--json", *options]).output)["stack"] == "cloud"


def test_without_a_host_the_message_names_region_and_command(stack: Stack) -> None:
    with pytest.raises(CloudError, match=f"{REGION}.*cloud up"):
        find_host(replace(stack, name="elsewhere"))


def test_two_hosts_are_named_and_neither_is_changed(stack: Stack) -> None:
    ec2 = boto3.client("ec2")
    image = ec2.describe_images(Owners=["099720109477"])["Images"][0]["ImageId"]
    tags = [{"Key": "Project", "Value": "health-predict"}, {"Key": "Stack", "Value": "twice"}]
    made = ec2.run_instances(
        ImageId=image, MinCount=2, MaxCount=2, TagSpecifications=[{"ResourceType": "instance", "Tags": tags}]
    )["Instances"]
    with pytest.raises(CloudError) as raised:
        stop_host(replace(stack, name="twice"))
    assert all(each["InstanceId"] in str(raised.value) for each in made)


@pytest.fixture
def environment(running: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Changes the environment of boto3, which reads it once for each session."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return monkeypatch


def test_without_credentials_the_message_says_how_to_get_them(stack: Stack, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="aws configure sso"):
        find_host(stack)


def test_an_unknown_profile_is_named(stack: Stack, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="nobody"):
        find_host(stack)


def test_without_a_region_the_message_names_the_option(stack: Stack, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match="--region"):
        find_host(replace(stack, region=None))


def test_an_unreachable_account_is_an_error_without_a_traceback(stack: Stack, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CloudError, match="look for the host"):
        find_host(stack)


def test_a_denied_request_names_the_missing_permission(
    stack: Stack, made: Made, moto_endpoint: str, environment: pytest.MonkeyPatch
) -> None:
    given = Role(moto_endpoint, made.one("Role", "-host").id).session.get_credentials()
    environment.setenv("AWS_ACCESS_KEY_ID", given.access_key)
    environment.setenv("AWS_SECRET_ACCESS_KEY", given.secret_key)
    environment.setenv("AWS_SESSION_TOKEN", given.token)
    with permissions_enforced(environment), pytest.raises(CloudError, match="may not call DescribeInstances"):
        find_host(stack)


def test_keys_that_aws_does_not_know_are_reported(stack: Stack, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with permissions_enforced(environment), pytest.raises(ConfigurationError, match="does not know these credentials"):
        find_host(stack)


# The choice of the stack


def test_the_only_configured_stack_and_its_region_need_not_be_named(folder: Path) -> None:
    assert choose_stack(None, None, folder) == Stack("cloud", REGION, folder)


def test_an_option_wins_over_the_configuration(folder: Path) -> None:
    assert choose_stack("cloud", "eu-west-1", folder).region == "eu-west-1"


def test_with_two_stacks_a_name_is_required(folder: Path) -> None:
    (folder / "Pulumi.prod.yaml").write_text("config: {}\n")
    with pytest.raises(ConfigurationError, match=r"--stack.*cloud, prod"):
        choose_stack(None, None, folder)


def test_without_any_configuration_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        choose_stack(None, None, tmp_path)
