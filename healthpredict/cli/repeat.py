"""Doing something again and again until SIGTERM, also after it failed."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

from pydantic import BaseModel

from healthpredict.errors import AlreadyRunning, StorageError

_logger = logging.getLogger(__name__)
_LONGEST_WAIT_SECONDS = 300.0


def repeat(action: Callable[[], BaseModel], seconds: float) -> None:
    """Repeat an action; where the store fails, wait twice as long each time. SIGTERM and SIGINT end it after the action.

    Args:
        action: what to do; its result is logged where anything is in it.
        seconds: between two.
    """
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    wait = seconds
    while not ending.is_set():
        try:
            done = action().model_dump()
        except (StorageError, AlreadyRunning) as error:
            wait = min(2 * wait, max(seconds, _LONGEST_WAIT_SECONDS))
            _logger.error("%s Trying again in %.0f s.", error, wait)
        else:
            wait = seconds
            if any(done.values()):
                _logger.info("%s", ", ".join(f"{name} {value}" for name, value in done.items()))
        ending.wait(wait)
