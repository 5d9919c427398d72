"""A backup of what is written to meanwhile is complete, and comes back elsewhere."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bundles import build_tiny_bundle
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError, NotFound, StorageError
from healthpredict.operations import backup as module
from healthpredict.operations.backup import backup, backups
from healthpredict.operations.check_ledger import check_ledger
from healthpredict.operations.installation import Installation
from healthpredict.operations.patient_key import ensure_patient_key
from healthpredict.operations.restore import restore
from healthpredict.operations.status import status
from healthpredict.rollout.ports import free_port
from healthpredict.storage.key_file import add_key
from healthpredict.storage.layout import Layout
from healthpredict.storage.uris import write_bytes

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
LOG = """
import sys, time
from pathlib import Path
from healthpredict.prediction_log.rolled_file import LogLimits, RolledFile
file, n = RolledFile(Path(sys.argv[1]), "predictions", LogLimits()), 0
print("logging", flush=True)
while True:
    for _ in range(5):
        file.append(b'{"row": %d}\\n' % n, 1)
        n += 1
        time.sleep(.02)
    file.close()
"""


def settings_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    names = {"DATA_URI": str(folder / "state" / "data"), "STATE_PATH": str(folder / "state"), **more}
    for name, value in ({"BACKUP_URI": str(folder.parent / "backups"), "ROLLOUT__TARGET": "none"} | names).items():
        monkeypatch.setenv(f"HEALTHPREDICT_{name}", value)
    return Settings()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A small installation with a champion, keys, batches and a ledger."""
    settings = settings_in(tmp_path / "one", monkeypatch)
    settings.state_path.mkdir(parents=True)
    registry = Installation(settings).registry
    run_id = registry.open_run(settings.model_name, {"trigger": "initial"})
    version = registry.reserve_version(run_id)
    registry.complete_version(run_id, build_tiny_bundle(tmp_path / "built", model_version=version), {})
    registry.close_run(run_id)
    registry.make_champion(version)
    ensure_patient_key(Installation(settings))
    add_key(settings.api_keys_path, "ward")
    layout = Layout(settings.data_uri)
    for name in ("batch-01", "batch-02"):
        write_bytes(layout.batch(name), b"encounter_id\n1\n")
        write_bytes(layout.outcomes(name), b"encounter_id,readmitted\n1,NO\n")
        Installation(settings).ledger.append("batch", batch=name, decision="stable", reasons=[])
    return settings


