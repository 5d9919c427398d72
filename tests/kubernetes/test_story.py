"""The whole story: the steps of "Rollouts to Kubernetes" in docs/operate.md, as they are written, and what each must lead to.

Prepared data, a first model on the cluster, predictions through a tunnel, outcomes, a second model, a night, and a restart. Images
go to a registry with ECR's name, and data, models and reports to S3, which moto serves. The tests build on each other, in order.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from rig import kubectl, wait_until
from ssh_server import SERVER, ssh_server

from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import DriftPlan, synthesize
from healthpredict.rollout.ports import free_port
from tests.documented import IN_A_SERVICE, PAGES, ROOT, commands_in_the_service
from tests.e2e.stack import REPORTS, SETTINGS, Stack, needs_docker
from tests.loop.installation import SMALL

pytestmark = [pytest.mark.story, pytest.mark.timeout(1200), needs_docker]
FILES = ("docker-compose/compose.yaml", "docker-compose/compose.aws.yaml", "tests/e2e/compose.story.yaml")
PAGE = ROOT / "docs" / "operate.md"
REGISTRY = os.environ.get("HEALTHPREDICT_TEST_REGISTRY", "")
NAMESPACE = "health-predict"
VOLUME = "healthpredict-log"
NODE = "192.168.49.2"
API = f"http://{NODE}:30080"
LOG_FOLDER = Path("/var/lib/health-predict/prediction-log")
PORTS = {"prefect": 4200, "mlflow": 5000, "api": 8080}
"""Those of the product: the documented commands name them, and `healthpredict cloud tunnel` forwards them."""
BUCKET = "health-predict-story"
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
URIS = {
    "HEALTHPREDICT_DATA_URI": f"s3://{BUCKET}",
    "HEALTHPREDICT_REPORTS_URI": f"s3://{BUCKET}/reports",
    "HEALTHPREDICT_BACKUP_URI": f"s3://{BUCKET}/backups",
    "HEALTHPREDICT_ARTIFACTS_URI": f"s3://{BUCKET}/mlflow",
}
MINIKUBE = """#!/bin/sh
# In place of Minikube, whose node is a container of this name too: `minikube start ...`, `minikube stop`.
exec docker "$1" minikube
"""


def steps() -> dict[int, list[str]]:
    """The fenced blocks of each documented step, without their indentation."""
    section = PAGE.read_text().partition("### Rollouts to Kubernetes\n")[2].partition("\n### ")[0]
    found: dict[int, list[str]] = {}
    for step in re.split(r"^(?=\d+\. )", section, flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^ *```\w+\n(.*?)^ *```$", step, re.MULTILINE | re.DOTALL)
        found[int(step.partition(".")[0])] = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]
    return found


STEPS = steps()


@dataclass
class Story:
    """The stack, and the shell of the person who follows the steps."""

    stack: Stack
    replacements: dict[str, str]
    """Part of the documented commands -> its replacement."""
    programs: Path
    """Folder of programs that are found first."""
    endpoint: str
    """URL of moto."""

    def run(self, text: str) -> str:
        """Run documented lines in a shell. Returns: what they print."""
        for part, replacement in self.replacements.items():
            text = text.replace(part, replacement)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            env={**self.stack.environment, "PATH": f"{self.programs}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def s3(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint)

    def keys(self, prefix: str) -> list[str]:
        listed = self.s3().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for item in listed.get("Contents", ())]

    def move(self, old: str, new: str) -> None:
        self.s3().copy_object(Bucket=BUCKET, Key=new, CopySource={"Bucket": BUCKET, "Key": old})
        self.s3().delete_object(Bucket=BUCKET, Key=old)

    def served(self, url: str = API) -> int | None:
        """The version that the pods answer with; None if they do not answer."""
        headers = {"Authorization": f"Bearer {self.run('cat docker-compose/secrets/api-key')}"}
        try:
            answer = httpx.get(f"{url}/model", headers=headers, trust_env=False, timeout=3)
        except httpx.TransportError:
            return None
        return int(answer.json()["model_version"]) if answer.status_code == httpx.codes.OK else None

    def champion(self) -> int:
        return int(self.stack.champion()["version"])


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The URL of moto, on the address that containers and the node have for this machine."""
    from moto.server import ThreadedMotoServer

    listed = subprocess.run(["docker", "network", "inspect", "minikube"], capture_output=True, text=True, check=True)
    (network,) = json.loads(listed.stdout)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=network["IPAM"]["Config"][0]["Gateway"], port=0, verbose=False)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in AWS.items():
            environment.setenv(name, value)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="module")
