"""Read a request: its body within the limits, the JSON in it, and the header X-Dry-Run.

The standard library's JSON decoder is used because it can report a name that occurs twice. Objects become tuples of pairs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from healthpredict.serving.problems import GIVEN_TWICE, FieldProblem, ProblemError

_LARGEST_EXACT: Final = 2**53
"""Up to here, a float represents every whole number exactly."""


async def read_body(request: Request, at_most: int, seconds: float) -> bytes:
    """Read a body of at most so many bytes, within so many seconds.

    Raises:
        ProblemError: longer than allowed (413), or too slow (408).
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
        detail = f"The body did not arrive within {seconds:g} seconds. Send it again."
        # If the connection stayed open, the rest of the body would be read as the next request.
        raise ProblemError(408, detail, headers={"connection": "close"}) from None
    body.clear()
    await discard_body(request.scope, request.receive, seconds)
    raise ProblemError(413, f"The body is longer than {at_most:,} bytes. Send less at once.")


async def discard_body(scope: Scope, receive: Receive, seconds: float) -> None:
    """Receive the rest of a body and drop it, because many clients read a response only after they have sent all.

    A client that waits for `100 Continue` has sent nothing.
    """
    if "expect" in Headers(scope=scope):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass


def is_dry_run(request: Request) -> bool:
    """Return whether the header `X-Dry-Run` says that the encounter is not a real one.

    Raises:
        ProblemError: the header is neither true nor false, in any letter case (422).
    """
    sent = request.headers.getlist("x-dry-run")
    if not sent:
        return False
    values = {value.strip().lower() for line in sent for value in line.split(",")}
    if values not in ({"true"}, {"false"}):
        problem = FieldProblem(field="X-Dry-Run", problem="is neither true nor false")
        detail = "The header X-Dry-Run is neither true nor false. Send one of these, or leave the header out."
        raise ProblemError(422, detail, [problem])
    return values == {"true"}


def read_json(body: bytes) -> Any:
    """Decode a body. `NaN` and `Infinity` are floats; `5.0` is an int.

    Raises:
        ProblemError: the body is not JSON in UTF-8 (400), or contains a number of thousands of digits (422).
    """
    try:
        return _decoder.decode(body.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise not_json() from None  # the cause contains values
    except ValueError:
        # Python takes quadratic time for long numbers, so it refuses them.
        raise ProblemError(422, f"A number has more than {sys.get_int_max_str_digits():,} digits.") from None


def not_json() -> ProblemError:
    """Return the error for a body that is not JSON."""
    return ProblemError(400, "The body is not JSON.")


def read_list(body: bytes, name: str, at_most: int) -> list[Any]:
    """Decode a body that is a JSON object with the list `name` of at most so many items, and nothing else.

    Raises:
        ProblemError: not JSON (400), too many items (413), or something else (422).
    """
    sent = read_json(body)
    names = [given for given, _ in sent] if isinstance(sent, tuple) else []
    if names.count(name) > 1:
        problem = FieldProblem(field=name, problem=GIVEN_TWICE)
        raise ProblemError(422, f"The list {name} {GIVEN_TWICE}. Send one list.", [problem])
    if names != [name] or not isinstance(sent[0][1], list):
        raise ProblemError(422, f'The body is not one JSON object with the list "{name}" and nothing else.')
    found: list[Any] = sent[0][1]
    if len(found) > at_most:
        raise ProblemError(413, f"There are {len(found):,} {name}, and {at_most:,} is the most. Send several requests.")
    return found


def _decimal(text: str) -> int | float:
    """Convert a decimal; a whole number up to 2^53 (`5.0`, `5e0`) becomes an int."""
    number = float(text)
    if number.is_integer() and abs(number) <= _LARGEST_EXACT:
        with contextlib.suppress(InvalidOperation):  # an exponent beyond those of decimals
            if Decimal(text) == int(number):
                return int(number)
    return number


_decoder: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_float=_decimal)