@pytest.fixture
def rotating_log(settings: Settings) -> Iterator[Path]:
    """Another process that logs and closes a file ten times a second."""
    folder = settings.prediction_log_path
    folder.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", LOG, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"logging\n"
    yield folder
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server of its own; it refuses to run as root."""
    data = Path(tempfile.mkdtemp(prefix="pg"))
    port = free_port()
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    if user:
        shutil.chown(data, **user)
    initdb, server = str(POSTGRES[-1] / "initdb"), str(POSTGRES[-1] / "postgres")
    where = {"cwd": data, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | user
    subprocess.run(
        [initdb, "--username=test", "--auth=trust", "--no-sync", "-D", str(data / "db")], check=True, **where
    )
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
    process = subprocess.Popen([server, "-D", str(data / "db"), *options], **where)
    url = f"postgresql://test@127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["pg_isready", "--quiet", f"--dbname={url}/postgres"], check=False).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(data)


def rows(folder: Path, names: str = "*") -> list[str]:
    return sorted(
        line for path in folder.glob(f"predictions-{names}") for line in path.read_text().splitlines() if line
    )


def test_a_backup_while_a_log_rotates_comes_back_elsewhere(
    settings: Settings, rotating_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(2000):  # enough to read that the log rotates meanwhile
        (rotating_log / f"predictions-20250101T000000.{n:06d}-00000000-1-9.jsonl").write_text(f'{{"old": {n}}}\n')
    before = rows(rotating_log, "*.jsonl")
    champion = Installation(settings).registry.by_alias("champion")
    key = ensure_patient_key(Installation(settings))
    made = [backup(Installation(settings)) for _ in range(3)][-1]
    events = Installation(settings).ledger.events()
    shutil.move(tmp_path / "one", tmp_path / "gone")

    elsewhere = settings_in(tmp_path / "two", monkeypatch)
    result = CliRunner().invoke(app, ["restore", "--json"])
    assert result.exit_code == 0, result.output
    restored = Installation(elsewhere).ledger.events()
    assert restored == events[: len(restored)]
    assert check_ledger(Installation(elsewhere)).altered is None
    assert ensure_patient_key(Installation(elsewhere)) == key
    found = Installation(elsewhere).registry.by_alias("champion")
    assert found == champion
    assert found is not None
    Installation(elsewhere).registry.fetch_bundle(found).verify()
    after = rows(elsewhere.prediction_log_path)
    assert set(before) <= set(after)
    assert len(after) == len(set(after)), "a file of the log that was renamed meanwhile came back twice"
    assert {path.name for path in (tmp_path / "two" / "state" / "data" / "batches").iterdir()} == {
        "batch-01.csv",
        "batch-02.csv",
    }
    assert elsewhere.patient_key_path.stat().st_mode & 0o777 == 0o600
    assert Path(made.uri).stat().st_mode & 0o777 == 0o600


def test_what_must_be_in_it_is_listed_and_is_in_the_ledger(settings: Settings) -> None:
    made = backup(Installation(settings))
    with tarfile.open(made.uri) as archive:
        names = set(archive.getnames())
    assert {
        "backup.json",
        "ledger/000001.json",
        "ledger/000003.json",
        "state/mlflow.db",
        "state/patient-key",
        "state/api-keys.json",
        "data/batches/batch-01.csv",
        "data/outcomes/batch-02.csv",
    } <= names
    assert not [name for name in names if name.endswith((".lock", "-wal")) or "/.backup-" in name or "leases" in name]
    assert made.counts["ledger"] == 3
    assert made.counts["batches"] == made.counts["outcomes"] == 2
    assert made.counts["databases"] == 1
    assert made.counts["models"] > 0
    event = Installation(settings).ledger.last("backup")
    assert event is not None
    assert {name: event[name] for name in ("uri", "sha256", "bytes", "counts")} == made.model_dump(exclude={"deleted"})
    assert list(settings.state_path.glob(".backup-*")) == []


def test_a_file_that_is_missing_in_the_archive_fails_the_backup(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = module.list_archive
    monkeypatch.setattr(
        module, "list_archive", lambda path: {n: s for n, s in listing(path).items() if n != "state/patient-key"}
    )
    with pytest.raises(StorageError, match=r"not complete: 1 files are missing or empty \(state/patient-key\)"):
        backup(Installation(settings))
    assert backups(Installation(settings)) == []
    assert Installation(settings).ledger.last("backup") is None


def test_so_many_are_kept_as_configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(settings.backup_place)
    folder.mkdir(parents=True)
    for day in range(1, 5):
        (folder / f"health-predict-2026010{day}T000000Z.tar.gz").touch()
    (folder / "health-predict-notes.txt").touch()
    made = backup(Installation(settings.model_copy(update={"backups_kept": 3})))
    assert backups(Installation(settings))[-1] == made.uri
    assert [Path(uri).name[15:23] for uri in made.deleted] == ["20260101", "20260102"]
    assert len(backups(Installation(settings))) == 3
    assert (folder / "health-predict-notes.txt").exists()


def test_a_backup_goes_to_s3_and_comes_back(
    settings: Settings, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup(Installation(settings), f"{s3_bucket}/backups")
    assert made.uri.startswith(f"{s3_bucket}/backups/health-predict-")
    restored = restore(Installation(settings_in(tmp_path / "two", monkeypatch)), made.uri)
    assert restored.events == 3


def test_the_command_writes_to_standard_output_and_reads_from_standard_input(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make backup` and `make restore` pass them through containers."""
    made = CliRunner().invoke(app, ["backup", "--to", "-"])
    assert made.exit_code == 0
    elsewhere = settings_in(tmp_path / "two", monkeypatch)
    restored = CliRunner().invoke(app, ["restore", "-"], input=made.stdout_bytes)
    assert restored.exit_code == 0, restored.output
    assert [event["kind"] for event in Installation(elsewhere).ledger.events()] == ["patient_key", "batch", "batch"]
    assert [event["uri"][:15] for event in Installation(settings).ledger.events("backup")] == ["health-predict-"]


