"""The real stack in Docker, as `make up` starts it, under a name and ports of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from healthpredict.rollout.ports import free_port
from tests.e2e.runs import FlowRuns

ROOT = Path(__file__).parents[2]
SECRETS = ROOT / "docker-compose" / "secrets"
SERVICES = ("postgres", "prefect-server", "mlflow", "prefect-worker", "deploy-worker")
SETTINGS = "health_predict_settings"
REPORTS = ROOT / "reports" / "e2e"
"""Kept for people to look at."""
_MAX_PROCESSES = 8
_STARTS = 3


def _docker_is_there() -> bool:
    command = ["docker", "info"]
    return (
        shutil.which("docker") is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


needs_docker = pytest.mark.skipif(
    not _docker_is_there(), reason="Docker is not there, or does not run: start it for the tests of the services"
)


def _distinct_ports() -> Iterator[int]:
    """Free ports that no other stack draws, also if two processes of pytest-xdist start theirs at the same time."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    drawn: set[int] = set()
    while True:
        port = free_port()
        if port % _MAX_PROCESSES == process and port not in drawn:
            drawn.add(port)
            yield port


class Stack(FlowRuns):
    """One compose project. Everything it made is gone after `destroy`."""

    def __init__(
        self,
        name: str,
        files: tuple[str, ...] = ("docker-compose/compose.yaml",),
        ports: Mapping[str, int] | None = None,
        **variables: str,
    ) -> None:
        """Args: name, of the project; files, of compose; ports, by service, by default free ones; variables, for the files."""
        self.name = name
        self.compose_command = ["docker", "compose", *(word for file in files for word in ("-f", file))]
        self.ports = dict(zip(("prefect", "mlflow", "api", "jupyter"), _distinct_ports(), strict=False)) | dict(
            ports or {}
        )
        ports = {f"HEALTHPREDICT_{service.upper()}_PORT": str(port) for service, port in self.ports.items()}
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": name,
            # Compose puts the name of the project into an image, so stacks cannot share one.
            "HEALTHPREDICT_TAG": name,
            **ports,
            **variables,
        }
        super().__init__(f"http://127.0.0.1:{self.ports['prefect']}", SECRETS / "prefect-auth-password")
        self.mlflow = f"http://127.0.0.1:{self.ports['mlflow']}"
        self.api = f"http://127.0.0.1:{self.ports['api']}"

    # Commands

    def make(self, *words: str, stdin: str | None = None) -> str:
        """A target of the Makefile, with the files of this stack."""
        compose = " ".join(self.compose_command)
        return self._run(["make", "--no-print-directory", f"COMPOSE={compose}", *words], stdin)

    def build(self) -> None:
        """Before `make up`: one process after the other, so that they share layers and passwords."""
        REPORTS.mkdir(parents=True, exist_ok=True)
        with (REPORTS / "building").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.make("build")

    def compose(self, *words: str) -> str:
        return self._run([*self.compose_command, *words])

    def inside(self, service: str, *command: str) -> str:
        """What a command prints in a container, with the passwords that its service has."""
        return self.compose("exec", "-T", service, "with-secrets", *command)

    def cli(self, *command: str) -> str:
        """`prefect ...` as a person uses it on the host."""
        client = {"PREFECT_API_URL": f"{self.prefect}/api", "PREFECT_API_AUTH_STRING": self.password()}
        program = Path(sys.executable).with_name("prefect")
        return self._run([str(program), *command], environment=client)

    def destroy(self) -> None:
        subprocess.run(
            [*self.compose_command, "--profile", "*", "down", "--volumes", "--timeout", "5"],
            cwd=ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
        )
        listing = ["docker", "image", "ls", "--quiet", "--filter", f"reference=health-predict/*:{self.name}"]
        images = subprocess.run(listing, check=False, capture_output=True, text=True).stdout.split()
        subprocess.run(["docker", "image", "rm", "--force", *images], check=False, capture_output=True)

    def _run(self, command: list[str], stdin: str | None = None, environment: Mapping[str, str] | None = None) -> str:
        for _ in range(_STARTS):
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**self.environment, **(environment or {})},
                input=stdin or "",
                capture_output=True,
                text=True,
                check=False,
            )
            # Docker may say this of a port that only this container has, if the container has two networks (moby/moby#20486).
            if "port is already allocated" not in done.stderr:
                break
            print(done.stderr.splitlines()[-1], file=sys.stderr)  # noqa: T201
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    # Prefect

    def start(self, deployment: str, name: str, **parameters: Any) -> None:
        given = [word for key, value in parameters.items() for word in ("--param", f"{key}={json.dumps(value)}")]
        self.cli("deployment", "run", f"{deployment}/{deployment}", "--flow-run-name", name, *given)

    def complete(self, deployment: str, name: str, **parameters: Any) -> dict[str, Any]:
        """Run a deployment, which has to complete."""
        self.start(deployment, name, **parameters)
        run = self.wait_for(name)
        assert run["state_type"] == "COMPLETED", f"{name}: {run['state']['message']}\n{self.log(run)}"
        return run

    def ids_of_runs(self) -> set[str]:
        """Of those that have begun: `make up` makes the runs of schedules anew."""
        return {run["id"] for run in self.runs() if run["state_type"] != "SCHEDULED"}

    # What it holds

    @staticmethod
    def mlflow_password() -> tuple[str, str]:
        return "admin", (SECRETS / "mlflow-admin-password").read_text()

    def ledger(self, kind: str) -> list[dict[str, Any]]:
        lines = self.inside("prefect-worker", "healthpredict", "ledger").splitlines()
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def mlflow_answer(self, path: str, **parameters: str) -> Any:
        url = f"{self.mlflow}/api/2.0/mlflow/{path}"
        answer = httpx.get(url, params=parameters, auth=self.mlflow_password(), trust_env=False, timeout=30)
        return answer.raise_for_status().json()

    def champion(self) -> dict[str, Any]:
        """The version of the registry, as MLflow describes it."""
        found = self.mlflow_answer("registered-models/alias", name="readmission", alias="champion")
        version: dict[str, Any] = found["model_version"]
        return version

    def served(self) -> int:
        """The version that the API answers with."""
        headers = {"Authorization": f"Bearer {(SECRETS / 'api-key').read_text()}"}
        answer = httpx.get(f"{self.api}/model", headers=headers, trust_env=False, timeout=30)
        version: int = answer.raise_for_status().json()["model_version"]
        return version

    def rows(self, database: str, query: str) -> list[list[str]]:
        command = ("psql", "--username", "postgres", "--tuples-only", "--no-align", "--command", query, database)
        return [line.split("|") for line in self.compose("exec", "-T", "postgres", *command).splitlines()]

    def healthy(self) -> bool:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        health = {service["Service"]: service["Health"] for service in map(json.loads, lines)}
        return all(health.get(service) == "healthy" for service in SERVICES)
