"""When a search has had its time. Imports Ray: import it where a search is made."""

from __future__ import annotations

import time
from typing import Any

from ray.tune.stopper import Stopper


class TimeBudget(Stopper):  # type: ignore[misc]
    """Ends a search after some time, but never before one trial is complete: a search without a result is of no use."""

    def __init__(self, seconds: float, last_step: int) -> None:
        """Args: seconds, from now; last_step, the report of a complete trial."""
        self._end = time.time() + seconds
        self._last_step = last_step
        self._complete = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Note a report; a single trial is never stopped here."""
        self._complete = self._complete or result["step"] >= self._last_step
        return False

    def stop_all(self) -> bool:
        """Whether the search should end."""
        return self._complete and time.time() > self._end
