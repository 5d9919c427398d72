"""What the flows tell Prefect's event bus, for automations and triggers."""

from __future__ import annotations

from typing import Final

from prefect.events import emit_event

from healthpredict.operations.detect_drift import DriftCheck

DRIFT: Final = "health-predict.drift"


def tell_drift(check: DriftCheck) -> None:
    """Say that a batch showed drift, with the decision and its reasons; a stable batch is no news."""
    if check.decision.state == "stable":
        return
    emit_event(
        DRIFT,
        resource={
            "prefect.resource.id": f"health-predict.batch.{check.batch}",
            "prefect.resource.name": f"{check.batch}: {check.decision.state}",
        },
        payload={"decision": check.decision.state, "reasons": list(check.decision.reasons)},
    )
