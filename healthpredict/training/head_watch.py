"""Watch the head of a cluster during a search. This module imports Ray, so import it only where a search runs."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback

from healthpredict.training.ray_cluster import SECONDS_BETWEEN_CHECKS, check_head


class HeadWatch(Callback):  # type: ignore[misc]
    """Ends the search with a `ClusterError` if the head does not respond. Ray Tune itself would wait, and then end the process."""

    def __init__(self, address: str) -> None:
        """Args: address, of the cluster."""
        self._address = address
        self._next = time.monotonic() + SECONDS_BETWEEN_CHECKS

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Check the head if the last check is some time ago."""
        if time.monotonic() >= self._next:
            check_head(self._address)
            self._next = time.monotonic() + SECONDS_BETWEEN_CHECKS
