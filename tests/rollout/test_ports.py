"""Ports for processes that are about to start."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

import pytest

from healthpredict.errors import HealthPredictError
from healthpredict.rollout import ports
from healthpredict.rollout.ports import free_port

_GIVEN_TO_ANYBODY = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not _GIVEN_TO_ANYBODY.exists(), reason="not Linux")
def test_the_system_gives_it_to_nobody_else() -> None:
    first, last = map(int, _GIVEN_TO_ANYBODY.read_text().split())
    assert not {free_port() for _ in range(20)} & set(range(first, last + 1))


def test_a_seed_does_not_make_two_processes_draw_the_same() -> None:
    drawn = set()
    for _ in range(5):
        random.seed(1)
        drawn.add(free_port())
    assert len(drawn) > 1


def test_the_preferred_one_where_it_is_free_and_another_where_it_is_taken() -> None:
    preferred = free_port()
    assert free_port(preferred=preferred) == preferred
    with socket.create_server(("127.0.0.1", preferred)):
        other = free_port(preferred=preferred)
        assert other != preferred
        socket.create_server(("127.0.0.1", other)).close()


def test_where_all_are_taken_it_says_among_which(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as servers:
        first = next(port for port in iter(free_port, None) if _three_are_free(port, servers))
        monkeypatch.setattr(ports, "_RANGE", range(first, first + 3))
        monkeypatch.setattr(ports, "_ATTEMPTS", 3)
        with pytest.raises(HealthPredictError, match=rf"127\.0\.0\.1 among 3 from {first} to {first + 2}"):
            free_port()


def _three_are_free(first: int, servers: contextlib.ExitStack) -> bool:
    """Take three ports in a row."""
    try:
        for port in range(first, first + 3):
            servers.enter_context(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return False
    return True
