"""The services as docker compose sees them: files, variables and profiles resolved."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from healthpredict.errors import ConfigurationError

CHECKOUT: Final = Path(__file__).resolve().parents[2]
COMPOSE_FOLDER: Final = CHECKOUT / "docker-compose"
ENV_FILE: Final = COMPOSE_FOLDER / ".env"
S3_FILE: Final = COMPOSE_FOLDER / "compose.aws.yaml"
POSTGRES_FILE: Final = COMPOSE_FOLDER / "compose.postgres.yaml"
DEPLOY_WORKER: Final = "deploy-worker"
CONTAINER_UID: Final = 10001
"""User and group of our containers; see docker-compose/Dockerfile.worker."""
_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Mount:
    """A file or folder of this host in a container."""

    service: str
    source: Path
    target: str


@dataclass(frozen=True)
class Port:
    """A port of this host that a service publishes."""

    service: str
    host: str
    number: int


class ComposeProject:
    """The services of one docker compose command."""

    def __init__(self, command: Sequence[str]) -> None:
        """Args: command, `docker compose` with its files."""
        self.command = tuple(command)

    @cached_property
    def model(self) -> dict[str, Any]:
        """What `docker compose config` prints.

        Raises:
            ConfigurationError: a variable is missing, or a file is wrong.
        """
        done = self.run("config", "--format", "json")
        if done.returncode != 0:
            raise ConfigurationError(
                f"docker compose cannot read its files: {last_line(done.stderr)}. "
                "Correct docker-compose/.env or this shell's variables."
            )
        model: dict[str, Any] = json.loads(done.stdout)
        return model

    @property
    def files(self) -> list[Path]:
        """The files of the command."""
        return [CHECKOUT / word for option, word in pairwise(self.command) if option == "-f"]

    def run(self, *words: str, seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a command of docker compose. Its output is captured."""
        return run([*self.command, *words], seconds)

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service that are not empty."""
        found = self.model["services"].get(service, {}).get("environment") or {}
        return {name: value for name, value in found.items() if value}

    def networks_of(self, service: str) -> set[str]:
        """The names of the networks that a service joins."""
        keys = self.model["services"][service].get("networks") or {}
        return {self.model["networks"][key]["name"] for key in keys}

    @property
    def rolls_out_to_kubernetes(self) -> bool:
        """Whether the deploy worker rolls out to Kubernetes."""
        return self.environment(DEPLOY_WORKER).get("HEALTHPREDICT_ROLLOUT__TARGET") == "kubernetes"

    def mounts(self) -> Iterator[Mount]:
        """The bind mounts of all services, each source and target once."""
        seen = set()
        for service, description in self.model["services"].items():
            for volume in description.get("volumes", ()):
                if volume["type"] == "bind" and (place := (volume["source"], volume["target"])) not in seen:
                    seen.add(place)
                    yield Mount(service, Path(volume["source"]), volume["target"])

    def secrets(self) -> dict[str, Path]:
        """Name and file of each secret."""
        return {name: Path(secret["file"]) for name, secret in self.model.get("secrets", {}).items()}

    def ports(self) -> Iterator[Port]:
        """The ports that are published on this host."""
        for service, description in self.model["services"].items():
            for port in description.get("ports", ()):
                # Of a range, such as 4200-4210, the engine takes a port that is free.
                if (number := str(port.get("published", ""))).isdecimal():
                    yield Port(service, port.get("host_ip") or "0.0.0.0", int(number))  # noqa: S104

    def own_ports(self) -> set[int]:
        """The ports that running containers of this project publish."""
        lines = self.run("ps", "--format", "json").stdout.splitlines()
        publishers = [port for line in lines for port in json.loads(line).get("Publishers") or ()]
        return {port["PublishedPort"] for port in publishers}

    def is_running(self, service: str) -> bool:
        """Whether a service has a running container."""
        done = self.run("ps", "--quiet", "--status", "running", service)
        return done.returncode == 0 and bool(done.stdout.strip())


def default_project(*, on_s3: bool = False, own_postgres: bool = False) -> ComposeProject:
    """Return the services that `make up` starts. Args: on_s3, as with AWS=1; own_postgres, as with POSTGRES=1."""
    files = [COMPOSE_FOLDER / "compose.yaml", *([S3_FILE] if on_s3 else []), *([POSTGRES_FILE] if own_postgres else [])]
    return ComposeProject(
        ["docker", "compose", *(word for file in files for word in ("-f", f"docker-compose/{file.name}"))]
    )


def run(command: Sequence[str], seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout, and capture its output. A program that is missing or hangs is a failed one."""
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=seconds)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} did not respond within {seconds:g} s")


def last_line(text: str) -> str:
    """The last line of a program's output, without a final period."""
    return (text.strip().splitlines() or ["it printed nothing"])[-1].strip().rstrip(".")
