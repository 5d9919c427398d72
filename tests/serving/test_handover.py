"""A listening socket is handed from process to process, and to no other user."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from healthpredict.serving.handover import offering, take


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative, as the processes use it: the system allows about 100 bytes."""
    monkeypatch.chdir(tmp_path)
    return Path("port.sock")


async def take_from_event_loop(path: Path) -> socket.socket | None:
    return await asyncio.to_thread(take, path)


def test_who_connects_while_the_socket_changes_hands_is_answered_by_the_successor(path: Path) -> None:
    async def change() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        with offering(listening, path), socket.create_connection(listening.getsockname()) as client:
            taken = await take_from_event_loop(path)
            assert taken is not None
            listening.close()
            with taken:
                accepted, _ = taken.accept()
                with accepted:
                    accepted.sendall(b"here")
            assert client.recv(4) == b"here"

    asyncio.run(change())


def test_every_successor_may_take_it_and_other_users_may_not(path: Path) -> None:
    async def change() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening, offering(listening, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            for _ in range(2):
                taken = await take_from_event_loop(path)
                assert taken is not None
                with taken:
                    assert taken.getsockname() == listening.getsockname()

    asyncio.run(change())


def test_without_an_offer_there_is_no_socket(path: Path) -> None:
    assert take(path) is None
    with socket.socket(socket.AF_UNIX) as left_by_a_killed_process:
        left_by_a_killed_process.bind(str(path))
    assert take(path) is None
    path.unlink()
    path.write_text("a file")
    assert take(path) is None


def test_a_new_offer_replaces_the_old_one(path: Path) -> None:
    async def change() -> None:
        with socket.create_server(("127.0.0.1", 0)) as old, socket.create_server(("127.0.0.1", 0)) as new:
            with offering(old, path), offering(new, path):
                taken = await take_from_event_loop(path)
            assert taken is not None
            with taken:
                assert taken.getsockname() == new.getsockname()

    asyncio.run(change())