def test_nothing_is_restored_over_what_is_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup(Installation(settings))
    with pytest.raises(StorageError, match="other files exist already"):
        restore(Installation(settings), made.uri)
    two = settings_in(tmp_path / "two", monkeypatch)
    Installation(two).ledger.append("batch", batch="batch-09")
    with pytest.raises(StorageError, match="contains other events"):
        restore(Installation(two), made.uri)
    assert not two.patient_key_path.exists()


def test_a_ledger_that_went_on_since_the_backup_is_left(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bucket, when the host's disk is gone."""
    made = backup(Installation(settings))
    events = Installation(settings).ledger.events()
    two = settings_in(tmp_path / "two", monkeypatch)
    Installation(two).ledger.restore(events)
    assert restore(Installation(two), made.uri).events == len(events) - 1
    assert Installation(two).ledger.events() == events


def test_a_damaged_archive_is_named_before_anything_is_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(backup(Installation(settings)).uri)
    data = path.read_bytes()
    two = settings_in(tmp_path / "two", monkeypatch)
    with pytest.raises(NotFound):
        restore(Installation(two), str(tmp_path / "nothing.tar.gz"))
    for damaged in (data[: len(data) // 2], data[:-4] + b"0000", b"", gzip.compress(b"no archive")):
        path.write_bytes(damaged)
        with pytest.raises(StorageError):
            restore(Installation(two), str(path))
    assert not two.patient_key_path.exists()
    assert Installation(two).ledger.events() == []


def test_status_shows_the_age(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(Installation(settings)).backup.startswith("none yet")
    backup(Installation(settings))
    assert status(Installation(settings)).backup.startswith("0.0 hours old, ")
    ledger = Installation(settings).ledger

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(hours=27)

    assert ledger.last("backup") is not None
    monkeypatch.setattr("healthpredict.operations.status.datetime", Later)
    assert status(Installation(settings)).backup.startswith("TOO OLD: 27.0 hours old")


@pytest.mark.skipif(not POSTGRES, reason="Postgres is not installed")
def test_databases_of_postgres_are_part_of_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{POSTGRES[-1]}:{os.environ['PATH']}")
    with postgres(tmp_path) as url:
        run(["psql", f"--dbname={url}/postgres", "--command=CREATE DATABASE mlflow"])
        run(["psql", f"--dbname={url}/postgres", "--command=CREATE DATABASE empty"])
        run(["psql", f"--dbname={url}/mlflow", "--command=CREATE TABLE runs AS SELECT 42 AS run"])
        dumping = settings.model_copy(update={"backup_databases": (f"{url}/mlflow",)})
        made = backup(Installation(dumping))
        assert made.counts["databases"] == 2
        two = settings_in(tmp_path / "two", monkeypatch).model_copy(
            update=dumping.model_dump(include={"backup_databases"})
        )
        with pytest.raises(StorageError, match="is not empty"):
            restore(Installation(two), made.uri)
        run(["psql", f"--dbname={url}/postgres", "--command=DROP DATABASE mlflow"])
        run(["psql", f"--dbname={url}/postgres", "--command=CREATE DATABASE mlflow"])
        assert restore(Installation(two), made.uri).databases == ["databases/mlflow.dump"]
        assert run(["psql", "--tuples-only", "--no-align", f"--dbname={url}/mlflow", "--command=TABLE runs"]) == "42\n"
        with pytest.raises(StorageError, match="Cannot dump the database nothing"):
            backup(Installation(settings.model_copy(update={"backup_databases": (f"{url}/nothing",)})))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="pg_dump is not installed"):
        backup(Installation(dumping))
