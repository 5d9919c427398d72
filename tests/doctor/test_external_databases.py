"""The doctor's checks of databases outside the services, and the compose files that use them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from healthpredict.config import Settings
from healthpredict.doctor import databases
from healthpredict.doctor.databases import database_problem
from healthpredict.errors import StorageError

ROOT = Path(__file__).parents[2]
URL = "postgresql://someone@db.example:5432/prefect"
SETTINGS = Settings(external_databases=(URL,), backup_databases=(URL,))
BY_URL = [
    ("mysql://someone@db.example/prefect", "is not postgresql://user@host:port/name"),
    ("postgresql://db.example/prefect", "is not postgresql://user@host:port/name"),
    ("postgresql://someone:secret@db.example/prefect", "contains a password"),
    (f"{URL}?sslmode=require", "has options"),
]


@pytest.mark.parametrize(("url", "sentence"), BY_URL)
def test_a_url_that_cannot_be_used_is_reported_without_its_password(url: str, sentence: str) -> None:
    problem = database_problem(SETTINGS, url)
    assert problem is not None and sentence in str(problem)
    assert "secret@" not in str(problem)


@pytest.mark.parametrize(
    ("server", "client", "sentence"),
    [(13, 15, "Postgres 13 at db.example is too old"), (17, 15, "pg_dump 15 cannot back up a database of Postgres 17")],
)
def test_a_version_that_cannot_be_used_is_reported(
    monkeypatch: pytest.MonkeyPatch, server: int, client: int, sentence: str
) -> None:
    monkeypatch.setattr(databases, "postgres_versions", lambda url: (server, client))
    assert sentence in str(database_problem(SETTINGS, URL))


def test_without_our_backups_a_newer_postgres_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "postgres_versions", lambda url: (17, 15))
    assert database_problem(SETTINGS.model_copy(update={"backup_databases": ()}), URL) is None


def test_a_database_that_refuses_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> tuple[int, int]:
        raise StorageError("Cannot query the database prefect: password authentication failed")

    monkeypatch.setattr(databases, "postgres_versions", refuse)
    assert (
        "The database prefect cannot be used: Cannot query the database prefect: password authentication failed. Fix: correct"
        in str(database_problem(SETTINGS, URL))
    )


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker compose is not there")
def test_no_service_depends_on_a_postgres_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_PREFECT_DATABASE_URL", URL)
    monkeypatch.setenv("HEALTHPREDICT_MLFLOW_DATABASE_URL", URL.replace("prefect", "mlflow"))
    files = ("-f", "docker-compose/compose.yaml", "-f", "docker-compose/compose.postgres.yaml")
    command = ["docker", "compose", *files, "--profile", "*", "config", "--format", "json"]
    model = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    services = model["services"]
    assert "postgres" not in services and "postgres" not in model["volumes"]
    assert "postgres-password" not in model["secrets"]
    assert not [name for name, service in services.items() if "postgres" in (service.get("depends_on") or {})]
    urls = [URL, URL.replace("prefect", "mlflow")]
    for name in ("prefect-server", "mlflow", "deploy-worker", "restore"):
        environment = services[name]["environment"]
        assert [environment[f"HEALTHPREDICT_{server}_DATABASE_URL"] for server in ("PREFECT", "MLFLOW")] == urls
        assert environment["PGSSLMODE"] == "require"
    assert json.loads(services["deploy-worker"]["environment"]["HEALTHPREDICT_BACKUP_DATABASES"]) == urls
    assert json.loads(services["deploy-worker"]["environment"]["HEALTHPREDICT_EXTERNAL_DATABASES"]) == urls
