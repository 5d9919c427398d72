"""The rehearsed host: a container with systemd as PID 1 and a disk of its own, beside a simulated AWS."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from engine import CONFIG
from pulumi_stack import Program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAME = "health-predict-rehearsal"
"""Of the container, its images and the volume with its disk."""
UNITS = (
    "cloud-final",
    "docker",
    *(
        f"health-predict-{name}"
        for name in ("tools", "secrets", "limit", "credentials", "minikube", "stack", "deployments", "health")
    ),
)
"""Whose times are reported."""
HEALTH_TAG = "HealthPredictHealth"
BASE_IMAGES = ("python:3.11-slim-bookworm", "postgres:15-bookworm")
STAND_INS = {
    "EC2": "a container with Debian 13 in place of Ubuntu 24.04, systemd as PID 1, a disk of 24 GB in a file; no swap",
    "AWS": "moto, with the stack that the Pulumi program created there; user data by cloud-init's NoCloud",
    "minikube": "tests/host/minikube, a container that responds like a ready API; the download needs the internet",
    "kubectl": "tests/host/kubectl; install-tools has the digests of these two files",
    "Docker Hub": f"{' and '.join(BASE_IMAGES)} of this machine's engine",
    "GitHub": "a clone of this repository; the last commit, and one on top of it",
    "docker-compose-v2": "Debian's docker-compose, the same program in another package",
    "images": "built before the first boot; the host builds them again, from the cache",
}
"""What the rehearsal has in place of the real thing."""
# Equivalent to --privileged, minus a capability that root may lack.
_OPTIONS = (
    "--cgroupns=private", "--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--device-cgroup-rule=a *:* rwm",
    *(f"--security-opt={word}=unconfined" for word in ("systempaths", "seccomp", "apparmor")),
    "--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec", f"--volume={NAME}:/disk",
)  # fmt: skip
_SECONDS = 900


def docker(*words: str, stdin: Any = None, check: bool = True, seconds: float = _SECONDS) -> str:
    """Run docker and return its output, also as the message of a failure."""
    done = subprocess.run(
        ["docker", *words], stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout.strip()


def gateway() -> str:
    """This machine's address in the network of the container."""
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge")


