"""Run the program with Pulumi's real engine on a moto server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from as_role import OWNER, owner
from engine import ACCOUNT, CONFIG, INFRA, PROJECT, REGION, STACK, Resource, Stack

FOLDER = os.environ.get("HEALTHPREDICT_TEST_PULUMI", "")
WHY_NOT = "HEALTHPREDICT_TEST_PULUMI does not name a folder with Pulumi's engine (pulumi.sh)"
CANONICAL = "099720109477"
UBUNTU = {
    "ami_id": "ami-0a1b2c3d4e5f60718",
    "name": "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260101",
}
_SECONDS = 300


def unpack_engine(folder: Path) -> dict[str, str]:
    """Unpack the engine into a folder. Returns: the environment that runs it."""
    if not FOLDER:
        pytest.skip(WHY_NOT)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    printed = subprocess.run(
        [f"{FOLDER}/pulumi.sh", "env", sys.executable], env={**environment, "PULUMI_BASE": str(folder)},
        capture_output=True, text=True, timeout=_SECONDS, check=True,
    ).stdout  # fmt: skip
    for name, value in re.findall(r"(\w+)=(\S+)", printed):
        environment[name] = value.replace("$PATH", os.environ["PATH"])
    # PULUMI_DEBUG_COMMANDS makes the option --event-log available.
    return environment | {"PULUMI_CONFIG_PASSPHRASE": "test", "PULUMI_DEBUG_COMMANDS": "true"}


@contextmanager
def provider(
    environment: dict[str, str], endpoint: str, credentials: dict[str, str] = OWNER
) -> Iterator[dict[str, str]]:
    """Start the AWS provider once for many commands. Yields: the environment that uses it."""
    environment = environment | {"AWS_ENDPOINT_URL": endpoint} | credentials
    script = [sys.executable, str(Path(__file__).with_name("aws_provider.py"))]
    with subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield environment | {"PULUMI_DEBUG_PROVIDERS": f"aws:{int(process.stdout.readline())}"}
        finally:
            process.terminate()


def offer_ubuntu() -> None:
    """Add Canonical's image to moto's account. Moto runs in this process."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami

    backend = ec2_backends[ACCOUNT][REGION]
    backend.amis[UBUNTU["ami_id"]] = Ami(
        backend, **UBUNTU, owner_id=CANONICAL, public=True, architecture="x86_64", virtualization_type="hvm"
    )


