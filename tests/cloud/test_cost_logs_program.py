"""Cost, logs and Pulumi, with moto, the program's own estimate, and a stand-in for pulumi."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from engine import Stack as Made
from typer.testing import CliRunner

from healthpredict.cli.cloud import app
from healthpredict.cloud import cost as cost_module
from healthpredict.cloud import logs as logs_module
from healthpredict.cloud.account import Stack
from healthpredict.cloud.cost import estimate, read_actual
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import find_host
from healthpredict.cloud.leftovers import find_leftovers
from healthpredict.cloud.logs import HostLog, read_logs
from healthpredict.cloud.program import bring_up, take_down
from healthpredict.cloud.spot import spot_requests
from healthpredict.errors import ConfigurationError

Program = Callable[[str, str], Path]
# Its state has the bucket and the repository.
NOTES = """#!/bin/sh
echo "$@" >>$LOG
echo '{"deployment": {"resources": [{"type": "aws:s3/bucket:Bucket"}, {"type": "aws:ecr/repository:Repository"}]}}'
"""


# Cost


def test_the_estimate_is_that_of_the_program(stack: Stack, made: Made) -> None:
    assert estimate(stack).model_dump(exclude={"lines"}) == made.outputs["estimate"]


def test_the_estimate_follows_the_configuration(stack: Stack) -> None:
    file = stack.folder / f"Pulumi.{stack.name}.yaml"
    before = estimate(stack).total
    file.write_text(file.read_text() + "  health-predict:spot: true\n")
    assert estimate(stack).total < before


def test_a_wrong_setting_is_named(stack: Stack) -> None:
    file = stack.folder / f"Pulumi.{stack.name}.yaml"
    file.write_text(file.read_text() + "  health-predict:stopTime: midnight\n")
    with pytest.raises(ConfigurationError, match="stopTime"):
        estimate(stack)


def test_without_the_program_the_message_names_the_option_for_its_folder(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--infra"):
        estimate(replace(stack, folder=tmp_path))


@pytest.fixture
def explorer(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the Cost Explorer that records its requests. Moto would accept requests that AWS refuses."""
    asked: list[dict[str, Any]] = []

    class Explorer:
        def get_cost_and_usage(self, **question: Any) -> dict[str, Any]:
            asked.append(question)
            return {"ResultsByTime": [{"Total": {"UnblendedCost": {"Amount": "12.344", "Unit": "USD"}}}]}

    monkeypatch.setattr(cost_module, "client", lambda stack, service: Explorer())
    return asked


@pytest.mark.parametrize(
    ("now", "start", "end"), [((2026, 11, 24), "2026-11-01", "2026-11-25"), ((2026, 12, 1), "2026-12-01", "2026-12-02")]
)
def test_the_actual_cost_is_that_of_this_stack_since_the_first_of_the_month(
    stack: Stack, explorer: list[dict[str, Any]], now: tuple[int, int, int], start: str, end: str
) -> None:
    actual = read_actual(stack, datetime(*now, tzinfo=UTC))
    assert actual.usd == 12.34
    assert explorer[0]["TimePeriod"] == {"Start": start, "End": end}
    assert explorer[0]["Filter"]["Tags"]["Key"] == "Stack"
    assert explorer[0]["Filter"]["Tags"]["Values"] == [stack.name]


def test_the_cost_explorer_is_asked_through_boto3(stack: Stack) -> None:
    assert read_actual(stack).usd == 0


def test_the_cost_is_printed_with_the_date_of_its_prices_and_the_explorer_is_not_asked_unless_wanted(
    stack: Stack, explorer: list[dict[str, Any]]
) -> None:
    options = ["--infra", str(stack.folder)]
    shown = CliRunner().invoke(app, ["cost", *options]).output
    month = estimate(stack)
    assert f"{month.total:.2f}" in shown and month.as_of in shown and "if the host is never stopped" in shown
    assert explorer == []
    assert "counted by AWS" in CliRunner().invoke(app, ["cost", "--actual", *options]).output
    assert json.loads(CliRunner().invoke(app, ["cost", "--json", *options]).output)["actual"] is None


# Logs


@pytest.fixture
def running(stack: Stack) -> None:
    boto3.client("ec2").start_instances(InstanceIds=[find_host(stack).instance])


def sent_command(stack: Stack) -> str:
    """The newest command sent to the host."""
    commands = boto3.client("ssm").list_commands(InstanceId=find_host(stack).instance)["Commands"]
    newest: str = commands[-1]["Parameters"]["commands"][0]
    return newest


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (HostLog.ALL, "journalctl --no-pager --lines 7 --unit 'health-predict-*'"),
        (HostLog.STACK, "journalctl --no-pager --lines 7 --unit 'health-predict-stack.service'"),
        (HostLog.CLOUD_INIT, "tail -n 7 /var/log/cloud-init-output.log"),
        (
            HostLog.MLFLOW,
            "docker ps --all --quiet --filter label=com.docker.compose.service=mlflow"
            " | xargs --no-run-if-empty -n 1 docker logs --tail 7 2>&1",
        ),
    ],
)
def test_a_log_is_read_from_its_end(stack: Stack, running: None, source: HostLog, command: str) -> None:
    read_logs(stack, source, 7)
    assert sent_command(stack) == command


