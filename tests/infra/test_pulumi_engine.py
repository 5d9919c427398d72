"""Daily use of a stack with Pulumi's real engine and a simulated AWS: `up` keeps the host and its disk.

The tests are steps of one story: each uses the stack as the ones before it left it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from policy import document
from pulumi_fixtures import NewProgram
from pulumi_stack import Program, Run
from test_pulumi_settings import SSH

pytestmark = pytest.mark.pulumi
NOTHING = document([{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}])
PAGE = Path(__file__).resolve().parents[2] / "docs/aws.md"


@pytest.fixture(scope="module")
def first(new_program: NewProgram) -> tuple[Program, Run, Run]:
    """The stack, with its preview and its first `up`."""
    program = new_program("prod")
    return program, program.preview(), program.up()


@pytest.fixture
def program(first: tuple[Program, Run, Run]) -> Program:
    """The stack as the test before left it."""
    return first[0]


def test_up_creates_what_the_preview_shows_and_a_second_up_changes_nothing(first: tuple[Program, Run, Run]) -> None:
    program, preview, up = first
    assert sorted(map(str, up.steps)) == sorted(map(str, preview.steps))
    made = program.export()
    assert f"+ {len(made)} to create" in preview.text and f"+ {len(made)} created" in up.text
    again = program.up()
    assert again.steps == []
    assert f"{len(made)} unchanged" in again.text


def test_the_documentation_shows_what_up_prints(first: tuple[Program, Run, Run]) -> None:
    program, _, up = first
    shown = re.search(r"```text\n(Updating \(prod\):.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown
    assert shown[1] == as_documented(up.text, program)


def as_documented(printed: str, program: Program) -> str:
    """What `up` printed, with some of its lines left out, and with ids that are the same in each run."""
    outputs = program.outputs()
    head, _, end = printed.partition("Outputs:")
    lines = [line for line in head.splitlines() if re.search(r"Updating|Instance \S+ created", line)]
    text = "\n".join([lines[0], "...", *lines[1:], "...", f"Outputs:{end}"]).rstrip() + "\n"
    text = text.replace(outputs["instance_id"], "i-0123456789abcdef0")
    text = text.replace(outputs["bucket"], "health-predict-prod-data-1a2b3c4")
    text = re.sub(r" *\n\n(?=Duration)", "\n", text)
    return re.sub(r"(?<=created )\(.*\)|(?<=Duration: ).*", "...", re.sub(r" +\n", "\n", text))


def test_no_secret_is_in_plain_text_in_the_state_or_in_the_output(first: tuple[Program, Run, Run]) -> None:
    program, preview, up = first
    secrets = [each["Value"] for each in parameters(program, "secret")]
    assert len(set(secrets)) >= 7
    plain = preview.text + up.text + program.up().text + json.dumps(program.outputs())
    files = [file.read_text() for file in program.state.rglob("*") if file.is_file()]
    assert sum("health-predict-prod-api-key" in text for text in files) >= 1
    for secret in secrets:
        assert secret not in plain
        assert all(secret not in text for text in files)


def parameters(program: Program, kind: str) -> list[dict[str, str]]:
    """The parameters of a kind, as AWS has them."""
    path = f"/health-predict/{program.stack}/{kind}"
    found: list[dict[str, str]] = program.client("ssm").get_parameters_by_path(Path=path, WithDecryption=True)[
        "Parameters"
    ]
    return found


def test_a_rotated_secret_stays(program: Program) -> None:
    name = "/health-predict/prod/secret/api-key"
    program.client("ssm").put_parameter(Name=name, Value="rotated", Type="SecureString", Overwrite=True)
    program.refresh()
    program.up()
    assert {"rotated"} == {each["Value"] for each in parameters(program, "secret") if each["Name"] == name}


def test_refresh_detects_a_change_by_hand_and_up_repairs_it(program: Program) -> None:
    program.client("iam").put_role_policy(
        RoleName=program.made().one("Role", "-containers").id, PolicyName="data", PolicyDocument=NOTHING
    )
    program.client("cloudwatch").delete_alarms(AlarmNames=["health-predict-prod-system"])
    found = program.refresh()
    # The engine also lists what it asked about and found unchanged.
    assert "health-predict-prod-data updated [diff: ~policy]" in _plain(found.text)
    assert "health-predict-prod-system deleted" in _plain(found.text)
    repaired = program.up()
    assert (repaired.kinds("update"), repaired.kinds("create")) == (["RolePolicy"], ["MetricAlarm"])


def _plain(text: str) -> str:
    """Without the times of the steps."""
    return re.sub(r" \([\d.]+s\) ?", " ", text)


def test_a_host_that_was_terminated_by_hand_is_created_again(program: Program) -> None:
    gone = program.host()["InstanceId"]
    program.client("ec2").terminate_instances(InstanceIds=[gone])
    program.refresh()
    assert program.up().kinds("create") == ["Instance"]
    assert program.host()["InstanceId"] != gone


def test_a_host_that_stopped_for_the_night_or_reported_its_health_stays_after_a_refresh(program: Program) -> None:
    """A stopped host has no public address, so AWS returns other values."""
    before = program.host()["InstanceId"]
    tag = {"Key": "HealthPredictHealth", "Value": "ok"}
    program.client("ec2").stop_instances(InstanceIds=[before])
    program.client("ec2").create_tags(Resources=[before], Tags=[tag])
    program.refresh()
    program.up()
    assert [host["InstanceId"] for host in program.hosts()] == [before]
    assert tag in program.host()["Tags"]


def test_a_later_ssh_key_or_spot_takes_effect_with_the_next_host_and_up_warns(program: Program) -> None:
    before = program.host()["InstanceId"]
    assert "This host has" not in program.up().text
    for config, named in ((SSH, "an sshPublicKey"), ({"spot": "true"}, "spot true")):
        run = program.up(**config)
        assert re.search(rf"This host has .*settings .*{named}.*hostGeneration 2", run.text, re.DOTALL)
        # The alarm can still recover the existing host, which is not a spot instance.
        assert "MetricAlarm" not in run.kinds("update")
    # A host of an older release lacks the tag.
    program.client("ec2").delete_tags(Resources=[before], Tags=[{"Key": "HealthPredictMadeWith"}])
    program.refresh()
    assert "settings of an older release" in program.up().text
    assert program.host()["InstanceId"] == before
    run = program.up(hostGeneration="2")
    assert program.host()["InstanceId"] != before
    assert program.host()["KeyName"]
    assert "This host has" not in run.text
    assert repairs(program) == []


def test_a_spot_host_stays_one_until_the_next_generation_and_up_warns_each_time(program: Program) -> None:
    assert "cloud down" in program.up().text
    for _ in range(2):
        run = program.up(spot="false")
        assert "This host has an sshPublicKey, spot true." in run.text and "cloud down" in run.text
        assert run.steps == []
    run = program.up(hostGeneration="3")
    assert "This host has" not in run.text and "cloud down" not in run.text
    assert repairs(program) == ["arn:aws:automate:us-east-1:ec2:recover"]


def repairs(program: Program) -> list[str]:
    """What the alarm of a failed hardware does, apart from the mail."""
    (alarm,) = program.client("cloudwatch").describe_alarms(AlarmNames=["health-predict-prod-system"])["MetricAlarms"]
    return [action for action in alarm["AlarmActions"] if ":automate:" in action]


def test_ssh_is_open_to_one_address_only_and_closes_again(program: Program) -> None:
    assert [range_["CidrIp"] for rule in inbound(program) for range_ in rule["IpRanges"]] == [SSH["sshCidr"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in inbound(program)] == [(22, 22)]
    program.up(sshCidr=None, sshPublicKey=None)
    assert inbound(program) == []


def inbound(program: Program) -> list[dict[str, object]]:
    """The inbound rules of the host."""
    (interface,) = program.host()["NetworkInterfaces"]
    groups = [group["GroupId"] for group in interface["Groups"]]
    assert groups
    found = program.client("ec2").describe_security_groups(GroupIds=groups)["SecurityGroups"]
    return [rule for group in found for rule in group["IpPermissions"]]
