"""The process around the API: on which ports it listens, when, and how it ends.

A process that replaces another listens on a private port first, where it is verified. On SIGUSR1 it takes the listening socket
of the public port over from the process before it, and both answer until that one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import logging.config
import signal
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.errors import ConfigurationError
from healthpredict.prediction_log.patient_key import read_patient_key
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.admission import is_loopback
from healthpredict.serving.app import create_app
from healthpredict.serving.handover import offering, take
from healthpredict.serving.http_server import listen, serving
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.serving.reload import verified_bundle
from healthpredict.storage.bundle_uris import fetch_bundle

_OBJECTS_BETWEEN_COLLECTIONS: Final = 50_000


class PlacesOnly(logging.Formatter):
    """Writes where an exception was raised, and not its message, which may repeat a value of a patient."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- the name in the base class
        """Args: ei, as from `sys.exc_info`."""
        kind, _, trace = ei
        places = []
        while trace is not None:
            places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
            trace = trace.tb_next
        return "\n".join((f"{kind.__name__} at", *places))


_LOGGING: Final = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": PlacesOnly, "format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "loggers": {"healthpredict": {"handlers": ["stderr"], "level": "INFO", "propagate": False}},
}


class ServiceParams(BaseModel):
    """What a process serves, where, and to whom.

    Attributes:
        bundle: folder, `s3://bucket/prefix` or `models:/NAME@ALIAS`, see `fetch_bundle`.
        host: a loopback address, unless there are keys.
        port: the public port.
        verify_port: when given, listen there first, and on the public port only from SIGUSR1 on.
        handover: path of a Unix socket, through which the listening socket of the public port goes from process to process.
        keys: file of the API keys that callers need; without it the service answers only programs on this machine.
        admin_keys: file of the keys of those who may ask for a reload; without it only SIGHUP reloads.
        log: folder of the prediction log; without it nothing is logged.
        patient_key: file of the key for the pseudonyms of patients; needed for the log.
        cache: folder for a bundle that is fetched.
        tracking_uri: of the MLflow server, for `models:/`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    verify_port: int | None = Field(None, ge=0, le=65535)
    handover: Path | None = None
    keys: Path | None = None
    admin_keys: Path | None = None
    log: Path | None = None
    patient_key: Path | None = None
    cache: Path = Path("var/bundles")
    tracking_uri: str | None = None


def serve(params: ServiceParams, limits: Limits | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish those received and leave with exit code 0.

    Args:
        params: see `ServiceParams`.
        limits: of callers; by default those of `Limits`.

    Raises:
        BundleError: the bundle is altered, incomplete, or does not reproduce its golden rows.
        ConfigurationError: another address than loopback without keys, no key in a file, callers that are administrators, a
            log without the key for its pseudonyms, or a port that is taken.
        RegistryError, StorageError: the bundle cannot be fetched.
    """
    if params.keys is None and not is_loopback(params.host):
        raise ConfigurationError(
            f"Refused to listen on {params.host!r}: without API keys the service is open to everyone who can reach it. "
            "Make a key (healthpredict keys add NAME) and name the file of keys, or listen on 127.0.0.1."
        )
    keys = None if params.keys is None else KeyRing(params.keys)
    admin_keys = None if params.admin_keys is None else KeyRing(params.admin_keys)
    if params.keys and params.admin_keys and params.keys.samefile(params.admin_keys):
        raise ConfigurationError(
            f"Every caller with a key in {params.keys} could reload. Give administrators a file of their own."
        )

    def source() -> Path:
        return fetch_bundle(params.bundle, params.cache, params.tracking_uri)

    logging.config.dictConfig(_LOGGING)
    # Until the event loop has handlers of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Without a handler the signal would end a process that is starting, or that writes its log at the end.
    early_reloads: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: early_reloads.append(number))
    limits = limits or Limits()
    bundle = verified_bundle(source)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _prediction_log(params) as log:
        app = create_app(bundle, limits=limits, keys=keys, log=log, source=source, admin_keys=admin_keys)
        # What is there now stays, and a request leaves no cycles.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
        runner.run(_serve(app, params, limits, reload_soon=bool(early_reloads)))


@contextlib.contextmanager
def _prediction_log(params: ServiceParams) -> Iterator[PredictionLog | None]:
    if params.log is None:
        yield None
        return
    if params.patient_key is None:
        raise ConfigurationError("The prediction log needs a key for the pseudonyms of patients. Name its file.")
    with contextlib.closing(PredictionLog(params.log, read_patient_key(params.patient_key))) as log:
        yield log


async def _serve(app: FastAPI, params: ServiceParams, limits: Limits, *, reload_soon: bool) -> None:
    loop = asyncio.get_running_loop()
    ending, opened = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGUSR1, opened.set)
    loop.add_signal_handler(signal.SIGHUP, app.state.reloader.reload_soon)
    if reload_soon:
        app.state.reloader.reload_soon()
    servers: list[asyncio.Task[None]] = []
    async with contextlib.AsyncExitStack() as stack:
        if params.verify_port is not None:
            private = listen(params.host, params.verify_port)
            servers.append(await stack.enter_async_context(serving(app, private, limits.head_seconds)))
            await _first_of(opened.wait(), ending.wait(), *servers)
        if not ending.is_set() and not any(server.done() for server in servers):
            public = None if params.handover is None else take(params.handover)
            public = public or listen(params.host, params.port, shared=params.handover is not None)
            servers.append(await stack.enter_async_context(serving(app, public, limits.head_seconds)))
            if params.handover is not None:
                stack.enter_context(offering(public, params.handover))
        await _first_of(ending.wait(), *servers)


async def _first_of(*waits: Coroutine[Any, Any, Any] | asyncio.Task[None]) -> None:
    """Return when one of them is done; coroutines are cancelled then, tasks go on."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, wait in zip(tasks, waits, strict=True):
        if task is not wait:
            task.cancel()
