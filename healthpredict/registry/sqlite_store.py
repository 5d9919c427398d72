"""Build and upgrade MLflow's SQLite store so that a kill at any point leaves the old store or the new one.

MLflow migrates in place, and SQLite commits each step of a migration separately. A store whose migration was killed can neither be
used nor migrated again. So a migration runs on a copy, under a lock, and the copy replaces the store when it is complete.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from healthpredict.errors import RegistryError

_LOCK_SECONDS = 600
_DATA_TABLES = ("runs", "registered_models", "model_versions")
_logger = logging.getLogger(__name__)


def prepare_store(path: Path) -> None:
    """Create a store, or upgrade it to the schema of the installed MLflow. A store that is up to date stays unchanged.

    Args:
        path: of the SQLite file.

    Raises:
        RegistryError: the store is damaged or was written by a newer MLflow, or another process holds its lock for too long.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision

    path.parent.mkdir(parents=True, exist_ok=True)
    head = _get_latest_schema_revision()
    if _revision(path) == head:
        return
    with _locked(path):
        revision = _revision(path)
        if revision == head:
            return
        if revision is not None and revision not in _known_revisions():
            raise RegistryError(
                f"{path} has the schema revision {revision}, which the installed MLflow does not know: it was written by "
                "a newer MLflow. Install that version, or restore a backup."
            )
        migrated = path.with_name(f"{path.name}.new")
        _remove(migrated)
        try:
            _copy(path, migrated)
            _migrate(migrated)
        except Exception as error:  # MLflow, Alembic and SQLAlchemy raise errors of many classes
            if not _is_empty(path):
                raise RegistryError(
                    f"{path} (schema revision {revision}) cannot be upgraded to {head}: {type(error).__name__}. The file is "
                    "unchanged. Restore a backup, or install the MLflow that wrote it."
                ) from error
            _logger.warning(
                "%s was left incomplete by a killed process and contains no runs, so it is created again.", path
            )
            _remove(migrated)
            _migrate(migrated)
        # A remaining journal belongs to the store that is being replaced.
        for suffix in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        migrated.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=_LOCK_SECONDS).acquire()
    except Timeout as error:
        raise RegistryError(
            f"Another process builds or upgrades {path} and has not finished within {_LOCK_SECONDS} s. Wait for it to end, then "
            "start again."
        ) from error
    with lock:
        yield


def _revision(path: Path) -> str | None:
    """Read the schema revision of a store. Returns: None if there is no store or it has no revision."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as store:
            row = store.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError:  # no such table, or no database
        return None
    return str(row[0]) if row else None


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return {script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()}


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        with closing(sqlite3.connect(source)) as store, closing(sqlite3.connect(target)) as copy:
            store.backup(copy)


def _migrate(path: Path) -> None:
    """Migrate a copy. It is written to disk once at the end, because hundreds of commits with one sync each take seconds."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables, _upgrade_db, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(f"sqlite:///{path}")
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    try:
        (_initialize_tables if _revision(path) is None else _upgrade_db)(engine)
    finally:
        engine.dispose()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_empty(path: Path) -> bool:
    """Return whether a store contains no run and no model. A store that cannot be read may contain some."""
    if not path.exists() or not path.stat().st_size:
        return True
    try:
        with closing(sqlite3.connect(path)) as store:
            tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return not any(
                store.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()  # noqa: S608 -- constant names
                for name in _DATA_TABLES
                if name in tables
            )
    except sqlite3.DatabaseError:
        return False


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
