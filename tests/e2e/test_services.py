"""The stack that a team runs, on real data where it is there: the loop through Prefect's deployments, closed doors, and faults.

The tests build on each other, in this order: each takes the stack as the one before it left it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import DriftPlan, synthesize
from tests.documented import PAGES, commands_in_the_service
from tests.e2e.browser import CHROMIUM, look_at
from tests.e2e.routes import answers_without_password
from tests.e2e.runs import until
from tests.e2e.stack import REPORTS, ROOT, SECRETS, SERVICES, SETTINGS, Stack, needs_docker
from tests.loop.installation import SMALL

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    needs_docker,
]
FILES = ("docker-compose/compose.yaml", "tests/e2e/compose.test.yaml")
# So that the tests do not wait for three minutes wherever a worker dies.
SHORT_SILENCE = "75"
DEPLOYMENTS = {"prepare", "train", "deploy", "drift-loop", "score", "refresh-login", "backup"}
N_BATCHES = 7
BUDGETS = SMALL | {
    "N_BATCHES": str(N_BATCHES),
    "SEARCH__N_TRIALS": "2",
}
# The real batches are large enough for the limits of the product.
BUDGETS_OF_REAL_DATA = BUDGETS | {"INITIAL_SHARE": "0.2"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(
        f"hp-e2e-{os.getpid()}",
        FILES,
        HEALTHPREDICT_WEBHOOK_URL="http://receiver:8000/",
        HEALTHPREDICT_SILENCE_SECONDS=SHORT_SILENCE,
    )
    try:
        stack.build()
        started = time.monotonic()
        stack.make("up")
        print(f"make up: {time.monotonic() - started:.0f} s")  # noqa: T201
        yield stack
    finally:
        (REPORTS / "services.log").write_text(stack.compose("logs", "--no-color"))
        stack.destroy()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("HEALTHPREDICT_TEST_DATA")
    if given:
        return Path(given)
    path = tmp_path_factory.mktemp("source") / "encounters.csv"
    # Enough for a first model to pass the gate; drift sets in with the second batch.
    path.write_bytes(format_raw(synthesize(32_000, 3, DriftPlan(start=0.5))))
    return path


LASTING = [
    "id",
    "name",
    "description",
    "tags",
    "enabled",
    "paused",
    "parameters",
    "entrypoint",
    "path",
    "work_pool_name",
    "concurrency_limit",
    "concurrency_options",
    "schedules",
    "parameter_openapi_schema",
    "job_variables",
    "type",
    "base_job_template",
    "value",
    "data",
    "actions",
]


def everything(stack: Stack) -> dict[str, Any]:
    """What set-up makes, without times and states."""
    parts = {
        "deployments": stack.ask("deployments/filter", {}),
        "pools": stack.ask("work_pools/filter", {}),
        "automations": stack.ask("automations/filter", {}),
        "variables": stack.ask("variables/filter", {}),
        "blocks": stack.ask("block_documents/filter", {}),
    }
    for deployment in parts["deployments"]:
        deployment["schedules"] = [schedule["schedule"] for schedule in deployment["schedules"]]
    shown = {part: [{key: one.get(key) for key in LASTING} for one in found] for part, found in parts.items()}
    for automation, one in zip(shown["automations"], parts["automations"], strict=True):
        # Prefect makes the triggers of a deployment anew each time.
        automation["id"] = None
        automation["trigger"] = {key: one["trigger"][key] for key in ("match", "match_related", "posture", "within")}
        automation["trigger"] |= {key: sorted(one["trigger"][key]) for key in ("expect", "after")}
    return {part: sorted(found, key=lambda one: str(one["name"])) for part, found in shown.items()}


def arrive(stack: Stack, number: int) -> str:
    """Let a batch arrive that was held back."""
    name = f"batch-{number:02d}"
    stack.inside("prefect-worker", "mv", f"/data/held/{name}.csv", "/data/batches/")
    return name


def nothing_is_left(stack: Stack, expected: int) -> None:
    """Every batch that arrived is in the ledger once, and no run is Running."""
    done = [event["batch"] for event in stack.ledger("batch")]
    assert done == [f"batch-{number:02d}" for number in range(1, expected + 1)]
    until(lambda: not stack.runs("PENDING", "RUNNING", "CANCELLING"), 200)


def told(stack: Stack) -> list[dict[str, Any]]:
    lines = stack.compose("logs", "--no-log-prefix", "receiver").splitlines()
    # Compose puts control characters before the first line.
    return [json.loads(line[line.index("{") :]) for line in lines if "{" in line]


# Set-up and doors


def test_make_up_twice_changes_nothing(stack: Stack) -> None:
    before, containers = everything(stack), stack.compose("ps", "--quiet")
    assert {one["name"] for one in before["deployments"]} == DEPLOYMENTS
    assert {one["name"] for one in before["pools"]} == {"health-predict", "health-predict-deploy"}
    stack.make("up")
    assert everything(stack) == before
    assert stack.compose("ps", "--quiet") == containers
    assert stack.healthy()


SLIPS = {
    "log folder": (
        {"COMPOSE_PROFILES": "kubernetes", "HEALTHPREDICT_PREDICTION_LOG": "MISSING"},
        "The log folder MISSING does not exist; Docker would create it as root.",
    ),
    "kubeconfig": (
        {"HEALTHPREDICT_KUBECONFIG": "MISSING"},
        "The kubeconfig MISSING does not exist; Docker would create a folder of that name.",
    ),
    "network": (
        {"HEALTHPREDICT_KUBERNETES_NETWORK": "hp-missing", "HEALTHPREDICT_KUBERNETES_NETWORK_EXTERNAL": "true"},
        "The Docker network 'hp-missing' does not exist.",
    ),
    "port": ({"HEALTHPREDICT_PREFECT_PORT": "TAKEN"}, "Port TAKEN of prefect-server is in use by "),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_make_up_reports_a_slip_before_anything_starts(stack: Stack, tmp_path: Path, slip: str) -> None:
    values = {"MISSING": str(tmp_path / "missing"), "TAKEN": str(stack.ports["prefect"])}
    variables, sentence = SLIPS[slip]
    other = Stack(f"{stack.name}-slip", **{name: values.get(value, value) for name, value in variables.items()})
    for word, value in values.items():
        sentence = sentence.replace(word, value)
    started = time.monotonic()
    with pytest.raises(AssertionError) as error:
        other.make("up")
    print(f"make up reported the slip after {time.monotonic() - started:.1f} s")  # noqa: T201
    assert sentence in str(error.value)
    assert "Error 16" in str(error.value)
    assert _docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={other.name}") == ""
    assert not (tmp_path / "missing").exists()


def test_the_doctor_finds_nothing_while_the_services_run(stack: Stack) -> None:
    assert stack.make("doctor").strip() == "No problem was found."
    for service in ("deploy-worker", "prefect-worker"):
        assert stack.compose("exec", "-T", service, "healthpredict", "doctor").strip() == "No problem was found."
    assert [variable["name"] for variable in stack.ask("variables/filter", {})] == [SETTINGS]
    assert stack.compose("exec", "-T", "mlflow", "ls", "-A", "/artifacts").strip() == ""


def test_every_deployment_says_what_it_does_and_has_a_form(stack: Stack) -> None:
    for deployment in stack.ask("deployments/filter", {}):
        assert deployment["description"]
        assert deployment["tags"]
        for name, shown in deployment["parameter_openapi_schema"]["properties"].items():
            assert shown.get("description"), f"{deployment['name']}: {name} is not explained"
            assert "type" in shown or "anyOf" in shown or "enum" in shown


def test_the_schedule_makes_runs(stack: Stack) -> None:
    def scheduled() -> list[str]:
        runs = stack.runs("SCHEDULED")
        return [run["expected_start_time"] for run in runs if run["flow"] == "drift-loop"]

    assert all("T02:30:00" in start for start in until(scheduled, 120))


def test_without_the_password_nothing_answers_but_health(stack: Stack) -> None:
    prefect, mlflow = answers_without_password(stack)
    assert prefect == {"/api/health": 200, "/api/ready": 200}
    assert mlflow == {"/health": 200}


def test_services_run_with_the_least_rights_and_listen_on_loopback_only(stack: Stack) -> None:
    ids = stack.compose("ps", "--quiet", *SERVICES).split()
    found = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout)
    assert len(found) == len(SERVICES)
    secrets = {path.read_text() for path in SECRETS.iterdir()}
    for container in found:
        name, host = container["Name"], container["HostConfig"]
        assert container["Config"]["User"] not in ("", "0", "root"), name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["ReadonlyRootfs"], name
        assert host["Memory"] > 0, name
        assert host["LogConfig"]["Config"]["max-size"], name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert "Healthcheck" in container["Config"], name
        published = [binding["HostIp"] for bindings in host["PortBindings"].values() for binding in bindings]
        assert set(published) <= {"127.0.0.1"}, name
        assert not any(secret in json.dumps(container) for secret in secrets), (
            f"{name} shows a password to docker inspect"
        )
    for service in SERVICES:
        arguments = stack.compose("exec", "-T", service, "sh", "-c", "cat /proc/[0-9]*/cmdline")
        assert not any(secret in arguments for secret in secrets), f"{service} shows a password in a list of processes"
    with_socket = [c["Name"] for c in found if any("docker.sock" in bind for bind in c["HostConfig"]["Binds"] or ())]
    assert with_socket == [f"/{stack.name}-deploy-worker-1"]
    assert (ROOT / "docker-compose" / ".env").stat().st_mode & 0o777 == 0o600
    assert SECRETS.stat().st_mode & 0o777 == 0o700
    sizes = {
        tag: int(_docker("image", "inspect", "--format", "{{.Size}}", f"health-predict/{tag}:{stack.name}"))
        for tag in ("worker", "mlflow")
    }
    assert sizes["worker"] <= 1.8e9
    assert sizes["mlflow"] <= 1e9


def test_folders_of_data_and_models_are_closed_also_in_volumes_of_an_older_release(stack: Stack) -> None:
    for service, folder in (("prefect-worker", "/data"), ("prefect-worker", "/state"), ("mlflow", "/artifacts")):
        assert stack.compose("exec", "-T", service, "stat", "-c", "%a", folder).strip() == "700"
        stack.compose("exec", "-T", service, "chmod", "755", folder)
        assert stack.inside(service, "stat", "-c", "%a", folder).strip() == "700"


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


# The loop, and what happens to it


def test_a_worker_that_is_killed_during_training_leaves_no_run_running(stack: Stack, source: Path) -> None:
    """The first training of all is killed with its worker; the worker comes back, and the next loop trains."""
    budgets = BUDGETS_OF_REAL_DATA if "HEALTHPREDICT_TEST_DATA" in os.environ else BUDGETS
    values = {f"HEALTHPREDICT_{name}": value for name, value in budgets.items()}
    stack.cli("variable", "set", "--overwrite", SETTINGS, json.dumps(values))
    stack.compose("cp", str(source), "prefect-worker:/data/incoming.csv")
    stack.complete("prepare", "prepare", source="/data/incoming.csv")
    hold = "mkdir /data/held && mv /data/batches/batch-*.csv /data/held/"
    stack.inside("prefect-worker", "sh", "-c", hold)
    arrive(stack, 1)

    stack.start("drift-loop", "killed")
    training = stack.running("train")
    time.sleep(5)
    subprocess.run(
        [*stack.compose_command, "exec", "-T", "prefect-worker", "sh", "-c", "kill -9 -1"],
        cwd=ROOT,
        env=stack.environment,
        check=False,
    )
    killed = time.monotonic()
    loop = stack.wait_for("killed", 300)
    assert loop["state_type"] == "CRASHED"
    until(lambda: not stack.runs("RUNNING"), 120)
    print(f"dead runs ended after {time.monotonic() - killed:.0f} s")  # noqa: T201
    assert stack.runs(id={"any_": [training["id"]]})[0]["state_type"] == "CRASHED"
    assert stack.ledger("promotion") == []
    until(stack.healthy, 120)


def test_servers_that_are_restarted_and_a_database_that_is_away_during_a_run_lose_nothing(stack: Stack) -> None:
    """The first loop goes on through all of that."""
    # That of the product: it has to be longer than this takes.
    stack.environment["HEALTHPREDICT_SILENCE_SECONDS"] = "180"
    stack.compose("run", "--rm", "setup")
    stack.start("drift-loop", "first")
    stack.running("train")
    loop = stack.running("drift-loop")
    for service in ("prefect-server", "mlflow", "postgres"):
        stack.compose("restart", service)
    # A run renews its place every few minutes, and is ended where the server has forgotten it.
    until(stack.healthy, 120)
    place = loop["state"]["state_details"]["deployment_concurrency_lease_id"]
    renew = f"with get_client(sync_client=True) as client: client.renew_concurrency_lease({place!r}, 300)"
    stack.inside("prefect-worker", "python", "-c", f"from prefect.client.orchestration import get_client\n{renew}")
    assert stack.runs(name={"any_": ["first"]})[0]["state_type"] == "RUNNING", "it ended before the database did"
    stack.compose("stop", "postgres")
    time.sleep(30)
    stack.compose("start", "postgres")
    loop = stack.wait_for("first", 400)
    assert loop["state_type"] == "COMPLETED", stack.log(loop)
    until(stack.healthy, 180)
    nothing_is_left(stack, 1)
    assert stack.served() == int(stack.champion()["version"])


def test_the_loop_trains_and_rolls_out_in_runs_of_their_own(stack: Stack) -> None:
    loop = stack.wait_for("first")
    children = stack.children(loop)
    assert {child["flow"] for child in children} == {"train", "deploy"}
    assert {child["state_type"] for child in children} == {"COMPLETED"}
    assert all(child["deployment_id"] for child in children), "each through its deployment"
    assert all(child["parent_task_run_id"] for child in children)
    champion = stack.champion()
    assert stack.ledger("promotion")[-1]["version"] == int(champion["version"])
    assert int(stack.rows("prefect", "SELECT count(*) FROM flow_run")[0][0]) >= 5
    assert int(stack.rows("mlflow", "SELECT count(*) FROM model_versions")[0][0]) >= 1
    # Through MLflow's proxy: nobody but its container sees the files.
    listed = httpx.get(
        f"{stack.mlflow}/api/2.0/mlflow/artifacts/list",
        params={"run_id": champion["run_id"], "path": "bundle"},
        auth=stack.mlflow_password(),
        trust_env=False,
    )
    assert "bundle/manifest.json" in {file["path"] for file in listed.raise_for_status().json()["files"]}
    run = stack.mlflow_answer("runs/get", run_id=champion["run_id"])["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["flow_run_id"] in {run["id"] for run in stack.runs() if run["flow"] == "train"}
    assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
    shown = {artifact["key"] for artifact in stack.ask("artifacts/latest/filter", {})}
    assert {"decision-batch-01", "drift-batch-01", "batches", "history"} <= shown
    assert any(key.startswith("metrics-version-") for key in shown)


def test_the_api_asks_for_a_key_and_answers_with_the_champion(stack: Stack) -> None:
    record = json.loads((ROOT / "tests" / "encounter.json").read_text())
    ask = {"url": f"{stack.api}/predict", "json": record, "trust_env": False, "timeout": 30}
    assert httpx.post(**ask).status_code == 401
    key = (SECRETS / "api-key").read_text()
    answer = httpx.post(**ask, headers={"Authorization": f"Bearer {key}"}).raise_for_status().json()
    assert answer["model_version"] == int(stack.champion()["version"])


def test_a_batch_that_is_announced_is_looked_at_and_drift_leads_to_a_new_champion(stack: Stack) -> None:
    """Batches arrive until one triggers training and rollout; each is announced as a delivering system would."""
    before = stack.champion()["version"]
    arrived = 1
    while stack.champion()["version"] == before:
        arrived += 1
        assert arrived < N_BATCHES - 3, "no batch led to a new champion"
        name = arrive(stack, arrived)
        announced = time.time()
        stack.cli("event", "emit", "health-predict.batch.arrived", "--resource-id", "health-predict.data")
        until(lambda: stack.ledger("batch")[-1]["batch"] == name, 400)  # noqa: B023
        (decision,) = stack.ask("artifacts/latest/filter", {"artifacts": {"key": {"any_": [f"decision-{name}"]}}})
        decided = datetime.fromisoformat(decision["created"]).timestamp() - announced
        print(f"{name}: {decided:.0f} s from announcement to decision")  # noqa: T201
        nothing_is_left(stack, arrived)
    decision = stack.ledger("batch")[-1]
    assert decision["decision"] == "retrain"
    promotion = stack.ledger("promotion")[-1]
    assert promotion["version"] == int(stack.champion()["version"]) == decision["challenger"]
    subjects = [message["event"] for message in told(stack)]
    assert "health-predict.drift" in subjects
    assert "prefect.flow-run.Crashed" in subjects


def test_every_documented_command_works_in_the_deploy_worker(stack: Stack) -> None:
    """As it is written, in the order of the pages. The last version of all is in service again at the end."""
    version = stack.champion()["version"]
    lines = [line for page in PAGES for line in commands_in_the_service(page.read_text())]
    assert {line[0] for line in lines} == {"status", "ledger", "trace", "promote", "rollback", "keys", "doctor"}
    promotions = len(stack.ledger("promotion"))
    for line in lines:
        command = [version if word == "VERSION" else word for word in line]
        printed = stack.compose("exec", "-T", "deploy-worker", "healthpredict", *command)
        if command[0] == "status":
            assert f"champion: {version}" in printed
    back, forth = stack.ledger("promotion")[promotions:]
    assert back["version"] != int(version)
    assert forth["version"] == int(version)
    assert stack.champion()["version"] == version
    assert stack.served() == int(version)


def test_workers_that_are_restarted_during_a_run_lose_nothing(stack: Stack) -> None:
    """Their runs end, in states that say so, and the next loop goes on where they were."""
    stack.environment["HEALTHPREDICT_SILENCE_SECONDS"] = SHORT_SILENCE
    stack.compose("run", "--rm", "setup")
    expected = len(stack.ledger("batch")) + 1
    arrive(stack, expected)
    stack.inside("prefect-worker", "healthpredict", "decide", "retrain", "--because", "the workers are restarted")
    stack.start("drift-loop", "workers")
    stack.running("deploy", 600)
    stack.compose("restart", "prefect-worker", "deploy-worker")
    assert stack.wait_for("workers", 200)["state_type"] in ("CRASHED", "FAILED")
    stack.complete("drift-loop", "after-workers")
    nothing_is_left(stack, expected)
    until(stack.healthy, 120)
    assert stack.served() == int(stack.champion()["version"])


# What is left for people


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not there: install it for the tests of Prefect's pages")
def test_the_page_of_the_deployments_shows_them(stack: Stack) -> None:
    awaited = sorted(DEPLOYMENTS)
    text = look_at(f"{stack.prefect}/deployments", stack.password(), awaited, REPORTS / "deployments.png")
    assert [word for word in awaited if word not in text] == []


def test_the_notebook_demands_its_token(stack: Stack) -> None:
    stack.compose("--profile", "jupyter", "up", "--detach", "--wait", "--build", "jupyter")
    ask = {"url": f"http://127.0.0.1:{stack.ports['jupyter']}/api/contents", "trust_env": False, "timeout": 30}
    assert httpx.get(**ask).status_code == 403
    token = (SECRETS / "jupyter-token").read_text()
    listed = httpx.get(**ask, headers={"Authorization": f"token {token}"}).raise_for_status().json()
    assert "01_eda_baseline.py" in {file["name"] for file in listed["content"]}
    program = "import pandas, pathlib; assert list(pathlib.Path('/data/batches').glob('batch-*.csv'))"
    stack.inside("jupyter", "python", "-c", program)


def test_a_backup_of_a_run_is_restored_after_all_was_destroyed(stack: Stack, tmp_path: Path) -> None:
    expected = len(stack.ledger("batch")) + 1
    promotions, champion = stack.ledger("promotion"), stack.champion()
    arrive(stack, expected)
    stack.start("drift-loop", "backed-up")
    until(lambda: stack.runs("PENDING", "RUNNING", name={"any_": ["backed-up"]}), 60)
    runs = stack.ids_of_runs()
    file = Path(stack.make("backup", f"TO={tmp_path}").splitlines()[-1])
    assert file.stat().st_mode & 0o777 == 0o600

    with pytest.raises(AssertionError, match="Nothing was changed"):
        stack.make("destroy", stdin="yes\n")
    stack.make("destroy", stdin="destroy\n")
    stack.make("restore", f"FILE={file}")
    started = time.monotonic()
    stack.make("up")
    print(f"make up on built images: {time.monotonic() - started:.0f} s")  # noqa: T201
    assert stack.ledger("promotion") == promotions
    assert stack.champion() == champion
    assert runs <= stack.ids_of_runs()
    assert stack.served() == int(stack.champion()["version"])
    # Where it was Running when its database was copied, nobody runs it any more, and it is ended.
    stack.wait_for("backed-up", 300)
    stack.complete("drift-loop", "after-restore")
    nothing_is_left(stack, expected)
    champion, runs = stack.champion(), stack.ids_of_runs()

    # Down and up again keeps all of it.
    stack.make("down")
    stack.make("up")
    assert stack.champion() == champion
    assert runs <= stack.ids_of_runs()
    assert stack.served() == int(champion["version"])
    nothing_is_left(stack, expected)
