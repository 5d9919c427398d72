"""What operations share: where the registry and the ledger are, which code runs, and how long a stage took."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from healthpredict.config import Settings
from healthpredict.errors import AlreadyExists
from healthpredict.registry.models import Registry
from healthpredict.storage.layout import Layout
from healthpredict.storage.lease import Lease, hold
from healthpredict.storage.ledger import Ledger
from healthpredict.storage.uris import exists, read_bytes, write_bytes

_logger = logging.getLogger(__name__)
Seconds = dict[str, float]
LEDGER_HEAD: Final = "ledger-head.json"
LEDGER_CHECK: Final = "ledger-check.json"
STATE_ID: Final = "state-id"
"""Files of the state folder that are true on this host only."""


def open_registry(settings: Settings) -> Registry:
    """The registry of these settings.

    Raises:
        RegistryError: MLflow does not answer.
    """
    bundles = settings.state_path / "bundles"
    return Registry(settings.mlflow_uri, settings.model_name, bundles, settings.mlflow_ui_url)


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings."""
    return Ledger(Layout(settings.data_uri).ledger, settings.state_path / LEDGER_HEAD)


def hold_lease(settings: Settings, name: str, what: str) -> AbstractContextManager[Lease]:
    """Hold a lease at the data URI. The caller holds a lock in the state folder, so that this owner is one process.

    Args:
        settings: where data and state are.
        name: of the lease.
        what: is leased, for messages: "The drift loop".

    Raises:
        AlreadyRunning: a process with another state folder, perhaps on another host, holds it and is alive.
    """
    uri = str(settings.state_path / STATE_ID)
    if not exists(uri):
        # Not the path alone: two containers may have the same host name and path.
        with contextlib.suppress(AlreadyExists):
            write_bytes(uri, uuid.uuid4().hex[:12].encode(), exclusive=True)
    owner = f"{socket.gethostname()}, state {settings.state_path.resolve()} ({read_bytes(uri).decode()})"
    return hold(Layout(settings.data_uri).lease(name), what, owner)


def git_commit(settings: Settings) -> str | None:
    """The commit of the running code; None where neither the settings nor a work tree say."""
    if settings.git_commit:
        return settings.git_commit
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def timed(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the wall time of the block to a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def log_step(subject: str, step: str, seconds: float, result: str) -> None:
    """Log a finished step in one line: `batch-03   drift      1.9 s  retrain: 28 of 47 features differ ...`.

    Args:
        subject: the batch or version.
        step: what was done, in one word.
        seconds: how long it took.
        result: what came out of it.
    """
    _logger.info("%-10s %-8s %5.1f s  %s", subject, step, seconds, result)
