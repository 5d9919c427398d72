"""The HTTP protocol of a connection, with limits on what is not a request yet, and on an answer that nobody takes.

Uvicorn waits for ever for the head of a request, keeps any number of headers, and keeps answers for a client that does not
read. What a request itself may take is in `limits`. It also hands the head of an answer to the system before the body, and a
second call costs as much as a prediction: here they leave together.

What the application can answer at once is answered in the turn of the loop in which it came: a task, its context, an event, a
timer and the checks of an answer that could be anything cost more than a prediction. All requests of a turn are read, then all are
answered, then all answers are sent, because a processor that comes back from the system has forgotten much of the code that it was
in: in between, an answer takes up to twice as long. Whatever is unusual about a request or its answer takes uvicorn's way, on which
the limits are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from healthpredict.serving.limits import Headers, by_name

AtOnce = Callable[[Headers, bytes], bytes | None]
"""From the headers of a POST and its body to the JSON of its answer, status 200; None where it needs more words."""

_HEAD: Final = b"HTTP/1.1 200 OK\r\n%scontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"


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

    def write_at_once(self, data: bytes) -> None:
        self._held = data if self._held is None else self._held + data
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


class _Turn:
    """The requests of one turn of a loop that can be answered at once."""

    def __init__(self) -> None:
        self._asking: list[Connection] = []

    def add(self, connection: Connection) -> None:
        if not self._asking:
            connection.loop.call_soon(self._end)
        self._asking.append(connection)

    def _end(self) -> None:
        asking, self._asking = self._asking, []
        for connection, answer in [(connection, connection.judge()) for connection in asking if connection.asks]:
            connection.send(answer)


_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn]] = WeakKeyDictionary()


class Connection(HttpToolsProtocol):
    """A connection that ends where nothing comes of it.

    Attributes:
        look_seconds: how long it may be silent in the midst of a head, or not read at all; up to twice as long, as it is looked
            at only so often.
        first_request_seconds: how long a new connection is waited for at the end of the process.
        head_bytes: request line and headers that arrive in pieces may have.
        rest_of_body_seconds: how long the body of what can be answered at once may come after the head; many clients send them
            one after the other.
        body_bytes: it may have.
        asks: for an answer at once: all of a request is there.
    """

    look_seconds: ClassVar[float] = 10.0
    first_request_seconds: ClassVar[float] = 0.5
    head_bytes: ClassVar[int] = 64 * 1024
    rest_of_body_seconds: ClassVar[float] = 0.05
    body_bytes: ClassVar[int] = 64 * 1024

    _in_head = False
    _head_so_far = 0
    _next_look: asyncio.TimerHandle
    _at_once: AtOnce | None = None
    """What answers the request that is arriving, if it goes on as it began."""
    _body = b""
    _rest_of_body: asyncio.TimerHandle | None = None
    _answered_at_once = 0
    asks = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        """Start to look."""
        self._wire = _Together(transport, self.loop)
        super().connection_made(self._wire)  # type: ignore[arg-type] # all that uvicorn uses of it
        self._turn = _turns.setdefault(self.loop, _Turn())
        ends = any(name == b"connection" for name, _ in self.server_state.default_headers)
        self._answers_at_once: Mapping[bytes, AtOnce] = {} if ends else getattr(self.app, "at_once", {})
        self._next_look = self.loop.call_later(self.look_seconds, self._look, (None, 0), 0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._next_look.cancel()
        if self._at_once is not None:
            self._take_the_long_way(complete=self.asks)  # where it is counted
        super().connection_lost(exc)

    def answer_is_the_last(self) -> None:
        """Say so in the answer to a request that has begun; later ones take it from the state of the server."""
        self._answers_at_once = {}
        if self._at_once is not None:
            self._take_the_long_way(complete=self.asks)
        if self.cycle is not None:
            self.cycle.default_headers = self.server_state.default_headers

    def shutdown(self) -> None:
        """End, after what was asked; the first request of a client that has just connected may be on its way."""
        if self.cycle is None and not self._answered_at_once:
            self.loop.call_later(self.first_request_seconds, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        if self._at_once is not None and not self.asks and self._rest_of_body is None:
            self._rest_of_body = self.loop.call_later(self.rest_of_body_seconds, self._take_the_long_way)
        if not self._in_head:
            self._head_so_far = 0
            return
        self._head_so_far += len(data)
        if self._head_so_far > self.head_bytes:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """A request begins; one that did not wait for the answer before it."""
        if self.asks:
            self.send(self.judge())
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        answer = self._answers_at_once.get(self.url)
        if answer is None or not self._is_usual():
            super().on_headers_complete()
        else:
            self._at_once, self._body = answer, b""

    def on_body(self, body: bytes) -> None:
        """Some of its body is there."""
        if self._at_once is None:
            super().on_body(body)
        else:
            self._body += body
            if len(self._body) > self.body_bytes:
                self._take_the_long_way()

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self._at_once is None:
            super().on_message_complete()
            return
        self._stop_waiting()
        self.asks = True
        self._turn.add(self)

    def judge(self) -> bytes | None:
        """Answer the request that asks; None where it needs more words."""
        assert self._at_once is not None
        self.asks = False
        return self._at_once(by_name(self.headers), self._body)

    def send(self, answer: bytes | None) -> None:
        """Send what `judge` returned."""
        if answer is None:
            self._take_the_long_way(complete=True)
            return
        self._at_once = None
        self._answered_at_once += 1
        self.server_state.total_requests += 1
        head = b"".join([b"%s: %s\r\n" % header for header in self.server_state.default_headers])
        self._wire.write_at_once(_HEAD % (head, len(answer), answer))

    def _is_usual(self) -> bool:
        """Whether nothing has to be known of the request but its headers and its body, and it is this connection's turn."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )

    def _stop_waiting(self) -> None:
        if self._rest_of_body is not None:
            self._rest_of_body.cancel()
            self._rest_of_body = None

    def _take_the_long_way(self, *, complete: bool = False) -> None:
        """Args: complete, whether all of the request is there."""
        self._stop_waiting()
        self._at_once, self.asks = None, False
        super().on_headers_complete()
        super().on_body(self._body)
        if complete:
            super().on_message_complete()

    def _look(self, answered_before: Any, unsent_before: int) -> None:
        """Args: of the look before: what was answered, False where an answer was awaited; bytes that were not read."""
        done = self._at_once is None and (self.cycle is None or self.cycle.response_complete)
        answered = (self.cycle, self._answered_at_once) if done else False
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == unsent_before:
            self.transport.abort()
        elif not done or unsent or answered != answered_before:
            self._next_look = self.loop.call_later(self.look_seconds, self._look, answered, unsent)
        elif self._answered_at_once and not self._in_head:
            self.transport.close()  # kept for another request, which did not come
        else:
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
