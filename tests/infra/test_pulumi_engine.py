"""With Pulumi's real engine and a simulated AWS, `pulumi up` keeps the host and its disk, whatever happened to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from engine import CONFIG, INFRA, REGION

ENGINE = os.environ.get("HEALTHPREDICT_TEST_PULUMI", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ENGINE, reason="HEALTHPREDICT_TEST_PULUMI does not name a folder with Pulumi's engine (pulumi.sh)"
    ),
]
_PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
SSH = {
    "sshCidr": "203.0.113.7/32",
    "sshPublicKey": _PUBLIC_KEY.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
}
_SECONDS = 120


class Program:
    """A stack of the program in `infra/`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder / "infra"
        shutil.copytree(INFRA, self._folder, ignore=shutil.ignore_patterns("Pulumi.*.yaml", "__pycache__"))
        # Where Pulumi.yaml says that it is.
        (folder / ".venv").symlink_to(sys.prefix)
        self._environment = environment
        self.pulumi("stack", "init", "test")
        self.ec2 = boto3.client(
            "ec2", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name=REGION,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def pulumi(self, *arguments: str) -> str:
        """Run `pulumi` and return what it printed."""
        ran = subprocess.run(
            ["pulumi", *arguments], cwd=self._folder, env=self._environment, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def up(self, **config: str) -> str:
        """Run `pulumi up` with these settings and return what it printed."""
        for key, value in (CONFIG | config).items():
            self.pulumi("config", "set", key, value)
        self.pulumi("config", "set", "aws:region", REGION)
        return self.pulumi("up", "--yes", "--skip-preview")

    def hosts(self) -> list[dict[str, Any]]:
        """The instances that are not terminated."""
        filters = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        found = self.ec2.describe_instances(Filters=filters)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def host(self) -> dict[str, Any]:
        """The only instance."""
        (host,) = self.hosts()
        return host


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The stack after its first `up`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = {**os.environ, "PULUMI_BASE": str(tmp_path / "engine"), "PULUMI_MOTO_PORT": port}
    script = Path(ENGINE) / "pulumi.sh"
    printed = subprocess.run(
        [str(script), "start", sys.executable], env=own, capture_output=True, text=True, timeout=_SECONDS, check=True
    ).stdout
    try:
        yield _started(tmp_path, own, printed)
    finally:
        subprocess.run([str(script), "stop"], env=own, capture_output=True, timeout=_SECONDS, check=False)


def _started(folder: Path, environment: dict[str, str], exports: str) -> Program:
    for name, value in re.findall(r"(\w+)=(\S+)", exports):
        environment[name] = value.replace("$PATH", os.environ["PATH"])
    environment["PULUMI_CONFIG_PASSPHRASE"] = "test"
    program = Program(folder, environment)
    program.up()
    return program


def test_the_first_up_creates_as_many_resources_as_the_documentation_says(program: Program) -> None:
    resources = json.loads(program.pulumi("stack", "export"))["deployment"]["resources"]
    # Without the provider, which the engine does not count.
    made = [each for each in resources if not each["type"].startswith("pulumi:providers:")]
    assert f'"{len(made)} to create"' in (INFRA / "README.md").read_text()


def test_a_host_that_stopped_for_the_night_stays_after_a_refresh(program: Program) -> None:
    """A stopped host has no public address, so AWS returns other values."""
    before = program.host()["InstanceId"]
    program.ec2.stop_instances(InstanceIds=[before])
    program.pulumi("refresh", "--yes", "--skip-preview")
    program.up()
    assert [host["InstanceId"] for host in program.hosts()] == [before]


def test_the_health_tag_stays_after_a_refresh(program: Program) -> None:
    before = program.host()["InstanceId"]
    tag = {"Key": "HealthPredictHealth", "Value": "ok"}
    program.ec2.create_tags(Resources=[before], Tags=[tag])
    program.pulumi("refresh", "--yes", "--skip-preview")
    program.up()
    assert tag in program.host()["Tags"]
    assert program.host()["InstanceId"] == before


def test_a_later_ssh_key_or_spot_takes_effect_with_the_next_host_and_up_warns(program: Program) -> None:
    before = program.host()["InstanceId"]
    assert "This host has" not in program.up()
    for config, named in ((SSH, "an sshPublicKey"), ({"spot": "true"}, "spot true")):
        printed = program.up(**config)
        assert program.host()["InstanceId"] == before
        assert re.search(rf"This host has .*settings .*{named}.*hostGeneration 2", printed, re.DOTALL)
    # A host of an older release lacks the tag.
    program.ec2.delete_tags(Resources=[before], Tags=[{"Key": "HealthPredictMadeWith"}])
    program.pulumi("refresh", "--yes", "--skip-preview")
    assert "settings of an older release" in program.up()
    printed = program.up(hostGeneration="2")
    (host,) = program.hosts()
    assert host["InstanceId"] != before
    assert host["KeyName"]
    assert "This host has" not in printed
