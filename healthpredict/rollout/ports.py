"""Ports for processes that are about to start."""

from __future__ import annotations

import contextlib
import random
import socket

from healthpredict.errors import HealthPredictError

# Between the look for a port and its use nobody else should be given it: Linux takes those from 32,768 on for
# connections and for who asks for any port, Ray those from 10,002 to 19,999 for its workers, Kubernetes those from
# 30,000 to 32,767 for services.
_RANGE = range(20_000, 30_000)
_ATTEMPTS = 100


def free_port(host: str = "127.0.0.1", preferred: int | None = None) -> int:
    """The preferred port of an address of this machine, or another free one where it is taken or none is preferred.

    Raises:
        HealthPredictError: none was found.
    """
    # From the system: two processes with the same seed would draw the same ports.
    others = random.SystemRandom().sample(_RANGE, _ATTEMPTS)
    for port in others if preferred is None else (preferred, *others):
        with contextlib.suppress(OSError), socket.create_server((host, port)):
            return port
    raise HealthPredictError(f"No free port was found on {host} among {_ATTEMPTS} from {_RANGE[0]} to {_RANGE[-1]}.")
