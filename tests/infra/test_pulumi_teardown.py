"""From `healthpredict cloud up` to `healthpredict cloud down`, with and without keepData. The tests are steps of one story."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from pulumi_fixtures import NewProgram
from pulumi_stack import Program
from typer.testing import CliRunner

from healthpredict.cli.cloud import app
from healthpredict.rollout.ports import free_port

pytestmark = pytest.mark.pulumi
Cloud = Callable[..., Result]
OBJECT = {"Key": "raw/rows.csv", "Body": b"rows"}
# Listens on the local port of a tunnel, as the AWS CLI does.
LISTENER = f"""#!{sys.executable}
import re, socket, sys, time
listening = socket.create_server(("127.0.0.1", int(re.search(r"localPortNumber=(\\d+)", " ".join(sys.argv))[1])))
time.sleep(60)
"""

HEALTHPREDICT = "from healthpredict.cli.main import main; main()"


@pytest.fixture(scope="module")
def program(new_program: NewProgram) -> Program:
    """A stack without resources."""
    program = new_program("story")
    program.configure(keepData="true")
    return program


@pytest.fixture
def cloud(program: Program, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Run `healthpredict cloud`."""
    for name, value in program.environment.items():
        monkeypatch.setenv(name, value)
    return lambda *words: CliRunner().invoke(app, [*words, "--infra", str(program.infra)])


def names_of(program: Program) -> list[str]:
    """The keys of the objects in the stack's bucket, and the tags of its images."""
    bucket = program.outputs()["bucket"]
    # Moto takes the condition of the policy, which requires TLS, as met.
    program.client("s3").delete_bucket_policy(Bucket=bucket)
    objects = program.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    images = program.client("ecr").list_images(repositoryName="health-predict-story")["imageIds"]
    return [each["Key"] for each in objects] + [each["imageTag"] for each in images]


def test_cloud_up_creates_the_stack_and_status_shows_its_host(cloud: Cloud, program: Program) -> None:
    assert cloud("up", "--yes").exit_code == 0
    assert f"host      {program.outputs()['instance_id']} (t3.large), running" in cloud("status").output
    assert names_of(program) == []
    program.client("s3").put_object(Bucket=program.outputs()["bucket"], **OBJECT)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:" + "a" * 64}, "layers": []}
    program.client("ecr").put_image(
        repositoryName="health-predict-story", imageManifest=json.dumps(manifest), imageTag="1"
    )
    assert names_of(program) == ["raw/rows.csv", "1"]


def test_cloud_cost_prints_the_estimate_of_the_stack(cloud: Cloud, program: Program) -> None:
    shown = json.loads(cloud("cost", "--json").output)["estimate"]
    del shown["lines"]
    assert shown == program.outputs()["estimate"]
    assert f"{shown['total']:>7.2f}  USD a month" in cloud("cost").output


def test_the_tunnel_command_in_the_outputs_opens_the_tunnels(program: Program, tmp_path: Path) -> None:
    for name in ("aws", "session-manager-plugin"):
        (tmp_path / name).write_text(LISTENER)
        (tmp_path / name).chmod(0o755)
    command, *words = program.outputs()["tunnel"].split()
    assert command == "healthpredict"
    ports = [f"--{name}={free_port()}" for name in ("prefect", "mlflow", "api")]
    environment = program.environment | {"PATH": f"{tmp_path}:{program.environment['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", HEALTHPREDICT, *words, *ports],
        cwd=program.infra.parent, env=environment, stdout=subprocess.PIPE, text=True,
    ) as tunnel:  # fmt: skip
        assert tunnel.stdout is not None
        assert program.outputs()["instance_id"] in tunnel.stdout.readline()
        tunnel.send_signal(signal.SIGINT)
        shown, _ = tunnel.communicate(timeout=30)
    assert tunnel.returncode == 0
    assert shown.endswith("Closed.\n")


def test_cloud_down_leaves_only_bucket_and_images_with_keepdata(cloud: Cloud, program: Program) -> None:
    bucket = program.outputs()["bucket"]
    down = cloud("down", "--yes")
    assert down.exit_code == 1
    assert re.findall("left: (.*)", down.output) == [f"bucket {bucket}", "repository health-predict-story"]


def test_up_creates_no_second_bucket_beside_the_kept_one(cloud: Cloud, program: Program) -> None:
    refused = cloud("up", "--yes")
    assert "pulumi config set adoptBucket health-predict-story-data-" in str(refused.exception)
    # Without `healthpredict`, AWS refuses the repository before there is a bucket.
    run = program.up(fails=True)
    assert "RepositoryAlreadyExistsException" in run.text
    assert "Bucket" not in run.kinds("create")
    (_,) = kept_buckets(program)


def kept_buckets(program: Program) -> list[str]:
    """The stack's buckets in AWS."""
    names = [each["Name"] for each in program.client("s3").list_buckets()["Buckets"]]
    return [name for name in names if name.startswith("health-predict-story-")]


def test_a_bucket_that_does_not_exist_is_not_adopted(program: Program) -> None:
    run = program.up(fails=True, preview=True, adoptBucket="health-predict-story-data-0000000")
    assert "resource 'health-predict-story-data-0000000' does not exist" in run.text


def test_the_kept_bucket_and_repository_are_adopted_with_their_content(cloud: Cloud, program: Program) -> None:
    (bucket,) = kept_buckets(program)
    program.configure(keepData="false", adoptBucket=bucket)
    assert cloud("up", "--yes").exit_code == 0
    assert program.outputs()["bucket"] == bucket
    assert names_of(program) == ["raw/rows.csv", "1"]
    # Adopted, they are kept until adoptBucket is removed, and then they belong to the stack.
    assert {each["retainOnDelete"] for each in state_of_data(program)} == {True}
    run = program.up(adoptBucket=None)
    assert (run.kinds("update"), run.kinds("replace")) == (["Bucket", "Repository"], [])
    assert program.outputs()["bucket"] == bucket
    assert names_of(program) == ["raw/rows.csv", "1"]


def state_of_data(program: Program) -> list[dict[str, bool]]:
    """Bucket and repository in the state."""
    return [each for each in program.export() if re.search(":(Bucket|Repository)$", each["type"])]


def test_cloud_down_deletes_bucket_and_images_with_their_content_and_nothing_is_left(
    cloud: Cloud, program: Program, tmp_path: Path
) -> None:
    before = tmp_path / "before.json"
    program.pulumi("stack", "export", "--file", str(before))
    down = cloud("down", "--yes")
    assert (down.exit_code, down.output) == (0, "Nothing of story is left.\n")
    assert cloud("down", "--check").exit_code == 0
    assert program.export() == []
    # With the earlier state, a refresh asks AWS for each resource.
    program.pulumi("stack", "import", "--file", str(before))
    made = aws_resources(program)
    assert len(made) > 50
    assert program.refresh().text.count(" deleted ") == len(made)
    assert aws_resources(program) == []


def aws_resources(program: Program) -> list[str]:
    """The resources of AWS in the state."""
    return [each["urn"] for each in program.export() if each["type"].startswith("aws:")]
