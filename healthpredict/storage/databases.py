"""Copy and restore databases that are in use: SQLite and Postgres."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Final

from healthpredict.errors import ConfigurationError, StorageError

_MAGIC: Final = b"SQLite format 3\0"
_CLIENT: Final = {"LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"}
_ARTIFACT_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
"""Columns in which MLflow stores absolute paths."""


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database with the ending `.db`."""
    if path.suffix != ".db":
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database with SQLite's backup, so that the copy has only whole transactions of other writers.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=60)) as reading,
            contextlib.closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
    except sqlite3.Error as error:
        raise StorageError(f"Cannot copy the database {source}: {error}. Try again when it is less busy.") from error


def move_artifacts(database: Path, old: str, new: str) -> None:
    """Replace the artifact folder in all URIs of MLflow's SQLite database, after the artifacts were moved.

    Args:
        database: of MLflow.
        old: URI of the former folder.
        new: URI of the present folder.

    Raises:
        StorageError: it cannot be changed.
    """
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            for table, column in _ARTIFACT_COLUMNS:
                change = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"  # noqa: S608 -- constants
                connection.execute(change, (new, len(old) + 1, len(old), old))
    except sqlite3.Error as error:
        raise StorageError(
            f"Cannot change the database {database}: {error}. Restore into an empty installation again."
        ) from error


def database_name(url: str) -> str:
    """The last part of a Postgres URL."""
    return url.rpartition("/")[2].partition("?")[0]


def postgres_versions(url: str) -> tuple[int, int]:
    """Return the major versions of a Postgres server and of pg_dump here.

    Raises:
        StorageError: the database does not respond, or refuses the user.
        ConfigurationError: the Postgres client is not installed.
    """
    query = "SELECT current_setting('server_version_num')::int / 10000"
    command = ["psql", "--no-password", "--tuples-only", "--no-align", f"--command={query}", url]
    server = _run(command, f"query the database {database_name(url)}")
    client = _run(["pg_dump", "--version"], "read the version of pg_dump")
    return int(server), int(client.split()[2].partition(".")[0])


def dump_postgres(url: str, target: Path) -> None:
    """Write one consistent dump of a Postgres database.

    Args:
        url: `postgresql://user@host:port/name`. The password is in the file that PGPASSFILE names.
        target: file in pg_dump's custom format.

    Raises:
        StorageError: pg_dump failed.
        ConfigurationError: pg_dump is not installed.
    """
    _run(
        ["pg_dump", "--no-password", "--format=custom", f"--file={target}", url],
        f"dump the database {database_name(url)}",
    )


def is_empty_postgres(url: str) -> bool:
    """Whether a Postgres database has no tables.

    Raises:
        StorageError: it cannot be queried.
    """
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    command = ["psql", "--no-password", "--tuples-only", "--no-align", f"--command={query}", url]
    return _run(command, f"query the database {database_name(url)}").strip() == "0"


def restore_postgres(url: str, dump: Path) -> None:
    """Restore a dump into an empty database, in one transaction.

    Raises:
        StorageError: pg_restore failed. The database was not changed.
    """
    options = ["--no-password", "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
    _run(["pg_restore", *options, f"--dbname={url}", str(dump)], f"restore the database {database_name(url)}")


def _run(command: list[str], purpose: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _CLIENT)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"Cannot {purpose}: {command[0]} is not installed. Install the Postgres client."
        ) from error
    if done.returncode != 0:
        raise StorageError(f"Cannot {purpose}: {done.stderr.strip() or f'{command[0]} failed'}")
    return done.stdout
