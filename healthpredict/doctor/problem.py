"""Checks, the problems that they find, and how they are run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from healthpredict.errors import HealthPredictError

DEADLINE_SECONDS: Final = 30.0
"""For all checks together. A server that does not respond would otherwise hold up the rest for minutes."""


@dataclass(frozen=True)
class Problem:
    """Something that has to be fixed.

    Attributes:
        sentence: what is wrong, with the value.
        fix: the command or the change that fixes it; empty if the sentence already says it.
    """

    sentence: str
    fix: str = ""

    def __str__(self) -> str:
        """Return both as one line of text."""
        return f"{self.sentence} Fix: {self.fix}" if self.fix else self.sentence


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        subject: what it checks, for messages.
        find: returns the problem, or None if there is none. If it raises, that is reported as a problem as well.
    """

    subject: str
    find: Callable[[], Problem | None]


def run_checks(checks: Sequence[Check], seconds: float = DEADLINE_SECONDS) -> list[Problem]:
    """Run checks at the same time. A check that does not end in time is a problem.

    Returns:
        The problems, in the order of the checks.
    """
    found: dict[int, Problem | None] = {}
    # Daemons, so that a check that hangs does not keep the process alive.
    threads = [
        threading.Thread(target=_run, args=(check, found, number), daemon=True) for number, check in enumerate(checks)
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = {
        number: Problem(
            f"The check of {check.subject} did not end within {seconds:g} s.", "check its network and server"
        )
        for number, check in enumerate(checks)
        if number not in found
    }
    # A check may still end while this runs. Its result counts.
    return [problem for _, problem in sorted((late | found).items()) if problem is not None]


def _run(check: Check, found: dict[int, Problem | None], number: int) -> None:
    try:
        found[number] = check.find()
    except HealthPredictError as error:
        found[number] = Problem(str(error))
    except OSError as error:
        found[number] = Problem(f"The check of {check.subject} failed: {error}.")
    except Exception as error:  # a bug in one check must not hide what the others find
        found[number] = Problem(
            f"The check of {check.subject} failed with an unexpected {type(error).__name__}: {error}."
        )
