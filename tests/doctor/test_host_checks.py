"""What is wrong with this host's engine, ports, networks and variables is reported before services start."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import yaml
from described_services import Describe, FakeDocker

from healthpredict.config import Settings
from healthpredict.doctor.engine import docker_disk_problem, engine_problem, memory_problem
from healthpredict.doctor.env_file import env_checks
from healthpredict.doctor.examine import examine_all, examine_host, examine_worker
from healthpredict.doctor.files import KUBECONFIG
from healthpredict.doctor.networks import network_checks
from healthpredict.doctor.ports import port_checks
from healthpredict.doctor.problem import Problem, run_checks
from healthpredict.doctor.project import ComposeProject
from healthpredict.operations.installation import Installation

GOOD = """
"version --format"*) echo 28.2.2 ;;
"compose version"*) echo 2.26.1-4 ;;
"""


def sentence(problem: Problem | None) -> str:
    assert problem is not None
    return problem.sentence


# The engine


def test_a_good_engine_is_no_problem(docker: FakeDocker) -> None:
    docker(GOOD)
    assert engine_problem() is None


@pytest.mark.parametrize(
    ("cases", "said", "fix"),
    [
        ('version*) echo "permission denied while trying to connect" >&2; exit 1 ;;', "may not use", "usermod"),
        ('version*) echo "Cannot connect to the Docker daemon." >&2; exit 1 ;;', "Cannot connect", "systemctl start"),
        ("version*) echo 20.10.9 ;;", "Docker Engine is 20.10.9, and 20.10.10 or newer", "update"),
        ("version*) echo 28.2.2 ;;", "has no compose plugin", "install"),
        ('version*) echo 28.2.2 ;;\n"compose version"*) echo v2.20.3 ;;', "Compose is v2.20.3, and 2.21 or", "update"),
    ],
)
def test_an_engine_that_is_missing_old_or_closed(docker: FakeDocker, cases: str, said: str, fix: str) -> None:
    docker(cases)
    found = engine_problem()
    assert said in sentence(found)
    assert found is not None
    assert fix in found.fix


def test_without_docker_nothing_else_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = examine_host(ComposeProject(["docker", "compose"]))
    assert found.sentence == "There is no command docker."


def test_memory_for_the_largest_service_beside_the_others(describe: Describe) -> None:
    project = describe()
    assert memory_problem(project, 4 * 2**30) is None
    found = sentence(memory_problem(project, 4 * 2**30 - 1))
    assert found.startswith(
        "The Docker engine has 4.0 GiB of memory, and 4.0 GiB are needed: deploy-worker may use 3.0"
    )


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert docker_disk_problem(tmp_path / "of-another-machine") is None
    monkeypatch.setattr("healthpredict.doctor.engine.MIN_FREE_GIB", 0)
    assert docker_disk_problem(tmp_path) is None
    monkeypatch.setattr("healthpredict.doctor.engine.MIN_FREE_GIB", 1e6)
    assert f"The disk of {tmp_path} has only " in sentence(docker_disk_problem(tmp_path))


def test_a_variable_that_compose_demands(docker: FakeDocker) -> None:
    docker(f"""{GOOD}
*config*) echo 'required variable AWS_DEFAULT_REGION is missing a value: Set it to the region of the bucket' >&2; exit 1 ;;
""")
    (found,) = examine_host(ComposeProject(["docker", "compose"]))
    assert (
        "docker compose cannot read its files: required variable AWS_DEFAULT_REGION is missing a value"
        in found.sentence
    )


def test_services_on_s3_are_known_from_the_file(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    monkeypatch.setattr("healthpredict.doctor.examine.ENV_FILE", file)
    docker(f'{GOOD}\n*compose.aws.yaml*config*) echo "on S3" >&2; exit 1 ;;\n*config*) echo local >&2; exit 1 ;;')
    installation = Installation(Settings(state_path=tmp_path, data_uri=str(tmp_path), reports_uri=str(tmp_path)))

    def found() -> str:
        (problem,) = examine_all(installation, servers=False)
        return problem.sentence

    file.write_text("HEALTHPREDICT_ARTIFACTS_URI=s3://health/models\n")
    assert "cannot read its files: on S3." in found()
    file.write_text("HEALTHPREDICT_ARTIFACTS_URI=\n")
    assert "cannot read its files: local." in found()


# The deploy worker


def test_problems_in_the_deploy_worker_are_reported_with_their_place(describe: Describe, docker: FakeDocker) -> None:
    project = describe()
    assert examine_worker(project) == [], "it does not run"
    running = '*"ps --quiet"*) echo 0123 ;;'
    docker(f"""{running}
