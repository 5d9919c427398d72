"""`make chaos`: a campaign of faults. No row is lost, no event is duplicated, and the alias names what serves.

Each part takes about a minute, uses a fixed seed, and touches only processes and files of its own. Its first count is the number of
faults; all others must be 0.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.chaos import cut_copies, killed_loops, killed_migrations, killed_rollouts, lost_responses
from benchmarks.results import FOLDER, Stopwatch, at_least, at_most, conditions, write

_RESULT: Final[Path] = FOLDER / "chaos.json"
_PARTS: Final[dict[str, tuple[int, Callable[[int], dict[str, int]]]]] = {
    "lost responses of the store": (100, lost_responses.run),
    "killed loops": (50, killed_loops.run),
    "killed rollouts": (20, killed_rollouts.run),
    "copies looked at half-way": (100, cut_copies.run),
    "killed first starts of MLflow": (50, killed_migrations.run),
}


def main() -> int:
    """Run every part; 1 if anything was lost or claimed falsely."""
    logging.disable(logging.ERROR)  # the injected faults cause many messages
    passed = []
    for name, (faults, run) in _PARTS.items():
        watch = Stopwatch()
        counts = run(faults)
        injected, *others = counts
        targets = [at_least(injected, counts[injected], faults), *(at_most(what, counts[what], 0) for what in others)]
        passed.append(write(_RESULT, name, counts, targets, conditions(seconds=round(watch.wall, 1))))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
