"""Folders, buckets and files that the settings name. What takes seconds to import is imported where it is used."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from healthpredict.config import Settings
from healthpredict.doctor.problem import Check, Problem
from healthpredict.errors import CannotDelete, StorageError
from healthpredict.operations.installation import Installation
from healthpredict.storage.layout import Layout
from healthpredict.storage.probe import probe

MIN_FREE_GIB: Final = 1.0
"""A training writes its search, its bundle and reports: some hundred MB."""


def store_checks(installation: Installation) -> Iterator[Check]:
    """One check for each place that is written to, and for each file of the hospital."""
    settings = installation.settings
    places = _places(settings)
    if any(uri.startswith("s3://") for uri in places.values()):
        yield Check("AWS's region", _region)
    for name, uri in places.items():
        yield Check(f"{name} ({uri})", partial(writable, name, uri))
    yield Check("the state folder's disk", partial(state_disk_problem, settings.state_path))
    if settings.governance_path is not None:
        yield Check("HEALTHPREDICT_GOVERNANCE_PATH", partial(_governance, installation))
    if settings.cds_hooks_path is not None:
        yield Check("HEALTHPREDICT_CDS_HOOKS_PATH", partial(_cds_hooks, settings.cds_hooks_path))
    for name, path in (
        ("HEALTHPREDICT_API_KEY_PATH", settings.api_key_path),
        ("HEALTHPREDICT_ARTIFACTS_PATH", settings.artifacts_path),
    ):
        if path is not None:
            yield Check(name, partial(readable, name, path))


def _places(settings: Settings) -> dict[str, str]:
    """Variable -> folder or prefix. Of the data, `leases/` is probed, because objects there may be deleted."""
    places = {
        "HEALTHPREDICT_DATA_URI": Layout(settings.data_uri).leases,
        "HEALTHPREDICT_REPORTS_URI": settings.reports_uri,
        "HEALTHPREDICT_STATE_PATH": str(settings.state_path),
        "HEALTHPREDICT_BACKUP_URI": settings.backup_place,
    }
    return places | ({"HEALTHPREDICT_ARTIFACTS_URI": settings.artifacts_uri} if settings.artifacts_uri else {})


def writable(name: str, uri: str) -> Problem | None:
    """Whether a place can be written to. Args: name, its variable."""
    try:
        probe(uri)
    except CannotDelete as error:
        # Backups may be kept where nothing can be deleted.
        return None if name == "HEALTHPREDICT_BACKUP_URI" else Problem(f"{name}: {error}")
    except StorageError as error:
        return Problem(f"{name}: {error}")
    return None


def readable(name: str, path: Path) -> Problem | None:
    """Whether a file or folder is there, and this user may read it. Args: name, its variable."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        return Problem(f"{path} cannot be read: {error.strerror}.", f"correct {name}, or the owner of the file")
    return None


def state_disk_problem(state: Path) -> Problem | None:
    """Whether the disk of the state folder, or of its nearest parent that exists, has room."""
    folder = next(each for each in (state.resolve(), *state.resolve().parents) if each.exists())
    free = shutil.disk_usage(folder).free / 2**30
    if free >= MIN_FREE_GIB:
        return None
    return Problem(
        f"The disk of {state} has only {free:.2f} GiB free, and a training needs {MIN_FREE_GIB:g} GiB.",
        "delete what is not needed on it, or move HEALTHPREDICT_STATE_PATH to another disk",
    )


def _region() -> Problem | None:
    from healthpredict.cloud.account import region_problem

    found = region_problem()
    return Problem(found, "correct AWS_DEFAULT_REGION") if found else None


def _governance(installation: Installation) -> None:
    from healthpredict.operations.governance import read_governance

    read_governance(installation)


def _cds_hooks(path: Path) -> None:
    from healthpredict.cds_hooks_params import read_params

    read_params(path)