*"exec -T deploy-worker healthpredict doctor --json") echo '[{{"sentence": "Wrong.", "fix": "mend"}}]'; exit 16 ;;""")
    assert examine_worker(project) == [Problem("In the deploy worker: Wrong.", "mend")]
    docker(f"""{running}
*exec*) echo 'Error: There is no setting X.' >&2; exit 2 ;;""")
    (found,) = examine_worker(project)
    assert found.sentence == "healthpredict doctor failed in the deploy worker: Error: There is no setting X."


# Ports


def with_port(describe: Describe, number: int | str, host: str = "127.0.0.1") -> ComposeProject:
    project = describe()
    port = {"published": str(number), "target": 4200, "host_ip": host}
    project.model["services"]["prefect-server"] = {"ports": [port]}
    return project


def test_a_port_that_another_program_uses(describe: Describe, docker: FakeDocker) -> None:
    docker("*ps*) exit 0 ;;")
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        (found,) = run_checks(list(port_checks(with_port(describe, number))))
    assert found.sentence.startswith(f"Port {number} of prefect-server is in use by ")
    assert f"(process {os.getpid()})" in found.sentence
    assert found.fix == "stop it, or set HEALTHPREDICT_PREFECT_PORT in docker-compose/.env"
    assert run_checks(list(port_checks(with_port(describe, number)))) == []


def test_an_address_that_this_machine_does_not_have(describe: Describe, docker: FakeDocker) -> None:
    (found,) = run_checks(list(port_checks(with_port(describe, 0, "192.0.2.1"))))
    assert found.sentence.startswith("prefect-server cannot publish port 0 on 192.0.2.1: ")
    assert "in use" not in found.sentence


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_a_port_of_ipv6(describe: Describe, docker: FakeDocker) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        number = other.getsockname()[1]
        (found,) = run_checks(list(port_checks(with_port(describe, number, "::1"))))
    assert found.sentence.startswith(f"Port {number} of prefect-server is in use by ")
    assert run_checks(list(port_checks(with_port(describe, number, "::1")))) == []


def test_of_a_range_docker_takes_a_port_that_is_free(describe: Describe, docker: FakeDocker) -> None:
    assert list(port_checks(with_port(describe, "4200-4210"))) == []


def test_a_port_of_a_container_of_this_project(describe: Describe, docker: FakeDocker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        number = own.getsockname()[1]
        docker(f"""*ps*) echo '{json.dumps({"Publishers": [{"PublishedPort": number}]})}' ;;""")
        assert list(port_checks(with_port(describe, number))) == []


# Networks


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "deployer"
    content = {
        "contexts": [{"name": "minikube", "context": {"cluster": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://192.168.49.2:8443"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


ON_KUBERNETES = {
    "HEALTHPREDICT_ROLLOUT__TARGET": "kubernetes",
    "HEALTHPREDICT_ROLLOUT__CONTEXT": "minikube",
    "HEALTHPREDICT_IMAGE_REPOSITORY": "registry/health-predict",
}
NETWORKS = """
"network ls"*) echo 1 ;;
"network inspect minikube") exit 0 ;;
"network inspect 1") echo '[{"Name": "minikube", "IPAM": {"Config": [{"Subnet": "192.168.49.0/24"}]}}]' ;;
"""


def network_problems(project: ComposeProject) -> list[Problem]:
    return run_checks(list(network_checks(project)))


def test_a_network_that_does_not_exist(describe: Describe, docker: FakeDocker) -> None:
    networks = {"default": {"name": "own"}, "kubernetes": {"name": "minikube", "external": True}}
    (found,) = network_problems(describe(networks=networks))
    assert found.sentence == "The Docker network 'minikube' does not exist."
    docker(NETWORKS)
    assert network_problems(describe(networks=networks)) == []


def test_a_cluster_in_a_network_that_the_worker_does_not_join(
    describe: Describe, docker: FakeDocker, kubeconfig: Path
) -> None:
    docker(NETWORKS)
    mounts = {KUBECONFIG: kubeconfig}
    (found,) = network_problems(describe(ON_KUBERNETES, mounts, networks={"kubernetes": {"name": "own"}}))
    assert "is in the Docker network 'minikube', which the deploy worker does not join" in found.sentence
    assert "HEALTHPREDICT_KUBERNETES_NETWORK=minikube and HEALTHPREDICT_KUBERNETES_NETWORK_EXTERNAL=true" in found.fix
    joined = {"kubernetes": {"name": "minikube", "external": True}}
    assert network_problems(describe(ON_KUBERNETES, mounts, networks=joined)) == []
    of_another_service = describe(ON_KUBERNETES, mounts, networks=joined)
    of_another_service.model["services"]["deploy-worker"]["networks"] = {}
    assert len(network_problems(of_another_service)) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_kubeconfig_with_an_address_of_this_host_only(
    describe: Describe, docker: FakeDocker, kubeconfig: Path, host: str
) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace("192.168.49.2", host))
    (found,) = network_problems(describe(ON_KUBERNETES, {KUBECONFIG: kubeconfig}))
    assert f"https://{host}:8443, which in a container is the container itself" in found.sentence


@pytest.mark.parametrize("content", ["", "not: a kubeconfig", "{", "contexts: []"])
def test_a_kubeconfig_without_the_context(
    describe: Describe, docker: FakeDocker, kubeconfig: Path, content: str
) -> None:
    kubeconfig.write_text(content)
    (found,) = network_problems(describe(ON_KUBERNETES, {KUBECONFIG: kubeconfig}))
    assert found.sentence == f"The kubeconfig {kubeconfig} has no context 'minikube'."


def test_settings_of_rollouts_that_are_missing(describe: Describe) -> None:
    (found,) = network_problems(describe({"HEALTHPREDICT_ROLLOUT__TARGET": "kubernetes"}))
    assert (
        "are not set: HEALTHPREDICT_KUBECONFIG, HEALTHPREDICT_ROLLOUT__CONTEXT, HEALTHPREDICT_IMAGE_REPOSITORY."
        in found.sentence
    )


# docker-compose/.env


MISSPELT = "HEALTHPREDICT_" + "KUBECONFG"


def test_variables_that_no_service_reads(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        f"# {MISSPELT}=x\n{MISSPELT}=./x\nHEALTH_PREDICT_WEBHOOK_URL=x\nHEALTHPREDICT_SEARCH__N_TRIALS=20\n"
        "HEALTHPREDICT_DATA_URI=s3://health\nHEALTHPREDICT_MLFLOW_DATABASE_URL=x\nHEALTHPREDICT_WEBHOOK_URL=x\nHEALTHPREDICT_BACKUP_URI=\nPYTHON_IMAGE=python\n"
    )
    project = ComposeProject(["docker", "compose", "-f", "docker-compose/compose.yaml"])
    found = [str(problem) for problem in run_checks(list(env_checks(project, file)))]
    assert [text.split(",")[0] for text in found] == [
        f"docker-compose/.env sets {MISSPELT}",
        "docker-compose/.env sets HEALTH_PREDICT_WEBHOOK_URL",
        "docker-compose/.env sets HEALTHPREDICT_SEARCH__N_TRIALS",
        "docker-compose/.env sets HEALTHPREDICT_DATA_URI",
        "docker-compose/.env sets HEALTHPREDICT_MLFLOW_DATABASE_URL",
    ]
    assert "the nearest name is HEALTHPREDICT_KUBECONFIG" in found[0]
    assert "the nearest name is HEALTHPREDICT_WEBHOOK_URL" in found[1]
    assert "Prefect's variable health_predict_settings" in found[2]
    assert "which only services on S3 read. Fix: use AWS=1" in found[3]
    assert "which only services on your own Postgres read. Fix: use POSTGRES=1" in found[4]
    on_s3 = ComposeProject([*project.command, "-f", "docker-compose/compose.aws.yaml"])
    assert [str(problem) for problem in run_checks(list(env_checks(on_s3, file)))] == [*found[:3], found[4]]


def test_the_file_that_make_writes_is_no_problem(tmp_path: Path) -> None:
    script = (Path(__file__).parents[2] / "docker-compose/make-secrets").read_text()
    file = tmp_path / ".env"
    file.write_text(script.partition("<<ENV\n")[2].partition("\nENV")[0].replace("=\n", "=x\n"))
    project = ComposeProject(["docker", "compose", "-f", "docker-compose/compose.yaml"])
    checks = list(env_checks(project, file))
    assert len(checks) >= 5
    assert run_checks(checks) == []
