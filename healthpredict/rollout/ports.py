"""Find free ports for new processes."""

from __future__ import annotations

import contextlib
import random
import socket

from healthpredict.errors import HealthPredictError

# No other program assigns ports from this range, so a port that is found free is still free when it is used. Linux assigns ports
# from 32,768 on, Ray from 10,002 to 19,999, and Kubernetes from 30,000 to 32,767.
_RANGE = range(20_000, 30_000)
_ATTEMPTS = 100


def free_port(host: str = "127.0.0.1", preferred: int | None = None) -> int:
    """Find a free port of a local address: the preferred one, if it is given and free.

    Raises:
        HealthPredictError: none was found.
    """
    # Not seeded: two processes with the same seed would try the same ports.
    others = random.SystemRandom().sample(_RANGE, _ATTEMPTS)
    for port in others if preferred is None else (preferred, *others):
        with contextlib.suppress(OSError), socket.create_server((host, port)):
            return port
    raise HealthPredictError(f"No free port was found on {host} among {_ATTEMPTS} from {_RANGE[0]} to {_RANGE[-1]}.")