def test_every_unit_with_a_readable_log_exists() -> None:
    units = Path(__file__).parents[2] / "infra/host/root/etc/systemd/system"
    others = logs_module._CONTAINERS | {HostLog.ALL, HostLog.CLOUD_INIT}
    assert all((units / f"health-predict-{each}.service").exists() for each in set(HostLog) - others)


def test_only_known_names_of_logs_reach_the_shell_of_the_host(stack: Stack) -> None:
    shown = CliRunner().invoke(app, ["logs", "stack; reboot", "--infra", str(stack.folder)])
    assert shown.exit_code == 2


def test_logs_of_a_stopped_host_are_refused_with_the_reason(stack: Stack) -> None:
    boto3.client("ec2").stop_instances(InstanceIds=[find_host(stack).instance])
    with pytest.raises(CloudError, match="stopped"):
        read_logs(stack)


class Answers:
    """A Session Manager that gives these responses one after another."""

    class exceptions:  # noqa: N801
        class InvocationDoesNotExist(Exception):
            pass

    def __init__(self, *answers: dict[str, str] | type[Exception]) -> None:
        self._answers = list(answers)

    def send_command(self, **_: Any) -> dict[str, Any]:
        return {"Command": {"CommandId": "1"}}

    def get_command_invocation(self, **_: Any) -> dict[str, str]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, dict):
            return answer
        raise answer


def test_a_command_in_progress_is_waited_for(stack: Stack, running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"Status": "Success", "StandardOutputContent": "the end"}
    ssm = Answers(Answers.exceptions.InvocationDoesNotExist, {"Status": "InProgress"}, done)
    monkeypatch.setattr(logs_module, "client", lambda stack, service: ssm)
    monkeypatch.setattr(logs_module, "_POLL_SECONDS", 0)
    assert read_logs(stack) == "the end"


def test_a_host_that_does_not_respond_and_a_failed_command_are_errors(
    stack: Stack, running: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "_TIMEOUT_SECONDS", 0)
    monkeypatch.setattr(logs_module, "client", lambda stack, service: Answers({"Status": "Pending"}))
    with pytest.raises(CloudError, match="did not respond"):
        read_logs(stack)
    failed = {"Status": "Failed", "StandardErrorContent": "no journal"}
    monkeypatch.setattr(logs_module, "client", lambda stack, service: Answers(failed))
    with pytest.raises(CloudError, match="no journal"):
        read_logs(stack)


# Up and down


def test_up_selects_the_stack_with_a_passphrase_and_runs_pulumi(stack: Stack, program: Program) -> None:
    log = program("pulumi", NOTES)
    bring_up(stack)
    assert log.read_text().splitlines() == [
        f"--cwd {stack.folder} stack select --create --secrets-provider passphrase cloud",
        f"--cwd {stack.folder} stack export --stack cloud",
        f"--cwd {stack.folder} up --stack cloud",
    ]


@pytest.mark.parametrize(
    ("own", "advice"),
    [
        ("", "pulumi config set adoptBucket health-predict-cloud-data-"),
        ('{"type": "aws:s3/bucket:Bucket"}', "left the repository health-predict-cloud. Delete it"),
    ],
)
def test_up_does_not_create_a_second_bucket_beside_a_kept_one(
    stack: Stack, program: Program, own: str, advice: str
) -> None:
    state = f'{{"deployment": {{"resources": [{own}]}}}}'
    log = program("pulumi", f"#!/bin/sh\necho \"$@\" >>$LOG\necho '{state}'\n")
    with pytest.raises(ConfigurationError, match=advice):
        bring_up(stack)
    assert " up " not in log.read_text()
    # It says what to do, and that is then accepted. A comment is not.
    file = stack.folder / f"Pulumi.{stack.name}.yaml"
    file.write_text(file.read_text() + "  # health-predict:adoptBucket: health-predict-cloud-data-1a2b3c4\n")
    with pytest.raises(ConfigurationError, match=advice):
        bring_up(stack)
    file.write_text(file.read_text() + "  health-predict:adoptBucket: health-predict-cloud-data-1a2b3c4\n")
    bring_up(stack)
    assert log.read_text().splitlines()[-1].endswith("up --stack cloud")


def test_pulumi_asks_for_confirmation_unless_it_is_given(stack: Stack, program: Program) -> None:
    log = program("pulumi", NOTES)
    bring_up(stack, confirmed=True)
    assert log.read_text().splitlines()[-1].endswith("up --stack cloud --yes")


