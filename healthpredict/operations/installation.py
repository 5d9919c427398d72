"""What a command or a flow works on.

While nothing runs, two folders of the state folder may be deleted: `search` (an unfinished search then starts over) and `bundles`
(a cache; bundles are fetched again). Leave the rest: it includes databases, keys and the prediction log.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import uuid
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from healthpredict.config import Settings
from healthpredict.errors import AlreadyExists
from healthpredict.storage.layout import Layout
from healthpredict.storage.lease import Lease, hold
from healthpredict.storage.ledger import Ledger
from healthpredict.storage.uris import exists, read_bytes, write_bytes

if TYPE_CHECKING:
    from healthpredict.registry.models import Registry

LEDGER_HEAD: Final = "ledger-head.json"
LEDGER_CHECK: Final = "ledger-check.json"
STATE_ID: Final = "state-id"
"""Files of the state folder that are valid on this host only. Backups leave them out."""


class Installation:
    """The settings, data, ledger and models of one installation. Each entry point opens one and passes it to the operations."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Open an installation. Its data and models are read when they are first used.

        Args:
            settings: by default, those of the environment.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        self.settings = settings or Settings()
        self.layout = Layout(self.settings.data_uri)
        self.ledger = Ledger(self.layout.ledger, self.settings.state_path / LEDGER_HEAD)

    @cached_property
    def registry(self) -> Registry:
        """The model registry, connected at the first use.

        Raises:
            RegistryError: MLflow does not answer.
        """
        from healthpredict.registry.models import Registry

        settings = self.settings
        bundles = settings.state_path / "bundles"
        return Registry(settings.mlflow_uri, settings.model_name, bundles, settings.mlflow_ui_url)

    @cached_property
    def git_commit(self) -> str | None:
        """The commit of the running code, or None if neither the settings nor a Git work tree name it."""
        if self.settings.git_commit:
            return self.settings.git_commit
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    def hold_lease(self, name: str, what: str) -> AbstractContextManager[Lease]:
        """Hold a lease at the data URI.

        The lease names the state folder as its owner. The caller must hold a lock in that folder, so that only one process owns it.

        Args:
            name: of the lease.
            what: subject of messages, such as "The drift loop".

        Raises:
            AlreadyRunning: a live process with another state folder, perhaps on another host, holds the lease.
        """
        state = self.settings.state_path
        uri = str(state / STATE_ID)
        if not exists(uri):
            # The path is not enough: two containers may have the same host name and path.
            with contextlib.suppress(AlreadyExists):
                write_bytes(uri, uuid.uuid4().hex[:12].encode(), exclusive=True)
        owner = f"{socket.gethostname()}, state {state.resolve()} ({read_bytes(uri).decode()})"
        return hold(self.layout.lease(name), what, owner)
