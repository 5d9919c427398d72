"""Clients of the serving benchmark."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

CONNECTIONS = 32


def http(path: str, body: bytes, *headers: str) -> bytes:
    """A POST on a connection that is kept alive."""
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, *headers, "", "")).encode() + body


class Asking(asyncio.Protocol):
    """Send requests one after the other on one connection, and record the seconds until each response.

    asyncio's streams would take as much CPU as a prediction, on the core beside the one that is measured.
    """

    def __init__(self, waits: list[float]) -> None:
        self._waits = waits
        self._answer = b""

    def begin(self, request: bytes, goes_on: Callable[[], bool]) -> asyncio.Future[None]:
        """Send requests until `goes_on()` is false. The future that is returned is done then."""
        self._request, self._goes_on = request, goes_on
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ask()
        return self._ended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in asyncio
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send the next request when the response is complete."""
        self._answer += data
        head, complete, body = self._answer.partition(b"\r\n\r\n")
        if not complete or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._ended.set_exception(RuntimeError(f"answered {head.splitlines()[0].decode()}"))
            self.transport.close()
            return
        self._waits.append(time.perf_counter() - self._started)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail if the server closed the connection."""
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionError("closed in the midst of an answer"))

    def _ask(self) -> None:
        self._answer, self._started = b"", time.perf_counter()
        if self._goes_on():
            self.transport.write(self._request)
        else:
            self._ended.set_result(None)


async def connect(port: int, connections: int, waits: list[float]) -> list[Asking]:
    """Open connections. Args: port; connections, how many; waits, to which they add the seconds of each response."""
    open_one = asyncio.get_running_loop().create_connection
    made = await asyncio.gather(*(open_one(lambda: Asking(waits), "127.0.0.1", port) for _ in range(connections)))
    return [asking for _, asking in made]


async def load(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    """Send requests on some connections for some time, and return the seconds until each response."""
    waits: list[float] = []
    until = time.perf_counter() + seconds
    asking = await connect(port, connections, waits)
    try:
        await asyncio.gather(*(one.begin(request, lambda: time.perf_counter() < until) for one in asking))
    finally:
        for one in asking:
            one.transport.close()
    return waits
