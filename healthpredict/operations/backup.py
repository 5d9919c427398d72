"""Back up everything that cannot be reproduced into one archive, and check it by listing it."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from pydantic import BaseModel, ConfigDict

from healthpredict.errors import StorageError
from healthpredict.operations.installation import LEDGER_CHECK, LEDGER_HEAD, STATE_ID, Installation
from healthpredict.storage.archive import ArchiveWriter, files_below, list_archive
from healthpredict.storage.databases import copy_sqlite, database_name, dump_postgres, is_sqlite
from healthpredict.storage.ledger import Ledger, read_all
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import delete, join, list_uris, write_file

_logger = logging.getLogger(__name__)
FORMAT: Final = 2
"""Format of the archive. Format 1 was written by the shell script that came before."""
MAX_HOURS: Final = 26
"""Maximum age of the newest backup before a warning: a day, and two hours for a late start."""
FACTS: Final = "backup.json"
LEDGER: Final = "ledger"
MLFLOW: Final = "databases/mlflow.db"
"""MLflow's SQLite database if it is not in the state folder."""
ARTIFACTS: Final = "artifacts"
"""MLflow's folder beside its SQLite database."""
_NAME: Final = "health-predict-"
_SUFFIX: Final = ".tar.gz"
WORK: Final = ".backup-"
"""Prefix of temporary folders."""
_LOCAL_ONLY: Final = {LEDGER_HEAD, LEDGER_CHECK, STATE_ID}
_REPRODUCIBLE: Final = {"bundles", "sources", "services"}
"""Subfolders of the state that can be fetched again, or that describe processes of this host."""
_PROCESS_FILES: Final = (".lock", ".holder", ".pid")
_SQLITE_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


class Backup(BaseModel):
    """A complete backup.

    Attributes:
        uri: of the archive.
        sha256: of the archive.
        bytes: size of the archive.
        counts: number of files by kind: databases, ledger, batches, outcomes, models, state, and data for other data files.
        deleted: URIs of older backups that were deleted.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    sha256: str
    bytes: int
    counts: dict[str, int]
    deleted: list[str]


@dataclass(frozen=True)
class BackupSources:
    """The local folders that a backup contains.

    Attributes:
        folders: prefix in the archive -> folder, in the order of reading.
        left_out: subfolders that are excluded, or that have their own prefix.
        mlflow: MLflow's database if it is a SQLite file, else None.
    """

    folders: dict[str, Path]
    left_out: frozenset[Path]
    mlflow: Path | None

    def skip(self, path: Path) -> bool:
        """Whether a file or folder is left out. SQLite databases are left out because `copy_sqlite` copies them."""
        local_only = path.name in _LOCAL_ONLY or path.suffix in _PROCESS_FILES or path.name.startswith(WORK)
        return local_only or path in self.left_out or path.name.endswith(_SQLITE_SIDE_FILES) or is_sqlite(path)

    def databases(self) -> dict[str, Path]:
        """List the SQLite databases: name in the archive -> file."""
        found = {
            f"{prefix}/{path.relative_to(folder)}": path
            for prefix, folder in self.folders.items()
            for path in files_below(folder, lambda path: not is_sqlite(path) and self.skip(path))
            if is_sqlite(path)
        }
        if self.mlflow is not None and self.mlflow.exists() and self.mlflow not in found.values():
            found[MLFLOW] = self.mlflow
        return found

    def present(self) -> set[str]:
        """List the files that exist now, by their names in the archive."""
        return {
            f"{prefix}/{path.relative_to(folder)}"
            for prefix, folder in self.folders.items()
            for path in files_below(folder, self.skip)
        }


def open_sources(installation: Installation, *left_out: str) -> BackupSources:
    """Return the folders to back up. Args: left_out, further folders to exclude."""
    settings = installation.settings
    state, uri = settings.state_path.resolve(), settings.mlflow_uri
    mlflow = Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None
    folders = {"state": state}
    if settings.artifacts_path is not None:
        folders["models"] = settings.artifacts_path.resolve()
    elif mlflow is not None and mlflow.parent != state:
        folders["models"] = mlflow.parent / ARTIFACTS
    if "://" not in settings.data_uri:
        folders["data"] = Path(settings.data_uri).resolve()
    # The ledger is read separately, see `backup`. A folder inside another one has its own prefix.
    names = {*left_out, settings.backup_place, installation.layout.ledger, installation.layout.leases}
    reproducible = {state / name for name in _REPRODUCIBLE}
    return BackupSources(
        folders, frozenset({*folders.values(), *reproducible, *(Path(name).resolve() for name in names)}), mlflow
    )


def backup(installation: Installation, to: str | None = None, stream: IO[bytes] | None = None) -> Backup:
    """Copy databases, ledger, data, models and keys into one archive, check it, and delete the oldest archives.

    The services keep running. The ledger is copied first, then the databases, then the files, so the archive contains every file
    that the ledger or the registry names. Data on S3 is not copied, because its bucket keeps versions.

    Args:
        installation: to back up.
        to: folder or s3://bucket/prefix. By default, the place in the settings, where old archives are then deleted.
        stream: write the archive to this stream instead.

    Raises:
        AlreadyRunning: another backup is being made.
        StorageError: something cannot be read or written, or is missing in the archive. No archive is left.
        ConfigurationError: `pg_dump` is not installed.
    """
    state, place = installation.settings.state_path.resolve(), to or installation.settings.backup_place
    name = f"{_NAME}{datetime.now(UTC):%Y%m%dT%H%M%SZ}{_SUFFIX}"
    with exclusive(state / "backup.lock", "A backup"):
        for left_over in state.glob(f"{WORK}*"):  # left by a backup that was killed
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(dir=state, prefix=WORK) as folder:
            work = Path(folder)
            path = work / name
            counts = _make_archive(installation, open_sources(installation, place), path, work)
            digest = _sha256(path)
            size = path.stat().st_size
            uri = _write_archive(path, place, stream)
        deleted = [] if to or stream else _delete_old(installation)
        made = Backup(uri=uri, sha256=digest, bytes=size, counts=counts, deleted=deleted)
        installation.ledger.append("backup", key=f"backup {name} {digest}", **made.model_dump())
    return made


def _write_archive(path: Path, to: str, stream: IO[bytes] | None) -> str:
    """Copy the archive to its destination, and return its URI, or its name if the destination is a stream."""
    if stream is not None:
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream, 1 << 20)
        stream.flush()
        return path.name
    path.chmod(0o600)  # it contains data of patients, and keys
    uri = join(to, path.name)
    write_file(uri, path)
    if "://" not in uri:
        Path(uri).chmod(0o600)
    return uri


def _make_archive(installation: Installation, sources: BackupSources, path: Path, work: Path) -> dict[str, int]:
    before = sources.present()
    # Low compression, because most files are compressed already. `dereference` stores hard links as files.
    with tarfile.open(path, "w:gz", compresslevel=3, dereference=True) as archive:
        writer = ArchiveWriter(archive, work)
        facts = {
            "format": FORMAT,
            "time": datetime.now(UTC).isoformat(),
            "git_commit": installation.git_commit,
            "data_uri": installation.settings.data_uri,
            "artifacts": artifacts_uri(sources),
        }
        writer.add_bytes(FACTS, json.dumps(facts, indent=2).encode())
        expected = {FACTS, *_add_ledger(writer, installation.ledger)}
        databases = _add_databases(writer, installation.settings.backup_databases, sources, work)
        for prefix, folder in sources.folders.items():
            writer.add_folder(prefix, folder, sources.skip)
    listed = list_archive(path)
    # Files that existed before and after must be in the archive. Files that appeared or vanished meanwhile may be missing.
    expected |= {*databases} | (before & sources.present())
    missing = sorted(expected - listed.keys()) + sorted(name for name in databases if listed.get(name) == 0)
    if missing:
        raise StorageError(
            f"The backup is not complete: {len(missing)} files are missing or empty ({', '.join(missing[:5])}). Try again."
        )
    return _counts(listed, databases)


def artifacts_uri(sources: BackupSources) -> str | None:
    """The artifact folder that MLflow's SQLite database names; None if MLflow is a server."""
    return None if sources.mlflow is None else (sources.mlflow.parent / ARTIFACTS).as_uri()


