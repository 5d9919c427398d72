"""MLflow's SQLite store: after a kill or with another MLflow, the next start works or reports why it does not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.chaos.killed_migrations import kill_while, run
from healthpredict.errors import RegistryError
from healthpredict.registry import sqlite_store
from healthpredict.registry.models import Registry
from healthpredict.registry.sqlite_store import prepare_store


def connect(folder: Path) -> Registry:
    return Registry(f"sqlite:///{folder / 'mlflow.db'}", "readmission", folder)


def test_every_start_after_a_kill_works() -> None:
    assert run(kills=5) == {"kills": 5, "failed_starts": 0}


def build_as_mlflow_does(folder: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    _initialize_tables(create_sqlalchemy_engine(f"sqlite:///{folder / 'mlflow.db'}"))


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.4, 0.6])
def test_a_store_that_mlflow_itself_left_half_built_is_built_again(tmp_path: Path, seconds: float) -> None:
    import mlflow.store.db.utils  # noqa: F401 -- so that the forked process has it

    kill_while(build_as_mlflow_does, tmp_path, seconds)
    connect(tmp_path).open_run("a run", {"trigger": "test"})


def build_old(folder: Path, *, revision: str, run: bool) -> Path:
    """A store as an earlier MLflow left it. Args: revision, of its schema; run, whether it holds one."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    path = folder / "mlflow.db"
    engine = create_sqlalchemy_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    if run:
        with closing(sqlite3.connect(path)) as store, store:
            store.execute("INSERT INTO experiments VALUES (0, 'Default', 'there', 'active')")
            columns = "run_uuid, name, status, lifecycle_stage, experiment_id, start_time, user_id"
            store.execute(f"INSERT INTO runs ({columns}) VALUES ('r1', 'old', 'FINISHED', 'active', 0, 1, 'me')")
    return path


REGISTRY_TABLES = "2b4d017a5e9b"
BEFORE_REGISTRY_TABLES = "89d4b8295536"


def test_a_store_of_an_older_mlflow_is_upgraded_with_what_it_holds(tmp_path: Path) -> None:
    build_old(tmp_path, revision=REGISTRY_TABLES, run=True)
    registry = connect(tmp_path)
    assert registry.client.get_run("r1").info.run_name == "old"
    registry.open_run("a run", {"trigger": "test"})


def left_half_way(path: Path) -> None:
    """As after a kill: a table of the next step exists, but not its revision."""
    with closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE registered_models (x INTEGER)")


def test_an_empty_store_that_was_left_half_way_is_built_again(tmp_path: Path) -> None:
    left_half_way(build_old(tmp_path, revision=BEFORE_REGISTRY_TABLES, run=False))
    connect(tmp_path).open_run("a run", {"trigger": "test"})


def test_a_store_with_runs_that_was_left_half_way_is_never_thrown_away(tmp_path: Path) -> None:
    path = build_old(tmp_path, revision=BEFORE_REGISTRY_TABLES, run=True)
    left_half_way(path)
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"cannot be upgraded .* Restore a backup"):
        connect(tmp_path)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_mlflow_is_left_alone(tmp_path: Path) -> None:
    path = build_old(tmp_path, revision=REGISTRY_TABLES, run=True)
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'fffffffffff'")
    before = path.read_bytes()
    with pytest.raises(RegistryError, match="written by a newer MLflow"):
        connect(tmp_path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    with pytest.raises(RegistryError, match="cannot be upgraded"):
        connect(tmp_path)
    assert (tmp_path / "mlflow.db").read_text() == "not a database"


def test_a_store_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    connect(tmp_path)
    path = tmp_path / "mlflow.db"
    before = path.stat()
    prepare_store(path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_store_that_another_process_holds_for_too_long_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_LOCK_SECONDS", 0.1)
    with (
        FileLock(tmp_path / "mlflow.db.lock"),
        pytest.raises(RegistryError, match=r"Another process builds or upgrades .*mlflow\.db and has not finished"),
    ):
        prepare_store(tmp_path / "mlflow.db")
