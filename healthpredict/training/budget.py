"""The time budget of a search. This module imports Ray, so import it only where a search runs."""

from __future__ import annotations

import time
from typing import Any

from ray.tune.stopper import Stopper


class TimeBudget(Stopper):  # type: ignore[misc]
    """Ends a search after some time, but not before one trial is complete, so that there is always a result."""

    def __init__(self, seconds: float, last_step: int) -> None:
        """Start the clock.

        Args:
            seconds: how long the search may run. The time between an interruption and the resumption does not count.
            last_step: number of the last report of a complete trial.
        """
        self._end = time.time() + seconds
        self._last_step = last_step
        self._complete = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record whether a trial is complete. Returns: False, because this stopper never ends a single trial."""
        self._complete = self._complete or result["step"] >= self._last_step
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Store the seconds that are left instead of the end time."""
        return self.__dict__ | {"_end": self._end - time.time()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restart the clock with the seconds that were left."""
        self.__dict__.update(state)
        self._end += time.time()

    def stop_all(self) -> bool:
        """Return whether the search should end."""
        return self._complete and time.time() > self._end
