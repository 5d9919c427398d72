"""The HTTP server: granian, embedded in the event loop of the caller, on a listening socket that exists already.

Granian limits heads and trailers, reads a body only as fast as the application does, answers pipelined requests in order and
disconnects clients that send a head too slowly. docs/decisions.md compares it with uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Final

from fastapi import FastAPI
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from healthpredict.errors import ConfigurationError
from healthpredict.serving.tls import Tls

_BUFFER_BYTES: Final = 24 * 1024
"""Memory of a connection, and the longest head of a request. Larger ones did not make a call of CDS Hooks cheaper."""
_BACKLOG: Final = 2048
_SECONDS_TO_CLOSE: Final = 1.0
"""At the end, responses ask clients to close their connections for this long. Then idle connections are closed. With 0.3, a client
on a busy machine sometimes used one that was being closed."""


class HttpServer(Server):
    """Serves an app on a socket that exists already."""

    def __init__(self, app: FastAPI, listening: socket.socket, head_seconds: float, tls: Tls | None = None) -> None:
        """Args: app; listening, a TCP socket, of which the server uses a copy; head_seconds, see `Limits`; tls, without it HTTP."""
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            http1_settings=HTTP1Settings(header_read_timeout=int(head_seconds * 1000), max_buffer_size=_BUFFER_BYTES),
            log_enabled=False,
            ssl_cert=tls.certificate if tls else None,
            ssl_key=tls.key if tls else None,
            ssl_ca=tls.client_ca if tls else None,
            ssl_client_verify=bool(tls and tls.client_ca),
            ssl_protocol_min=SSLProtocols.tls12,
        )
        # Linux only, like the whole system. Ends connections whose clients do not read.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(head_seconds * 1000))
        self._listening = listening

    def _init_shared_socket(self) -> None:
        """Use the given socket; the base class would bind an address. Check this override with each new version of granian."""
        # The stub of `SocketHolder` lacks two arguments.
        self._shd = SocketHolder(os.dup(self._listening.fileno()), False, _BACKLOG)  # type: ignore[call-arg, assignment]


@contextlib.asynccontextmanager
async def serving(
    app: FastAPI, listening: socket.socket, head_seconds: float, tls: Tls | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve an app within the block. At its end, answer the requests that were received.

    Args:
        app: its `state.draining` is set at the end, so that responses ask clients to close their connections.
        listening: see `HttpServer`; closed at the end.
        head_seconds: see `Limits`.
        tls: see `Tls`; without it, the server speaks HTTP.

    Yields:
        The task of the server, which ends early only with an error.
    """
    server = HttpServer(app, listening, head_seconds, tls)

    async def serve() -> None:
        await server.serve()
        if not app.state.draining:
            raise RuntimeError("The HTTP server ended by itself.")

    with listening:
        running = asyncio.create_task(serve())
        try:
            yield running
        finally:
            app.state.draining = True
            await asyncio.sleep(_SECONDS_TO_CLOSE)
            server.stop()  # type: ignore[no-untyped-call]
            await running


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Listen on a TCP port.

    Args:
        host: name or address of this machine.
        port: port number, or 0 for any free port.
        shared: let another process of this user listen on the same port at another address.

    Raises:
        ConfigurationError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as error:
        # `strerror` of a system error contains the address; an error of the resolver has no positive number.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({reason}). Stop the process that listens there, or choose another port."
        ) from error
