"""Restore a backup to an empty installation."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from pydantic import BaseModel, ConfigDict

from healthpredict.errors import StorageError
from healthpredict.operations.backup import (
    ARTIFACTS,
    FACTS,
    FORMAT,
    LEDGER,
    MLFLOW,
    WORK,
    BackupSources,
    artifacts_uri,
    dump_name,
    open_sources,
)
from healthpredict.operations.installation import Installation
from healthpredict.prediction_log.rolled_file import CLOSED, OPEN
from healthpredict.storage.archive import list_archive
from healthpredict.storage.databases import is_empty_postgres, move_artifacts, restore_postgres
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import list_uris, local_copy

_logger = logging.getLogger(__name__)
_STEM: Final = re.compile(r"[a-z]+-[0-9T.]+-[0-9a-f]{8}")
"""The part of a prediction log file's name that stays the same when it is closed or shipped."""


class Restored(BaseModel):
    """What was restored.

    Attributes:
        uri: of the archive.
        time: when the backup was made.
        files: number of files that were written.
        events: number of events of the ledger.
        databases: names of the Postgres dumps that were restored.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    time: datetime
    files: int
    events: int
    databases: list[str]


def restore(installation: Installation, uri: str) -> Restored:
    """Restore ledger, databases, data, models and keys. Stop all services first.

    Args:
        installation: an empty one. Its folders may differ from those of the installation that was backed up.
        uri: of the archive.

    Raises:
        StorageError: the archive is damaged, or the installation is not empty: nothing was changed. Or something could not be
            written: empty the installation, then restore again.
        NotFound: there is no such archive.
    """
    state = installation.settings.state_path
    state.mkdir(parents=True, exist_ok=True)
    with (
        exclusive(state / "backup.lock", "A backup"),
        local_copy(uri) as path,
        tempfile.TemporaryDirectory(dir=state, prefix=WORK) as folder,
    ):
        sources, listed = open_sources(installation), list_archive(path)
        targets = {name: target for name in listed if (target := _target(sources, name)) is not None}
        _refuse_other_content(installation, targets)
        facts, events, dumps = _read(installation, path, Path(folder))
        # First the databases, each in one transaction: they fail most often, for instance if the server does not respond.
        for url in installation.settings.backup_databases:
            restore_postgres(url, dumps[dump_name(url)])
        installation.ledger.restore_bytes(events)
        _extract(path, targets)
        _after_extraction(installation, sources, facts["artifacts"])
    return Restored(uri=uri, time=facts["time"], files=len(targets), events=len(events), databases=sorted(dumps))


def _target(sources: BackupSources, name: str) -> Path | None:
    """Return the path to which a file of the archive is restored, or None if it belongs to no folder."""
    if name == MLFLOW:
        return sources.mlflow
    prefix, _, rest = name.partition("/")
    if prefix == "models" and prefix not in sources.folders and sources.mlflow is not None:
        return _below(sources.mlflow.parent / ARTIFACTS, rest)
    folder = sources.folders.get(prefix)
    return None if folder is None else _below(folder, rest)


def _below(folder: Path, rest: str) -> Path:
    path = (folder / rest).resolve()
    if not path.is_relative_to(folder):
        raise StorageError(
            f"The archive names {rest!r}, which is outside its folder. This system did not make the archive."
        )
    return path


def _refuse_other_content(installation: Installation, targets: dict[str, Path]) -> None:
    present = sorted(str(path) for path in targets.values() if path.exists())
    if present:
        others = f" and {len(present) - 1} other files exist" if len(present) > 1 else " exists"
        raise StorageError(f"{present[0]}{others} already. Restore into an empty installation.")
    for url in installation.settings.backup_databases:
        if not is_empty_postgres(url):
            raise StorageError(f"The database {dump_name(url)} is not empty. Back it up, then: make destroy")


def _read(installation: Installation, path: Path, work: Path) -> tuple[dict[str, Any], list[bytes], dict[str, Path]]:
    """Read the files that belong to no folder: facts, events in order, and Postgres dumps."""
    facts: dict[str, Any] = {}
    events: dict[str, bytes] = {}
    dumps: dict[str, Path] = {}
    wanted = {dump_name(url) for url in installation.settings.backup_databases}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None, "the archive holds files only"
            if member.name == FACTS:
                facts = json.load(content)
            elif member.name.startswith(f"{LEDGER}/"):
                events[member.name] = content.read()
            elif member.name in wanted:
                dumps[member.name] = work / f"{len(dumps)}.dump"
                _copy(content, dumps[member.name])
    if facts.get("format") != FORMAT:
        raise StorageError(f"{path.name} is not a backup of format {FORMAT}. Restore it with the version that made it.")
    if absent := wanted - dumps.keys():
        raise StorageError(f"{path.name} has no {', '.join(sorted(absent))}. Choose another backup, or other settings.")
    return facts, [events[name] for name in sorted(events, key=lambda name: (len(name), name))], dumps


def _extract(path: Path, targets: dict[str, Path]) -> None:
    with tarfile.open(path) as archive:
        for member in archive:
            if (target := targets.get(member.name)) is None:
                continue
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            content = archive.extractfile(member)
            assert content is not None, "the archive holds files only"
            _copy(content, target)
            target.chmod(member.mode & 0o777)


def _copy(content: IO[bytes], target: Path) -> None:
    target.touch(mode=0o600)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _after_extraction(installation: Installation, sources: BackupSources, artifacts: str | None) -> None:
    now = artifacts_uri(sources)
    if artifacts is not None and now is not None and artifacts != now and sources.mlflow is not None:
        move_artifacts(sources.mlflow, artifacts, now)
    # If a log file was closed or shipped during the backup, it is in the archive twice.
    layout, log = installation.layout, installation.settings.prediction_log_path
    shipped = {
        _stem(uri)
        for folder in (layout.logged_predictions, layout.logged_outcomes, layout.logged_feedback)
        for uri in list_uris(folder)
    }
    waiting = sorted(log.glob("*")) if log.is_dir() else []
    closed = {_stem(path.name) for path in waiting if path.suffix == CLOSED}
    for path in waiting:
        stem = _stem(path.name)
        if stem is not None and (stem in shipped or (path.suffix == OPEN and stem in closed)):
            _logger.info("%s is in the backup under a later name, and is left out", path.name)
            path.unlink()


def _stem(uri: str) -> str | None:
    match = _STEM.match(uri.rpartition("/")[2])
    return match[0] if match else None
