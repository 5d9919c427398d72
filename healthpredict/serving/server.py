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
import ipaddress
import logging
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from fastapi import FastAPI

from healthpredict.bundle.model import load_bundle
from healthpredict.errors import ConfigurationError
from healthpredict.serving.app import create_app
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits

_BACKLOG: Final = 2048
_SECONDS_TO_FINISH: Final = 10
"""After SIGTERM, what an accepted request may still take: thousands of times what it needs, unless its client stalls."""

_SECONDS_TO_LEAVE: Final = 0.3
"""After SIGTERM, how long connections in the queue are still accepted and clients told to close theirs."""
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


def serve(
    bundle_path: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    verify_port: int | None = None,
    keys_path: Path | None = None,
    limits: Limits | None = None,
) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish the accepted ones and leave with exit code 0.

    Args:
        bundle_path: folder of the bundle.
        host: a loopback address, unless there are keys.
        port: the public port.
        verify_port: when given, listen there first, and on the public port only from SIGUSR1 on.
        keys_path: file of the API keys that callers need; without it anyone who can reach the service may ask.
        limits: of callers; by default those of `Limits`.

    Raises:
        BundleError: the bundle is altered, incomplete, or does not reproduce its golden rows.
        ConfigurationError: another address than loopback without keys, no key in the file, or a port that is taken.
    """
    if keys_path is None and not _is_loopback(host):
        raise ConfigurationError(
            f"Refused to listen on {host!r}: without API keys the service is open to everyone who can reach it. "
            "Make a key (healthpredict keys add NAME) and name the file of keys, or listen on 127.0.0.1."
        )
    keys = None if keys_path is None else KeyRing(keys_path)
    # Uvicorn hands the signal on once it has shut down; it must then neither kill the process nor be taken for an error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    app = create_app(load_bundle(bundle_path), limits=limits, keys=keys)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, host, port, verify_port))


async def _serve(app: FastAPI, host: str, port: int, verify_port: int | None) -> None:
    if verify_port is None:
        await _server(app).serve([_listen(host, port, shared=False)])
        return
    opened = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, opened.set)
    private = _server(app)
    answering = asyncio.create_task(private.serve([_listen(host, verify_port, shared=False)]))
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
        await asyncio.sleep(_SECONDS_TO_LEAVE)
        await super().shutdown(sockets)


def _send_to_successor(sock: socket.socket) -> None:
    """Let the kernel give new connections to the socket that joined after this one; if there is none, nothing changes.

    The kernel numbers the sockets of a port from 0 in the order in which they joined (socket(7), SO_ATTACH_REUSEPORT_CBPF)
    and shares connections out as before where a number is not taken.
    """
    if sys.platform != "linux":
        return  # connections in the queue are lost
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 1))
    with contextlib.suppress(OSError):  # the port is not shared
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", 1, ctypes.addressof(program)))


def _server(app: FastAPI) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            backlog=_BACKLOG,
            access_log=False,
            server_header=False,
            log_config=_LOGGING,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({reason}). End what listens there, or choose another port."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
