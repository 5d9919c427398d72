"""The head of an answer and its body leave together, and nothing is held back for longer than a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from healthpredict.serving.protocol import Connection


class Wire:
    """What a transport was told, in order."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append(b"closed")

    def get_write_buffer_size(self) -> int:
        return 5

    def get_extra_info(self, _name: str) -> Any:
        return None


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """An application that is never asked."""


def told(use: Callable[[Any], object]) -> list[bytes]:
    """What reaches the wire of a connection whose transport is used in one turn of the loop."""
    from uvicorn import Config
    from uvicorn.server import ServerState

    async def in_a_loop() -> list[bytes]:
        wire = Wire()
        config = Config(_nothing)
        config.load()
        connection = Connection(config, ServerState(), {})
        connection.connection_made(wire)  # type: ignore[arg-type]
        use(connection.transport)
        await asyncio.sleep(0)
        found = list(wire.told)
        connection.connection_lost(None)
        return found

    return asyncio.run(in_a_loop())


@pytest.mark.parametrize(
    ("pieces", "sent"),
    [
        ([b"head", b"body"], [b"headbody"]),
        ([b"100 Continue"], [b"100 Continue"]),
        ([b"head", b"1", b"2", b"3"], [b"head1", b"23"]),
    ],
)
def test_pieces_of_a_turn_leave_two_by_two(pieces: list[bytes], sent: list[bytes]) -> None:
    assert told(lambda transport: [transport.write(piece) for piece in pieces]) == sent


def test_a_piece_leaves_before_the_connection_closes() -> None:
    assert told(lambda transport: (transport.write(b"bye"), transport.close())) == [b"bye", b"closed"]


def test_what_is_held_back_counts_as_unsent() -> None:
    sizes: list[int] = []
    told(lambda t: (t.write(b"1234"), sizes.append(t.get_write_buffer_size())))
    assert sizes == [9]