def story(administrator: tuple[Path, str], aws: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Images and an empty bucket. Nothing is set up yet."""
    if not REGISTRY:
        pytest.skip("no image registry: HEALTHPREDICT_TEST_REGISTRY names none that engine and nodes reach")
    if os.geteuid() != 0:
        pytest.skip(f"the folder {LOG_FOLDER} and the SSH server need root")
    for kind, name in (("namespace", NAMESPACE), ("persistentvolume", VOLUME)):
        assert not kubectl("get", kind, name, "--ignore-not-found").stdout, (
            f"The cluster has a {kind} {name}, which this test would delete. Delete it, or use another cluster."
        )
    assert not LOG_FOLDER.exists() or not any(LOG_FOLDER.iterdir()), (
        f"{LOG_FOLDER} has predictions, which this test would ship and delete. Empty it, or use another machine."
    )
    kubeconfig, context = administrator
    folder = tmp_path_factory.mktemp("story")
    if shutil.which("minikube") is None:
        (folder / "minikube").write_text(MINIKUBE)
        (folder / "minikube").chmod(0o755)
    replacements = {
        "sudo ": "",
        "docker-compose/secrets/deployer-kubeconfig": str(folder / "deployer-kubeconfig"),
        "./secrets/deployer-kubeconfig": str(folder / "deployer-kubeconfig"),
        "~/.kube/config": str(kubeconfig),
        "--context minikube": f"--context {context}",
        "REGISTRY": REGISTRY,
        "SOURCE": f"s3://{BUCKET}/incoming.csv",
        "DATA_URI": f"s3://{BUCKET}",
    }
    # Step 4 sets these in docker-compose/.env.
    (settings,) = STEPS[4]
    for part, replacement in replacements.items():
        settings = settings.replace(part, replacement)
    variables = dict(line.split("=", 1) for line in settings.splitlines())
    stack = Stack(f"hp-story-{os.getpid()}", FILES, PORTS, **variables, **URIS, **AWS, AWS_ENDPOINT_URL=aws)
    replacements["docker compose -f docker-compose/compose.yaml"] = " ".join(stack.compose_command)
    # `make` takes the same from its command line.
    replacements["make "] = f"make --no-print-directory COMPOSE='{' '.join(stack.compose_command)}' "
    story = Story(stack, replacements, folder, aws)
    story.s3().create_bucket(Bucket=BUCKET)
    data = folder / "incoming.csv"
    # Seeds and sizes with which the first model is recalibrated and then replaced.
    data.write_bytes(format_raw(synthesize(7000, 3, DriftPlan(start=0.5))))
    story.s3().upload_file(str(data), BUCKET, "incoming.csv")
    try:
        stack.build()
        yield story
    finally:
        (REPORTS / "story.log").write_text(stack.compose("logs", "--no-color"))
        stack.destroy()
        for kind, name in (("namespace", NAMESPACE), ("persistentvolume", VOLUME)):
            kubectl("delete", kind, name, "--ignore-not-found", "--timeout=90s")
        # Not the folder itself, which the node may have mounted.
        for path in LOG_FOLDER.glob("*"):
            path.unlink()


def test_services_are_set_up_for_the_cluster(story: Story) -> None:
    """Steps 1 to 5."""
    for number in (1, 2, 3):
        story.run(*STEPS[number])
    started = time.monotonic()
    story.run(*STEPS[5])
    print(f"make up on built images: {time.monotonic() - started:.0f} s")  # noqa: T201
    assert story.stack.healthy()


def test_the_loop_puts_a_first_model_on_the_cluster_and_answers_drift(story: Story) -> None:
    """Step 6."""
    values = {f"HEALTHPREDICT_{name}": value for name, value in (SMALL | {"ARRIVAL_SECONDS": "0"}).items()}
    story.stack.cli("variable", "set", "--overwrite", SETTINGS, json.dumps(values))
    login, prepare, loop = STEPS[6][0].splitlines()
    story.run(f"{login}\n{prepare}")
    for held in ("batches/batch-03.csv", "outcomes/batch-02.csv", "outcomes/batch-03.csv"):
        story.move(held, f"held/{held}")
    started = time.monotonic()
    story.run(f"{login}\n{loop}")
    print(f"the first loop, with its rollouts: {time.monotonic() - started:.0f} s")  # noqa: T201
    batches = {event["batch"]: event["decision"] for event in story.stack.ledger("batch")}
    assert batches["batch-02"] == "retrain"
    shown = {artifact["key"] for artifact in story.stack.ask("artifacts/latest/filter", {})}
    assert {"drift-batch-02", "decision-batch-02"} <= shown
    assert [event["version"] for event in story.stack.ledger("promotion")][-1] == story.champion()
    assert story.champion() > 1
    assert story.served() == story.champion()
    image = kubectl(f"--namespace={NAMESPACE}", "get", "pods", "--output=jsonpath={.items[*].spec.containers[0].image}")
    assert set(image.stdout.split()) == {image.stdout.split()[0]}
    assert image.stdout.startswith(f"{REGISTRY}/health-predict@sha256:")


def test_every_documented_command_works_in_the_deploy_worker(story: Story) -> None:
    """Also that of step 6. Those which change what serves are run in the order of the pages."""
    version = story.champion()
    exec_ = IN_A_SERVICE.replace("exec", "exec -T")
    for page in PAGES:
        for words in commands_in_the_service(page.read_text()):
            story.run(f"{exec_} {' '.join(words)}".replace("VERSION", str(version)))
    assert story.champion() == version == story.served()


def test_a_prediction_is_made_on_the_machine_and_through_a_tunnel(story: Story, tmp_path: Path) -> None:
    """Step 7."""
    assert json.loads(story.run(*STEPS[7]))["model_version"] == story.champion()
    if not Path(SERVER).exists():
        pytest.skip(f"{SERVER} is not installed (apt install openssh-server)")
    ec2 = boto3.client("ec2", endpoint_url=story.endpoint)
    tags = [{"Key": "Project", "Value": "health-predict"}, {"Key": "Stack", "Value": "story"}]
    ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    local = {name: free_port() for name in PORTS}
    with ssh_server(tmp_path, free_port()) as server:
        command = [".venv/bin/healthpredict", "cloud", "tunnel", "--stack=story", "--region=us-east-1", "--ssh"]
        command += [f"--identity={server.identity}", *(f"--{name}={port}" for name, port in local.items())]
        path = f"{server.programs}:{os.environ['PATH']}"
        environment = {**os.environ, **AWS, "AWS_ENDPOINT_URL": story.endpoint, "PATH": path}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as tunnel:
            try:
                assert tunnel.stdout is not None
                said = tunnel.stdout.readline()
                assert said.startswith("Tunnels to i-"), said + (tmp_path / "log").read_text()
                request = STEPS[7][0].replace(API, f"http://127.0.0.1:{local['api']}")
                assert json.loads(story.run(request))["model_version"] == story.champion()
                for name, health in (("prefect", "/api/health"), ("mlflow", "/health")):
                    url = f"http://127.0.0.1:{local[name]}{health}"
                    assert httpx.get(url, trust_env=False).status_code == httpx.codes.OK
            finally:
                tunnel.send_signal(signal.SIGINT)
                tunnel.wait(timeout=20)


def test_the_predictions_reach_the_store(story: Story) -> None:
    """Step 8."""
    wait_until(lambda: story.keys("predictions/log/") and not list(LOG_FOLDER.glob("*.closed")), 180)


def test_outcomes_arrive_and_the_next_loop_replaces_the_model(story: Story, tmp_path: Path) -> None:
    """Step 9."""
    before = story.champion()
    login = STEPS[6][0].splitlines()[0]
    story.s3().download_file(BUCKET, "held/outcomes/batch-02.csv", str(tmp_path / "outcomes.csv"))
    story.move("held/batches/batch-03.csv", "batches/batch-03.csv")
    story.replacements |= {"BATCH.csv": "batch-02.csv", "<outcomes.csv": f"<{tmp_path / 'outcomes.csv'}"}
    story.run(f"{login}\n{STEPS[9][0]}")
    wait_until(lambda: story.stack.ledger("batch")[-1]["batch"] == "batch-03", 300)
    assert story.stack.ledger("outcomes")[-1]["batch"] == "batch-02"
    assert story.stack.ledger("batch")[-1]["decision"] in ("recalibrate", "retrain")
    assert story.champion() > before
    assert story.served() == story.champion()


def test_the_node_starts_again_in_the_morning_with_the_same_version(story: Story) -> None:
    """Step 10. The ledger records nothing new."""
    events, version = story.stack.inside("deploy-worker", "healthpredict", "ledger"), story.champion()
    evening, morning = STEPS[10][0].splitlines()
    story.run(evening)
    assert story.served() is None
    story.run(morning)
    seconds = wait_until(lambda: story.served() == version, 60)
    print(f"the API answers {seconds:.0f} s after the node has started")  # noqa: T201
    assert story.stack.inside("deploy-worker", "healthpredict", "ledger") == events


def test_services_that_are_stopped_and_started_lose_nothing(story: Story) -> None:
    """Step 11. The pods serve in the meantime."""
    stack, version = story.stack, story.champion()
    ledger, runs = stack.inside("deploy-worker", "healthpredict", "ledger"), stack.ids_of_runs()
    down, up = STEPS[11][0].splitlines()
    story.run(down)
    assert story.served() == version
    story.run(up)
    assert stack.inside("deploy-worker", "healthpredict", "ledger") == ledger
    assert runs <= stack.ids_of_runs()
    assert story.champion() == version == story.served()
    assert f"champion: {version}" in stack.inside("deploy-worker", "healthpredict", "status")


def test_every_step_has_a_test() -> None:
    assert sorted(STEPS) == list(range(1, 12))
