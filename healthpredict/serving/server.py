"""The process around the API: on which ports it listens, when, and how it ends.

A process that takes over from another listens on a private port first, where it is verified. On SIGUSR1 it listens on the
public port as well, beside the process that it replaces: both bind it with SO_REUSEPORT. Closing such a socket resets the
connections that wait in its own queue (one to five at each change, measured with six clients), so a process that ends first
sends new connections to the other one, and answers those it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import ipaddress
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.errors import ConfigurationError
from healthpredict.serving.app import create_app
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.protocol import Connection
from healthpredict.serving.reload import verified_bundle
from healthpredict.serving.sources import fetch_source
from healthpredict.storage.patient_key import read_patient_key

_BACKLOG: Final = 2048
_SECONDS_TO_FINISH: Final = 10
"""After SIGTERM, what an accepted request may still take: thousands of times what it needs, unless its client stalls."""

_SECONDS_TO_LEAVE: Final = 0.3
"""After SIGTERM, how long connections in the queue are still accepted and clients told to close theirs."""
_TURNS_TO_EMPTY_QUEUE: Final = 10
_SECONDS_OF_A_TURN: Final = 0.01
"""Turns of the event loop, because on a busy machine a time may be over before the loop has looked at a single socket."""
_OBJECTS_BETWEEN_LOOKS_FOR_GARBAGE: Final = 50_000
_SECONDS_OF_A_THREAD: Final = 0.0005
"""While one waits for its turn, every callback of the loop wakes it in vain: Python's five milliseconds of this are a long time."""
_SO_ATTACH_FILTER: Final = 26
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""Linux, socket(7); not among the names of Python's socket module."""
_BPF_RETURN: Final = 0x06
"""Return a constant: BPF_RET | BPF_K of linux/filter.h."""


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
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("uvicorn", "healthpredict.serving")
    },
}


class ServiceParams(BaseModel):
    """What a process serves, where, and to whom.

    Attributes:
        bundle: folder, `s3://bucket/prefix` or `models:/NAME@ALIAS`, see `fetch_source`.
        host: a loopback address, unless there are keys.
        port: the public port.
        verify_port: when given, listen there first, and on the public port only from SIGUSR1 on.
        keys: file of the API keys that callers need; without it anyone who can reach the service may ask.
        admin_keys: file of the keys of those who may ask for a reload; without it only SIGHUP reloads.
        log: folder of the prediction log; without it nothing is noted.
        patient_key: file of the key for the pseudonyms of patients; needed for the log.
        cache: folder for a bundle that is fetched.
        tracking_uri: of the MLflow server, for `models:/`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    verify_port: int | None = Field(None, ge=0, le=65535)
    keys: Path | None = None
    admin_keys: Path | None = None
    log: Path | None = None
    patient_key: Path | None = None
    cache: Path = Path("var/bundles")
    tracking_uri: str | None = None


def serve(params: ServiceParams, limits: Limits | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish the accepted ones and leave with exit code 0.

    Args:
        params: see `ServiceParams`.
        limits: of callers; by default those of `Limits`.

    Raises:
        BundleError: the bundle is altered, incomplete, or does not reproduce its golden rows.
        ConfigurationError: another address than loopback without keys, no key in a file, callers that are administrators, a
            log without the key for its pseudonyms, or a port that is taken.
        RegistryError, StorageError: the bundle cannot be fetched.
    """
    if params.keys is None and not _is_loopback(params.host):
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
        return fetch_source(params.bundle, params.cache, params.tracking_uri)

    # Uvicorn hands the signal on once it has shut down; it must then neither kill the process nor be taken for an error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Without a handler the signal would end a process that is starting, or that writes its log at the end.
    too_early: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: too_early.append(number))
    bundle = verified_bundle(source)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _prediction_log(params) as log:
        app = create_app(bundle, limits=limits, keys=keys, log=log, source=source, admin_keys=admin_keys)
        # What is there now stays, and a request leaves no cycles: looking for garbage would take a tenth of its time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_BETWEEN_LOOKS_FOR_GARBAGE)
        sys.setswitchinterval(_SECONDS_OF_A_THREAD)
        runner.run(_serve(app, params, too_early))


@contextlib.contextmanager
def _prediction_log(params: ServiceParams) -> Iterator[PredictionLog | None]:
    if params.log is None:
        yield None
        return
    if params.patient_key is None:
        raise ConfigurationError("The prediction log needs a key for the pseudonyms of patients. Name its file.")
    with contextlib.closing(PredictionLog(params.log, read_patient_key(params.patient_key))) as log:
        yield log


async def _serve(app: FastAPI, params: ServiceParams, reloads: list[int]) -> None:
    host, port = params.host, params.port
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.state.reloader.reload_soon)
    if reloads:  # asked for before
        app.state.reloader.reload_soon()
    if params.verify_port is None:
        await _server(app).serve([_listen(host, port, shared=False)])
        return
    opened = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, opened.set)
    private = _server(app)
    answering = asyncio.create_task(private.serve([_listen(host, params.verify_port, shared=False)]))
    await opened.wait()
    try:
        public = _listen(host, port, shared=True)
    except ConfigurationError:
        private.should_exit = True
        await answering
        raise
    await _server(app).serve([public])
    await answering


class _Server(uvicorn.Server):
    """A server that leaves the public port without losing a connection."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for sock in sockets or ():
            _send_to_successor(sock)
        # A request on a connection that is kept alive is answered, and its client told to open another one.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in self.server_state.connections:
            if isinstance(connection, Connection):
                connection.answer_is_the_last()
        await asyncio.sleep(_SECONDS_TO_LEAVE)
        for sock in sockets or ():
            _let_nobody_in(sock)
        for _ in range(_TURNS_TO_EMPTY_QUEUE):
            await asyncio.sleep(_SECONDS_OF_A_TURN)
        await super().shutdown(sockets)


def _send_to_successor(sock: socket.socket) -> None:
    """Let the kernel give new connections to the socket that joined after this one; if there is none, nothing changes.

    The kernel numbers the sockets of a port from 0 in the order in which they joined (socket(7), SO_ATTACH_REUSEPORT_CBPF)
    and shares connections out as before where a number is not taken.
    """
    with contextlib.suppress(OSError):  # the port is not shared
        _attach(sock, _SO_ATTACH_REUSEPORT_CBPF, 1)


def _let_nobody_in(sock: socket.socket) -> None:
    """Let the kernel drop what comes to a listening socket: its queue can be emptied, and no one is reset when it closes.

    A client that connects just now tries again a second later, by itself, and is refused then.
    """
    with contextlib.suppress(OSError):
        _attach(sock, _SO_ATTACH_FILTER, 0)


def _attach(sock: socket.socket, option: int, verdict: int) -> None:
    """Attach a program of one step to a socket: return this."""
    if sys.platform != "linux":
        return  # connections in the queue are lost
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, verdict))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", 1, ctypes.addressof(program)))


def _server(app: FastAPI) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=Connection,
            ws="none",
            lifespan="off",
            backlog=_BACKLOG,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody here looks at addresses of clients
            log_config=_LOGGING,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as error:
        # Python writes the address into the text of an error of the system; one of the resolver has no number.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({reason}). End what listens there, or choose another port."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
