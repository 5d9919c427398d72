"""The stack with `compose.postgres.yaml`: Prefect and MLflow on a Postgres that is none of the services, over TLS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.own_postgres import PASSWORDS, OwnPostgres
from tests.e2e.stack import REPORTS, SECRETS, Stack, needs_docker

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    needs_docker,
]
FILES = ("docker-compose/compose.yaml", "docker-compose/compose.postgres.yaml", "tests/e2e/compose.network.yaml")
VARIABLE = "of_the_hospital"
EXPERIMENT = "of the hospital"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    postgres = OwnPostgres(f"hp-e2e-postgres-{os.getpid()}", tmp_path_factory.mktemp("certificates"))
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.destroy()


@pytest.fixture(scope="module")
def built(postgres: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Images, and passwords of which those of the databases are the hospital's."""
    secrets = tmp_path_factory.mktemp("secrets")
    secrets.chmod(0o755)
    stack = Stack(
        f"hp-e2e-own-{os.getpid()}",
        FILES,
        DATABASE_NETWORK=postgres.name,
        HEALTHPREDICT_SECRETS_DIR=str(secrets),
        HEALTHPREDICT_PREFECT_DATABASE_URL=postgres.url("prefect"),
        HEALTHPREDICT_MLFLOW_DATABASE_URL=postgres.url("mlflow"),
        HEALTHPREDICT_DATABASE_SSLMODE="verify-full",
        HEALTHPREDICT_DATABASE_CA=str(postgres.authority),
    )
    try:
        stack.build()
        for path in SECRETS.iterdir():
            shutil.copy(path, secrets / path.name)
        (secrets / "postgres-password").unlink()
        for server, password in PASSWORDS.items():
            path = secrets / f"{server}-database-password"
            path.unlink()
            path.write_text(password)
            path.chmod(0o444)
        yield stack
    finally:
        (REPORTS / "services-on-own-postgres.log").write_text(stack.compose("logs", "--no-color"))
        stack.destroy()


@pytest.fixture(scope="module")
def stack(built: Stack) -> Stack:
    """With a variable of Prefect and an experiment of MLflow."""
    built.make("up")
    built.cli("variable", "set", VARIABLE, '"kept"')
    url = f"{built.mlflow}/api/2.0/mlflow/experiments/create"
    made = httpx.post(url, json={"name": EXPERIMENT}, auth=built.mlflow_password(), trust_env=False, timeout=30)
    made.raise_for_status()
    return built


def kept(stack: Stack) -> tuple[str, str]:
    """The variable and the experiment, as the servers return them."""
    experiment = stack.mlflow_answer("experiments/get-by-name", experiment_name=EXPERIMENT)["experiment"]
    return stack.cli("variable", "get", VARIABLE), experiment["experiment_id"]


def test_a_wrong_password_is_reported_before_anything_starts(built: Stack) -> None:
    path = Path(built.environment["HEALTHPREDICT_SECRETS_DIR"]) / "mlflow-database-password"
    right = path.read_text()
    path.unlink()
    path.write_text("wrong")
    try:
        with pytest.raises(AssertionError) as error:
            built.make("up")
    finally:
        path.write_text(right)
        path.chmod(0o444)
    assert "The database mlflow_of_hospital cannot be used" in str(error.value)
    assert "its password in docker-compose/secrets" in str(error.value)
    assert built.compose("ps", "--all", "--services").split() == []


def test_no_postgres_of_ours_is_started(stack: Stack) -> None:
    assert "postgres" not in stack.compose("ps", "--all", "--services").split()
    volumes = subprocess.run(["docker", "volume", "ls", "--quiet"], check=True, capture_output=True, text=True).stdout
    assert f"{stack.name}_data" in volumes and f"{stack.name}_postgres" not in volumes


def test_both_servers_connect_over_tls(stack: Stack, postgres: OwnPostgres) -> None:
    found = postgres.query(
        "SELECT DISTINCT usename, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename LIKE 'hospital%' ORDER BY 1"
    )
    assert found == ["hospital_mlflow|t", "hospital_prefect|t"]


def test_no_password_is_in_an_argument_or_in_what_docker_shows(stack: Stack) -> None:
    containers = stack.compose("ps", "--quiet").split()
    shown = subprocess.run(["docker", "inspect", *containers], check=True, capture_output=True, text=True).stdout
    running = "\n".join(stack.compose("top", service) for service in ("prefect-server", "mlflow", "deploy-worker"))
    password = PASSWORDS["prefect"]
    assert password not in running
    assert password not in shown and json.dumps(password)[1:-1] not in shown
    assert all(variable in shown for variable in ("PGSSLMODE=verify-full", postgres_url(stack)))


def postgres_url(stack: Stack) -> str:
    return f"HEALTHPREDICT_PREFECT_DATABASE_URL={stack.environment['HEALTHPREDICT_PREFECT_DATABASE_URL']}"


def test_what_the_servers_store_survives_them(stack: Stack) -> None:
    before = kept(stack)
    assert "kept" in before[0]
    stack.make("down")
    stack.make("up")
    assert kept(stack) == before


def test_a_backup_has_both_databases_and_is_restored_into_empty_ones(
    stack: Stack, postgres: OwnPostgres, tmp_path: Path
) -> None:
    before = kept(stack)
    archive = stack.make("backup", f"TO={tmp_path}").splitlines()[-1]
    stack.compose("--profile", "*", "down", "--volumes", "--timeout", "5")
    postgres.create_databases()
    stack.make("restore", f"FILE={archive}")
    stack.make("up")
    assert kept(stack) == before
