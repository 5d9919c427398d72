"""When a search has had its time. Imports Ray: import it where a search is made."""

from __future__ import annotations

import time
from typing import Any

from ray.tune.stopper import Stopper


class TimeBudget(Stopper):  # type: ignore[misc]
    """Ends a search after some time, but never before one trial is complete: a search without a result is of no use."""

    def __init__(self, seconds: float, last_step: int) -> None:
        """Start to count.

        Args:
            seconds: that the search may run. A search that is interrupted and goes on later has the seconds that were left.
            last_step: the report of a complete trial.
        """
        self._end = time.time() + seconds
        self._last_step = last_step
        self._complete = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Note a report; a single trial is never stopped here."""
        self._complete = self._complete or result["step"] >= self._last_step
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Keep the seconds that are left, because the clock goes on while an interrupted search does not."""
        return self.__dict__ | {"_end": self._end - time.time()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on with the seconds that were left."""
        self.__dict__.update(state)
        self._end += time.time()

    def stop_all(self) -> bool:
        """Whether the search should end."""
        return self._complete and time.time() > self._end
