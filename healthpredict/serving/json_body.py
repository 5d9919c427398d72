"""Read the JSON that callers send.

The standard library's decoder is used because it can report a name that occurs twice. Objects become tuples of pairs.
"""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from healthpredict.serving.problems import FieldProblem, Refused

_LARGEST_EXACT: Final = 2**53
"""Up to here, a float represents every whole number exactly."""
_DIGITS_OF_64_BITS: Final = 20
_BEYOND_64_BITS: Final = 10**_DIGITS_OF_64_BITS


def read_json(body: bytes) -> Any:
    """Read a body. `NaN` and `Infinity` are floats; `5.0` is an int.

    Raises:
        Refused: the body is not JSON in UTF-8 (400).
    """
    try:
        return _decoder.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise not_json() from None  # the cause holds values


def not_json() -> Refused:
    """Return the refusal of a body that is not JSON."""
    return Refused(400, "The body is not JSON.")


def read_list(body: bytes, name: str) -> list[Any]:
    """Read a body that is one object with one list.

    Args:
        body: JSON.
        name: of the list.

    Raises:
        Refused: not JSON (400), or something else (422).
    """
    sent = read_json(body)
    names = [given for given, _ in sent] if isinstance(sent, tuple) else []
    if names.count(name) > 1:
        problem = FieldProblem(field=name, problem="is given twice")
        raise Refused(422, f"The list {name} is given twice. Send one list.", [problem])
    if names != [name] or not isinstance(sent[0][1], list):
        raise Refused(422, f'The body is not one JSON object with the list "{name}" and nothing else.')
    found: list[Any] = sent[0][1]
    return found


def _whole(text: str) -> int:
    """Convert digits. Python takes quadratic time for long numbers, so one that 64 bits cannot hold becomes another such number."""
    if len(text) <= _DIGITS_OF_64_BITS:
        return int(text)
    return -_BEYOND_64_BITS if text.startswith("-") else _BEYOND_64_BITS


def _decimal(text: str) -> int | float:
    """Convert a decimal; one that is a whole number up to 2^53 (`5.0`, `5e0`) becomes an int."""
    number = float(text)
    if number.is_integer() and abs(number) <= _LARGEST_EXACT:
        with contextlib.suppress(InvalidOperation):  # an exponent beyond those of decimals
            if Decimal(text) == int(number):
                return int(number)
    return number


_decoder: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_int=_whole, parse_float=_decimal)
