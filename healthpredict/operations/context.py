"""What operations share: where the registry and the ledger are, which code runs, and how long a stage took."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from healthpredict.config import Settings
from healthpredict.registry.models import Registry
from healthpredict.storage.layout import Layout
from healthpredict.storage.ledger import Ledger

Seconds = dict[str, float]


def open_registry(settings: Settings) -> Registry:
    """The registry of these settings.

    Raises:
        RegistryError: MLflow does not answer.
    """
    bundles = settings.state_path / "bundles"
    return Registry(settings.mlflow_uri, settings.model_name, bundles, settings.mlflow_ui_url)


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings."""
    return Ledger(Layout(settings.data_uri).ledger)


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
