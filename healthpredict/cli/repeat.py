"""Repeat an action until SIGTERM, even after failures."""

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
    """Repeat an action until SIGTERM or SIGINT. After each expected failure, wait twice as long, up to five minutes.

    Args:
        action: the action. Its result is logged if any field is not empty.
        seconds: wait between two calls.
    """
    # Not a `threading.Event`, which can deadlock if a signal handler calls `set` during `wait`.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
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
            signals.get(timeout=wait)
            return
        except Empty:
            continue
