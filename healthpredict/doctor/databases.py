"""Databases of Prefect and MLflow in a Postgres outside the services."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from healthpredict.config import Settings
from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import last_line
from healthpredict.errors import StorageError
from healthpredict.storage.databases import database_name, postgres_versions

_OLDEST: Final = 14
"""Prefect's documentation, "How to self-host the Prefect server"."""


def database_checks(settings: Settings) -> Iterator[Check]:
    """One check for each database."""
    for url in settings.external_databases:
        yield Check(f"the database {database_name(url)}", partial(database_problem, settings, url))


def database_problem(settings: Settings, url: str) -> Problem | None:
    """Whether a database responds, accepts its user, and can be used and dumped."""
    parts = urlsplit(url)
    if parts.scheme != "postgresql" or not (parts.username and parts.hostname and database_name(url)):
        return Problem(
            "The URL of a database is not postgresql://user@host:port/name.", "correct it in docker-compose/.env"
        )
    if parts.password:
        return Problem(
            f"The URL of the database {database_name(url)} contains a password, which docker inspect would show.",
            "move it to prefect-database-password or mlflow-database-password in docker-compose/secrets",
        )
    if parts.query:
        return Problem(
            f"The URL of the database {database_name(url)} has options, which not all clients understand.",
            "delete them, and set HEALTHPREDICT_DATABASE_SSLMODE and HEALTHPREDICT_DATABASE_CA",
        )
    try:
        server, client = postgres_versions(url)
    except StorageError as error:
        return Problem(
            f"The database {database_name(url)} cannot be used: {last_line(str(error))}.",
            "correct its URL in docker-compose/.env, or its password in docker-compose/secrets",
        )
    if server < _OLDEST:
        return Problem(f"Postgres {server} at {parts.hostname} is too old.", f"use Postgres {_OLDEST} or newer")
    if server > client and url in settings.backup_databases:
        return Problem(
            f"pg_dump {client} cannot back up a database of Postgres {server}.",
            "set HEALTHPREDICT_BACKUP_DATABASES=[] in docker-compose/.env, and use the backups of your Postgres",
        )
    return None
