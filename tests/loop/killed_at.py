"""Run the drift loop, and end the process with SIGKILL at a given point."""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

from healthpredict.operations.drift_loop import drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.registry.models import Registry
from healthpredict.rollout.local import LocalTarget
from healthpredict.storage.ledger import Ledger


def die(*_: object, **__: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def die_at_event(kind: str, batch: str | None = None) -> None:
    append = Ledger.append

    def dying(ledger: Ledger, event_kind: str, **facts: Any) -> Any:
        if event_kind == kind and batch in (None, facts.get("batch")):
            die()
        return append(ledger, event_kind, **facts)

    Ledger.append = dying  # type: ignore[method-assign]


def arm(point: str) -> None:
    match point:
        case "during search":
            from healthpredict.training.budget import TimeBudget

            TimeBudget.__call__ = die  # type: ignore[method-assign]
        case "while the bundle is uploaded":
            Registry.complete_version = die  # type: ignore[method-assign]
        case "between registration and ledger":
            die_at_event("training")
        case "between registration and rollout":
            LocalTarget.start = die  # type: ignore[method-assign]
        case "between rollout and alias":
            Registry.make_champion = die  # type: ignore[method-assign]
        case "between alias and ledger":
            die_at_event("promotion")
        case "between recalibration and ledger":
            die_at_event("recalibration")
        case "before the batch is written down":
            die_at_event("batch")
        case "never":
            pass
        case _:
            raise ValueError(point)


def run(point: str, variables: dict[str, str]) -> None:
    """Run the loop with these environment variables."""
    os.environ.update(variables)
    arm(point)
    drift_loop(Installation())
