"""What one caller may ask for, so that the others are still answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, MutableMapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from starlette.requests import ClientDisconnect

from healthpredict.serving.problems import FieldProblem, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Headers = Mapping[bytes, bytes]
"""By name in small letters, see `by_name`; of a header that is given twice the last value, of `X-Dry-Run` all of them."""
DRY_RUN: Final = b"x-dry-run"
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Limits(BaseModel):
    """The limits of a service.

    Attributes:
        body_bytes: of one encounter, which takes about 1,100.
        batch_body_bytes: of a batch; 10,000 encounters take 11 million.
        outcomes_body_bytes: of outcomes; 10,000 take half a million.
        batch_rows: encounters in a batch, and outcomes in a request.
        requests: answered at the same time. Each takes well under a millisecond, so that more would only wait.
        batches: answered at the same time. Each holds its whole body in memory.
        body_seconds: from the headers of a request to the end of its body.
        batch_seconds: from the body of a batch to its answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: PositiveInt = 64 * 1024
    batch_body_bytes: PositiveInt = 32 * 1024 * 1024
    outcomes_body_bytes: PositiveInt = 2 * 1024 * 1024
    batch_rows: PositiveInt = 10_000
    requests: PositiveInt = 512
    batches: PositiveInt = 2
    body_seconds: PositiveFloat = 10.0
    batch_seconds: PositiveFloat = 30.0


async def read_body(scope: Scope, receive: Receive, at_most: int, seconds: float) -> bytes:
    """Read the body of a request.

    Args:
        scope: of the request.
        receive: of the request.
        at_most: bytes.
        seconds: how long its sender may take.

    Raises:
        Refused: longer than allowed (413), or not there in time (408).
        ClientDisconnect: nobody waits for an answer any more.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > at_most:
            raise _too_large(at_most)
    first = _Begun(receive())
    message = first.result
    if message is not None and message["type"] == "http.request" and not message.get("more_body", False):
        # The usual case: the whole body came with the headers, and neither a timer nor a copy is needed.
        whole: bytes = message.get("body", b"")
        if len(whole) > at_most:
            raise _too_large(at_most)
        return whole
    try:
        async with asyncio.timeout(seconds):
            message = await first
            body = bytearray()
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > at_most:
                    raise _too_large(at_most)
                if not message.get("more_body", False):
                    return bytes(body)
                message = await receive()
    except TimeoutError:
        detail = f"The body was not there within {seconds:g} seconds. Send it again."
        raise Refused(408, detail, headers={"connection": "close"}) from None  # the rest would be taken for a request


class _Begun:
    """A call that has begun already; `result` is there where it did not have to wait."""

    def __init__(self, call: Awaitable[Message]) -> None:
        self._steps = call.__await__()
        self.result: Message | None = None
        try:
            self._waits_for = next(self._steps)
        except StopIteration as done:
            self.result = done.value

    def __await__(self) -> Generator[Any, Any, Message]:
        if self.result is not None:
            return self.result
        try:
            yield self._waits_for
        except BaseException:
            self._steps.close()
            raise
        return (yield from self._steps)


def by_name(headers: Collection[tuple[bytes, bytes]]) -> Headers:
    """Headers by name."""
    found = dict(headers)
    if DRY_RUN in found:
        found[DRY_RUN] = b",".join(value for name, value in headers if name == DRY_RUN)  # as RFC 9110 says, 5.3
    return found


def is_dry_run(headers: Headers) -> bool:
    """Whether the caller says that the encounter is not a real one: `X-Dry-Run: true`. It is logged, but never learned from.

    Raises:
        Refused: the header is there, and is neither true nor false in any letter case (422).
    """
    values = {value.strip().lower() for value in headers.get(DRY_RUN, b"false").split(b",")}
    if values not in ({b"true"}, {b"false"}):
        problem = FieldProblem(field="X-Dry-Run", problem="is neither true nor false")
        raise Refused(
            422, "The header X-Dry-Run is neither true nor false. Send one of these, or no such header.", [problem]
        )
    return values == {b"true"}


def _too_large(at_most: int) -> Refused:
    detail = f"The body is longer than {at_most:,} bytes. Send less at once."
    # The connection stays: uvicorn throws the rest of the body away, and the caller, done with sending, reads why.
    return Refused(413, detail)
