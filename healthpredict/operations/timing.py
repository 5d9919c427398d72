"""How long the steps of an operation take, and the line that is logged for each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger(__name__)
Seconds = dict[str, float]
"""Stage -> wall time."""


@contextmanager
def timed(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the wall time of the block to a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def log_step(subject: str, step: str, seconds: float, result: str) -> None:
    """Log a finished step in one line: `batch-03   drift      1.9 s  retrain: 28 of 47 features differ ...`.

    Args:
        subject: the batch or version.
        step: what was done, in one word.
        seconds: how long it took.
        result: what came out of it.
    """
    _logger.info("%-10s %-8s %5.1f s  %s", subject, step, seconds, result)
