"""Free ports for new processes."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

import pytest

from healthpredict.errors import HealthPredictError
from healthpredict.rollout import ports
from healthpredict.rollout.ports import free_port

_ASSIGNED_BY_LINUX = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not _ASSIGNED_BY_LINUX.exists(), reason="not Linux")
def test_the_system_does_not_assign_the_port_to_another_process() -> None:
    first, last = map(int, _ASSIGNED_BY_LINUX.read_text().split())
    assert not {free_port() for _ in range(20)} & set(range(first, last + 1))


def test_processes_with_the_same_seed_get_different_ports() -> None:
    drawn = set()
    for _ in range(5):
        random.seed(1)
        drawn.add(free_port())
    assert len(drawn) > 1


def test_the_preferred_port_if_it_is_free_and_another_otherwise() -> None:
    preferred = free_port()
    assert free_port(preferred=preferred) == preferred
    with socket.create_server(("127.0.0.1", preferred)):
        other = free_port(preferred=preferred)
        assert other != preferred
        socket.create_server(("127.0.0.1", other)).close()


def test_if_no_port_is_free_the_range_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as servers:
        first = next(port for port in iter(free_port, None) if _three_are_free(port, servers))
        monkeypatch.setattr(ports, "_RANGE", range(first, first + 3))
        monkeypatch.setattr(ports, "_ATTEMPTS", 3)
        with pytest.raises(HealthPredictError, match=rf"127\.0\.0\.1 among 3 from {first} to {first + 2}"):
            free_port()


def _three_are_free(first: int, servers: contextlib.ExitStack) -> bool:
    """Try to listen on three consecutive ports."""
    try:
        for port in range(first, first + 3):
            servers.enter_context(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return False
    return True
