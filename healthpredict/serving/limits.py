"""What one caller may ask for, so that the others are still answered."""

from __future__ import annotations

import asyncio
import contextlib

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from healthpredict.serving.problems import Refused


class Limits(BaseModel):
    """The limits of a service.

    Attributes:
        body_bytes: of one encounter, which takes about 1,100.
        batch_body_bytes: of a batch; 10,000 encounters take 11 million.
        outcomes_body_bytes: of outcomes; 10,000 take half a million.
        batch_rows: encounters in a batch, and outcomes in a request.
        requests: answered at the same time. Each takes well under a millisecond, so that more would only wait.
        batches: answered at the same time. Each holds its whole body in memory.
        head_seconds: for the head of a request, and for a response that the client does not read.
        body_seconds: from the headers of a request to the end of its body. A body that is too long may take as long again.
        batch_seconds: from the body of a batch to its answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: PositiveInt = 64 * 1024
    batch_body_bytes: PositiveInt = 32 * 1024 * 1024
    outcomes_body_bytes: PositiveInt = 2 * 1024 * 1024
    batch_rows: PositiveInt = 10_000
    requests: PositiveInt = 512
    batches: PositiveInt = 2
    head_seconds: PositiveFloat = 10.0
    body_seconds: PositiveFloat = 10.0
    batch_seconds: PositiveFloat = 30.0


async def read_body(request: Request, at_most: int, seconds: float) -> bytes:
    """Read the body of a request.

    Args:
        request: whose body was not read yet.
        at_most: bytes.
        seconds: how long its sender may take.

    Raises:
        Refused: longer than allowed (413), or not there in time (408).
        ClientDisconnect: the client left, or the body is not valid HTTP.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            if int(request.headers.get("content-length", 0)) <= at_most:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > at_most:
                        break
                else:
                    return bytes(body)
    except TimeoutError:
        detail = f"The body was not there within {seconds:g} seconds. Send it again."
        raise Refused(408, detail, headers={"connection": "close"}) from None  # the rest would be taken for a request
    body.clear()
    await discard_body(request.scope, request.receive, seconds)
    raise Refused(413, f"The body is longer than {at_most:,} bytes. Send less at once.")


async def discard_body(scope: Scope, receive: Receive, seconds: float) -> None:
    """Receive the rest of a body that nobody reads, because many clients read a response only then.

    A client that waits for `100 Continue` has sent nothing and is not asked to.
    """
    if "expect" in Headers(scope=scope):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
