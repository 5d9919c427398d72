"""End runs whose worker died. Without this, they would stay in state Running."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.events import Event, RelatedResource
from prefect.events.actions import ChangeFlowRunState

from flows.events import AUTOMATION_PREFIX, RESOURCE, RUN_AWAITED
from flows.pools import POOL_NAMES

_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_PENDING: Final = "prefect.flow-run.Pending"
# Events after which no heartbeats follow: they stop the timer. Prefect itself ends Cancelling after five minutes. A run that waits
# for a free slot of its deployment needs no event here: it was never Pending, so its timer has not started.
_NO_HEARTBEATS_AFTER: Final = {
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Crashed", "Cancelling", "Cancelled", "AwaitingRetry", "Paused", "Suspended")
}
_ROLE: Final = "prefect.resource.role"
_NAME: Final = "prefect.resource.name"


def end_dead_runs(silence: timedelta) -> AutomationCore:
    """Return the automation that ends a run without heartbeats. Its timer starts when a worker takes the run.

    It applies to runs of our pools only, whose workers send a heartbeat every 30 s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY).
    Elsewhere, for instance in a notebook, a flow sends one every 180 s, Prefect's default, and would be ended too early.

    Args:
        silence: time without a heartbeat. With three minutes, runs survive two minutes without the server.
    """
    return AutomationCore(
        name=f"{AUTOMATION_PREFIX}end dead runs",
        description="Ends a run whose worker died. Without this, it would stay in state Running.",
        trigger=EventTrigger(
            match={RESOURCE: "prefect.flow-run.*"},
            match_related={_ROLE: "work-pool", _NAME: list(POOL_NAMES)},
            for_each={RESOURCE},
            after={_PENDING, _HEARTBEAT, RUN_AWAITED},
            expect={_HEARTBEAT, *_NO_HEARTBEATS_AFTER},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"Its worker has sent no heartbeat for {silence.total_seconds():.0f} s. "
                "The next run determines what serves, and repeats what was not done.",
            )
        ],
    )


def expect_heartbeats(client: SyncPrefectClient) -> None:
    """Start the timer of `end_dead_runs` for every run that a worker has taken and that has not ended.

    An automation that was changed, or restored from a backup, has no timers for these runs.
    """
    states = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(POOL_NAMES))),
    )
    events = [
        Event(
            event=RUN_AWAITED,
            resource={RESOURCE: f"prefect.flow-run.{run.id}", _NAME: run.name},
            related=[
                RelatedResource(
                    {
                        RESOURCE: f"prefect.work-pool.{run.work_pool_id}",
                        _ROLE: "work-pool",
                        _NAME: str(run.work_pool_name),
                    }
                )
            ],
        )
        for run in runs
    ]
    if events:
        # Not with `emit_event`, which raises no error if the server rejects the event.
        client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])