@dataclass(frozen=True)
class Step:
    """What the engine did to one resource."""

    operation: str
    kind: str
    name: str
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A run of `pulumi`: what it printed, and its steps without those that change nothing."""

    text: str
    steps: list[Step]

    def kinds(self, operation: str) -> list[str]:
        """The kinds of the resources with this operation, in alphabetical order."""
        return sorted(step.kind for step in self.steps if step.operation == operation)


class Program:
    """A stack of the program in `infra/`, in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], stack: str = STACK) -> None:
        self.stack = stack
        self.infra = folder / "infra"
        self.environment = environment | {"PULUMI_BACKEND_URL": f"file://{folder / 'state'}"}
        self.state = folder / "state"
        self.state.mkdir(parents=True)
        shutil.copytree(INFRA, self.infra, ignore=shutil.ignore_patterns("Pulumi.*.yaml", "__pycache__"))
        # Where Pulumi.yaml says that it is.
        (folder / ".venv").symlink_to(sys.prefix)
        self.region = REGION
        self._settings: dict[str, str | None] = {}
        self.pulumi("stack", "init", stack)
        self.configure()

    @property
    def file(self) -> Path:
        """The configuration of the stack."""
        return self.infra / f"Pulumi.{self.stack}.yaml"

    def configure(self, **settings: str | None) -> None:
        """Change settings. None removes one."""
        self._settings |= settings
        values = {key: value for key, value in {**CONFIG, **self._settings}.items() if value is not None}
        config = {f"{PROJECT}:{key}": value for key, value in values.items()}
        written = yaml.safe_load(self.file.read_text()) if self.file.exists() else {}
        self.file.write_text(yaml.safe_dump({**written, "config": {"aws:region": self.region, **config}}))

    def command(self, *words: str) -> list[str]:
        """The command line of `pulumi`, without questions."""
        return ["pulumi", "--non-interactive", "--color", "never", *words]

    def pulumi(self, *words: str, fails: bool = False) -> str:
        """Run `pulumi` and return what it printed."""
        ran = subprocess.run(
            self.command(*words), cwd=self.infra, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert (ran.returncode != 0) is fails, ran.stdout
        if fails:
            assert "Traceback" not in ran.stdout and "unhandled" not in ran.stdout, ran.stdout
        return ran.stdout

    def up(self, *, fails: bool = False, preview: bool = False, **settings: str | None) -> Run:
        """Run `pulumi up` after a change of settings."""
        self.configure(**settings)
        return self._run("up", "--yes", *([] if preview else ["--skip-preview"]), fails=fails)

    def preview(self, *, fails: bool = False, **settings: str | None) -> Run:
        """Run `pulumi preview` after a change of settings."""
        self.configure(**settings)
        return self._run("preview", fails=fails)

    def refresh(self) -> Run:
        """Run `pulumi refresh`."""
        return self._run("refresh", "--yes", "--skip-preview")

    def destroy(self, *, fails: bool = False) -> Run:
        """Run `pulumi destroy`."""
        return self._run("destroy", "--yes", "--skip-preview", fails=fails)

    def _run(self, *words: str, fails: bool = False) -> Run:
        log = self.infra.parent / "events"
        log.unlink(missing_ok=True)
        text = self.pulumi(*words, "--event-log", str(log), fails=fails)
        return Run(text, list(_steps(log)))

    def export(self) -> list[dict[str, Any]]:
        """The resources in the state, with readable secrets."""
        shown = json.loads(self.pulumi("stack", "export", "--show-secrets"))["deployment"].get("resources", [])
        return [each for each in shown if not each["type"].startswith("pulumi:providers:")]

    def state_files(self) -> dict[str, str]:
        """The files of the state, by path."""
        return {str(file): file.read_text() for file in sorted(self.state.rglob("*.json"))}

    def outputs(self) -> dict[str, Any]:
        """The outputs of the stack."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json"))
        return found

    def made(self) -> Stack:
        """The stack in the form of the runs with mocks."""
        resources = [
            Resource(each["type"], each["urn"].rpartition("::")[2], _opened(each.get("inputs", {})), each.get("id", ""))
            for each in self.export()
        ]
        return Stack(resources, outputs=self.outputs())

    def client(self, service: str) -> Any:
        """A client of the account's owner."""
        return owner(self.environment["AWS_ENDPOINT_URL"], service)

    def hosts(self) -> list[dict[str, Any]]:
        """The instances of the stack that are not terminated."""
        states = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
        filters = [states, {"Name": "tag:Stack", "Values": [self.stack]}]
        found = self.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def host(self) -> dict[str, Any]:
        """The only instance."""
        (host,) = self.hosts()
        return host


def without_conditions(program: Program) -> Stack:
    """Remove the conditions of the stack's policies from moto, which would deny what they allow. Other tests cover them."""
    made = program.made()
    program.client("s3").delete_bucket_policy(Bucket=made.one("Bucket").id)
    for each in made.all("RolePolicy"):
        policy = json.loads(each.inputs["policy"])
        for statement in policy["Statement"]:
            statement.pop("Condition", None)
        program.client("iam").put_role_policy(
            RoleName=each.inputs["role"], PolicyName=each.inputs["name"], PolicyDocument=json.dumps(policy)
        )
    return made


def _steps(log: Path) -> Iterator[Step]:
    for line in log.read_text().splitlines() if log.exists() else []:
        event = json.loads(line)
        # A refresh reports what it found only after the step.
        for name in ("resourcePreEvent", "resOutputsEvent"):
            if name in event and (name == "resOutputsEvent") is (event[name]["metadata"]["op"] == "refresh"):
                step = event[name]["metadata"]
                if step["op"] not in {"same", "read"}:
                    _, _, kind, resource = step["urn"].split("::", 3)
                    changed = tuple(sorted(step.get("detailedDiff") or step.get("diffs") or ()))
                    yield Step(step["op"], kind.rpartition(":")[2], resource, changed)


def _opened(value: Any) -> Any:
    """Unwrap secrets, which the export shows as JSON within an envelope."""
    if isinstance(value, dict):
        if "plaintext" in value:
            return json.loads(value["plaintext"])
        return {key: _opened(item) for key, item in value.items() if not key.startswith("__")}
    return [_opened(item) for item in value] if isinstance(value, list) else value