class Repository:
    """A clone of this repository, from which the host fetches its source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
        # As GitHub does, it gives out any commit that it has.
        self._git("config", "uploadpack.allowAnySHA1InWant", "true")
        self.commit = self._git("rev-parse", "HEAD")

    def add_commit(self) -> str:
        """Commit a change of a file that is in the workers' image. Returns: the commit."""
        with (self.folder / "prefect.yaml").open("a") as file:
            file.write("# The next version.\n")
        identity = ("-c", "user.name=rehearsal", "-c", "user.email=rehearsal@example.org")
        self._git(*identity, "commit", "--quiet", "--all", "--message", "The next version")
        self.commit = self._git("rev-parse", "HEAD")
        return self.commit

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def build_images(repository: Repository) -> None:
    """Make the images of the host, an empty disk, and the stack's images on it. Builds of an earlier rehearsal are used again."""
    for target in ("host", "engine"):
        docker("build", "--quiet", "--target", target, "--tag", f"{NAME}/{target}", str(HERE))
    docker("rm", "--force", "--volumes", NAME, check=False)
    with _container("engine", f"--volume={repository.folder}:/srv/repository:ro", command=["dockerd"]):
        runs = ("exec", NAME, "docker", "info")
        _until(lambda: "Server Version" in docker(*runs, check=False), _SECONDS, "Docker in the container")
        docker("exec", NAME, "sh", "-c", "docker ps --all --quiet | xargs -r docker rm --force --volumes")
        docker("exec", NAME, "sh", "-c", "docker volume prune --all --force; docker network prune --force")
        there = docker("exec", NAME, "docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
        if missing := set(BASE_IMAGES) - set(there):
            with subprocess.Popen(["docker", "save", *missing], stdout=subprocess.PIPE) as saved:
                docker("exec", "--interactive", NAME, "docker", "load", stdin=saved.stdout)
        docker("exec", NAME, "git", "clone", "--quiet", CONFIG["sourceRepository"], "/tmp/source")
        docker("exec", "--workdir=/tmp/source", f"--env=HEALTHPREDICT_GIT_COMMIT={repository.commit}", NAME,
               "docker", "compose", "--file=docker-compose/compose.yaml", "build")  # fmt: skip
        # A clean stop, so that the disk has everything.
        docker("stop", "--time=60", NAME)


@contextmanager
def _container(target: str, *options: str, command: list[str]) -> Iterator[None]:
    docker("run", "--detach", f"--name={NAME}", f"--hostname={NAME}", *_OPTIONS, *options, f"{NAME}/{target}", *command)
    try:
        yield
    finally:
        docker("rm", "--force", "--volumes", NAME, check=False)


def with_stand_ins(user_data: str) -> str:
    """User data whose install-tools takes the stand-ins, by their digests, and is unchanged otherwise."""
    config = yaml.safe_load(user_data)
    (script,) = [file for file in config["write_files"] if file["path"].endswith("/install-tools")]
    text = gzip.decompress(base64.b64decode(script["content"])).decode()
    for name in ("kubectl", "minikube"):
        digest = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
        text, found = re.subn(rf"(install_tool {name}) [0-9a-f]{{64}}", rf"\1 {digest}", text)
        text, sources = re.subn(rf"({name.upper()}_FROM:-)[^}}]+", rf"\1file:///opt/rehearsal/{name}", text)
        assert (found, sources) == (1, 1)
    script["content"] = base64.b64encode(gzip.compress(text.encode())).decode()
    return "#cloud-config\n" + yaml.safe_dump(config)


@dataclass
class Boot:
    """A start of the host: seconds until the awaited report, and of its units."""

    name: str
    seconds: float
    units: dict[str, float]


@dataclass
class Machine:
    """The host of a stack."""

    program: Program
    boots: list[Boot] = field(default_factory=list)

    # Power

    def start(self) -> float:
        """Start it, as EC2 does. Returns: when."""
        self.program.client("ec2").delete_tags(Resources=[self._instance], Tags=[{"Key": HEALTH_TAG}])
        began = time.monotonic()
        docker("start", NAME)
        return began

    def wait_until_off(self, seconds: float = _SECONDS) -> None:
        """Wait until systemd has stopped everything."""
        docker("wait", NAME, seconds=seconds)

    def stop(self) -> None:
        """Stop it as EC2 does: it presses the power button."""
        docker("stop", "--time=200", NAME)

    def wait_for_report(self, wanted: str, name: str, began: float) -> None:
        """Wait for a report that matches a pattern, and record the boot under a name."""
        self.wait_until(lambda: bool(re.fullmatch(wanted, self.report())), f"report {wanted}, after {name}")
        self.boots.append(Boot(name, time.monotonic() - began, self._times()))

    # AWS

    @property
    def _instance(self) -> str:
        return str(self.program.host()["InstanceId"])

    def report(self) -> str:
        """The last report of its health, or nothing."""
        tags = {tag["Key"]: tag["Value"] for tag in self.program.host()["Tags"]}
        return str(tags.get(HEALTH_TAG, ""))

    def new_report(self) -> str:
        """Let it report now."""
        self.run("systemctl", "start", "health-predict-health.service")
        return self.report()

    def wait_for_new_report(self, wanted: str) -> None:
        """Let it report again and again, until a report matches a pattern."""
        self.wait_until(lambda: bool(re.fullmatch(wanted, self.new_report())), f"report {wanted}")

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
        """Wait for something. If it does not come, the failure shows what a person would look at."""
        _until(holds, seconds, what, self.explain)

    @contextmanager
    def without_aws(self) -> Iterator[None]:
        """Let AWS refuse all connections."""
        rule = (
            "OUTPUT",
            "--destination",
            gateway(),
            "--protocol",
            "tcp",
            "--jump",
            "REJECT",
            "--reject-with=tcp-reset",
        )
        self.run("iptables", "--insert", *rule)
        try:
            yield
        finally:
            self.run("iptables", "--delete", *rule)

    # Commands

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command on it, as root."""
        return docker("exec", NAME, *words, check=check)

    def shell(self, script: str, check: bool = True) -> str:
        """Run a line of bash on it, as root."""
        return self.run("bash", "-c", script, check=check)

    def prefect(self, *words: str) -> str:
        """A command of Prefect in the worker."""
        return self.run("docker", "exec", "health-predict-prefect-worker-1", "prefect", *words)

    def shutdown_due(self) -> datetime | None:
        """When it will shut down, or None."""
        scheduled = self.run("cat", "/run/systemd/shutdown/scheduled", check=False)
        found = re.search(r"USEC=(\d+)", scheduled)
        return datetime.fromtimestamp(int(found[1]) / 1e6, UTC) if found else None

    def postgres_was_stopped_cleanly(self) -> bool:
        """Whether Postgres found a clean shutdown when it started the last time."""
        log = self.run("docker", "logs", "health-predict-postgres-1")
        return re.findall(r"database system was (shut down|interrupted)", log)[-1] == "shut down"

    def started(self) -> str:
        """When each service was started the last time."""
        inspect = "docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps --quiet --filter name=health-predict-)"
        return self.shell(inspect)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def explain(self) -> str:
        """What a person would look at."""
        return "\n".join(
            [
                self.report(),
                self.run("systemctl", "list-units", "--all", "health-predict*", "--no-pager", "--plain", check=False),
                self.run("systemctl", "list-jobs", "--no-pager", check=False),
                self.run("docker", "ps", "--all", check=False),
                self.shell("journalctl --boot --no-pager --unit 'health-predict*' | tail -n 60", check=False),
                self.shell("tail -n 30 /var/log/cloud-init-output.log", check=False),
            ]
        )

    def _times(self) -> dict[str, float]:
        moments = ("InactiveExit", "ActiveEnter", "InactiveEnter")
        names = ",".join(["Id", "ActiveState", *(f"{moment}TimestampMonotonic" for moment in moments)])
        shown = self.run("systemctl", "show", f"--property={names}", *(f"{unit}.service" for unit in UNITS))
        found = {}
        for block in shown.split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines())
            began, active, inactive = (int(unit[f"{moment}TimestampMonotonic"]) / 1e6 for moment in moments)
            ended = active if unit["ActiveState"] == "active" else inactive
            if ended >= began > 0:
                found[unit["Id"].removesuffix(".service")] = ended - began
        return found


@contextmanager
def new_machine(program: Program, repository: Repository, endpoint: str, folder: Path) -> Iterator[Machine]:
    """Create the host, switched off."""
    user_data = program.made().one("Instance").inputs["userData"]
    (folder / "user-data").write_text(with_stand_ins(user_data))
    (folder / "meta-data").write_text(f"instance-id: {program.host()['InstanceId']}\n")
    docker(
        "create", f"--name={NAME}", f"--hostname={NAME}", *_OPTIONS, f"--env=AWS={endpoint}",
        # What the power button of the EC2 console means to systemd.
        "--stop-signal=SIGRTMIN+4",
        f"--volume={folder}:/srv/seed:ro", f"--volume={repository.folder}:/srv/repository:ro", f"{NAME}/host",
    )  # fmt: skip
    try:
        yield Machine(program)
    finally:
        docker("rm", "--force", "--volumes", NAME, check=False)


def _until(holds: Callable[[], bool], seconds: float, what: str, explain: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s\n{explain()}"
        time.sleep(1)
