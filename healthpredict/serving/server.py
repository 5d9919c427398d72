"""The process around the API: its ports, its signals and its end.

A process that replaces another one listens on a private port first, where it is verified. On SIGUSR1, it takes over the listening
socket of the public port from the earlier process. Both answer requests until the earlier one ends.

From SIGUSR2 on, responses ask clients to close their connections. A cluster sends it some seconds before SIGTERM, so that clients
that keep their connections alive move to another pod in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import traceback
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.cds_hooks_params import CdsHooksParams, read_params
from healthpredict.errors import ConfigurationError
from healthpredict.prediction_log.patient_key import read_patient_key
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.admission import is_loopback
from healthpredict.serving.app import create_app
from healthpredict.serving.handover import offering, take
from healthpredict.serving.hold_out import HoldOut
from healthpredict.serving.http_server import listen, serving
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.serving.reload import verified_bundle
from healthpredict.serving.tls import Tls, checked_tls
from healthpredict.storage.bundle_uris import fetch_bundle

_OBJECTS_BETWEEN_COLLECTIONS: Final = 50_000


class PlacesOnly(logging.Formatter):
    """Formats where an exception was raised, and not its message, which may contain a value of a patient."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- the name in the base class
        """Args: ei, as from `sys.exc_info`."""
        kind, _, trace = ei
        places = (f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(trace))
        return "\n".join((f"{kind.__name__} at", *places))


class ServiceParams(BaseModel):
    """The arguments of the command line: what a process serves, where, and to whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str = Field(description="folder, s3://bucket/prefix or models:/NAME@ALIAS")
    host: str = Field("127.0.0.1", description="address to listen on; by default 127.0.0.1")
    port: int = Field(8080, ge=0, le=65535, description="public port; by default 8080")
    verify_port: int | None = Field(
        None, ge=0, le=65535, description="listen on this port first, and on the public port too after SIGUSR1"
    )
    handover: Path | None = Field(
        None,
        description="Unix socket over which a process takes the public port from an earlier one and hands it to a later one",
    )
    keys: Path | None = Field(
        None, description="file of API keys; without it, only programs on this machine are answered"
    )
    admin_keys: Path | None = Field(None, description="file of keys for /admin/reload; without it, only SIGHUP reloads")
    log: Path | None = Field(None, description="folder of the prediction log; without it, nothing is logged")
    patient_key: Path | None = Field(None, description="file of the key for pseudonyms of patients; needed for the log")
    cds_hooks: Path | None = Field(None, description="file of parameters for CDS Hooks, in TOML; by default none")
    silent: bool = Field(False, description="true: log predictions, and issue no flag and no card; by default false")
    hold_out: float = Field(
        0, ge=0, le=0.2, description="share of the flags just above the threshold that is held back; by default none"
    )
    hold_out_width: float = Field(
        0.05, gt=0, le=0.1, description="how far above the threshold flags are held back; by default .05"
    )
    tls_certificate: Path | None = Field(None, description="certificate in PEM; with it, the service speaks HTTPS only")
    tls_key: Path | None = Field(None, description="private key of the certificate, in PEM")
    tls_client_ca: Path | None = Field(
        None, description="certificates in PEM; clients must present a certificate that one of these has signed (mTLS)"
    )
    cache: Path = Field(Path("var/bundles"), description="folder for a bundle that is fetched; by default var/bundles")
    tracking_uri: str | None = Field(None, description="MLflow server (http://...), for models:/")


def serve(params: ServiceParams, limits: Limits | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Requests that were received before are still answered.

    Raises:
        BundleError: the bundle is altered or incomplete, or does not reproduce its golden rows.
        ConfigurationError: the address is not a loopback address and there are no keys; a file contains no keys; callers and
            administrators share a file of keys; the log has no key for its pseudonyms; the file of CDS Hooks or a file for HTTPS
            cannot be used; flags cannot be held back; or the port is taken.
        RegistryError, StorageError: the bundle cannot be fetched.
    """
    if params.keys is None and not is_loopback(params.host):
        raise ConfigurationError(
            f"Refused to listen on {params.host!r}: without API keys the service is open to everyone who can reach it. "
            "Make a key (healthpredict keys add NAME) and pass the file of keys, or listen on 127.0.0.1."
        )
    cds_hooks = None if params.cds_hooks is None else read_params(params.cds_hooks)
    tls = checked_tls(params.tls_certificate, params.tls_key, params.tls_client_ca)
    keys = None if params.keys is None else KeyRing(params.keys)
    admin_keys = None if params.admin_keys is None else KeyRing(params.admin_keys)
    if params.keys and params.admin_keys and params.keys.samefile(params.admin_keys):
        raise ConfigurationError(
            f"Every caller with a key in {params.keys} could reload the bundle. Give administrators a file of their own."
        )

    def source() -> Path:
        return fetch_bundle(params.bundle, params.cache, params.tracking_uri)

    _log_to_stderr()
    # Until the event loop handles signals.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Without a handler, SIGHUP would end a process that is starting or that is writing the rest of its log.
    early_reloads: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: early_reloads.append(number))
    limits = limits or Limits()
    bundle = verified_bundle(source)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _prediction_log(params) as log:
        app = create_app(
            bundle,
            limits=limits,
            keys=keys,
            log=log,
            source=source,
            admin_keys=admin_keys,
            cds_hooks=cds_hooks,
            silent=params.silent,
            hold_out=_hold_out(params, cds_hooks or CdsHooksParams()),
        )
        # Existing objects stay, and a request leaves no reference cycles, so the garbage collector has little to do.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
        runner.run(_serve(app, params, limits, tls, reload_soon=bool(early_reloads)))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(PlacesOnly("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("healthpredict")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


@contextlib.contextmanager
def _prediction_log(params: ServiceParams) -> Iterator[PredictionLog | None]:
    if params.log is None:
        yield None
        return
    if params.patient_key is None:
        raise ConfigurationError("The prediction log needs a key for the pseudonyms of patients. Name its file.")
    with contextlib.closing(PredictionLog(params.log, read_patient_key(params.patient_key))) as log:
        yield log


def _hold_out(params: ServiceParams, cds_hooks: CdsHooksParams) -> HoldOut | None:
    if params.hold_out == 0:
        return None
    if params.log is None or params.patient_key is None:
        raise ConfigurationError(
            "Flags can only be held back with a prediction log, because otherwise nobody knows which were. Name a folder (--log)."
        )
    if not cds_hooks.only_high_risk:
        raise ConfigurationError(
            "Flags can only be held back if the parameters of CDS Hooks say only_high_risk = true: otherwise every encounter has a "
            "card, and a missing one shows that it was held back."
        )
    key = read_patient_key(params.patient_key)
    return HoldOut(params.hold_out, params.hold_out_width, key, below=cds_hooks.critical_risk or 1.0)


async def _serve(app: FastAPI, params: ServiceParams, limits: Limits, tls: Tls | None, *, reload_soon: bool) -> None:
    loop = asyncio.get_running_loop()
    ending, opened = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGUSR1, opened.set)
    loop.add_signal_handler(signal.SIGUSR2, setattr, app.state, "draining", True)
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
            servers.append(await stack.enter_async_context(serving(app, public, limits.head_seconds, tls)))
            if params.handover is not None:
                stack.enter_context(offering(public, params.handover))
        await _first_of(ending.wait(), *servers)


async def _first_of(*waits: Coroutine[Any, Any, Any] | asyncio.Task[None]) -> None:
    """Wait until one of them is done. Then cancel the coroutines, but not the tasks."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, wait in zip(tasks, waits, strict=True):
        if task is not wait:
            task.cancel()
