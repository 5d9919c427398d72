"""The HTTP protocol of a connection, with limits on what is not a request yet, and on an answer that nobody takes.

Uvicorn waits for ever for the head of a request, keeps any number of headers, and keeps answers for a client that does not
read. What a request itself may take is in `limits`. It also hands the head of an answer to the system before the body, and a
second call costs as much as a prediction: here they leave together.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _Together:
    """A transport that holds a piece back until the next one, or until this turn of the loop ends."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held is None:
            self._held = data
            self._loop.call_soon(self._send)
        else:
            self._held += data
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + len(self._held or b"")

    def _send(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._transport.write(held)


class Connection(HttpToolsProtocol):
    """A connection that ends where nothing comes of it.

    Attributes:
        look_seconds: how long it may be silent in the midst of a head, or not read at all; up to twice as long, as it is looked
            at only so often.
        first_request_seconds: how long a new connection is waited for at the end of the process.
        head_bytes: request line and headers that arrive in pieces may have.
    """

    look_seconds: ClassVar[float] = 10.0
    first_request_seconds: ClassVar[float] = 0.5
    head_bytes: ClassVar[int] = 64 * 1024

    _head_so_far = 0
    _next_look: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        """Start to look."""
        super().connection_made(_Together(transport, self.loop))  # type: ignore[arg-type] # all that uvicorn uses of it
        self._next_look = self.loop.call_later(self.look_seconds, self._look, None, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def answer_is_the_last(self) -> None:
        """Say so in the answer to a request that is there already; later ones take it from the state of the server."""
        if self.cycle is not None:
            self.cycle.default_headers = self.server_state.default_headers

    def shutdown(self) -> None:
        """End, after what was asked; the first request of a client that has just connected may be on its way."""
        if self.cycle is None:
            self.loop.call_later(self.first_request_seconds, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        if self.scope is None or (self.cycle is not None and self.cycle.scope is self.scope):
            self._head_so_far = 0  # the head is complete
            return
        self._head_so_far += len(data)
        if self._head_so_far > self.head_bytes:
            self._refuse(b"431 Request Header Fields Too Large")

    def _look(self, answered_before: Any, unsent_before: int) -> None:
        """Args: of the look before: the last request where it was answered, else False; bytes that were not read."""
        answered = self.cycle if self.cycle is None or self.cycle.response_complete else False
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == unsent_before:
            self.transport.abort()
        elif answered is not False and answered is answered_before and not unsent:
            self._refuse(b"408 Request Timeout")
        else:
            self._next_look = self.loop.call_later(self.look_seconds, self._look, answered, unsent)

    def _refuse(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