def _add_ledger(writer: ArchiveWriter, ledger: Ledger) -> list[str]:
    uris = ledger.uris()
    names = [f"{LEDGER}/{uri.rpartition('/')[2]}" for uri in uris]
    for name, data in zip(names, read_all(uris), strict=True):
        writer.add_bytes(name, data)
    return names


def _add_databases(writer: ArchiveWriter, urls: Sequence[str], sources: BackupSources, work: Path) -> list[str]:
    copy = work / "database"
    names = [dump_name(url) for url in urls]
    for name, url in zip(names, urls, strict=True):
        dump_postgres(url, copy)
        writer.add_file(name, copy)
        copy.unlink()
    for name, path in sources.databases().items():
        copy_sqlite(path, copy)
        writer.add_file(name, copy)
        copy.unlink()
        names.append(name)
    return names


def dump_name(url: str) -> str:
    """The name of a Postgres database's dump in an archive."""
    return f"databases/{database_name(url)}.dump"


def _counts(listed: dict[str, int], databases: list[str]) -> dict[str, int]:
    counts = dict.fromkeys(("databases", "ledger", "batches", "outcomes", "models", "state", "data"), 0)
    for name in listed:
        first, *rest = name.split("/")
        inner = rest[0] if rest else ""
        kind = (
            "databases"
            if name in databases
            else {ARTIFACTS: "models", "batches": inner, "outcomes": inner}.get(inner, first)
        )
        if kind in counts:  # `FACTS` has no kind
            counts[kind] += 1
    return counts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def backups(installation: Installation) -> list[str]:
    """List the backups in the configured place, the oldest first."""
    found = list_uris(installation.settings.backup_place, suffix=_SUFFIX)
    return [uri for uri in found if uri.rpartition("/")[2].startswith(_NAME)]


def _delete_old(installation: Installation) -> list[str]:
    deleted = []
    for uri in backups(installation)[: -installation.settings.backups_kept]:
        try:
            delete(uri)
            deleted.append(uri)
        except StorageError as error:
            # On AWS, the host has no permission to delete backups; the bucket deletes them by age.
            _logger.warning("An old backup stays: %s", error)
            break
    return deleted