def test_up_without_a_configuration_names_the_missing_file(stack: Stack, program: Program) -> None:
    program("pulumi", NOTES)
    with pytest.raises(ConfigurationError, match=r"Pulumi\.new\.yaml"):
        bring_up(replace(stack, name="new"))


@pytest.mark.parametrize("operation", [bring_up, take_down])
def test_without_pulumi_the_message_says_where_to_get_it(
    stack: Stack, operation: Callable[[Stack], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="pulumi is not installed"):
        operation(stack)


def test_a_failure_of_pulumi_is_reported(stack: Stack, program: Program) -> None:
    program("pulumi", "#!/bin/sh\nexit 255\n")
    with pytest.raises(CloudError, match="255"):
        bring_up(stack)


def test_down_requires_the_name_of_the_stack(stack: Stack, program: Program) -> None:
    log = program("pulumi", NOTES)
    refused = CliRunner().invoke(app, ["down", "--infra", str(stack.folder)], input="yes\n")
    assert refused.exit_code == 1
    assert "Nothing was done" in refused.output
    assert not log.exists()


def test_down_names_what_is_left(stack: Stack, program: Program) -> None:
    log = program("pulumi", NOTES)
    shown = CliRunner().invoke(app, ["down", "--infra", str(stack.folder)], input="cloud\n")
    assert log.read_text().splitlines() == [f"--cwd {stack.folder} destroy --stack cloud"]
    # The stand-in destroys nothing.
    assert shown.exit_code == 1
    assert f"left: instance {find_host(stack).instance}" in shown.output


def test_the_check_destroys_nothing(stack: Stack, program: Program) -> None:
    log = program("pulumi", NOTES)
    gone = CliRunner().invoke(app, ["down", "--check", "--infra", str(stack.folder), "--stack", "never-was"])
    assert (gone.exit_code, gone.output) == (0, "Nothing of never-was is left.\n")
    assert not log.exists()


# The types that the search for leftovers must find. AWS deletes the others together with their owners.
GOES_WITH_ITS_OWNER = {
    "BucketLifecycleConfiguration",
    "BucketOwnershipControls",
    "BucketPolicy",
    "BucketPublicAccessBlock",
    "BucketServerSideEncryptionConfiguration",
    "BucketVersioning",
    "InternetGateway",
    "LifecyclePolicy",
    "RolePolicy",
    "Route",
    "RouteTable",
    "RouteTableAssociation",
    "Schedule",
    "SecurityGroupEgressRule",
    "Subnet",
    "TopicPolicy",
    "TopicSubscription",
    "VpcEndpoint",
}
FOUND_AS = {
    "Bucket": "bucket",
    "Budget": "budget",
    "DefaultSecurityGroup": "security group",
    "Instance": "instance",
    "InstanceProfile": "instance profile",
    "MetricAlarm": "alarm",
    "Parameter": "parameter",
    "Repository": "repository",
    "Role": "role",
    "ScheduleGroup": "schedules",
    "SecurityGroup": "security group",
    "Topic": "topic",
    "Vpc": "network",
}


def test_everything_that_the_program_creates_is_found_while_it_exists(stack: Stack, made: Made) -> None:
    found = find_leftovers(stack)
    kinds = {each.kind for each in made.resources if each.type.startswith("aws:") and each.name != "call"}
    assert kinds == GOES_WITH_ITS_OWNER | set(FOUND_AS)
    assert {each.kind for each in found} == {*FOUND_AS.values(), "disk"}
    names = {each.name for each in found}
    for kind in ("Instance", "Bucket", "Vpc", "Role", "Parameter"):
        assert {each.id for each in made.all(kind)} <= names


def test_resources_of_another_stack_are_not_found(stack: Stack) -> None:
    # Its name starts with `cloud`.
    assert find_leftovers(replace(stack, name="clou")) == []
    assert find_leftovers(replace(stack, name="cloud-2")) == []


def test_down_cancels_spot_requests_which_would_start_the_host_again(stack: Stack, program: Program) -> None:
    ec2 = boto3.client("ec2")
    image = ec2.describe_images(Owners=["099720109477"])["Images"][0]["ImageId"]
    spot = replace(stack, name="spot")
    wanted = {"ImageId": image, "InstanceType": "t3.large"}
    ours, theirs = (
        ec2.request_spot_instances(LaunchSpecification=wanted, Type="persistent")["SpotInstanceRequests"][0]
        for _ in range(2)
    )
    tags = [{"Key": "Project", "Value": "health-predict"}, {"Key": "Stack", "Value": "spot"}]
    ec2.create_tags(Resources=[ours["InstanceId"]], Tags=tags)
    assert spot_requests(spot) == [ours["SpotInstanceRequestId"]]
    log = program("pulumi", NOTES)
    take_down(spot)
    assert log.read_text().splitlines() == [f"--cwd {stack.folder} destroy --stack spot"]
    assert spot_requests(spot) == []
    left = ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert [each["SpotInstanceRequestId"] for each in left] == [theirs["SpotInstanceRequestId"]]
