"""The flows as deployments: a Prefect server, two workers, and `prefect deployment run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthpredict.cli.services import LocalServices, free_port
from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.operations.context import open_ledger, open_registry
from healthpredict.operations.roll_out import local_target
from tests.e2e.runs import FlowRuns
from tests.loop.installation import environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


class Team(FlowRuns):
    """A server and workers of its own for one installation."""

    def __init__(self, folder: Path) -> None:
        self.services = LocalServices(folder)
        # One batch: each child run is a process that imports everything anew.
        self.variables = environment(folder) | {"HEALTHPREDICT_N_BATCHES": "1"}
        api = self.services.start_prefect(free_port(0))
        self.services.wait("prefect", f"{api}/health")
        super().__init__(api.removesuffix("/api"))
        self.environment = {
            **os.environ,
            **self.variables,
            "PREFECT_API_URL": api,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        }
        self.log = (folder / "workers.log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> str:
        program = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run(
            [program, *command[1:]], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_worker(self, pool: str) -> None:
        command = [str(Path(sys.executable).with_name("prefect")), "worker", "start", "--pool", pool]
        self.workers.append(subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log))

    def stop(self) -> None:
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(timeout=60)
        self.services.stop()
        self.log.close()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    team = Team(tmp_path_factory.mktemp("team"))
    try:
        team.run("python", "-m", "flows.set_up")
        team.start_worker("health-predict")
        team.start_worker("health-predict-deploy")
        yield team
    finally:
        team.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("source") / "encounters.csv"
    path.write_bytes(format_raw(synthesize(7000, 3)))
    return str(path)


def settings_of(team: Team, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in team.variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_set_up_twice_changes_nothing(team: Team) -> None:
    before = {d["name"]: d["id"] for d in team.ask("deployments/filter", {})}
    team.run("python", "-m", "flows.set_up")
    assert {d["name"]: d["id"] for d in team.ask("deployments/filter", {})} == before
    assert set(before) == {"prepare", "train", "deploy", "drift-loop", "score", "refresh-login"}


def test_the_loop_trains_and_rolls_out_in_runs_of_their_own(
    team: Team, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.run("prefect", "deployment", "run", "prepare/prepare", "--param", f'source="{source}"', "--watch")
    team.run("prefect", "deployment", "run", "drift-loop/drift-loop", "--flow-run-name", "the-loop")
    loop = team.wait_for("the-loop")
    settings = settings_of(team, monkeypatch)
    try:
        assert loop["state_type"] == "COMPLETED", loop["state"]["message"]
        children = team.children(loop)
        assert {child["flow"] for child in children} == {"train", "deploy"}
        assert {child["state_type"] for child in children} == {"COMPLETED"}
        assert all(child["deployment_id"] for child in children), "each through its deployment"
        champion = open_registry(settings).by_alias("champion")
        assert champion is not None
        running = local_target(settings).current()
        assert running is not None
        assert running.bundle_digest == champion.bundle_digest
        assert [e["batch"] for e in open_ledger(settings).events("batch")] == ["batch-01"]
        assert open_registry(settings).run_tag(champion.run_id, "flow_run_id") in {child["id"] for child in children}
    finally:
        local_target(settings).stop()
