"""Replace the served bundle between two requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.errors import BundleError, HealthPredictError
from healthpredict.serving.problems import ProblemError
from healthpredict.serving.service import Service

_log = logging.getLogger(__name__)
BundleSource = Callable[[], Path]
"""Fetches the bundle to serve and returns its local folder."""


class Reloaded(BaseModel):
    """The bundle that is served now, and the one before.

    Attributes:
        model_version: in the registry.
        bundle_digest: of the bundle that is served now.
        previous_digest: of the bundle that was served before; the same if the source has no other.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_version: int
    bundle_digest: str
    previous_digest: str


class Reloader:
    """Fetches the bundle from its source again, verifies it and serves it."""

    def __init__(self, service: Service, source: BundleSource) -> None:
        """Args: service, whose bundle is replaced; source, see `BundleSource`."""
        self._service = service
        self._source = source
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def reload(self) -> Reloaded:
        """Fetch and verify the bundle while the old one serves, then serve it.

        Raises:
            ProblemError: the bundle cannot be fetched, is altered, or does not reproduce its golden rows (409). The old one stays.
        """
        async with self._lock:
            previous = self._service.bundle
            try:
                bundle = await _in_a_daemon_thread(lambda: verified_bundle(self._source))
            except HealthPredictError as error:
                _log.error("Reload refused, version %d stays: %s", previous.manifest.model_version, error)
                detail = f"{error} Version {previous.manifest.model_version} keeps answering."
                raise ProblemError(409, detail) from error
            if bundle.digest != previous.digest:
                self._service.bundle = bundle
            _log.info("Serving version %d, bundle %s", bundle.manifest.model_version, bundle.digest[:12])
        return Reloaded(
            model_version=bundle.manifest.model_version, bundle_digest=bundle.digest, previous_digest=previous.digest
        )

    def reload_soon(self) -> None:
        """Start a reload whose result is only logged."""
        task = asyncio.get_running_loop().create_task(self._reload_and_log())
        # The event loop itself keeps no strong reference to a task.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_and_log(self) -> None:
        with contextlib.suppress(ProblemError):  # logged where it was raised
            await self.reload()


def verified_bundle(source: BundleSource) -> Bundle:
    """Fetch a bundle, verify it and load all of it, so that its folder is no longer needed.

    Raises:
        BundleError: it is altered or incomplete, cannot be loaded, or does not reproduce its golden rows.
        ConfigurationError, RegistryError, StorageError: it cannot be fetched.
    """
    try:
        bundle = load_bundle(source())
        bundle.verify()
    except HealthPredictError:
        raise
    except Exception as error:
        # A bundle with valid digests and bad content must not end a running service.
        raise BundleError(f"The bundle cannot be loaded ({type(error).__name__}). Build it again.") from error
    return bundle


async def _in_a_daemon_thread(function: Callable[[], Bundle]) -> Bundle:
    """Like `asyncio.to_thread`, but a process that ends does not wait for the thread, because the bundle's store may hang."""
    future: Future[Bundle] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="reload", daemon=True).start()
    return await asyncio.wrap_future(future)
