"""Files and folders that Docker would create wrongly, or that containers cannot use, are reported with what fixes them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from described_services import Describe, FakeDocker

from healthpredict.doctor.files import AWS, HOSPITAL, KUBECONFIG, PREDICTION_LOG, file_checks
from healthpredict.doctor.problem import Problem, run_checks
from healthpredict.doctor.project import CONTAINER_UID, ComposeProject
from healthpredict.doctor.set_up_command import set_up_command

ON_KUBERNETES = {"HEALTHPREDICT_ROLLOUT__TARGET": "kubernetes"}
AS_ROOT = os.geteuid() == 0


def problems(project: ComposeProject) -> list[Problem]:
    return run_checks(list(file_checks(project)))


def only(project: ComposeProject) -> Problem:
    (found,) = problems(project)
    return found


def test_a_log_folder_that_docker_would_create_as_root(describe: Describe, tmp_path: Path) -> None:
    folder = tmp_path / "prediction log"
    project = describe(mounts={PREDICTION_LOG: folder})
    found = only(project)
    assert found.sentence == f"The log folder {folder} does not exist; Docker would create it as root."
    assert found.fix == f"sudo install -d -o {CONTAINER_UID} -g {CONTAINER_UID} -m 750 '{folder}'"
    if AS_ROOT:
        subprocess.run(found.fix.removeprefix("sudo "), shell=True, check=True)
        assert problems(project) == []


def test_a_log_folder_of_another_user(describe: Describe, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    project = describe(mounts={PREDICTION_LOG: folder})
    found = only(project)
    assert found.sentence == (
        f"The log folder {folder} belongs to user {os.geteuid()} and has mode 755, "
        f"so user {CONTAINER_UID} of the containers cannot write to it."
    )
    if AS_ROOT:
        subprocess.run(found.fix.removeprefix("sudo "), shell=True, check=True)
    else:
        folder.chmod(0o777)
    assert problems(project) == []


def test_a_log_folder_that_is_a_file(describe: Describe, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("")
    assert "is not a folder" in only(describe(mounts={PREDICTION_LOG: file})).sentence


def test_a_kubeconfig_that_is_missing(describe: Describe, tmp_path: Path) -> None:
    file = tmp_path / "deployer"
    found = only(describe({"HEALTHPREDICT_ROLLOUT__CONTEXT": "ward"}, {KUBECONFIG: file}))
    assert found.sentence == f"The kubeconfig {file} does not exist; Docker would create a folder of that name."
    assert found.fix == set_up_command(str(file), "ward")
    assert not file.exists()


def test_the_command_that_creates_a_kubeconfig_is_that_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/operate.md").read_text()
    step = re.search(r"```bash\n( +HEALTHPREDICT_KUBECONFIG=.+?)```", page, re.DOTALL)
    assert step is not None
    documented = " && ".join(line.strip() for line in step[1].replace("\\\n", "").strip().splitlines())
    command = set_up_command("docker-compose/secrets/deployer-kubeconfig", "minikube").partition(";")[0]
    assert command.replace("NAME", "minikube").split() == documented.split()


def test_a_kubeconfig_that_docker_has_made_a_folder(describe: Describe, tmp_path: Path) -> None:
    found = only(describe(mounts={KUBECONFIG: tmp_path}))
    assert "is a folder, which Docker creates if the file is missing" in found.sentence
    assert found.fix.startswith(f"sudo rmdir {tmp_path} && ")


def test_a_kubeconfig_that_containers_cannot_read(describe: Describe, tmp_path: Path) -> None:
    file = tmp_path / "deployer"
    file.write_text("")
    file.chmod(0o600)
    project = describe(mounts={KUBECONFIG: file})
    found = only(project)
    assert f"cannot be read by user {CONTAINER_UID}" in found.sentence
    subprocess.run(found.fix, shell=True, check=True)
    assert problems(project) == []


def test_no_kubeconfig_is_none(describe: Describe) -> None:
    assert problems(describe(mounts={KUBECONFIG: Path("/dev/null"), AWS: Path("/dev/null")})) == []


def test_a_folder_of_credentials_without_a_config(describe: Describe, tmp_path: Path) -> None:
    project = describe(mounts={AWS: tmp_path})
    assert only(project).sentence == f"{tmp_path} has no file config with the credentials of AWS."
    (tmp_path / "config").write_text("")
    (tmp_path / "config").chmod(0o644)
    tmp_path.chmod(0o755)
    assert problems(project) == []


@pytest.mark.parametrize("closed", ["aws", "aws/config", "aws/credentials.json"])
def test_credentials_that_containers_cannot_read_are_not_opened_to_everybody(
    describe: Describe, tmp_path: Path, closed: str
) -> None:
    folder = tmp_path / "aws"
    folder.mkdir()
    for name in ("config", "credentials.json"):
        (folder / name).write_text("")
        (folder / name).chmod(0o644)
    folder.chmod(0o755)
    project = describe(mounts={AWS: folder})
    assert problems(project) == []
    (tmp_path / closed).chmod(0o700)
    found = only(project)
    assert (
        found.sentence
        == f"The credentials of AWS in {folder} cannot be read by user {CONTAINER_UID} of the containers."
    )
    if AS_ROOT:
        subprocess.run(found.fix.replace("sudo ", ""), shell=True, check=True)
        assert problems(project) == []
        assert (tmp_path / closed).stat().st_mode & 0o007 == 0


def test_a_folder_of_the_hospital_that_containers_cannot_read(describe: Describe, tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    project = describe(mounts={HOSPITAL: folder})
    assert "does not exist; Docker would create it as a folder of root" in only(project).sentence
    folder.write_text("")
    assert only(project).sentence == f"{folder} is not a folder."
    folder.unlink()
    folder.mkdir(mode=0o700)
    found = only(project)
    assert f"cannot be read by user {CONTAINER_UID}" in found.sentence
    subprocess.run(found.fix, shell=True, check=True)
    assert problems(project) == []


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "postgres-password"


@pytest.fixture
def with_secret(describe: Describe, secret: Path) -> ComposeProject:
    volumes = {"postgres": {"name": "health-predict_postgres"}}
    # A release may bring a new password that no database has.
    files = {"postgres-password": secret, "api-key": secret.with_name("api-key")}
    return describe(secrets={name: {"file": str(path)} for name, path in files.items()}, volumes=volumes)


def test_a_password_that_is_missing_is_created_unless_a_database_has_it(
    with_secret: ComposeProject, secret: Path, docker: FakeDocker
) -> None:
    assert problems(with_secret) == []
    docker('"volume inspect health-predict_postgres") exit 0 ;;')
    assert "is missing, but the databases in volume health-predict_postgres" in only(with_secret).sentence
    secret.parent.mkdir()
    secret.write_text("")
    assert "is missing, but" in only(with_secret).sentence, "an empty file is no password"
    secret.write_text("password")
    secret.chmod(0o444)
    assert problems(with_secret) == []


def test_a_password_that_containers_cannot_read(with_secret: ComposeProject, secret: Path) -> None:
    secret.parent.mkdir()
    secret.write_text("password")
    secret.chmod(0o400)
    found = only(with_secret)
    assert "password" not in found.sentence.replace("The password", "").replace(str(secret), "")
    subprocess.run(found.fix, shell=True, check=True)
    assert problems(with_secret) == []


def test_a_password_that_docker_has_made_a_folder(with_secret: ComposeProject, secret: Path) -> None:
    secret.mkdir(parents=True)
    assert only(with_secret).sentence == f"The password {secret} is a folder."


def test_a_deploy_worker_without_the_group_of_the_socket(
    describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "docker.sock"
    monkeypatch.setattr("healthpredict.doctor.files.SOCKET", str(socket))
    project = describe(ON_KUBERNETES)
    socket.touch()
    group = socket.stat().st_gid
    project.model["services"]["deploy-worker"]["group_add"] = [str(group + 1)]
    assert only(project).fix == f"set HEALTHPREDICT_DOCKER_GID={group} in docker-compose/.env"
    project.model["services"]["deploy-worker"]["group_add"] = [str(group)]
    assert problems(project) == []


def test_an_engine_with_another_socket(describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "docker.sock"
    monkeypatch.setattr("healthpredict.doctor.files.SOCKET", str(socket))
    found = only(describe(ON_KUBERNETES, {str(socket): socket}))
    assert found.sentence == (
        f"There is no socket {socket}, although the Docker engine responds: it is rootless, or not of this machine."
    )
    assert "systemctl" not in found.fix, "the engine runs"
