"""Doing something again and again until SIGTERM, also after it failed."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from queue import Empty, SimpleQueue

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
    # Not an Event: that one can wait for ever when its `set` interrupts its own `wait`.
    asked_to_end: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked_to_end.put(number))
    wait = seconds
    while True:
        try:
            done = action().model_dump()
        except (StorageError, AlreadyRunning) as error:
            wait = min(2 * wait, max(seconds, _LONGEST_WAIT_SECONDS))
            _logger.error("%s Trying again in %.0f s.", error, wait)
        else:
            wait = seconds
            if any(done.values()):
                _logger.info("%s", ", ".join(f"{name} {value}" for name, value in done.items()))
        try:
            asked_to_end.get(timeout=wait)
            return
        except Empty:
            continue
